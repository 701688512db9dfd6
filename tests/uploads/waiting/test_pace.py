"""A pace: calls spread evenly, as many as the quota takes and a little more now and then."""

from dataclasses import dataclass, field

import pytest

from shared.model.wire_format import Stated
from shared.uploads.waiting.pace import Pace
from tests.conftest import Clock


@dataclass
class Service:
    """Takes so many calls in each window of seconds, the first of which begins with the first call."""

    calls: int
    window: float
    taken: list[float] = field(default_factory=list)

    def wait(self, now: float) -> float:
        """0 if a call is taken, or the seconds that the service asks to wait for: whole ones."""
        start = self.taken[0] if self.taken else now
        begun = start + (now - start) // self.window * self.window
        if sum(1 for call in self.taken if call >= begun) < self.calls:
            self.taken.append(now)
            return 0.0
        return float(-(-(begun + self.window - now) // 1))


def run(clock: Clock, pace: Pace, service: Service, seconds: float, *, backlog: bool = True, others: float = 0) -> int:
    """Call as fast as the pace lets one, and ``others`` so often a second; returns how many calls were refused."""
    end, refused, next_other = clock.monotonic() + seconds, 0, clock.monotonic()
    while clock.monotonic() < end:
        if others and clock.monotonic() >= next_other:
            next_other += 1 / others
            if wait := service.wait(clock.monotonic()):
                pace.refused(wait)
        wait = pace.take(backlog=backlog)
        if wait:
            clock.pass_(min(wait, 0.05))
        elif wait := service.wait(clock.monotonic()):
            refused += 1
            pace.refused(wait)
    return refused


@pytest.mark.parametrize(("calls", "window"), [(100, 5), (60, 1), (300, 60)])
def test_what_the_quota_takes_is_found_out_with_few_refusals(clock: Clock, calls: int, window: float) -> None:
    service, pace = Service(calls, window), Pace(0, 0, 0.9)
    refused = run(clock, pace, service, 240)
    assert len(service.taken) > 0.9 * 0.9 * 240 * calls / window
    assert refused < 0.02 * len(service.taken)


def test_the_backlog_leaves_its_share_to_others(clock: Clock) -> None:
    service, pace = Service(100, 5), Pace(20, 1200, 0.5)
    assert run(clock, pace, service, 60, others=9) == 0
    backlog = len(service.taken) - 60 * 9
    assert 0.47 < backlog / 60 / 20 < 0.55


def test_it_gives_way_to_what_others_use_all_the_time(clock: Clock) -> None:
    service, pace = Service(100, 5), Pace(20, 0, 0.9)
    run(clock, pace, service, 30, others=8)
    assert run(clock, pace, service, 120, others=8) < 12
    assert pace.rate < 15


def test_a_quota_that_grows_is_used_after_a_while(clock: Clock) -> None:
    pace = Pace(5, 20, 0.9)
    faster = Service(100, 5)
    run(clock, pace, faster, 60)
    assert pace.speed > 10


def test_a_pace_that_proves_right_is_kept_ever_longer(clock: Clock) -> None:
    service, pace = Service(100, 5), Pace(0, 0, 0.9)
    run(clock, pace, service, 10)
    assert pace.patience < 100
    run(clock, pace, service, 240)
    assert pace.patience > 300


def test_while_nothing_is_known_no_more_than_twice_what_was_answered_is_tried(clock: Clock) -> None:
    pace = Pace(0, 0, 1)
    assert pace.speed == 4
    run(clock, pace, Service(10**6, 1), 4, backlog=False)
    assert 8 < pace.speed < 64


def test_calls_come_evenly_and_none_at_once_after_a_pause(clock: Clock) -> None:
    pace = Pace(10, 1200, 1)
    pace.take(backlog=False)
    clock.pass_(100)
    at_once = 0
    while not pace.take(backlog=False):
        at_once += 1
    assert at_once == 10
    assert pace.take(backlog=False) == pytest.approx(0.1, abs=0.01)


def test_what_the_service_says_of_its_quota_is_believed_where_it_says_less(clock: Clock) -> None:
    pace = Pace(0, 0, 0.9)
    pace.answered(2000, Stated(calls=600, tokens=600_000, left=1.0))
    assert pace.rate == 5
    pace.answered(2000, Stated(calls=60, tokens=600_000, left=1.0))
    assert pace.rate == 1
    # Found out since: what it says may be of another window than a minute.
    run(clock, pace, Service(10, 60), 300)
    assert pace.rate < 0.5
    found = pace.rate
    pace.answered(2000, Stated(calls=60, tokens=600_000, left=1.0))
    assert pace.rate == found


def test_what_the_service_says_is_left_is_kept_for_others(clock: Clock) -> None:
    pace = Pace(20, 1200, 0.9)
    pace.answered(1000, Stated(calls=None, tokens=1_200_000, left=0.05))
    assert pace.take(backlog=True) == pytest.approx(3)
    clock.pass_(3.1)
    assert pace.take(backlog=True) == 0


def test_a_refusal_closes_it_for_as_long_as_the_quota_is_spent(clock: Clock) -> None:
    pace = Pace(20, 1200, 0.9)
    pace.refused(40)
    assert pace.take(backlog=False) == pytest.approx(40)
    clock.pass_(40.2)
    assert pace.take(backlog=False) == 0


def test_a_call_that_was_not_made_is_given_back(clock: Clock) -> None:
    pace = Pace(1, 1200, 0.5)
    for _ in range(5):
        assert pace.take(backlog=True) == 0
        pace.give_back(backlog=True)


def test_calls_that_nobody_was_free_to_make_are_counted(clock: Clock) -> None:
    pace = Pace(10, 1200, 1)
    clock.pass_(5)
    assert pace.missed() == pytest.approx(41, abs=1)
    assert pace.missed() == 0
