"""The rate limiter in front of the model: an in-flight limit, and no calls while the model is throttled or hangs."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from shared.errors import NotSent
from shared.model.client import Schedule
from shared.model.rate_limiter import RateLimiter, RateLimiters
from tests.conftest import Clock


@pytest.fixture(autouse=True)
def _clock(clock: Clock) -> Clock:
    return clock


def soon() -> float:
    """When a call stops waiting for a throttled model: in five seconds of the limiter's clock."""
    return Schedule.of(max_wait=5, max_time=60).wait_until


def alone(max_in_flight: int) -> tuple[RateLimiters, RateLimiter]:
    """The limiters of a model with one deployment, and the one that they are."""
    limiters = RateLimiters(1, max_in_flight)
    return limiters, limiters.all[0]


def places(limiters: RateLimiters) -> int:
    """The in-flight limit: how many calls get a place before there is none left."""
    with ExitStack() as inside:
        for taken in range(100):
            try:
                # With a second left, which is enough for a call and passes while there is no place.
                schedule = Schedule.of(max_wait=5, max_time=1)
                inside.enter_context(limiters.acquire(schedule.wait_until, deadline=schedule.deadline))
            except NotSent:
                return taken
    raise AssertionError("the limiter lets everybody through")


def throttle(limiter: RateLimiter, clock: Clock, calls: int = 1) -> None:
    """Have the model answer 429 to calls in flight together, and the second that it named pass."""
    for _ in range(calls):
        limiter.throttled(1)
    clock.pass_(1)


@contextmanager
def waiting(limiters: RateLimiters, *calls: tuple[str, bool]) -> Iterator[list[str]]:
    """Calls by name, urgent or not, that wait for a place one after the other; the names of those that got one."""
    let_in: list[str] = []

    def call(name: str, urgent: bool) -> None:
        with limiters.acquire(soon(), urgent=urgent):
            let_in.append(name)

    has_come = threading.Semaphore(0)
    wait = limiters._changed.wait

    def noted_wait(timeout: float | None = None) -> bool:
        # The limiter is locked until the wait has begun.
        has_come.release()
        return wait(timeout)

    limiters._changed.wait = noted_wait  # type: ignore[method-assign] # it is how a test knows that a thread waits
    with ThreadPoolExecutor(len(calls)) as threads:
        with limiters.acquire(soon()):
            started = []
            for one in calls:
                started.append(threads.submit(call, *one))
                has_come.acquire()
            yield let_in
        for thread in started:
            thread.result()


def test_no_more_calls_than_the_limit_are_in_flight() -> None:
    assert places(RateLimiters(1, 3)) == 3


def test_a_place_that_comes_free_goes_to_the_next_call() -> None:
    with waiting(RateLimiters(1, 1), ("one", False), ("another", False)) as let_in:
        assert let_in == []
    assert sorted(let_in) == ["another", "one"]


def test_queries_go_ahead_of_uploads_that_wait() -> None:
    with waiting(RateLimiters(1, 1), ("upload", False), ("query", True)) as let_in:
        pass
    assert let_in == ["query", "upload"]


def test_after_a_429_calls_wait_as_long_as_it_says(clock: Clock) -> None:
    limiters, limiter = alone(4)
    limiter.throttled(3)
    clock.pass_(1)
    with limiters.acquire(soon()):
        assert clock.waits == [2]
    with limiters.acquire(soon()):
        assert clock.waits == [2]


def test_a_wait_longer_than_the_max_wait_is_an_error_at_once(clock: Clock) -> None:
    limiters, limiter = alone(4)
    limiter.throttled(60)
    with pytest.raises(NotSent) as raised, limiters.acquire(soon()):
        pass
    assert clock.waits == []
    assert (raised.value.status, raised.value.retry_after) == (429, 60)


def test_no_call_waits_for_a_place_beyond_its_deadline(clock: Clock) -> None:
    limiters, _ = alone(1)
    with (
        limiters.acquire(soon()),
        pytest.raises(NotSent) as raised,
        limiters.acquire(soon(), deadline=clock.monotonic() + 7),
    ):
        pass
    assert clock.waits == [7]
    assert (raised.value.status, raised.value.retry_after) == (503, None)


def test_a_429_halves_the_limit_and_answers_raise_it_again(clock: Clock) -> None:
    limiters, limiter = alone(8)
    throttle(limiter, clock)
    assert places(limiters) == 4
    for _ in range(40):
        limiter.succeeded()
    assert places(limiters) == 8


