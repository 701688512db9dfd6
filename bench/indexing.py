"""What the index of search costs through storage: told of a record, read for the first time, made again.

Storage is Azurite, which shares the cores. Records have 1,024 numbers. All is measured in processes of their own, with
the settings of a deployed app.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import msgspec

from bench.figures import Figure, Measurement
from bench.photographs import png_small
from bench.proxy import IDENTITY, app_settings
from bench.site import Site, running
from bench.uploads import LATENCY_MS, SETTINGS, Done, distinct
from local import identity
from local.azurite import REPO_ROOT
from shared.application import Application, application
from shared.audit.reconcile import ReconcileRequest
from shared.clock import now
from shared.model.wire_format import ModelOptions
from shared.pictures.limits import Limits
from shared.queries.formats.search_api import MAX_RESULTS, Asked, SearchRequest
from shared.queries.queries import QueryOptions
from shared.queries.search import SearchReport
from shared.search.journal import Journal
from shared.search.manifest import IndexBlobs
from shared.storage.blobs import JsonBlobs
from shared.storage.rest import read_etag
from shared.storage.space import Space
from shared.uploads.record_store import RecordStore
from shared.uploads.records import EmbeddingRecord

_ROWS, _BLOCK, _DIMENSIONS = 100_000, 10_000, 1024
_WRITTEN, _PAUSE = 40, 0.5
_ROUNDS = 200
_REBUILT, _THREADS = 4_000, 16
_UPLOADS, _FIRST, _SEARCHES = 40, 5, 10


@contextmanager
def _site() -> Iterator[tuple[Site, dict[str, str]]]:
    """A stack, and the environment of another process of an app with containers of its own there."""
    containers = {"IMAGES_CONTAINER": "indexed", "EMBEDDINGS_CONTAINER": "indexed-embeddings"}
    with running() as site, identity.running([IDENTITY]) as tokens:
        for name in containers.values():
            site.service.create_container(name)
        yield site, {**os.environ, **app_settings(site.stack, tokens), **containers}


def _child(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "bench.indexing", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPO_ROOT)
    return done.stdout


def _cold_seconds() -> Measurement:
    """The first search of a process, with numpy's import; three processes."""
    with _site() as (_, environment):
        _child(environment, "fill")
        times = [float(_child(environment, "search once")) for _ in range(3)]
    return Measurement.median(times, f"{_ROWS:,} images, {len(times)} processes")


def _searchable_after() -> Measurement:
    """The 95th percentile of the milliseconds from a record to a search of another process that finds it."""
    with _site() as (_, environment):
        command = [sys.executable, "-m", "bench.indexing", "find all"]
        watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPO_ROOT)
        written = json.loads(_child(environment, "write all"))
        found = json.loads(watching.communicate()[0])
    times = [1000 * (found[name] - at) for name, at in written.items()]
    low, median, high = statistics.quantiles(times, n=4)
    p95 = statistics.quantiles(times, n=20)[-1]
    return Measurement(p95, low, high, f"{len(times)} records, median {median:.0f} ms")


def _index_ms() -> Measurement:
    """Milliseconds by which the write of a record takes longer."""
    with _site() as (_, environment):
        told, untold = json.loads(_child(environment, "write both"))
    added = statistics.median(told) - statistics.median(untold)
    return Measurement.once(added, f"medians of {len(told)} records each, with the index and without")


def _rebuilt_per_s() -> Measurement:
    """Images a second of an audit that finds no index, whose records are all current."""
    with _site() as (_, environment):
        rate = float(_child(environment, "rebuild"))
    return Measurement.once(rate, f"{_REBUILT:,} records")


@cache
def _beside() -> tuple[list[float], list[float]]:
    """Milliseconds of uploads, one at a time: alone, then while ten callers search 100,000 images in the same app."""
    done = Done()
    with running(settings=SETTINGS, show=done.read) as site, identity.running([IDENTITY]) as tokens:
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        _child({**os.environ, **app_settings(site.stack, tokens)}, "fill")
        vector = _vectors(1)[0]
        site.post("search", vector=vector).raise_for_status()
        alone = [_upload_ms(site, done, number) for number in range(_UPLOADS)]
        is_over = threading.Event()

        def search(_: int) -> None:
            while not is_over.is_set():
                site.post("search", vector=vector).raise_for_status()

        with ThreadPoolExecutor(_SEARCHES) as callers:
            searches = callers.map(search, range(_SEARCHES))
            try:
                beside = [_upload_ms(site, done, _UPLOADS + number) for number in range(_UPLOADS)]
            finally:
                is_over.set()
            list(searches)
    return alone[_FIRST:], beside


def _upload_ms(site: Site, done: Done, number: int) -> float:
    data = distinct(png_small().read_bytes(), number)
    done.at.clear()
    start = time.perf_counter()
    site.upload({f"beside/{number}": data})
    return 1000 * (done.wait(1) - start)


def _slowest_beside() -> Measurement:
    alone, beside = _beside()
    usual = statistics.quantiles(alone, n=20)[-1]
    source = f"{max(beside):.0f} ms / {usual:.0f} ms, median {statistics.median(beside):.0f} ms"
    return Measurement.once(max(beside) / usual, source)


# In the processes


def _vectors(count: int) -> list[list[float]]:
    from bench.embeddings import World

    vectors: list[list[float]] = World.make().pictures(7, count).tolist()
    return vectors


