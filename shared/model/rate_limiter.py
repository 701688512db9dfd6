"""The rate limiter in front of the model: an in-flight limit, and no calls while the model is throttled."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import RateLimited

# After a 429 without a Retry-After, one call probes after the first of these waits; each further 429 doubles the wait,
# up to the second.
_FIRST_PROBE_WAIT, _MAX_PROBE_WAIT = 1.5, 4.0


class RateLimiter:
    """Lets calls through. All calls of the process share one, so that one 429 holds back all of them.

    A 429 closes it for the wait that the model named and halves the in-flight limit; answers raise the limit again.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._limit = self._slow_start_limit = float(max_in_flight)
        self._in_flight = 0
        self._urgent_waiting = 0
        self._closed_until = 0.0
        self._probe_wait = _FIRST_PROBE_WAIT
        self._changed = threading.Condition()

    @contextmanager
    def acquire(self, max_wait: float, *, deadline: float = math.inf, urgent: bool = False) -> Iterator[None]:
        """Hold one place in flight for the block; ``urgent`` calls go first.

        Raises :class:`~shared.errors.RateLimited` at once if the limiter stays closed for more than ``max_wait``
        seconds, and at ``deadline`` (``time.monotonic``) if no place has come free by then.
        """
        with self._changed:
            self._urgent_waiting += urgent
            try:
                while (closed := self._closed_for(max_wait)) > 0 or not self._has_place(urgent):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        message = "Other calls to the model used up the time that this one had."
                        raise RateLimited(message, status=503)
                    wait = min(left, closed if closed > 0 else math.inf)
                    self._changed.wait(wait if wait < math.inf else None)
            finally:
                self._urgent_waiting -= urgent
                self._changed.notify_all()
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def check(self, max_wait: float) -> None:
        """Raise :class:`~shared.errors.RateLimited` if the limiter stays closed for more than ``max_wait`` seconds."""
        with self._changed:
            self._closed_for(max_wait)

    def throttled(self, retry_after: float | None) -> None:
        """The model answered 429: close for ``retry_after`` seconds and halve the in-flight limit.

        Without a ``retry_after``, a single call probes after 1.5 s, then ever later while it is throttled again.
        """
        with self._changed:
            now = time.monotonic()
            # Calls that were in flight together are throttled together, and count once.
            if self._closed_until <= now:
                # A throttled probe says nothing new about how many calls are too many.
                if self._limit > 1:
                    self._slow_start_limit = self._limit / 2
                self._limit = 1.0 if retry_after is None else max(1.0, self._slow_start_limit)
                if retry_after is None:
                    retry_after, self._probe_wait = self._probe_wait, min(self._probe_wait * 2, _MAX_PROBE_WAIT)
            self._closed_until = max(self._closed_until, now + (retry_after or 0.0))

    def succeeded(self) -> None:
        """The model answered: raise the in-flight limit by one up to half of what was too many, then more slowly."""
        with self._changed:
            self._probe_wait = _FIRST_PROBE_WAIT
            if self._limit < self._max_in_flight:
                step = 1.0 if self._limit + 1 <= self._slow_start_limit else 1 / self._limit
                self._limit = min(float(self._max_in_flight), self._limit + step)
                self._changed.notify_all()

    def _has_place(self, urgent: bool) -> bool:
        return self._in_flight < int(self._limit) and (urgent or not self._urgent_waiting)

    def _closed_for(self, max_wait: float) -> float:
        """The seconds for which the limiter stays closed, negative if it is open."""
        closed = self._closed_until - time.monotonic()
        if closed > max_wait:
            message = f"The model is throttled for another {closed:.0f} seconds."
            raise RateLimited(message, status=429, retry_after=closed)
        return closed
