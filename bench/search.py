"""How long a search takes, what it finds, and how much memory the index needs: with 100,000 and a million images.

The images are made up (:mod:`bench.embeddings`), in segments of 100,000, which are files, as on an instance. All is
measured in processes of their own. Half of the queries are pictures and half texts, none of which is stored.
"""

import json
import mmap
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.figures import Figure, Measurement
from bench.machine import memory_mib

# Not before the memory has been measured that a process has without them.
if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.search.index import Index

_ROWS: Final = 100_000
_BLOCK: Final = 10_000
_QUERIES: Final = 100
_TOP: Final = 10
_CALLERS: Final = 8
_RPS_SECONDS: Final = 10
# Images are in 100 folders, so these begin the names of all, of a tenth and of a hundredth of them.
_PREFIXES: Final = {"all": "", "a tenth": "4", "a hundredth": "42/"}


def _name(number: int) -> str:
    return f"{number * 7919 % 100:02}/{number:07}.jpg"


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where the segments are until this process ends."""
    return tempfile.TemporaryDirectory(prefix="bench-search-")


@cache
def _segments(count: int) -> Path:
    """A folder with so many segments, each with the best of its images for each query."""
    folder = Path(_folder().name) / str(count)
    folder.mkdir()
    with ThreadPoolExecutor(2) as two:
        list(two.map(lambda number: _child("make", folder, number), range(count)))
    return folder


def _child(*arguments: object) -> str:
    command = [sys.executable, "-m", "bench.search", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _make(folder: Path, number: int) -> None:
    """Write a segment, the queries, and for each query the best images by their exact cosines with what is stored."""
    import numpy as np

    from bench.embeddings import DIMENSIONS, World
    from shared.clock import now
    from shared.search.entries import Entry, Facts
    from shared.search.segment import build

    world = World.make()
    queries = np.concatenate([world.pictures(2**31, _QUERIES), world.descriptions(2**31, _QUERIES)])
    np.save(folder / "queries.npy", queries)
    facts = Facts(etag="0x8DE2F0A1B2C3D4E", media_type="image/jpeg", width=4000, height=3000, embedded_at=now())
    entries: list[Entry] = []
    best: dict[str, list[NDArray[Any]]] = {kind: [] for kind in _PREFIXES}
    for first in range(number * _ROWS, (number + 1) * _ROWS, _BLOCK):
        vectors = world.pictures(first, _BLOCK).astype(np.float16)
        names = [_name(first + row) for row in range(_BLOCK)]
        entries += [
            Entry(name=name, seq=1, facts=facts, vector=vector.tobytes())
            for name, vector in zip(names, vectors, strict=True)
        ]
        stored = vectors.astype(np.float32)
        cosines = queries @ stored.T / np.linalg.norm(stored, axis=1)
        for kind, prefix in _PREFIXES.items():
            rows = np.array([row for row, name in enumerate(names) if name.startswith(prefix)])
            top = np.argpartition(-cosines[:, rows], _TOP, axis=1)[:, :_TOP]
            best[kind].append(np.stack([np.take_along_axis(cosines[:, rows], top, 1), rows[top] + first]))
    for kind, found in best.items():
        np.save(folder / f"{number} {kind}.npy", np.concatenate(found, axis=2))
    with (folder / f"{number}.segment").open("wb") as file:
        file.writelines(build(entries, dimensions=DIMENSIONS))


def _opened(folder: Path) -> tuple["Index", list[mmap.mmap]]:
    """An index of all segments, and the files that it has mapped."""
    from bench.embeddings import DIMENSIONS
    from shared.search.index import Index
    from shared.search.segment import Segment

    mapped = []
    for path in sorted(folder.glob("*.segment")):
        with path.open("rb") as file:
            mapped.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return Index([Segment.open(one, dimensions=DIMENSIONS) for one in mapped], dimensions=DIMENSIONS), mapped


def _queries(folder: Path) -> list[list[float]]:
    import numpy as np

    queries: list[list[float]] = np.load(folder / "queries.npy").tolist()
    return queries


def _measure(folder: Path) -> dict[str, object]:
    """Times, recall and searches a second in this process."""
    queries = _queries(folder)
    index, mapped = _opened(folder)
    for query in queries:
        index.search(query, top=_TOP)
    times, recall = [], {}
    for kind, prefix in _PREFIXES.items():
        found = []
        for query in queries:
            start = time.perf_counter()
            hits = index.search(query, top=_TOP, prefix=prefix)
            times.append(1000 * (time.perf_counter() - start))
            found.append([hit.name for hit in hits])
        recall[kind] = _recall(folder, kind, found)
    # With more segments nobody asks for it.
    rps = _searches_per_s(index, queries) if len(mapped) == 1 else None
    return {"ms": times[: len(queries)], "recall": recall, "rps": rps}


def _recall(folder: Path, kind: str, found: list[list[str]]) -> list[float]:
    """The share of the best images that was found, for pictures and for texts."""
    import numpy as np

    cosines, numbers = np.concatenate([np.load(path) for path in sorted(folder.glob(f"* {kind}.npy"))], axis=2)
    best = np.take_along_axis(numbers, np.argsort(-cosines, axis=1)[:, :_TOP], 1).astype(int)
    shares = [
        len({_name(number) for number in wanted} & set(names)) / _TOP
        for wanted, names in zip(best.tolist(), found, strict=True)
    ]
    return [statistics.fmean(shares[:_QUERIES]), statistics.fmean(shares[_QUERIES:])]


def _searches_per_s(index: "Index", queries: list[list[float]]) -> float:
    end = time.monotonic() + _RPS_SECONDS

    def call(caller: int) -> int:
        done = 0
        while time.monotonic() < end:
            index.search(queries[(caller * 25 + done) % len(queries)], top=_TOP)
            done += 1
        return done

    with ThreadPoolExecutor(_CALLERS) as callers:
        return sum(callers.map(call, range(_CALLERS))) / _RPS_SECONDS


def _memory(folder: Path, *, mapped: bool) -> float:
    """MiB beyond a process that has not searched, once all queries have been searched for.

    ``mapped`` without the pages of files, which the system takes back when it needs the memory: it does so here.
    """
    before = memory_mib("VmRSS")
    index, files = _opened(folder)
    for query in _queries(folder):
        index.search(query, top=_TOP)
    if mapped:
        for file in files:
            file.madvise(mmap.MADV_DONTNEED)
    return memory_mib("VmRSS") - before


@cache
def _measured(count: int) -> dict[str, Any]:
    measured: dict[str, Any] = json.loads(_child("measure", _segments(count)))
    return measured


def _ms(count: int) -> Measurement:
    times = _measured(count)["ms"]
    low, median, high = statistics.quantiles(times, n=4)
    p95 = statistics.quantiles(times, n=20)[-1]
    return Measurement(median, low, high, f"{len(times)} searches, 95th percentile {p95:.1f} ms")


def _lowest_recall(count: int) -> Measurement:
    """The lowest of pictures and texts, among all images, a tenth and a hundredth of them."""
    recall = _measured(count)["recall"]
    each = [f"{kind} {pictures:.3f}, {texts:.3f}" for kind, (pictures, texts) in recall.items()]
    return Measurement.once(min(min(both) for both in recall.values()), f"pictures, texts: {'; '.join(each)}")


def _rps(count: int) -> Measurement:
    return Measurement.once(_measured(count)["rps"], f"{_CALLERS} callers, {_RPS_SECONDS} s")


def _mib(count: int, how: str) -> Measurement:
    return Measurement.once(float(_child("memory", _segments(count), how)), f"after {2 * _QUERIES} searches")


FIGURES = [
    Figure("search_ms_100k", "ms", "lower", 8, partial(_ms, 1)),
    Figure("search_recall_100k", "", "higher", 0.99, partial(_lowest_recall, 1)),
    Figure("search_rps", "searches/s", "higher", 150, partial(_rps, 1)),
    Figure("search_ms_1m", "ms", "lower", 100, partial(_ms, 10)),
    Figure("search_recall_1m", "", "higher", 0.99, partial(_lowest_recall, 10)),
    Figure("search_mb_1m", "MiB", "lower", 1400, partial(_mib, 10, "mapped")),
    Figure("search_mb_1m_in_memory", "MiB", "lower", 2600, partial(_mib, 10, "in memory")),
]

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, number]:
            _make(Path(folder), int(number))
        case ["measure", folder]:
            sys.stdout.write(json.dumps(_measure(Path(folder))))
        case ["memory", folder, how]:
            sys.stdout.write(str(_memory(Path(folder), mapped=how == "mapped")))
