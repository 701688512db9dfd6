"""The rate limiter in front of the model: an in-flight limit, and no calls while the model is throttled or hangs."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import NotSent

# After a 429 without a Retry-After, one call probes after the first of these waits; each further 429 doubles the wait,
# up to the second.
_FIRST_PROBE_WAIT, _MAX_PROBE_WAIT = 1.5, 4.0
# However long the model asks to wait (Azure names a whole day when a daily quota is spent), a probe is sent after this:
# quotas are raised, and one call every five minutes costs nothing.
_MAX_CLOSED = 300.0
# A call that timed out has held its place for a minute, so probes of a model that hangs come less often.
_FIRST_HANGING_WAIT, _MAX_HANGING_WAIT = 5.0, 60.0
# A call with less time than this, in seconds, would be paid for and not waited for.
_MIN_CALL = 0.5


class RateLimiter:
    """Lets calls through. All calls of the process share one, so that one 429 holds back all of them.

    A 429 closes it for the wait that the model named, at most five minutes, and halves the in-flight limit. A time-out
    closes it too, and lets one call at a time probe. Answers raise the limit again.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._limit = self._slow_start_limit = float(max_in_flight)
        self._in_flight = 0
        self._urgent_waiting = 0
        self._closed_until = 0.0
        self._hangs = False
        self._probe_wait = _FIRST_PROBE_WAIT
        self._hanging_wait = _FIRST_HANGING_WAIT
        self._changed = threading.Condition()

    @contextmanager
    def acquire(self, wait_until: float, *, deadline: float = math.inf, urgent: bool = False) -> Iterator[None]:
        """Hold one place in flight for the block; ``urgent`` calls go first.

        Both times are of ``time.monotonic``. Raises :class:`~shared.errors.NotSent` as soon as it is known that
        the limiter stays closed beyond ``wait_until``, however often it opened and closed before; and when no place
        has come free by ``deadline``, or so late that the model could not answer in time.
        """
        with self._changed:
            self._urgent_waiting += urgent
            try:
                while True:
                    closed, left = self._closed_for(wait_until), _time_left(deadline)
                    if closed <= 0 and self._has_place(urgent):
                        break
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

    def check(self, wait_until: float, *, deadline: float = math.inf) -> None:
        """Raise :class:`~shared.errors.NotSent` as :meth:`acquire` would by now."""
        _time_left(deadline)
        with self._changed:
            self._closed_for(wait_until)

    def throttled(self, retry_after: float | None) -> None:
        """The model answered 429: close for ``retry_after`` seconds and halve the in-flight limit.

        Without a ``retry_after``, or with one of more than five minutes, a single call probes: after 1.5 s and ever
        later, or after those five minutes.
        """
        with self._changed:
            now = time.monotonic()
            # Calls that were in flight together are throttled together, and count once.
            if self._closed_until <= now:
                # A throttled probe says nothing new about how many calls are too many.
                if self._limit > 1:
                    self._slow_start_limit = self._limit / 2
                probing = retry_after is None or retry_after > _MAX_CLOSED
                self._limit = 1.0 if probing else max(1.0, self._slow_start_limit)
                if retry_after is None:
                    retry_after, self._probe_wait = self._probe_wait, min(self._probe_wait * 2, _MAX_PROBE_WAIT)
            self._close(now + min(retry_after or 0.0, _MAX_CLOSED), hangs=False)

    def timed_out(self) -> None:
        """A call got no answer in its time: close, and let a single call probe, ever later while it hangs."""
        with self._changed:
            now = time.monotonic()
            if self._closed_until <= now:
                if self._limit > 1:
                    self._slow_start_limit = self._limit / 2
                self._limit = 1.0
                self._close(now + self._hanging_wait, hangs=True)
                self._hanging_wait = min(self._hanging_wait * 2, _MAX_HANGING_WAIT)

    def succeeded(self) -> None:
        """The model answered: raise the in-flight limit by one up to half of what was too many, then more slowly.

        An answer while it is closed for a 429 is that of a call sent before, within the quota: it says nothing new.
        """
        with self._changed:
            if self._closed_until > time.monotonic() and not self._hangs:
                return
            self._probe_wait, self._hanging_wait = _FIRST_PROBE_WAIT, _FIRST_HANGING_WAIT
            if self._limit < self._max_in_flight:
                step = 1.0 if self._limit + 1 <= self._slow_start_limit else 1 / self._limit
                self._limit = min(float(self._max_in_flight), self._limit + step)
                self._changed.notify_all()

    def _close(self, until: float, *, hangs: bool) -> None:
        if until > self._closed_until:
            self._closed_until, self._hangs = until, hangs

    def _has_place(self, urgent: bool) -> bool:
        return self._in_flight < int(self._limit) and (urgent or not self._urgent_waiting)

    def _closed_for(self, wait_until: float) -> float:
        """The seconds for which the limiter stays closed, negative if it is open."""
        closed = self._closed_until - time.monotonic()
        if closed > 0 and self._closed_until > wait_until:
            if self._hangs:
                message = f"The model does not answer; no call is sent for another {closed:.0f} seconds."
                raise NotSent(message, status=503, retry_after=closed)
            message = f"The model is throttled for another {closed:.0f} seconds."
            raise NotSent(message, status=429, retry_after=closed)
        return closed


def _time_left(deadline: float) -> float:
    """The seconds until the deadline; raises :class:`~shared.errors.NotSent` if they are too few for a call."""
    left = deadline - time.monotonic()
    if left < _MIN_CALL:
        message = "There was no time left to call the model: other calls, or preparing, took it."
        raise NotSent(message, status=503)
    return left
