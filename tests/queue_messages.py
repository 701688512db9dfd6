"""What lies on the app's queues, as a test reads it."""

import base64
import json
from typing import Any

from azure.storage.queue import QueueClient

from tests.conftest import Cloud


def queued(cloud: Cloud, queue: QueueClient | None = None) -> list[dict[str, Any]]:
    """The visible messages of ``embedding-requests`` or another queue, 32 at most; they stay there as they are."""
    return [json.loads(base64.b64decode(message.content)) for message in (queue or cloud.queue).peek_messages(32)]


def queued_names(cloud: Cloud, queue: QueueClient | None = None) -> list[str]:
    """The images that visible messages name."""
    return [message["name"] for message in queued(cloud, queue) if "name" in message]


def length(queue: QueueClient) -> int:
    """How many messages a queue holds, hidden ones included."""
    return queue.get_queue_properties().approximate_message_count or 0


def turns(cloud: Cloud) -> list[int]:
    """The turns of dispatchers that visible messages name."""
    return [message["turn"] for message in queued(cloud) if "turn" in message]
