"""The queue ``embedding-requests``, to which we put names to look at now or later; and how long every queue is."""

import contextlib
import functools
import random
import threading
from typing import TYPE_CHECKING

import msgspec
from azure.core.credentials import TokenCredential

from shared.connections import ONCE, options
from shared.records import Audit, AuditMessage, EmbeddingRequest, now
from shared.settings import Settings

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient, QueueServiceClient

QUEUE = "embedding-requests"
UPLOADS_POISON = "webjobs-blobtrigger-poison"
REQUESTS_POISON = f"{QUEUE}-poison"
# The blob trigger's own queue, in the host's storage account: this and a hash that only the host knows.
_UPLOADS_PREFIX = "azure-webjobs-blobtrigger-"
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
# What was asked to wait for the same moment comes back a little apart.
_SPREAD = 0.2
# A message can be hidden for seven days at most; after one, the image is given up anyway.
_LONGEST_ASKED = 24 * 3600.0
_FOR_EVER = -1


class Waiting(msgspec.Struct, frozen=True):
    """About how many messages a queue holds, and for how long the first of them that is not hidden has been there.

    ``None`` where there is no such queue, or no such message. The age counts the time for which it was hidden.
    """

    queue: str
    messages: int | None
    oldest_seconds: int | None


class Queues:
    """Puts names on the queue, hidden until it is worth trying again. Safe to call from many threads."""

    def __init__(self, settings: Settings, credential: TokenCredential) -> None:
        self._settings = settings
        self._credential = credential
        self._making = threading.Lock()

    def put(self, name: str) -> None:
        """Have the image looked at as soon as may be."""
        self._send(EmbeddingRequest(name=name), 0)

    def put_later(self, request: EmbeddingRequest, asked: float | None) -> float:
        """Have the image looked at again later; returns in how many seconds.

        That is what the model ``asked`` for, else exponential in the attempts from 30 s to 1 h with full jitter.
        """
        wait = _wait(request.attempt, asked)
        self._send(request, round(wait))
        return wait

    def put_audit(self, audit: Audit) -> None:
        """Have the audit go on from where it is, when its turn comes."""
        self._send(AuditMessage(audit=audit), 0)

    def depths(self) -> dict[str, int | None]:
        """About how many messages each queue holds, hidden ones included; ``None`` for a queue that there is not yet.

        Uploads wait on a queue of the host's own account: it is told of where that account is known.
        """
        with contextlib.ExitStack() as stack:
            return {name: _depth(queue) for name, queue in self._all(stack).items()}

    def waiting(self) -> list[Waiting]:
        """The same with the age of the oldest message that is not hidden."""
        with contextlib.ExitStack() as stack:
            return [_waiting(name, queue) for name, queue in self._all(stack).items()]

    def check(self) -> None:
        """Ask for the queue of requests, once; raises ``AzureError`` as storage says."""
        self._service.get_queue_client(QUEUE).get_queue_properties(**ONCE)

    def _all(self, stack: contextlib.ExitStack) -> "dict[str, QueueClient]":
        """Every queue of the app, and the trigger's own where its account is known, which ``stack`` closes."""
        queues = {name: self._service.get_queue_client(name) for name in (QUEUE, REQUESTS_POISON, UPLOADS_POISON)}
        if self._settings.host_queue_service_uri:
            host = stack.enter_context(self._open(self._settings.host_queue_service_uri))
            for found in host.list_queues(name_starts_with=_UPLOADS_PREFIX):
                queues[found.name] = host.get_queue_client(found.name)
        return queues

    def close(self) -> None:
        """Close the connections."""
        if "_service" in self.__dict__:
            self._service.close()

    def _send(self, message: EmbeddingRequest | AuditMessage, wait: int) -> None:
        with self._making:
            queue = self._queue
        queue.send_message(msgspec.json.encode(message).decode(), visibility_timeout=wait, time_to_live=_FOR_EVER)

    @functools.cached_property
    def _service(self) -> "QueueServiceClient":
        return self._open(self._settings.queue_service_uri)

    @functools.cached_property
    def _queue(self) -> "QueueClient":
        from azure.storage.queue import TextBase64EncodePolicy

        return self._service.get_queue_client(QUEUE, message_encode_policy=TextBase64EncodePolicy())

    def _open(self, service_uri: str) -> "QueueServiceClient":
        # Imported when first needed: as long as the model answers, nothing is put on a queue.
        from azure.storage.queue import QueueServiceClient

        if connection_string := self._settings.storage_connection_string:
            return QueueServiceClient.from_connection_string(connection_string, **options())
        return QueueServiceClient(service_uri, credential=self._credential, **options())


def _depth(queue: "QueueClient") -> int | None:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return queue.get_queue_properties().approximate_message_count
    except ResourceNotFoundError:
        return None


def _waiting(name: str, queue: "QueueClient") -> Waiting:
    messages = _depth(queue)
    front = queue.peek_messages(max_messages=1) if messages else []
    ages = [round((now() - message.inserted_on).total_seconds()) for message in front if message.inserted_on]
    return Waiting(name, messages, max(0, ages[0]) if ages else None)


def _wait(attempt: int, asked: float | None) -> float:
    if asked is not None:
        return min(asked, _LONGEST_ASKED) * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - spread, not secrecy
    return random.uniform(1, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** max(0, attempt - 1)))  # noqa: S311 - the same
