"""What lies on the queue ``embedding-requests``, as a test reads it."""

import base64
import json
from typing import Any

from tests.conftest import Cloud


def queued(cloud: Cloud) -> list[dict[str, Any]]:
    """The visible messages, 32 at most; they stay on the queue as they are."""
    return [json.loads(base64.b64decode(message.content)) for message in cloud.queue.peek_messages(32)]


def queued_names(cloud: Cloud) -> list[str]:
    """The images that visible messages name."""
    return [message["name"] for message in queued(cloud)]
