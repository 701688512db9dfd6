"""What lies on the queue ``embedding-requests``, as a test reads it."""

import base64
import json
from typing import Any

from tests.conftest import Cloud


def queued(cloud: Cloud) -> list[dict[str, Any]]:
    """Every visible message, in no order; they stay on the queue, hidden for half a minute."""
    return [json.loads(base64.b64decode(message.content)) for message in cloud.queue.receive_messages()]


def queued_names(cloud: Cloud) -> list[str]:
    """The images that visible messages name."""
    return [message["name"] for message in queued(cloud)]
