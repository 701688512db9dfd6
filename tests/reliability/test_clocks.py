"""The clocks of the proof: hours that pass at once, but never while anybody works."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from proof.clock import FastClock, StandingClock

HOUR = 3600.0


def test_time_passes_at_once_to_when_the_first_has_waited_enough() -> None:
    clock = StandingClock()
    all_there = threading.Barrier(3)

    def wait(hours: int) -> list[float]:
        with clock.working():
            all_there.wait()
            times = []
            for _ in range(2):
                clock.sleep(hours * HOUR)
                times.append(clock.monotonic() / HOUR)
            return times

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(wait, (2, 3, 5))) == [[2, 4], [3, 6], [5, 10]]


def test_time_stands_still_while_one_works() -> None:
    clock = StandingClock()
    waits, works = threading.Event(), threading.Event()

    def wait() -> float:
        with clock.working():
            waits.set()
            clock.sleep(HOUR)
            return clock.monotonic()

    def work() -> float:
        with clock.working():
            works.set()
            waits.wait()
            # Long enough for the other to be asleep, as far as that goes.
            time.sleep(0.1)
            return clock.monotonic()

    with ThreadPoolExecutor(2) as threads:
        working = threads.submit(work)
        works.wait()
        waiting = threads.submit(wait)
        assert (working.result(), waiting.result()) == (0, HOUR)


@pytest.mark.parametrize(("timeout", "woken_at"), [(None, 1), (HOUR, 1), (0.5, 0.5)])
def test_a_wait_for_a_condition_ends_when_it_is_notified_or_in_its_time(timeout: float | None, woken_at: float) -> None:
    clock = StandingClock()
    condition = clock.condition()
    waits = threading.Barrier(2)

    def wait() -> float:
        with clock.working(), condition:
            waits.wait()
            condition.wait(timeout)
            return clock.monotonic()

    def notify() -> None:
        with clock.working():
            waits.wait()
            clock.sleep(1)
            with condition:
                condition.notify_all()

    with ThreadPoolExecutor(2) as threads:
        waiting, _ = threads.submit(wait), threads.submit(notify)
        assert waiting.result() == woken_at


def test_a_fast_clock_is_ahead_of_time_and_can_skip_some_of_the_day() -> None:
    clock = FastClock(1000)
    before, real = clock.monotonic(), time.monotonic()
    clock.sleep(10)
    assert clock.monotonic() - before >= 10
    assert time.monotonic() - real >= 10 / 1000
    start = clock.time()
    clock.skip(24 * HOUR)
    assert clock.time() - start >= 24 * HOUR
