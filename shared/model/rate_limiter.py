"""The rate limiters in front of the model: an in-flight limit, and no calls while it is throttled, hangs or fails."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
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
# A deployment that failed is left alone for the first of these waits, twice as long each further time, while another
# one works.
_FIRST_FAILING_WAIT, _MAX_FAILING_WAIT = 1.0, 60.0
# A call with less time than this, in seconds, would be paid for and not waited for.
_MIN_CALL = 0.5


class RateLimiter:
    """What one deployment takes. All calls of the process share it, so that one 429 holds back all of them.

    A 429 closes it for the wait that the model named, at most five minutes, and halves the in-flight limit. A time-out
    closes it too, and lets one call at a time probe; so does a failure, while another deployment works. Answers raise
    the limit again.
    """

    def __init__(self, max_in_flight: int, changed: threading.Condition) -> None:
        self._max_in_flight = max_in_flight
        self._limit = self._slow_start_limit = float(max_in_flight)
        self._probe_wait = _FIRST_PROBE_WAIT
        self._hanging_wait = _FIRST_HANGING_WAIT
        self._failing_wait = _FIRST_FAILING_WAIT
        self._changed = changed
        self.in_flight = 0
        self.closed_until = self.failing_until = 0.0
        self.hangs = False

    @property
    def room(self) -> int:
        """How many more calls may be in flight."""
        return int(self._limit) - self.in_flight

    def throttled(self, retry_after: float | None) -> None:
        """The model answered 429: close for ``retry_after`` seconds and halve the in-flight limit.

        Without a ``retry_after``, or with one of more than five minutes, a single call probes: after 1.5 s and ever
        later, or after those five minutes.
        """
        with self._changed:
            now = time.monotonic()
            # Calls that were in flight together are throttled together, and count once.
            if self.closed_until <= now:
                # A throttled probe says nothing new about how many calls are too many.
                probing = retry_after is None or retry_after > _MAX_CLOSED
                self._slow_down()
                self._limit = 1.0 if probing else max(1.0, self._slow_start_limit)
                if retry_after is None:
                    retry_after, self._probe_wait = self._probe_wait, min(self._probe_wait * 2, _MAX_PROBE_WAIT)
            self._close(now + min(retry_after or 0.0, _MAX_CLOSED), hangs=False)

    def timed_out(self) -> None:
        """A call got no answer in its time: close, and let a single call probe, ever later while it hangs."""
        with self._changed:
            now = time.monotonic()
            if self.closed_until <= now:
                self._slow_down()
                self._limit = 1.0
                self._close(now + self._hanging_wait, hangs=True)
                self._hanging_wait = min(self._hanging_wait * 2, _MAX_HANGING_WAIT)

    def failed(self, *, for_good: bool = False) -> bool:
        """A call failed that another deployment may answer: leave this one alone, ever longer while it fails.

        ``for_good``: until an operator does something about it. Returns whether this is news: calls that were in flight
        together fail together, and count once.
        """
        with self._changed:
            now = time.monotonic()
            if self.failing_until > now:
                return False
            self._slow_down()
            self._limit = 1.0
            self.failing_until = now + (_MAX_FAILING_WAIT if for_good else self._failing_wait)
            self._failing_wait = min(self._failing_wait * 2, _MAX_FAILING_WAIT)
            self._changed.notify_all()
            return True

    def succeeded(self) -> None:
        """The model answered: raise the in-flight limit by one up to half of what was too many, then more slowly.

        An answer while it is closed for a 429 is that of a call sent before, within the quota: it says nothing new.
        """
        with self._changed:
            if self.closed_until > time.monotonic() and not self.hangs:
                return
            self._probe_wait, self._hanging_wait = _FIRST_PROBE_WAIT, _FIRST_HANGING_WAIT
            self._failing_wait, self.failing_until = _FIRST_FAILING_WAIT, 0.0
            if self._limit < self._max_in_flight:
                step = 1.0 if self._limit + 1 <= self._slow_start_limit else 1 / self._limit
                self._limit = min(float(self._max_in_flight), self._limit + step)
                self._changed.notify_all()

    def _slow_down(self) -> None:
        """From now on raise the limit quickly to half of what it was, and slowly beyond."""
        if self._limit > 1:
            self._slow_start_limit = self._limit / 2

    def _close(self, until: float, *, hangs: bool) -> None:
        if until > self.closed_until:
            self.closed_until, self.hangs = until, hangs


class RateLimiters:
    """Those of all deployments of a model. A call goes to one that is open, the one with most room first."""

    def __init__(self, deployments: int, max_in_flight: int) -> None:
        self._changed = threading.Condition()
        self._urgent_waiting = 0
        self.all = tuple(RateLimiter(max_in_flight, self._changed) for _ in range(deployments))

    @contextmanager
    def acquire(
        self,
        wait_until: float,
        *,
        deadline: float = math.inf,
        urgent: bool = False,
        among: Sequence[RateLimiter] = (),
    ) -> Iterator[RateLimiter]:
        """Hold one place in flight for the block, with the limiter that has it; ``urgent`` calls go first.

        Both times are of ``time.monotonic``. ``among`` leaves the choice of these alone. Raises
        :class:`~shared.errors.NotSent` as soon as it is known that all stay closed beyond ``wait_until``, however often
        they opened and closed before; and when no place has come free by ``deadline``, or so late that the model could
        not answer in time.
        """
        limiter = self._wait_for_place(among or self.all, wait_until, deadline, urgent)
        try:
            yield limiter
        finally:
            with self._changed:
                limiter.in_flight -= 1
                self._changed.notify_all()

    def check(self, wait_until: float, *, deadline: float = math.inf) -> None:
        """Raise :class:`~shared.errors.NotSent` as :meth:`acquire` would by now."""
        _time_left(deadline)
        with self._changed:
            _closed_for(self.all, wait_until)

    def closed_for(self) -> float:
        """In how many seconds the first of them takes calls again, 0 if one does."""
        with self._changed:
            return max(0.0, min(_opening(self.all).values()) - time.monotonic())

    def has_another(self) -> bool:
        """Whether a call that just failed at one deployment may succeed at another."""
        with self._changed:
            return len(self.all) > 1 and any(limiter.failing_until <= time.monotonic() for limiter in self.all)

    def _wait_for_place(
        self, among: Sequence[RateLimiter], wait_until: float, deadline: float, urgent: bool
    ) -> RateLimiter:
        with self._changed:
            self._urgent_waiting += urgent
            try:
                while True:
                    closed, left = _closed_for(among, wait_until), _time_left(deadline)
                    if closed <= 0 and (urgent or not self._urgent_waiting) and (free := _with_most_room(among)):
                        free.in_flight += 1
                        return free
                    wait = min(left, closed if closed > 0 else _next_to_open(among))
                    self._changed.wait(wait if wait < math.inf else None)
            finally:
                self._urgent_waiting -= urgent
                self._changed.notify_all()


def _opening(among: Sequence[RateLimiter]) -> dict[RateLimiter, float]:
    """When each takes calls. One that fails is left alone as long as another does not."""
    now = time.monotonic()
    if any(limiter.failing_until <= now for limiter in among):
        return {limiter: max(limiter.closed_until, limiter.failing_until) for limiter in among}
    return {limiter: limiter.closed_until for limiter in among}


def _with_most_room(among: Sequence[RateLimiter]) -> RateLimiter | None:
    """The open one with most room; ``None`` if none has any."""
    now = time.monotonic()
    free = [limiter for limiter, opening in _opening(among).items() if opening <= now and limiter.room > 0]
    return max(free, key=lambda limiter: limiter.room, default=None)


def _next_to_open(among: Sequence[RateLimiter]) -> float:
    """The seconds until one more of them opens."""
    now = time.monotonic()
    return min((opening - now for opening in _opening(among).values() if opening > now), default=math.inf)


def _closed_for(among: Sequence[RateLimiter], wait_until: float) -> float:
    """The seconds for which all of them stay closed, negative if one is open."""
    first, opening = min(_opening(among).items(), key=lambda item: item[1])
    closed = opening - time.monotonic()
    if closed > 0 and opening > wait_until:
        if any(limiter.closed_until >= opening and not limiter.hangs for limiter in among):
            message = f"The model is throttled for another {closed:.0f} seconds."
            raise NotSent(message, status=429, retry_after=closed)
        what = "does not answer" if first.hangs and first.closed_until >= opening else "fails"
        message = f"The model {what}; no call is sent for another {closed:.0f} seconds."
        raise NotSent(message, status=503, retry_after=closed)
    return closed


def _time_left(deadline: float) -> float:
    """The seconds until the deadline; raises :class:`~shared.errors.NotSent` if they are too few for a call."""
    left = deadline - time.monotonic()
    if left < _MIN_CALL:
        message = "There was no time left to call the model: other calls, or preparing, took it."
        raise NotSent(message, status=503)
    return left
