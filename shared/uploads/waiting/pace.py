"""How fast what waits may call the model: arithmetic alone, shared by the threads of one dispatcher.

Calls are spread evenly, since a quota is enforced in windows that nobody names. How many a second it takes, the service
says along with its answers, or it is found out: as many as there were before it refused one, over that time and the
wait. After a while more are tried, ever later if the same number is found again.
"""

import threading
import time
from bisect import bisect_right

from shared.model.wire_format import Stated

# Calls a second to begin with, while nothing is known.
_FIRST_RATE = 4.0
# Seconds after which twice what was found is tried: at first, and at most.
_FIRST_PATIENCE, _MOST_PATIENCE = 20.0, 1200.0
_WINDOWS = 8
# More is tried once so many calls went well.
_ENOUGH_CALLS = 3
# Found again: within this share of what was found before.
_SAME = 0.15
# A rate is that of the last so many seconds; and no more are remembered than a minute, in which quotas are counted.
_RECENT, _REMEMBERED = 10.0, 60.0
# For how long a window may have been open when it was spent, in seconds.
_SPANS = (5.0, 10.0, 20.0, 40.0, _REMEMBERED)
# Waits are named in whole seconds, the last of them begun.
_ROUNDED_UP = 1.0
# Seconds that are too few to tell a rate by.
_TOO_SHORT = 2.0
# Seconds of calls that are made up for when nobody was free to make them: more at once would overrun the window.
_BURST = 1.0
# One, but for what floats lose.
_ONE_CALL = 1 - 1e-6
_MINUTE = 60.0


class Pace:
    """The pace of one dispatcher, in calls a second. Safe to call from many threads.

    ``rate`` is what the quota takes, 0 if that is not known, and ``patience`` for how many seconds it is kept to; both
    go from one dispatcher to the next. Calls for the backlog use a ``share`` of it.
    """

    def __init__(self, rate: float, patience: float, share: float) -> None:
        self.rate, self.patience = rate, patience or _FIRST_PATIENCE
        self._share = share
        self._since = self._refused_at = self._filled_at = self._opens_at = time.monotonic()
        self._calls: list[float] = []
        self._budget = 1.0
        self._missed = self._tokens = 0.0
        self._lock = threading.Lock()

    @property
    def speed(self) -> float:
        """Calls a second at the moment, were all of them for fresh uploads."""
        with self._lock:
            return self._speed(time.monotonic())

    def take(self, *, backlog: bool) -> float:
        """Take a call; returns 0, or in how many seconds there will be one to take."""
        with self._lock:
            now = time.monotonic()
            if now < self._opens_at:
                return self._opens_at - now
            self._fill(now)
            if self._budget < _ONE_CALL:
                return (1 - self._budget) / self._speed(now)
            self._budget -= self._cost(backlog)
            self._calls.append(now)
            return 0.0

    def give_back(self, *, backlog: bool) -> None:
        """A call that was taken was not made."""
        with self._lock:
            self._budget += self._cost(backlog)
            del self._calls[-1:]

    def answered(self, tokens: int, stated: Stated | None) -> None:
        """The model answered a call that took so many tokens, and said this of the quota."""
        with self._lock:
            self._tokens = self._tokens + (tokens - self._tokens) / 8 if self._tokens else tokens
            if stated is None:
                return
            calls = [stated.calls] if stated.calls else []
            calls += [stated.tokens / self._tokens] if stated.tokens and self._tokens else []
            # What it says may be too much, as it is where it counts in seconds and speaks of minutes.
            if calls and (not self.rate or min(calls) / _MINUTE < self.rate):
                self.rate, self.patience = min(calls) / _MINUTE, _MOST_PATIENCE
            if stated.left is not None and stated.left < 1 - self._share:
                # The rest comes back within a minute.
                self._close(time.monotonic() + max(1.0, (1 - self._share - stated.left) * _MINUTE))

    def refused(self, seconds: float) -> None:
        """A call was refused, by whichever process, because the quota is spent for so long."""
        with self._lock:
            now = time.monotonic()
            found = self._found(now, max(0.0, seconds - _ROUNDED_UP))
            if found:
                again = self.rate and abs(found / self.rate - 1) <= _SAME
                patience = 2 * self.patience if again else _FIRST_PATIENCE
                # A long wait is that of a long window, which too much of a pace uses up long before it ends.
                self.patience = min(_MOST_PATIENCE, max(patience, _WINDOWS * seconds))
                self.rate = found
            self._since = self._refused_at = now + seconds
            self._close(now + seconds)

    def close(self, seconds: float) -> None:
        """Make no call for so long."""
        with self._lock:
            self._close(time.monotonic() + seconds)

    def missed(self) -> int:
        """How many calls there would have been to take, and nobody took, since this was asked last."""
        with self._lock:
            self._fill(time.monotonic())
            missed, self._missed = int(self._missed), 0.0
            return missed

    def moved(self, calls: int) -> None:
        """So many calls will be made by other processes."""
        with self._lock:
            self._calls += [time.monotonic()] * calls

    def _speed(self, now: float) -> float:
        recent = min(_RECENT, max(1.0, now - self._since))
        doubled = max(_FIRST_RATE, 2 * self._made(now, recent) / recent)
        if not self.rate:
            return doubled
        clean = now - self._refused_at
        if clean <= 0 or self._made(now, clean) < _ENOUGH_CALLS:
            return self.rate
        # No more is tried than is used.
        return min(self.rate * (1 + (clean / self.patience) ** 2), max(self.rate, doubled))

    def _found(self, now: float, wait: float) -> float:
        """How many calls a second the quota took, given that it is spent for so long; 0 if that cannot be told yet.

        Nobody says when its window began. Of all that may be, the one with most calls is believed: a machine that was
        slow for a while made fewer than the quota would have taken.
        """
        spans = {min(span, now - self._since) for span in _SPANS}
        rates = [max(1, self._made(now, span)) / (span + wait) for span in spans if span + wait >= _TOO_SHORT]
        return max(rates, default=0.0)

    def _made(self, now: float, seconds: float) -> int:
        """How many calls were taken in the last so many seconds, as far as they are remembered."""
        return len(self._calls) - bisect_right(self._calls, now - seconds)

    def _fill(self, now: float) -> None:
        del self._calls[: bisect_right(self._calls, now - _REMEMBERED)]
        speed = self._speed(now)
        filled = self._budget + speed * max(0.0, now - max(self._filled_at, self._opens_at))
        self._budget = min(filled, max(1.0, _BURST * speed))
        self._missed += filled - self._budget
        self._filled_at = now

    def _cost(self, backlog: bool) -> float:
        return 1 / self._share if backlog else 1.0

    def _close(self, until: float) -> None:
        self._opens_at = max(self._opens_at, until)
