"""How long work takes, and how much longer another way of doing the same takes."""

import statistics
import time
from collections.abc import Callable, Sequence

from bench.figures import Measurement


def speed_up(
    ours: Callable[[], object],
    usual: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement:
    """How many times faster ours is: the median time of the usual code over the median time of ours.

    By turns, so that whatever else the machine does affects both alike, after one untimed call of each.
    """
    ours()
    usual()
    our_times, usual_times = [], []
    for _ in range(rounds):
        our_times.append(seconds(ours, clock))
        usual_times.append(seconds(usual, clock))
    return ratio(usual_times, our_times)


def ratio(ones: Sequence[float], others: Sequence[float]) -> Measurement:
    """The median of some seconds over the median of others, with the middle half of the ratios of single rounds."""
    one, other = statistics.median(ones), statistics.median(others)
    low, _, high = statistics.quantiles([mine / theirs for mine, theirs in zip(ones, others, strict=True)], n=4)
    return Measurement(one / other, low, high, f"{one * 1000:.4g} ms / {other * 1000:.4g} ms, {len(ones)} rounds")


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The seconds that it takes, by this clock."""
    start = clock()
    work()
    return clock() - start
