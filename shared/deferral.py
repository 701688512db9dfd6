"""Names of images to look at again, later: our side of the queue ``embedding-requests``."""

import functools
import random
import threading
from typing import TYPE_CHECKING

import msgspec
from azure.core.credentials import TokenCredential

from shared.records import EmbeddingRequest
from shared.settings import Settings

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient

QUEUE = "embedding-requests"
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
# What was asked to wait for the same moment comes back a little apart.
_SPREAD = 0.2
# A message can be hidden for seven days at most; after one, the image is given up anyway.
_LONGEST_ASKED = 24 * 3600.0
_FOR_EVER = -1


class Deferral:
    """Puts names back on the queue, hidden until it is worth trying again. Safe to call from many threads."""

    def __init__(self, settings: Settings, credential: TokenCredential) -> None:
        self._settings = settings
        self._credential = credential
        self._making = threading.Lock()

    def put(self, request: EmbeddingRequest, asked: float | None) -> float:
        """Have the image looked at again later; returns in how many seconds.

        That is what the model ``asked`` for, else exponential in the attempts from 30 s to 1 h with full jitter.
        """
        wait = _wait(request.attempt, asked)
        with self._making:
            queue = self._queue
        queue.send_message(
            msgspec.json.encode(request).decode(), visibility_timeout=round(wait), time_to_live=_FOR_EVER
        )
        return wait

    def close(self) -> None:
        """Close the connections."""
        if "_queue" in self.__dict__:
            self._queue.close()

    @functools.cached_property
    def _queue(self) -> "QueueClient":
        # Imported when first needed: as long as the model answers, nothing is deferred.
        from azure.storage.queue import QueueClient, TextBase64EncodePolicy

        encode = TextBase64EncodePolicy()
        if connection_string := self._settings.storage_connection_string:
            return QueueClient.from_connection_string(connection_string, QUEUE, message_encode_policy=encode)
        account = self._settings.queue_service_uri
        return QueueClient(account, QUEUE, credential=self._credential, message_encode_policy=encode)


def _wait(attempt: int, asked: float | None) -> float:
    if asked is not None:
        return min(asked, _LONGEST_ASKED) * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - spread, not secrecy
    return random.uniform(1, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** max(0, attempt - 1)))  # noqa: S311 - the same
