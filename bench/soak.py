"""Half an hour of everything at once, at half of the app's capacity. Memory must not grow, and nothing may go wrong.

    python -m bench.soak --minutes 30

Users upload pictures (most of them small, one in forty a photograph of 12 megapixels), overwrite some, delete others
and send queries, half of them repeated. The app's capacity for that mix is measured first, with uploads as fast as
possible. Memory is that of the host's process, with the app in it.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Event

from azure.core.exceptions import ResourceNotFoundError

from bench import machine, photographs, report
from bench.figures import Figure, Measurement
from bench.site import Site, picture, running
from bench.uploads import SETTINGS, distinct
from local import tables
from local.azurite import REPO_ROOT

_LATENCY_MS = 200
_WITH_MANY_BLOBS = Path(__file__).with_name("azurite_with_many_blobs.js")
_FIRST = 200
# Names in use. Further uploads overwrite them, so that storage does not fill up.
_NAMES = 1500
_QUERIES_PER_S = 4.0
# With more than this many things unfinished, some part is too slow for the load and the result would mean nothing.
_MOST_WAITING = 100
_SAMPLE_EVERY = 5.0
# After that the query cache is full and every thread has decoded a photograph.
_WARM_UP = 1 / 4


class _Seen:
    """What went wrong, according to the answers and the app's log."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.errors: list[str] = []

    def read(self, line: str) -> None:
        """Take a line of the log."""
        if '"outcome":"error"' in line or '"outcome":"failed"' in line or "Traceback" in line:
            self.errors.append(line)


class _Load:
    """Everything that users do, chosen at random from a fixed seed."""

    def __init__(self, site: Site, seen: _Seen) -> None:
        self._site = site
        self._seen = seen
        self._chance = random.Random(0)
        self._numbers = count()
        self._photograph = photographs.jpeg_12mp().read_bytes()
        self.done: Counter[str] = Counter()

    def pictures(self, number: int) -> dict[str, bytes]:
        """So many new pictures, under new names."""
        return {f"soak/first {index}": self._picture() for index in range(number)}

    def change(self) -> Callable[[], object]:
        """The next upload, overwrite or deletion."""
        name = f"soak/{self._chance.randrange(_NAMES)}"
        if self._chance.random() < 0.1:
            self.done["deletions"] += 1
            return lambda: self._delete(name)
        data = self._picture()
        self.done["uploads"] += 1
        return lambda: self._site.images.upload_blob(name, data, overwrite=True)

    def query(self) -> Callable[[], object]:
        """The next query: a text or a picture, half of them new."""
        number = next(self._numbers) if self._chance.random() < 0.5 else self._chance.randrange(50)
        self.done["queries"] += 1
        if self._chance.random() < 0.5:
            body = json.dumps({"input": [f"a red bicycle, number {number}"]}).encode()
            return lambda: self._ask("embeddings", body, "application/json")
        image = picture(f"query {number}")
        return lambda: self._ask("images/embeddings", image, "image/png")

    def _picture(self) -> bytes:
        number = next(self._numbers)
        return distinct(self._photograph, number) if self._chance.random() < 1 / 40 else picture(f"soak {number}")

    def _delete(self, name: str) -> None:
        with suppress(ResourceNotFoundError):
            self._site.images.delete_blob(name)

    def _ask(self, route: str, body: bytes, kind: str) -> None:
        headers = {"x-functions-key": self._site.stack.functions_key, "content-type": kind}
        url = f"{self._site.stack.functions_url}/api/models/{route}"
        self._seen.statuses[self._site.http.post(url, content=body, headers=headers).status_code] += 1


