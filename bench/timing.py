"""Two ways of doing the same, timed by turns, so that whatever else the machine does affects both alike."""

import statistics
import time
from collections.abc import Callable

from bench.figures import Measurement


def speed_up(ours: Callable[[], object], usual: Callable[[], object], rounds: int) -> Measurement:
    """How many times faster ours is: the median time of the usual code over the median time of ours.

    Wall-clock time, by turns, after one untimed call of each. The range is the middle half of the ratios of single
    rounds.
    """
    ours()
    usual()
    our_times, usual_times = [], []
    for _ in range(rounds):
        our_times.append(_seconds(ours))
        usual_times.append(_seconds(usual))
    our_median, usual_median = statistics.median(our_times), statistics.median(usual_times)
    ratios = [theirs / mine for theirs, mine in zip(usual_times, our_times, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    source = f"{usual_median * 1000:.4g} ms / {our_median * 1000:.4g} ms, {rounds} rounds"
    return Measurement(usual_median / our_median, low, high, source)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