def _record(app: Application, name: str, vector: list[float], etag: str = "0x1") -> EmbeddingRecord:
    return EmbeddingRecord(
        id=name,
        container=app.settings.images_container,
        name=name,
        url=f"https://account.blob.core.windows.net/images/{name}",
        etag=etag,
        sha256=f"{hash(name) % 2**64:064x}",
        bytes=100_000,
        media_type="image/jpeg",
        width=4000,
        height=3000,
        text=None,
        model=app.settings.foundry_model,
        input_type="document",
        dimensions=len(vector),
        preparation=Limits.of(app.settings).preparation,
        prompt_tokens=1000,
        total_tokens=1000,
        embedded_at=now(),
        embedding=vector,
    )


def _blobs(app: Application) -> tuple[Space, JsonBlobs]:
    blobs = JsonBlobs(app.settings.embeddings_container, app.rest)
    return Space(app.settings, blobs), blobs


def _fill(app: Application) -> None:
    """An index of so many images, in one segment, without records."""
    from bench.embeddings import World
    from shared.search.entries import Entry, Facts
    from shared.search.segment import build

    facts = Facts(etag="0x8DE2F0A1B2C3D4E", media_type="image/jpeg", width=4000, height=3000, embedded_at=now())
    world, entries = World.make(), []
    for first in range(0, _ROWS, _BLOCK):
        vectors = world.pictures(first, _BLOCK).astype("<f2")
        entries += [
            Entry(name=f"made up/{first + row:07}.jpg", seq=1, facts=facts, vector=vector.tobytes())
            for row, vector in enumerate(vectors)
        ]
    index = IndexBlobs(*_blobs(app))
    made = index.write_segment(build(entries, dimensions=_DIMENSIONS), dimensions=_DIMENSIONS)
    index.change(lambda now: msgspec.structs.replace(now, segments=(*now.segments, made)))


def _search(app: Application, vector: list[float], *, prefix: str = "") -> list[str]:
    if app.search is None:
        raise RuntimeError("SEARCH is off.")
    request = SearchRequest(vector=vector, prefix=prefix, top=100)
    options = QueryOptions(ModelOptions(input_type="query"), time.monotonic() + 60)
    found = app.search.find(Asked(request, None), options, SearchReport())
    return [result.name for result in found.answer.results]


def _search_once(app: Application) -> float:
    vector = [random.Random(1).gauss(0, 1) for _ in range(_DIMENSIONS)]
    start = time.perf_counter()
    if len(_search(app, vector)) != MAX_RESULTS:
        raise RuntimeError("The index was not found.")
    return time.perf_counter() - start


def _find_all(app: Application) -> dict[str, float]:
    """Search all the time, and note when each record is found for the first time."""
    vector = [random.Random(1).gauss(0, 1) for _ in range(_DIMENSIONS)]
    found: dict[str, float] = {}
    while len(found) < _WRITTEN:
        for name in _search(app, vector, prefix="after/"):
            found.setdefault(name, time.time())
        time.sleep(0.02)
    return found


def _write_all(app: Application) -> dict[str, float]:
    """Write records with pauses, and note when each was written."""
    store, written = _store(app, told=True), {}
    rng = random.Random(2)
    for number in range(_WRITTEN):
        name = f"after/{number}"
        store.write_record(_record(app, name, [rng.gauss(0, 1) for _ in range(_DIMENSIONS)]), None)
        written[name] = time.time()
        time.sleep(rng.uniform(0, 2 * _PAUSE))
    return written


def _write_both(app: Application) -> tuple[list[float], list[float]]:
    """Milliseconds of writing a record that the index is told of, and one that it is not, by turns."""
    stores = {True: _store(app, told=True), False: _store(app, told=False)}
    times: dict[bool, list[float]] = {True: [], False: []}
    vectors = _vectors(_ROUNDS)
    for number, vector in enumerate(vectors):
        for told, store in stores.items():
            record = _record(app, f"{told}/{number}", vector)
            start = time.perf_counter()
            store.write_record(record, None)
            times[told].append(1000 * (time.perf_counter() - start))
    return times[True][_FIRST:], times[False][_FIRST:]


def _rebuild(app: Application) -> float:
    """Images a second of an audit of images that all have a record, where there is no index."""
    images, store = app.settings.images_container, _store(app, told=False)

    def put(named: tuple[str, list[float]]) -> None:
        name, vector = named
        url, headers = app.rest.blob_url(images, name), {"x-ms-blob-type": "BlockBlob"}
        etag = read_etag(app.rest.send("PUT", url, headers=headers, content=name.encode()).headers)
        store.write_record(_record(app, name, vector, etag), None)

    named = [(f"{number:06}.jpg", vector) for number, vector in enumerate(_vectors(_REBUILT))]
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(put, named))
    start = time.perf_counter()
    report = app.reconcile.start(ReconcileRequest())
    taken = time.perf_counter() - start
    if report.finished_at is None or report.index is None or report.index.images != _REBUILT:
        raise RuntimeError(f"The index is not whole: {msgspec.json.encode(report).decode()}")
    return _REBUILT / taken


def _store(app: Application, *, told: bool) -> RecordStore:
    space, blobs = _blobs(app)
    return RecordStore(space, blobs, Journal(IndexBlobs(space, blobs), lambda: None) if told else None)


FIGURES = [
    Figure("search_cold_s_100k", "s", "lower", 3, _cold_seconds),
    Figure("searchable_after_ms", "ms", "lower", 2500, _searchable_after),
    Figure("index_ms_per_image", "ms", "lower", 15, _index_ms),
    Figure("rebuild_images_per_s", "images/s", "higher", 1500, _rebuilt_per_s),
    Figure("upload_beside_searches", "x", "lower", 2, _slowest_beside),
]

_WORK: Final[dict[str, Callable[[Application], Any]]] = {
    "fill": _fill,
    "search once": _search_once,
    "find all": _find_all,
    "write all": _write_all,
    "write both": _write_both,
    "rebuild": _rebuild,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(_WORK[sys.argv[1]](application())))