def soak(minutes: float, tell: Callable[[str], None]) -> list[report.Result]:
    """Run it for so long and return the figures."""
    seen = _Seen()
    with running(settings=SETTINGS, show=seen.read, node_options=["--require", str(_WITH_MANY_BLOBS)]) as site:
        site.behave(latency_ms=_LATENCY_MS, mode="cheap")
        load = _Load(site, seen)
        rate = _rate(site, load) / 2
        tell(f"{rate:.1f} uploads, overwrites and deletions and {_QUERIES_PER_S:.0f} queries a second")
        process = site.host_process()
        if process is None:
            raise RuntimeError("The functions host is not running.")
        samples: list[tuple[float, float]] = []
        start = time.monotonic()
        end = start + minutes * 60
        with _repeating(site, load.change, rate) as changes, _repeating(site, load.query, _QUERIES_PER_S) as queries:
            # A load that has ended has failed; leaving the block raises why.
            while time.monotonic() < end and not (changes.done() or queries.done()):
                time.sleep(_SAMPLE_EVERY)
                samples.append(((time.monotonic() - start) / 60, machine.memory_mib("VmRSS", process) * 2**20 / 1e6))
                if len(samples) % 24 == 0:
                    tell(f"{samples[-1][0]:4.0f} min  {samples[-1][1]:.0f} MB  {dict(load.done)}")
        site.settle("soak/", "images")
        lost = len(site.lost("soak/"))
        if site.host_process() != process:
            seen.errors.append("The functions host ended and was started again.")
    for line in seen.errors[:5]:
        tell(line[:500])
    return _figures(minutes, samples, seen, lost, load.done)


def _rate(site: Site, load: _Load) -> float:
    """Images of the mix a second, uploaded as fast as possible."""
    first = load.pictures(_FIRST)
    start = time.monotonic()
    site.upload(first)
    site.settle("soak/", "images")
    return _FIRST / (time.monotonic() - start)


@contextmanager
def _repeating(site: Site, choose: Callable[[], Callable[[], object]], rate: float) -> Iterator[Future[None]]:
    """Do so many things a second until the block ends, which waits for all of them and raises what went wrong."""
    left = Event()

    def repeat() -> None:
        start = time.monotonic()
        doing: set[Future[object]] = set()
        for number in count():
            if left.wait(max(0, start + number / rate - time.monotonic())):
                break
            doing.add(site.threads.submit(choose()))
            # In any order: a slow one (the SDK retries after 15 s) must not hold up the others.
            finished = {each for each in doing if each.done()}
            for each in finished:
                each.result()
            doing -= finished
            if len(doing) > _MOST_WAITING:
                minutes = (time.monotonic() - start) / 60
                raise RuntimeError(
                    f"The load of {rate:.1f} a second is more than this machine can do: after {minutes:.0f} minutes "
                    f"{len(doing)} are unfinished. Run it on a quieter machine."
                )
        for each in doing:
            each.result()

    with ThreadPoolExecutor(1) as one:
        repeating = one.submit(repeat)
        try:
            yield repeating
        finally:
            left.set()
        repeating.result()


def _figures(
    minutes: float, samples: list[tuple[float, float]], seen: _Seen, lost: int, done: Counter[str]
) -> list[report.Result]:
    warm = [(at, size) for at, size in samples if at >= minutes * _WARM_UP]
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope
    middle = len(warm) // 2
    halves = [statistics.linear_regression(*zip(*half, strict=True)).slope for half in (warm[:middle], warm[middle:])]
    sizes = [size for _, size in warm]
    source = (
        f"{min(sizes):.0f} to {max(sizes):.0f} MB in the last {minutes * (1 - _WARM_UP):.0f} of {minutes:.0f} minutes"
    )
    wrong = sum(number for status, number in seen.statuses.items() if status != 200)
    counted = ", ".join(f"{number:,} {what}" for what, number in sorted(done.items()))
    return [
        (
            Figure("soak_memory_mb_per_min", "MB/min", "lower", 1, _never),
            Measurement(slope, min(halves), max(halves), source),
        ),
        (Figure("soak_lost", "images", "lower", 0, _never), Measurement.once(lost, counted)),
        (
            Figure("soak_errors", "answers, lines", "lower", 0, _never),
            Measurement.once(wrong + len(seen.errors), f"{seen.statuses.total():,} answers"),
        ),
    ]


def _never() -> Measurement:
    raise RuntimeError("The soak measures all of its figures at once: run python -m bench.soak.")


def main() -> int:
    """Run it, print the table and add the figures to ``.local/bench.json``."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Half an hour of everything at once.")
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    console = tables.standard_output()
    results = soak(minutes, lambda line: console.print(line, markup=False))
    report.show(console, results)
    console.print(machine.describe())
    report.write(REPO_ROOT / ".local" / "bench.json", results, keep=True)
    return 0 if all(figure.reached(measurement) for figure, measurement in results) else 1


if __name__ == "__main__":
    sys.exit(main())
