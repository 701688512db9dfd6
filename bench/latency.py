"""How long one image takes from its event to its record, one at a time, and where the milliseconds go.

The model answers after 200 ms. The steps are those that the functions log; the rest is the stand-in for the Functions
host, its queue, and what the functions do between the steps.
"""

import json
import re
import statistics
import time
from collections.abc import Callable
from functools import cache, partial
from operator import contains

from bench import chart
from bench.figures import Figure, Measurement
from bench.photographs import jpeg_12mp
from bench.site import running, wait_for
from bench.uploads import LATENCY_MS, SETTINGS, USUAL, distinct, seconds, uploaded
from local.azurite import REPO_ROOT

# The first images find a process that has just started.
_FIRST, _ROUNDS, _USUAL_ROUNDS = 5, 21, 7
CHART = REPO_ROOT / ".local" / "milliseconds.svg"

type _Taken = tuple[list[float], list[dict[str, float]]]


@cache
def _ours(kind: str) -> _Taken:
    """Milliseconds of each image, in total and by step."""
    times, steps = [], []
    with uploaded(kind, _FIRST + _ROUNDS) as (site, done, names):
        for name in names:
            times.append(seconds(site, done, [name]) * 1000)
            line = json.loads(done.lines[0][done.lines[0].index("{") :])
            steps.append({step: ms for step, ms in line["ms"].items() if step != "total"})
    return times[_FIRST:], steps[_FIRST:]


@cache
def _usual() -> _Taken:
    """The same for the usual code and 12 megapixels."""
    logged: dict[str, tuple[float, str]] = {}

    def read(line: str) -> None:
        if found := re.search(r"Embedded (\S+) in ms: (.*)", line):
            logged[found[1]] = time.perf_counter(), found[2]

    times, steps = [], []
    names = [f"12mp/{index}" for index in range(_USUAL_ROUNDS)]
    with running(app=USUAL, settings=SETTINGS, show=read) as site:
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        data = jpeg_12mp().read_bytes()
        site.upload({name: distinct(data, index) for index, name in enumerate(names)})
        wait_for("log line for each image of the usual code", lambda: len(logged) == len(names))
        for name in names:
            logged.clear()
            start = time.perf_counter()
            site.notify(name)
            wait_for(f"log line for {name}", partial(contains, logged, name), every=0.001)
            at, taken = logged[name]
            times.append((at - start) * 1000)
            steps.append(json.loads(taken))
    return times, steps


def _figure(kind: str, which: Callable[[list[float]], float]) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        times, _ = _ours(kind)
        low, _, high = statistics.quantiles(times, n=4)
        return Measurement(which(times), low, high, f"{len(times)} images")

    return measure


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _over_usual() -> Measurement:
    """Ours over the usual code. Also draws the chart of both."""
    ours, usual = _ours("12mp"), _usual()
    bars = {"this app": _bar(ours), "the usual code": _bar(usual)}
    CHART.write_text(chart.bars(f"Milliseconds of one 12-megapixel JPEG, model at {LATENCY_MS} ms", bars))
    middle, other = statistics.median(ours[0]), statistics.median(usual[0])
    low, _, high = statistics.quantiles([time / other for time in ours[0]], n=4)
    return Measurement(middle / other, low, high, f"{middle:.0f} / {other:.0f} ms")


def _bar(taken: _Taken) -> dict[str, float]:
    times, steps = taken
    bar = {step: statistics.median(each[step] for each in steps) for step in steps[0]}
    return {**bar, "host and queue": max(0.0, statistics.median(times) - sum(bar.values()))}


FIGURES = [
    Figure("image_to_record_ms_p50_small", "ms", "lower", 260, _figure("small", statistics.median)),
    Figure("image_to_record_ms_p95_small", "ms", "lower", None, _figure("small", _p95)),
    Figure("image_to_record_ms_p50_12mp", "ms", "lower", 450, _figure("12mp", statistics.median)),
    Figure("image_to_record_ms_p95_12mp", "ms", "lower", None, _figure("12mp", _p95)),
    Figure("image_to_record_vs_usual_12mp", "x", "lower", None, _over_usual),
]