def test_calls_throttled_together_count_once(clock: Clock) -> None:
    limiters, limiter = alone(8)
    throttle(limiter, clock, calls=8)
    assert places(limiters) == 4


def test_after_a_429_without_a_wait_a_single_call_probes(clock: Clock) -> None:
    limiters, limiter = alone(8)
    limiter.throttled(None)
    with limiters.acquire(soon()):
        assert clock.waits == [1.5]
    assert places(limiters) == 1


def test_answers_to_calls_sent_before_the_429_bring_no_second_probe(clock: Clock) -> None:
    limiters, limiter = alone(8)
    limiter.throttled(None)
    for _ in range(7):
        limiter.succeeded()
    clock.pass_(2)
    assert places(limiters) == 1


def test_the_in_flight_limit_never_falls_below_one(clock: Clock) -> None:
    limiters, limiter = alone(2)
    for _ in range(5):
        throttle(limiter, clock)
    assert places(limiters) == 1


def test_without_a_wait_each_further_429_delays_the_next_probe(clock: Clock) -> None:
    limiters, limiter = alone(8)
    for _ in range(6):
        limiter.throttled(None)
        limiter.throttled(None)  # in flight together with the first: it says nothing new
        with limiters.acquire(soon()):
            pass
    assert clock.waits == [1.5, 3.0, 4.0, 4.0, 4.0, 4.0]
    limiter.succeeded()
    limiter.throttled(None)
    with limiters.acquire(soon()):
        pass
    assert clock.waits[6:] == [1.5]


def test_answers_raise_the_limit_quickly_up_to_half_of_what_was_too_many(clock: Clock) -> None:
    _, limiter = alone(8)
    limiter.throttled(None)
    clock.pass_(2)
    opened = []
    for _ in range(6):
        limiter.succeeded()
        opened.append(int(limiter._limit))
    assert opened == [2, 3, 4, 4, 4, 4]


def test_closures_one_after_the_other_do_not_add_up_to_more_than_a_call_may_wait(clock: Clock) -> None:
    limiters, limiter = alone(8)
    limiter.throttled(55)
    clock.meanwhile = lambda: limiter.throttled(55)
    with pytest.raises(NotSent), limiters.acquire(clock.monotonic() + 60):
        pass
    assert clock.waits == [55]


@pytest.mark.parametrize("asked", [86_400, 3600, 301])
def test_a_wait_of_a_day_is_cut_to_minutes_and_a_single_call_probes_then(clock: Clock, asked: float) -> None:
    limiters, limiter = alone(8)
    for _ in range(12):
        limiter.throttled(asked)
        with pytest.raises(NotSent) as refused:
            limiters.check(clock.monotonic() + 60)
        assert refused.value.retry_after == 300
        clock.pass_(300)
        limiters.check(clock.monotonic())
        assert limiter._limit == 1
    for _ in range(40):
        limiter.succeeded()
    assert limiter._limit == 8


def test_a_model_that_hangs_is_probed_by_one_call_at_a_time_and_ever_later(clock: Clock) -> None:
    limiters, limiter = alone(8)
    waits = []
    for _ in range(6):
        for _ in range(8):
            limiter.timed_out()  # those that were in flight together count once
        waits.append(limiter.closed_until - clock.monotonic())
        assert limiter._limit == 1
        with pytest.raises(NotSent) as refused:
            limiters.check(clock.monotonic())
        assert refused.value.status == 503
        clock.pass_(waits[-1])
    assert waits == [5, 10, 20, 40, 60, 60]
    limiter.succeeded()
    limiter.timed_out()
    assert limiter.closed_until - clock.monotonic() == 5


def test_a_call_is_not_sent_when_there_is_no_time_left_for_its_answer(clock: Clock) -> None:
    limiters, _ = alone(8)
    for left in (-10, 0, 0.4):
        with pytest.raises(NotSent), limiters.acquire(clock.monotonic() + 5, deadline=clock.monotonic() + left):
            pass
    with limiters.acquire(clock.monotonic() + 5, deadline=clock.monotonic() + 1):
        pass


def test_a_picture_is_not_prepared_if_no_time_is_left_for_its_call() -> None:
    limiters, _ = alone(8)
    for seconds in (60, 0.6):
        limiters.check(soon(), deadline=Schedule.of(5, seconds).deadline)
    with pytest.raises(NotSent, match="no time left"):
        limiters.check(soon(), deadline=Schedule.of(5, 0.4).deadline)
