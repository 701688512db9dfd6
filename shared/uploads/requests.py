"""Requests on the queue ``embedding-requests`` to sync an image, now or later."""

import random
from datetime import datetime

import msgspec

from shared.storage.queues import Queues

_FIRST_BACKOFF, _MAX_BACKOFF = 30.0, 3600.0
# Requests that were told to wait for the same moment come back spread over this share of the wait.
_JITTER = 0.2
# Azure names a whole day when a daily quota is spent; quotas are raised, so an hour is enough.
_MAX_RETRY_AFTER = 3600.0


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue: sync this image.

    ``attempt`` counts the attempts since ``first_seen`` that failed because the model was unavailable.
    """

    name: str
    attempt: int = 0
    first_seen: datetime | None = None


class RequestQueue:
    """Puts requests on the queue. Safe to call from many threads."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def put(self, name: str) -> None:
        """Have the image synced as soon as possible."""
        self._queues.send(EmbeddingRequest(name=name))

    def put_later(self, request: EmbeddingRequest, retry_after: float | None) -> float:
        """Have the image synced later; returns in how many seconds.

        That is exponential backoff over the attempts, from 30 s to 1 h, with full jitter, or the model's
        ``retry_after`` where that is longer, up to 1 h.
        """
        wait = _wait(request.attempt, retry_after)
        self._queues.send(request, hidden_seconds=round(wait))
        return wait


def _wait(attempt: int, retry_after: float | None) -> float:
    backoff = random.uniform(1, min(_MAX_BACKOFF, _FIRST_BACKOFF * 2 ** max(0, attempt - 1)))  # noqa: S311 - jitter, not a secret
    asked = min(retry_after or 0.0, _MAX_RETRY_AFTER / (1 + _JITTER)) * random.uniform(1, 1 + _JITTER)  # noqa: S311 - the same
    return max(backoff, asked)
