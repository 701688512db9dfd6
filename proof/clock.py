"""Clocks for the app in a proof: one that runs faster than time, and one that passes only while everybody waits.

The app, its libraries and the host's worker are as they are deployed. Only what the app asks for the time, and what it
waits with, is a clock of these.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Protocol, Self

import httpx
import msgspec

from shared import clock as app_clock
from shared.model import deployment, rate_limiter
from shared.storage.queues import Queues
from shared.uploads.waiting import dispatcher

# It tells whether a token is valid, and those who check that have clocks of their own.
_IN_REAL_TIME = ("shared.identity",)


class Clock(Protocol):
    """What stands in for the module ``time``. Times are the app's, in seconds."""

    def monotonic(self) -> float:
        """The time for durations."""

    def time(self) -> float:
        """The time of day."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def condition(self) -> object:
        """What stands in for ``threading.Condition``."""

    def real(self, seconds: float) -> float:
        """The real seconds for which a call may take so long."""


class FastClock:
    """The app's seconds are shorter than real ones, by the factor ``speed``; those of hidden messages by their own."""

    def __init__(self, speed: float, hidden: float | None = None) -> None:
        self._speed = speed
        self._speed_hidden = hidden or speed
        self._start = time.time(), time.monotonic()
        self._skipped = 0.0

    def monotonic(self) -> float:
        """The time for durations."""
        return (time.monotonic() - self._start[1]) * self._speed

    def time(self) -> float:
        """The time of day."""
        return self._start[0] + self.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(self.real(seconds))

    def condition(self) -> threading.Condition:
        """A condition whose waits are this clock's."""
        clock = self

        class Condition(threading.Condition):
            def wait(self, timeout: float | None = None) -> bool:
                return super().wait(None if timeout is None else clock.real(timeout))

        return Condition()

    def real(self, seconds: float) -> float:
        """The real seconds for which a call may take so long."""
        return seconds / self._speed

    def hidden(self, seconds: float) -> float:
        """The real seconds for which storage is to hide a message for so long."""
        return seconds / self._speed_hidden

    def skip(self, seconds: float) -> None:
        """Set the time of day forward."""
        self._skipped += seconds


class StandingClock:
    """Time stands still while any thread works, and then passes at once to when the first of them has waited enough.

    So what happens does not depend on how long anything really takes.
    """

    def __init__(self) -> None:
        self._passed = 0.0
        self._working = 0
        self._waiting: dict[threading.Event, float] = {}
        self._lock = threading.Lock()
        self._start = time.time()

    def monotonic(self) -> float:
        """The time for durations."""
        return self._passed

    def time(self) -> float:
        """The time of day."""
        return self._start + self._passed

    def sleep(self, seconds: float) -> None:
        """Wait, in a thread that works."""
        woken = threading.Event()
        self.begin_waiting(woken, seconds)
        woken.wait()

    def condition(self) -> "_Condition":
        """A condition whose waits are this clock's, for threads that work."""
        return _Condition(self)

    def real(self, seconds: float) -> float:
        """As long as it takes: a call takes none of this clock's time."""
        return math.inf

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count this thread among those that work, for the block."""
        self._begin_working()
        try:
            yield
        finally:
            self._end_working()

    def threads(self) -> type[ThreadPoolExecutor]:
        """Threads that count among those that work, from the moment they are asked to."""
        clock = self

        class Threads(ThreadPoolExecutor):
            def submit[**Arguments, Result](
                self, work: Callable[Arguments, Result], /, *arguments: Arguments.args, **options: Arguments.kwargs
            ) -> Future[Result]:
                def working() -> Result:
                    try:
                        return work(*arguments, **options)
                    finally:
                        clock._end_working()

                clock._begin_working()
                return super().submit(working)

        return Threads

    def _begin_working(self) -> None:
        with self._lock:
            self._working += 1

    def _end_working(self) -> None:
        with self._lock:
            self._working -= 1
            self._pass()

    def begin_waiting(self, woken: threading.Event, seconds: float) -> None:
        """From now on this thread waits, for so long or until it is woken."""
        with self._lock:
            self._waiting[woken] = self._passed + seconds
            self._working -= 1
            self._pass()

    def wake(self, woken: threading.Event) -> None:
        """End a wait before its time."""
        with self._lock:
            self._end_waiting(woken)

    def _end_waiting(self, woken: threading.Event) -> None:
        if self._waiting.pop(woken, None) is not None:
            # Counted here and not by the thread itself: time must not pass before it gets on.
            self._working += 1
            woken.set()

    def _pass(self) -> None:
        until = min(self._waiting.values(), default=math.inf)
        if self._working == 0 and until < math.inf:
            self._passed = max(self._passed, until)
            for woken in [woken for woken, end in self._waiting.items() if end <= self._passed]:
                self._end_waiting(woken)


class _Condition:
    """The part of ``threading.Condition`` that the app uses, by a :class:`StandingClock`."""

    def __init__(self, clock: StandingClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[threading.Event] = []

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> None:
        woken = threading.Event()
        self._waiting.append(woken)
        # Before the lock is free: a notification between the two would be missed.
        self._clock.begin_waiting(woken, math.inf if timeout is None else timeout)
        self._lock.release()
        woken.wait()
        self._lock.acquire()
        self._waiting.remove(woken)

    def notify_all(self) -> None:
        for woken in self._waiting:
            self._clock.wake(woken)


def install(clock: Clock) -> None:
    """Give this process's app the clock, once all of its modules are imported."""
    time_of_day = app_clock.now
    for name, module in list(sys.modules.items()):
        if name.startswith("shared.") and name not in _IN_REAL_TIME:
            if getattr(module, "time", None) is time:
                _replace(module, "time", _InPlaceOfTime(clock))
            if getattr(module, "now", None) is time_of_day:
                _replace(module, "now", lambda: datetime.fromtimestamp(clock.time(), UTC).replace(microsecond=0))
    _replace(rate_limiter, "threading", SimpleNamespace(Condition=clock.condition))
    _replace(deployment, "httpx", SimpleNamespace(**{**vars(httpx), "Timeout": _timeouts(clock)}))
    if isinstance(clock, StandingClock):
        _replace(dispatcher, "ThreadPoolExecutor", clock.threads())
    if isinstance(clock, FastClock):
        # Where time stands still, storage has no part in it: see ``proof.simulation``.
        _hide_messages_by(clock)


def _hide_messages_by(clock: FastClock) -> None:
    send = Queues.send

    def send_later(
        self: Queues, message: msgspec.Struct | str, *, queue: str | None = None, hidden_seconds: float = 0
    ) -> None:
        send(self, message, queue=queue, hidden_seconds=round(clock.hidden(hidden_seconds)))

    _replace(Queues, "send", send_later)


class _InPlaceOfTime:
    """The module ``time``: what only measures is none of the clock's business."""

    def __init__(self, clock: Clock) -> None:
        self.monotonic, self.time, self.sleep = clock.monotonic, clock.time, clock.sleep

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


def _timeouts(clock: Clock) -> Callable[..., httpx.Timeout]:
    def timeout(total: float, *, connect: float) -> httpx.Timeout:
        real = [clock.real(total), clock.real(connect)]
        every, connecting = (None if seconds == math.inf else seconds for seconds in real)
        return httpx.Timeout(every, connect=connecting)

    return timeout


def _replace(owner: object, name: str, value: object) -> None:
    """Fails where the app has no longer what is replaced."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner!r} has no {name}: the clocks of the proof must follow the app.")
    setattr(owner, name, value)
