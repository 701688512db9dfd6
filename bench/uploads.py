"""How many images a second go through the whole local stack, and how much memory many large ones take.

The images are in the container before the clock starts. Then the webhook gets an event for each, and the clock stops at
the last log line that says that one was embedded, which the app writes right after the record. (Listing records
meanwhile would take a good part of a core from the app.) The limit is a bare loop in its own process that only
downloads, prepares, sends and stores, with the same libraries, storage and model, at its best number of threads. The
model answers after 200 ms. Storage, the model, the stand-in for the host and the app share the cores.
"""

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import msgspec

from bench import photographs
from bench.figures import Figure, Measurement
from bench.machine import memory_mib
from bench.proxy import IDENTITY, app_settings
from bench.site import SPACE, Site, running, wait_for
from local import identity
from local.azurite import REPO_ROOT
from shared.application import application
from shared.model.client import MAX_TOTAL_WAIT, Schedule
from shared.model.wire_format import Input, ModelOptions
from shared.pictures.limits import Limits
from shared.pictures.prepare import prepare

LATENCY_MS = 200
# Those of docs/scaling.md for a large quota, with threads for all function groups, which share one process here. The
# usual code has them too.
SETTINGS = {
    "FOUNDRY_CONCURRENCY": "32",
    "PYTHON_THREADPOOL_THREAD_COUNT": "80",
    "AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism": "64",
}
_THREADS = (8, 16, 32)
_ROUNDS = 3
_PICTURES = {"small": photographs.png_small, "12mp": photographs.jpeg_12mp}
_NUMBERS = {"small": 200, "12mp": 40}
_EMBEDDED = '"outcome":"embedded"'
USUAL = Path(__file__).parent / "usual" / "app"


def distinct(data: bytes, number: int) -> bytes:
    """The same picture in other bytes: with a comment that holds the number."""
    comment = f"{number:08}".encode()
    if data.startswith(b"\xff\xd8"):
        return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + data[2:]
    # A private chunk after the header, which ends at byte 33.
    chunk = b"nuMb" + comment
    return data[:33] + len(comment).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) + data[33:]


def _upload(site: Site, kind: str, number: int) -> list[str]:
    data = _PICTURES[kind]().read_bytes()
    names = [f"{kind}/{index}" for index in range(number)]
    site.behave(latency_ms=0, mode="cheap")
    site.upload({name: distinct(data, index) for index, name in enumerate(names)})
    site.settle(f"{kind}/", "images")
    return names


def _forget(site: Site) -> None:
    """Delete every record and every vector kept by content: all images are new again."""
    names = [blob.name for blob in site.embeddings.list_blobs(name_starts_with=f"{SPACE}/")]
    list(site.threads.map(site.embeddings.delete_blob, names))


class Done:
    """When images were embedded, according to the app's log."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.lines: list[str] = []

    def read(self, line: str) -> None:
        """Take a line of the log."""
        if _EMBEDDED in line:
            self.at.append(time.perf_counter())
            self.lines.append(line)

    def wait(self, number: int) -> float:
        """Wait for so many and return when the last of them was embedded."""
        wait_for(f"log line for each of {number} images", lambda: len(self.at) >= number, every=0.01)
        return self.at[number - 1]


def seconds(site: Site, done: Done, names: list[str], notify: Callable[[Site, str], None] = Site.notify) -> float:
    """The seconds from the first event to the last record, for images that are all new."""
    _forget(site)
    done.at.clear()
    done.lines.clear()
    start = time.perf_counter()
    list(site.threads.map(partial(notify, site), names))
    return done.wait(len(names)) - start


@contextmanager
def uploaded(kind: str, number: int) -> Iterator[tuple[Site, Done, list[str]]]:
    """A stack with so many images of a kind, all embedded once."""
    done = Done()
    with running(settings=SETTINGS, show=done.read) as site:
        names = _upload(site, kind, number)
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        yield site, done, names


@cache
def _throughput(kind: str) -> tuple[Measurement, Measurement]:
    """Images a second through the stack and of the bare loop, by turns on one stack."""
    with uploaded(kind, _NUMBERS[kind]) as (site, done, names), identity.running([IDENTITY]) as tokens:
        rates, limits = [], []
        threads: tuple[int, ...] = _THREADS
        for _ in range(_ROUNDS):
            rates.append(len(names) / seconds(site, done, names))
            limit, best = _limit(site, tokens, names, threads)
            limits.append(limit)
            threads = (best,)  # the first round has found it
    through = Measurement.median(rates, f"{len(names)} images, {_ROUNDS} rounds")
    return through, Measurement.median(limits, f"{best} threads, {_ROUNDS} rounds")


def _limit(site: Site, tokens: identity.Identity, names: list[str], threads: tuple[int, ...]) -> tuple[float, int]:
    """The bare loop's images a second at the best of these numbers of threads, and that number."""
    environment = {**os.environ, **SETTINGS, **app_settings(site.stack, tokens)}
    command = [sys.executable, "-m", "bench.uploads", ",".join(map(str, threads)), *names]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPO_ROOT)
    rate, best = json.loads(done.stdout)
    return rate, best


