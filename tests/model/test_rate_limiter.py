"""The rate limiter in front of the model: a limited number of calls in flight, none while it is throttled."""

import threading
import time
from collections.abc import Callable

import pytest

from shared.errors import ModelUnavailable, RateLimited
from shared.model.rate_limiter import RateLimiter


def peak_in_flight(limiter: RateLimiter, callers: int, seconds: float = 0.02) -> int:
    """The most calls in flight at once when so many callers start together."""
    in_flight, peak, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal in_flight, peak
        with limiter.acquire(time.monotonic() + 5):
            with lock:
                in_flight += 1
                peak = max(peak, in_flight)
            time.sleep(seconds)
            with lock:
                in_flight -= 1

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return peak


def test_no_more_calls_than_allowed_are_in_flight() -> None:
    assert peak_in_flight(RateLimiter(3), 12) == 3


def test_after_a_429_calls_wait_as_long_as_it_says() -> None:
    limiter = RateLimiter(4)
    limiter.throttled(0.3)
    start = time.monotonic()
    with limiter.acquire(time.monotonic() + 5):
        assert time.monotonic() - start >= 0.3


def test_a_wait_longer_than_the_max_wait_is_an_error_at_once() -> None:
    limiter = RateLimiter(4)
    limiter.throttled(60)
    start = time.monotonic()
    with pytest.raises(ModelUnavailable) as raised, limiter.acquire(time.monotonic() + 5):
        pass
    assert time.monotonic() - start < 1
    assert raised.value.status == 429
    assert raised.value.retry_after is not None
    assert 59 < raised.value.retry_after <= 60


def test_a_429_halves_the_in_flight_limit_and_answers_raise_it_again() -> None:
    limiter = RateLimiter(8)
    limiter.throttled(0.01)
    time.sleep(0.02)
    assert peak_in_flight(limiter, 16) == 4
    for _ in range(40):
        limiter.succeeded()
    assert peak_in_flight(limiter, 16) == 8


def test_calls_throttled_together_count_once() -> None:
    limiter = RateLimiter(8)
    for _ in range(8):
        limiter.throttled(0.1)
    time.sleep(0.12)
    assert peak_in_flight(limiter, 16) == 4


def test_after_a_429_without_a_wait_a_single_call_probes() -> None:
    limiter = RateLimiter(8)
    limiter.throttled(None)
    start = time.monotonic()
    assert peak_in_flight(limiter, 4) == 1
    assert time.monotonic() - start >= 1.5


def test_the_in_flight_limit_never_falls_below_one() -> None:
    limiter = RateLimiter(2)
    for _ in range(5):
        limiter.throttled(0.01)
        time.sleep(0.02)
    assert peak_in_flight(limiter, 4) == 1


def test_without_a_wait_each_further_429_delays_the_next_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("shared.model.rate_limiter.time.monotonic", lambda: clock[0])
    limiter = RateLimiter(8)
    waits = []
    for _ in range(6):
        limiter.throttled(None)
        limiter.throttled(None)  # in flight together with the first, so it changes nothing
        waits.append(round(limiter._closed_until - clock[0], 2))
        clock[0] = limiter._closed_until
    assert waits == [1.5, 3.0, 4.0, 4.0, 4.0, 4.0]
    limiter.succeeded()
    limiter.throttled(None)
    assert limiter._closed_until - clock[0] == 1.5


def test_answers_raise_the_limit_quickly_up_to_half_of_what_was_too_many() -> None:
    limiter = RateLimiter(8)
    limiter.throttled(None)
    limits = []
    for _ in range(6):
        limiter.succeeded()
        limits.append(int(limiter._limit))
    assert limits == [2, 3, 4, 4, 4, 4]


class Clock:
    """Time that passes only while somebody waits, or when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("shared.model.rate_limiter.time.monotonic", lambda: self.now)

    def pass_while(
        self, limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Let the limiter's own waiting pass at once; ``meanwhile`` happens at the end of each wait."""

        def wait(seconds: float | None = None) -> bool:
            assert seconds is not None
            self.now += seconds
            meanwhile()
            return True

        monkeypatch.setattr(limiter._changed, "wait", wait)


def test_closures_one_after_the_other_do_not_add_up_to_more_than_a_call_may_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, limiter = Clock(monkeypatch), RateLimiter(8)
    limiter.throttled(55)
    clock.pass_while(limiter, monkeypatch, meanwhile=lambda: limiter.throttled(55))
    started = clock.now
    with pytest.raises(RateLimited), limiter.acquire(started + 60):
        pass
    assert clock.now - started == 55


@pytest.mark.parametrize("asked", [86_400, 3600, 301])
def test_a_wait_of_a_day_is_cut_to_minutes_and_a_single_call_probes_then(
    monkeypatch: pytest.MonkeyPatch, asked: float
) -> None:
    clock, limiter = Clock(monkeypatch), RateLimiter(8)
    for _ in range(12):
        limiter.throttled(asked)
        with pytest.raises(RateLimited) as refused:
            limiter.check(clock.now + 60)
        assert refused.value.retry_after == 300
        clock.now += 300
        limiter.check(clock.now)
        assert limiter._limit == 1
    for _ in range(40):
        limiter.succeeded()
    assert limiter._limit == 8


def test_a_model_that_hangs_is_probed_by_one_call_at_a_time_and_ever_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, limiter = Clock(monkeypatch), RateLimiter(8)
    waits = []
    for _ in range(6):
        for _ in range(8):
            limiter.timed_out()  # those that were in flight together count once
        waits.append(limiter._closed_until - clock.now)
        assert limiter._limit == 1
        with pytest.raises(RateLimited) as refused:
            limiter.check(clock.now)
        assert refused.value.status == 503
        clock.now = limiter._closed_until
    assert waits == [5, 10, 20, 40, 60, 60]
    limiter.succeeded()
    limiter.timed_out()
    assert limiter._closed_until - clock.now == 5


def test_a_call_is_not_sent_when_there_is_no_time_left_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, limiter = Clock(monkeypatch), RateLimiter(8)
    for left in (-10, 0, 0.4):
        with pytest.raises(RateLimited), limiter.acquire(clock.now + 5, deadline=clock.now + left):
            pass
    with limiter.acquire(clock.now + 5, deadline=clock.now + 1):
        pass
