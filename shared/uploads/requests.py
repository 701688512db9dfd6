"""Requests on the queue ``embedding-requests`` to sync an image, now or later; and what is on it for other apps."""

import logging
import random
from datetime import datetime
from typing import Annotated

import msgspec

from shared.settings import Settings
from shared.storage.names import space_of
from shared.storage.queues import UPLOADS_POISON, Message, Queues
from shared.uploads.report import ImageReport

_FIRST_BACKOFF, _MAX_BACKOFF, _MAX_DOUBLINGS = 30.0, 3600.0, 7
# Where only the quota was spent, nothing has failed: the next window is seconds away, and the message waits for it in
# hand. A longer pause would leave the quota unused at the end of a backlog.
_MAX_PAUSE_FOR_QUOTA = 10.0
# Requests that were told to wait for the same moment come back spread over this share of the wait.
_JITTER = 0.2
# Azure names a whole day when a daily quota is spent; quotas are raised, so an hour is enough.
_MAX_RETRY_AFTER = 3600.0
# About two days: each time, the message's own app may be the one that takes it.
MAX_RETURNS = 100


# An operator may write one by hand. What breaks this could never be settled, so it is not read.
type ImageName = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class EmbeddingRequest(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue: sync this image.

    ``attempt`` counts the attempts since ``first_seen`` that were put off: the model was unavailable or misconfigured,
    something held the record, or others kept changing it. A spent quota does not count. With ``refresh``, an unchanged
    image is embedded again if its record is of another preparation.
    """

    name: ImageName
    attempt: Annotated[int, msgspec.Meta(ge=0)] = 0
    first_seen: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    refresh: bool = False


class FolderRequest(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue: sync every image under this prefix, which was a folder's name or is one now."""

    prefix: str


class RequestQueue:
    """Puts requests on the queue. Safe to call from many threads."""

    def __init__(self, settings: Settings, queues: Queues) -> None:
        self._container = settings.images_container
        self._space = space_of(settings)
        self._queues = queues
        # Where messages come from, and go back to.
        self.queue, self.poison, self.uploads_poison = queues.requests, queues.requests_poison, UPLOADS_POISON

    def put(self, name: str, *, refresh: bool = False) -> None:
        """Have the image synced as soon as possible."""
        self.send(EmbeddingRequest(name=name, refresh=refresh))

    def send(self, request: EmbeddingRequest | FolderRequest) -> None:
        """Have a request taken as soon as possible, by this app."""
        self._queues.send(self._ours(request))

    def put_later(self, request: EmbeddingRequest, retry_after: float | None) -> float:
        """Have the image synced later; returns in how many seconds.

        That is exponential backoff over the attempts, from 30 s to 1 h, with full jitter (up to 10 s if only the quota
        was spent), or the model's ``retry_after`` where that is longer, up to 1 h.
        """
        wait = _wait(request.attempt, retry_after)
        self._queues.send(self._ours(request), hidden_seconds=round(wait))
        return wait

    def is_ours(self, message: Message) -> bool:
        """Whether a message is for this app."""
        return message.container in {"", self._container} and message.space in {"", self._space}

    def put_back(self, message: Message, queue: str) -> bool:
        """Leave a message that is for another app on its ``queue``, for as long as a retry would wait.

        Returns false, and puts nothing back, if it was put back :data:`MAX_RETURNS` times: its app is gone.
        """
        if message.returned >= MAX_RETURNS:
            return False
        later = msgspec.structs.replace(message, returned=message.returned + 1)
        self._queues.send(later, queue=queue, hidden_seconds=round(_wait(later.returned, None)))
        return True

    def _ours[Request: Message](self, request: Request) -> Request:
        return msgspec.structs.replace(request, container=self._container, space=self._space)


def postpone(queues: Queues, container: str, name: str) -> None:
    """Leave an upload on the queue, for an app that does not know its own container and space yet."""
    queues.send(EmbeddingRequest(name=name, container=container))
    message = "An app setting is missing or invalid: the upload waits on the queue until that is fixed."
    ImageReport(name=name, outcome="deferred", message=message).log("image", logging.WARNING)


def _wait(attempt: int, retry_after: float | None) -> float:
    # A misconfigured app counts attempts for weeks: 2 to the power of them would outgrow a float.
    doublings = min(max(0, attempt - 1), _MAX_DOUBLINGS)
    longest = min(_MAX_BACKOFF, _FIRST_BACKOFF * 2**doublings) if attempt else _MAX_PAUSE_FOR_QUOTA
    backoff = random.uniform(1, longest)  # noqa: S311 - jitter, not a secret
    asked = min(retry_after or 0.0, _MAX_RETRY_AFTER / (1 + _JITTER)) * random.uniform(1, 1 + _JITTER)  # noqa: S311 - the same
    return max(backoff, asked)