def _bare_loop(numbers: list[int], names: list[str]) -> tuple[float, int]:
    """What :func:`_limit` returns, measured in this process, which has the app settings."""
    app = application()
    images, embeddings = app.settings.images_container, app.settings.embeddings_container
    limits = Limits.of(app.settings)
    options = ModelOptions(input_type="document")

    def work(name: str) -> None:
        data = app.rest.read(app.rest.blob_url(images, name))
        if data is None:
            raise RuntimeError(f"{name} does not exist any more.")
        picture = prepare(data, limits)
        one = Input(picture.file, None, picture.file_type)
        answer = app.model.embed(one, options, Schedule.of(MAX_TOTAL_WAIT, 60))
        record = msgspec.json.encode({"name": name, "embedding": answer.embedding})
        headers = {"x-ms-blob-type": "BlockBlob", "content-type": "application/json"}
        app.rest.send("PUT", app.rest.blob_url(embeddings, f"bare/{name}.json"), headers=headers, content=record)

    best = (0.0, 0)
    for threads in numbers:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, names[:threads]))
            start = time.perf_counter()
            list(pool.map(work, names))
            best = max(best, (len(names) / (time.perf_counter() - start), threads))
    return best


def _rss() -> Measurement:
    """The peak resident memory of host and app while they embed 24-megapixel pictures, 16 at a time."""
    data = photographs.jpeg_24mp().read_bytes()
    with running(settings={"FOUNDRY_CONCURRENCY": "16"}) as site:
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        site.upload({f"large/{number}": distinct(data, number) for number in range(32)})
        site.settle("large/", "images")
        process = site.host_process()
        peak = memory_mib("VmHWM", process) if process else float("nan")
    return Measurement.once(peak, "32 images, 16 at once; with the stand-in for the host")


@cache
def _usual_rate() -> Measurement:
    """Images a second of the usual code in the same stack, which begins like ours: with images that are there."""
    names = [f"12mp/{index}" for index in range(_NUMBERS["12mp"] // 4)]
    with running(app=USUAL, settings=SETTINGS) as site:

        def stored() -> list[str]:
            return list(site.embeddings.list_blob_names(name_starts_with="usual/"))

        def wait_for_all() -> None:
            what = f"record for each of {len(names)} images of the usual code"
            wait_for(what, lambda: len(stored()) == len(names))

        data = photographs.jpeg_12mp().read_bytes()
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        site.upload({name: distinct(data, index) for index, name in enumerate(names)})
        wait_for_all()
        wait_for("end of its work", site.drained)
        list(site.threads.map(site.embeddings.delete_blob, stored()))
        start = time.perf_counter()
        list(site.threads.map(site.notify, names))
        wait_for_all()
        rate = len(names) / (time.perf_counter() - start)
    return Measurement.once(rate, f"{len(names)} images")


def _vs_usual() -> Measurement:
    usual, ours = _usual_rate(), _throughput("12mp")[0]
    ratio = usual.value / ours.value
    source = f"{usual.value:.2f} / {ours.value:.2f} images/s"
    return Measurement(ratio, usual.value / ours.high, usual.value / ours.low, source)


def _of(measure: Callable[[str], tuple[Measurement, Measurement]], kind: str, which: int) -> Callable[[], Measurement]:
    return lambda: measure(kind)[which]


def _share(kind: str, share: float) -> Callable[[], float]:
    return lambda: share * _throughput(kind)[1].value


FIGURES = [
    Figure("upload_images_per_s_small", "images/s", "higher", _share("small", 0.6), _of(_throughput, "small", 0)),
    Figure("upload_limit_small", "images/s", "higher", None, _of(_throughput, "small", 1)),
    Figure("upload_images_per_s_12mp", "images/s", "higher", _share("12mp", 0.8), _of(_throughput, "12mp", 0)),
    Figure("upload_limit_12mp", "images/s", "higher", None, _of(_throughput, "12mp", 1)),
    Figure("upload_vs_usual_12mp", "x", "lower", 0.25, _vs_usual),
    Figure("rss_mb_16_uploads_24mp", "MiB", "lower", 1024, _rss),
]

if __name__ == "__main__":
    sys.stdout.write(json.dumps(_bare_loop([int(number) for number in sys.argv[1].split(",")], sys.argv[2:])))
