"""The gate before the model: so many at once, none while it has asked to be left alone."""

import threading
import time
from collections.abc import Callable

import pytest

from shared.errors import ModelUnavailable, RateLimited
from shared.model.rate_limiter import RateLimiter


def most_inside(gate: RateLimiter, callers: int, each: float = 0.02) -> int:
    """How many were inside at once when so many callers came together."""
    inside, most, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal inside, most
        with gate.acquire(time.monotonic() + 5):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(each)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


def test_no_more_than_allowed_are_inside() -> None:
    assert most_inside(RateLimiter(3), 12) == 3


def test_after_a_refusal_all_wait_for_the_moment_that_was_named() -> None:
    gate = RateLimiter(4)
    gate.throttled(0.3)
    start = time.monotonic()
    with gate.acquire(time.monotonic() + 5):
        assert time.monotonic() - start >= 0.3


def test_a_wait_beyond_patience_is_told_at_once() -> None:
    gate = RateLimiter(4)
    gate.throttled(60)
    start = time.monotonic()
    with pytest.raises(ModelUnavailable) as raised, gate.acquire(time.monotonic() + 5):
        pass
    assert time.monotonic() - start < 1
    assert raised.value.status == 429
    assert raised.value.retry_after is not None
    assert 59 < raised.value.retry_after <= 60


def test_a_refusal_halves_what_is_let_through_and_answers_open_it_again() -> None:
    gate = RateLimiter(8)
    gate.throttled(0.01)
    time.sleep(0.02)
    assert most_inside(gate, 16) == 4
    for _ in range(40):
        gate.succeeded()
    assert most_inside(gate, 16) == 8


def test_calls_refused_together_count_as_one_refusal() -> None:
    gate = RateLimiter(8)
    for _ in range(8):
        gate.throttled(0.1)
    time.sleep(0.12)
    assert most_inside(gate, 16) == 4


def test_a_refusal_that_names_no_wait_lets_one_call_ask_again_after_a_while() -> None:
    gate = RateLimiter(8)
    gate.throttled(None)
    start = time.monotonic()
    assert most_inside(gate, 4) == 1
    assert time.monotonic() - start >= 1.5


def test_one_call_is_always_let_through() -> None:
    gate = RateLimiter(2)
    for _ in range(5):
        gate.throttled(0.01)
        time.sleep(0.02)
    assert most_inside(gate, 4) == 1


def test_where_no_wait_is_named_a_refused_call_asks_again_later_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("shared.model.rate_limiter.time.monotonic", lambda: clock[0])
    gate = RateLimiter(8)
    waits = []
    for _ in range(6):
        gate.throttled(None)
        gate.throttled(None)  # in flight together with the first: it says nothing new
        waits.append(round(gate._closed_until - clock[0], 2))
        clock[0] = gate._closed_until
    assert waits == [1.5, 3.0, 4.0, 4.0, 4.0, 4.0]
    gate.succeeded()
    gate.throttled(None)
    assert gate._closed_until - clock[0] == 1.5


def test_answers_open_the_gate_quickly_up_to_half_of_what_was_too_many() -> None:
    gate = RateLimiter(8)
    gate.throttled(None)
    opened = []
    for _ in range(6):
        gate.succeeded()
        opened.append(int(gate._limit))
    assert opened == [2, 3, 4, 4, 4, 4]


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
