"""The gate before the model: so many at once, none while it has asked to be left alone."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from shared.errors import ModelBusy
from shared.throttle import Gate
from tests.conftest import Clock


@pytest.fixture(autouse=True)
def _clock(clock: Clock) -> Clock:
    return clock


def places(gate: Gate) -> int:
    """How many are let through at once: as many as come in before there is no place left."""
    with ExitStack() as inside:
        for taken in range(100):
            try:
                # There is no time to wait for a place.
                inside.enter_context(gate.passage(5, deadline=0))
            except ModelBusy:
                return taken
    raise AssertionError("the gate lets everybody through")


@contextmanager
def waiting(gate: Gate, *calls: tuple[str, bool]) -> Iterator[list[str]]:
    """Calls by name, urgent or not, that wait for a place one after the other; the names of those that got one."""
    let_in: list[str] = []

    def call(name: str, urgent: bool) -> None:
        with gate.passage(5, urgent=urgent):
            let_in.append(name)

    has_come = threading.Semaphore(0)
    wait = gate._changed.wait

    def noted_wait(timeout: float | None = None) -> bool:
        # The gate is locked until the wait has begun.
        has_come.release()
        return wait(timeout)

    gate._changed.wait = noted_wait  # type: ignore[method-assign] # it is how a test knows that a thread waits
    with ThreadPoolExecutor(len(calls)) as threads:
        with gate.passage(5):
            started = []
            for one in calls:
                started.append(threads.submit(call, *one))
                has_come.acquire()
            yield let_in
        for thread in started:
            thread.result()


def test_no_more_than_allowed_are_inside() -> None:
    assert places(Gate(3)) == 3


def test_a_place_that_becomes_free_is_for_the_next() -> None:
    with waiting(Gate(1), ("one", False), ("another", False)) as let_in:
        assert let_in == []
    assert sorted(let_in) == ["another", "one"]


def test_queries_go_before_uploads_where_calls_wait_for_each_other() -> None:
    with waiting(Gate(1), ("upload", False), ("query", True)) as let_in:
        pass
    assert let_in == ["query", "upload"]


def test_after_a_refusal_all_wait_for_the_moment_that_was_named(clock: Clock) -> None:
    gate = Gate(4)
    gate.refused(3)
    clock.pass_(1)
    with gate.passage(5):
        assert clock.waits == [2]
    with gate.passage(5):
        assert clock.waits == [2]


def test_a_wait_beyond_patience_is_told_at_once(clock: Clock) -> None:
    gate = Gate(4)
    gate.refused(60)
    with pytest.raises(ModelBusy) as raised, gate.passage(5):
        pass
    assert clock.waits == []
    assert (raised.value.status, raised.value.retry_after) == (429, 60)


def test_nobody_waits_for_a_place_beyond_the_deadline(clock: Clock) -> None:
    gate = Gate(1)
    with gate.passage(5), pytest.raises(ModelBusy) as raised, gate.passage(5, deadline=clock.monotonic() + 7):
        pass
    assert clock.waits == [7]
    assert (raised.value.status, raised.value.retry_after) == (503, None)


def test_a_refusal_halves_what_is_let_through_and_answers_open_it_again(clock: Clock) -> None:
    gate = Gate(8)
    gate.refused(1)
    clock.pass_(1)
    assert places(gate) == 4
    for _ in range(40):
        gate.answered()
    assert places(gate) == 8


def test_calls_refused_together_count_as_one_refusal(clock: Clock) -> None:
    gate = Gate(8)
    for _ in range(8):
        gate.refused(1)
    clock.pass_(1)
    assert places(gate) == 4


def test_a_refusal_that_names_no_wait_lets_one_call_ask_again_after_a_while(clock: Clock) -> None:
    gate = Gate(8)
    gate.refused(None)
    with gate.passage(5):
        assert clock.waits == [1.5]
    assert places(gate) == 1


def test_one_call_is_always_let_through(clock: Clock) -> None:
    gate = Gate(2)
    for _ in range(5):
        gate.refused(1)
        clock.pass_(1)
    assert places(gate) == 1


def test_where_no_wait_is_named_a_refused_call_asks_again_later_every_time(clock: Clock) -> None:
    gate = Gate(8)
    for _ in range(6):
        gate.refused(None)
        gate.refused(None)  # in flight together with the first: it says nothing new
        with gate.passage(5):
            pass
    assert clock.waits == [1.5, 3.0, 4.0, 4.0, 4.0, 4.0]
    gate.answered()
    gate.refused(None)
    with gate.passage(5):
        pass
    assert clock.waits[6:] == [1.5]


def test_answers_open_the_gate_quickly_up_to_half_of_what_was_too_many() -> None:
    gate = Gate(8)
    gate.refused(None)
    opened = []
    for _ in range(6):
        gate.answered()
        opened.append(int(gate._allowed))
    assert opened == [2, 3, 4, 4, 4, 4]
