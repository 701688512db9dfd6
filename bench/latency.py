"""How long one image takes from its event to its record, one at a time, and where the milliseconds go.

The model answers after 200 ms. The steps are those that the functions log; the rest is the stand-in for the Functions
host, its queue, and what the functions do between the steps.

The host asks a queue that stays empty less and less often. An event of the webhook wakes it; a message that another
process puts there waits for the next time. So the latter is measured on a queue that is busy and on one that is idle.
"""

import json
import re
import statistics
import time
from collections.abc import Callable
from functools import cache, partial
from operator import contains
from typing import Any

from bench import chart
from bench.figures import Figure, Measurement
from bench.photographs import jpeg_12mp, png_small
from bench.site import Site, running, wait_for
from bench.uploads import LATENCY_MS, SETTINGS, USUAL, distinct, seconds, uploaded
from local.azurite import REPO_ROOT
from local.host.host_json import read_host_json

# The first images meet a process that has just started, and do not count.
_FIRST, _ROUNDS, _USUAL_ROUNDS = 5, 21, 7
# The longest pause between two polls of an empty queue, in seconds. Pauses double, so a queue that has been empty for
# twice as long has come to it.
_LONGEST_PAUSE = read_host_json((REPO_ROOT / "host.json").read_text(), {}, cores=1, lease=600).queues.longest_pause
_IDLE_ROUNDS, _RETRIES = 10, 5
# The longest pause before a poll, and a second for the image itself.
_MOST_MS = _LONGEST_PAUSE * 1000 + 1000
# The blob trigger's own queue is idle for longer, which makes no difference: a few rounds show it.
_IDLE_TRIGGER_S, _IDLE_TRIGGER_ROUNDS = 30, 3
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


@cache
def _by_queue() -> tuple[list[float], list[float]]:
    """Milliseconds of images whose event is a message: one right after another, and each on an idle queue."""
    with uploaded("small", 1) as (site, done, names):

        def taken() -> float:
            return seconds(site, done, names, Site.notify_by_queue) * 1000

        busy = [taken() for _ in range(_FIRST + _ROUNDS)]
        idle = []
        for number in range(_IDLE_ROUNDS):
            # Pauses are at their longest by then, and each round is at another moment of one.
            time.sleep(_LONGEST_PAUSE * (2 + number / _IDLE_ROUNDS))
            idle.append(taken())
    return busy[_FIRST:], idle


@cache
def _idle() -> list[float]:
    """Milliseconds of images whose event calls the webhook of a host that has had nothing to do."""
    with uploaded("small", 1) as (site, done, names):
        times = []
        for _ in range(_IDLE_TRIGGER_ROUNDS):
            time.sleep(_IDLE_TRIGGER_S)
            times.append(seconds(site, done, names) * 1000)
    return times


@cache
def _retried() -> list[float]:
    """Milliseconds to the record of an image that the model was not there for, from when it could be tried again."""
    lines: list[tuple[float, dict[str, Any]]] = []

    def read(line: str) -> None:
        if '"event":"image"' in line:
            lines.append((time.perf_counter(), json.loads(line[line.index("{") :])))

    def last(outcome: str) -> tuple[float, dict[str, Any]]:
        wait_for(f"line of an image that is {outcome}", lambda: bool(lines) and lines[-1][1]["outcome"] == outcome)
        return lines[-1]

    times = []
    with running(settings=SETTINGS, show=read) as site:
        data = png_small().read_bytes()
        for number in range(_RETRIES):
            site.behave(mode="cheap", fault={"kind": "503"})
            site.upload({f"retried/{number}": distinct(data, number)})
            put_off, line = last("deferred")
            site.behave(mode="cheap", latency_ms=LATENCY_MS)
            at, _ = last("embedded")
            times.append((at - put_off - line["retry_in"]) * 1000)
    return times


def _figure(times: Callable[[], list[float]], which: Callable[[list[float]], float]) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        taken = times()
        low, _, high = statistics.quantiles(taken, n=4)
        return Measurement(which(taken), low, high, f"{len(taken)} images")

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
    Figure("image_to_record_ms_p50_small", "ms", "lower", 260, _figure(lambda: _ours("small")[0], statistics.median)),
    Figure("image_to_record_ms_p95_small", "ms", "lower", None, _figure(lambda: _ours("small")[0], _p95)),
    Figure("image_to_record_ms_p50_12mp", "ms", "lower", 450, _figure(lambda: _ours("12mp")[0], statistics.median)),
    Figure("image_to_record_ms_p95_12mp", "ms", "lower", None, _figure(lambda: _ours("12mp")[0], _p95)),
    Figure("image_to_record_vs_usual_12mp", "x", "lower", None, _over_usual),
    Figure("image_to_record_ms_p50_small_idle", "ms", "lower", 500, _figure(_idle, statistics.median)),
    Figure("queue_to_record_ms_p50_small", "ms", "lower", 500, _figure(lambda: _by_queue()[0], statistics.median)),
    Figure(
        "queue_to_record_ms_p50_small_idle", "ms", "lower", None, _figure(lambda: _by_queue()[1], statistics.median)
    ),
    Figure("queue_to_record_ms_max_small_idle", "ms", "lower", _MOST_MS, _figure(lambda: _by_queue()[1], max)),
    Figure("retry_to_record_ms_p50_small", "ms", "lower", None, _figure(_retried, statistics.median)),
    Figure("retry_to_record_ms_max_small", "ms", "lower", _MOST_MS, _figure(_retried, max)),
]
