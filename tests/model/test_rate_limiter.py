"""The rate limiter in front of the model: a limited number of calls in flight, none while it is throttled."""

import threading
import time

import pytest

from shared.errors import ModelUnavailable
from shared.model.rate_limiter import RateLimiter


def peak_in_flight(limiter: RateLimiter, callers: int, seconds: float = 0.02) -> int:
    """The most calls in flight at once when so many callers start together."""
    in_flight, peak, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal in_flight, peak
        with limiter.acquire(5):
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
    with limiter.acquire(5):
        assert time.monotonic() - start >= 0.3


def test_a_wait_longer_than_the_max_wait_is_an_error_at_once() -> None:
    limiter = RateLimiter(4)
    limiter.throttled(60)
    start = time.monotonic()
    with pytest.raises(ModelUnavailable) as raised, limiter.acquire(5):
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
