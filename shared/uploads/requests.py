"""Requests to sync an image: where they wait until the model may be called, and what is on the queue for other apps.

Whatever waits does so on queues that no trigger reads (``shared/storage/queues.py``), and whoever puts something there
sees to it that a dispatcher works it off.
"""

import logging
import math
import random
import time
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from shared.settings import Settings
from shared.storage.names import space_of
from shared.storage.queues import UPLOADS_POISON, Message, Queues
from shared.uploads.report import ImageReport
from shared.uploads.waiting.quota import Quota, QuotaState

_FIRST_BACKOFF, _MAX_BACKOFF, _MAX_DOUBLINGS = 30.0, 3600.0, 7
# Requests that were told to wait for the same moment come back spread over this share of the wait.
_JITTER = 0.2
# Azure names a whole day when a daily quota is spent; quotas are raised, so an hour is enough.
_MAX_RETRY_AFTER = 3600.0
# About two days: each time, the message's own app may be the one that takes it.
MAX_RETURNS = 100
# A dispatcher that only waits for images whose time has not come is woken for one whose time comes sooner by so much.
_SOONER = 2.0


class EmbeddingRequest(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue: sync this image.

    ``attempt`` counts the attempts since ``first_seen`` that were put off: the model was unavailable or misconfigured,
    something held the record, or others kept changing it. A spent quota does not count. With ``refresh``, an unchanged
    image is embedded again if its record is of another preparation. ``origin`` is where a dispatcher took it from, to
    which it goes back if it must wait; it is not set on those two queues.
    """

    # An operator may write one by hand. What breaks these rules could never be settled, so it is not read.
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    attempt: Annotated[int, msgspec.Meta(ge=0)] = 0
    first_seen: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    refresh: bool = False
    origin: Literal["waiting", "backlog"] | None = None


class DispatchRequest(Message, frozen=True, kw_only=True):
    """A message on the queue: work off what waits, if this is the dispatcher whose ``turn`` it is."""

    turn: int


class FolderRequest(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue: sync every image under this prefix, which was a folder's name or is one now."""

    prefix: str


class RequestQueue:
    """Puts requests on the app's queues. Safe to call from many threads; raises ``StorageError`` if storage fails."""

    def __init__(self, settings: Settings, queues: Queues, quota: Quota) -> None:
        self._container = settings.images_container
        self._space = space_of(settings)
        self._queues = queues
        self._quota = quota
        # Where messages come from, and go back to.
        self.queue, self.poison, self.uploads_poison = queues.requests, queues.requests_poison, UPLOADS_POISON

    def send(self, request: EmbeddingRequest | FolderRequest) -> None:
        """Have a request taken as soon as possible, by this app, whatever is left of the quota."""
        self._queues.send(self._ours(request))

    def leave(self, request: EmbeddingRequest, *, hidden_seconds: int = 0) -> None:
        """Leave a request where it waits for its turn: with the backlog if it came from there, else among uploads.

        Whoever leaves the last of several calls :meth:`ask`.
        """
        queue = self._queues.backlog if request.origin == "backlog" else self._queues.waiting
        later = self._ours(msgspec.structs.replace(request, origin=None))
        self._queues.send(later, queue=queue, hidden_seconds=hidden_seconds)

    def park(self, request: EmbeddingRequest) -> None:
        """Have the image synced once it is its turn: nothing but the quota was in the way."""
        self.leave(request)
        self.ask()

    def put_later(self, request: EmbeddingRequest, retry_after: float | None) -> float:
        """Have the image tried again later; returns in how many seconds.

        That is exponential backoff over the attempts, from 30 s to 1 h, with full jitter, or the model's
        ``retry_after`` where that is longer, up to 1 h.
        """
        wait = _wait(request.attempt, retry_after)
        self.leave(request, hidden_seconds=round(wait))
        self.ask(in_seconds=wait)
        return wait

    def ask(self, *, in_seconds: float = 0.0) -> None:
        """See to it that a dispatcher is at work by then: what was left before this is called is not forgotten.

        A dispatcher looks once more after it has written down that it ends.
        """
        due = time.time() + in_seconds

        def next_turn(state: QuotaState) -> QuotaState:
            if self._quota.paused(state) or (state.is_dispatched and not (state.idle and state.due > due + _SOONER)):
                return state
            return msgspec.structs.replace(state, turn=state.turn + 1, due=due, idle=in_seconds > 0)

        state, is_new = self._quota.change(next_turn)
        if is_new:
            self.dispatch(state.turn, in_seconds=in_seconds)

    def ask_if_any(self) -> None:
        """The same, if anything waits: a dispatcher may have died, or nobody asked for one while there was a pause."""
        if any(map(self._queues.length, (self._queues.waiting, self._queues.backlog))):
            self.ask()

    def dispatch(self, turn: int, *, in_seconds: float = 0.0) -> None:
        """Send the message that lets a dispatcher take this turn."""
        request = DispatchRequest(turn=turn, container=self._container, space=self._space)
        self._queues.send(request, hidden_seconds=math.ceil(in_seconds))

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
        # All images of the other app wait for its dispatcher.
        wait = 1 if isinstance(message, DispatchRequest) else round(_wait(later.returned, None))
        self._queues.send(later, queue=queue, hidden_seconds=wait)
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
    backoff = random.uniform(1, min(_MAX_BACKOFF, _FIRST_BACKOFF * 2**doublings))  # noqa: S311 - jitter, not a secret
    asked = min(retry_after or 0.0, _MAX_RETRY_AFTER / (1 + _JITTER)) * random.uniform(1, 1 + _JITTER)  # noqa: S311 - the same
    return max(backoff, asked)
