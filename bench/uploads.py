"""How many images a second go through the whole local stack, how long one takes, and what memory many take.

Images lie in the container before the clock starts: an event for each is then given to the webhook, and the clock
stops at the last log line that says of one that it has been embedded, which is written right after its record.
(Listing records while the app works would take a good part of a core from it.) What the numbers are held against is a
bare loop in a process of its own that only downloads, prepares, sends and stores, with the same libraries, storage and
model, at its best number of threads. The model answers after 200 ms. Storage, the model, the host's stand-in and the
app share the cores.
"""

import json
import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import msgspec

from bench import photographs
from bench.figures import Figure, Measurement
from bench.proxy import app_settings
from bench.scenarios import host_process
from bench.site import SPACE, Site, running
from local import identity
from local.azurite import REPO_ROOT
from local.processes import wait_until
from shared.application import application
from shared.model.client import MAX_TOTAL_WAIT, Schedule
from shared.model.wire_format import ModelOptions
from shared.pictures.limits import Limits
from shared.pictures.prepare import prepare

LATENCY_MS = 200
_IDENTITY = "00000000-0000-0000-0000-000000000000"
# What docs/scaling.md has for a large quota. The usual code runs with the same.
SETTINGS = {
    "FOUNDRY_CONCURRENCY": "32",
    "PYTHON_THREADPOOL_THREAD_COUNT": "80",
    "AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism": "64",
}
_THREADS = (8, 16, 32)
_ROUNDS = 3
_PATIENCE = 240.0
_PICTURES = {"small": (photographs.png_small, 240), "12mp": (photographs.jpeg_12mp, 60)}
_EMBEDDED = '"outcome":"embedded"'
USUAL = Path(__file__).parent / "usual" / "app"


def distinct(data: bytes, number: int) -> bytes:
    """The same picture in other bytes: a comment with the number, where the format keeps its comments."""
    comment = f"{number:08}".encode()
    if data.startswith(b"\xff\xd8"):
        return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + data[2:]
    # A chunk for private use after the header, which ends at byte 33.
    chunk = b"nuMb" + comment
    return data[:33] + len(comment).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) + data[33:]


def _upload(site: Site, kind: str) -> list[str]:
    draw, number = _PICTURES[kind]
    data = draw().read_bytes()
    names = [f"{kind}/{index}" for index in range(number)]
    site.behave(latency_ms=0, mode="cheap")
    site.upload({name: distinct(data, index) for index, name in enumerate(names)})
    site.settle(f"{kind}/", "images")
    return names


def _forget(site: Site) -> None:
    """Remove every record and every vector that is kept by content: all images are new again."""
    names = [blob.name for blob in site.embeddings.list_blobs(name_starts_with=f"{SPACE}/")]
    list(site.threads.map(site.embeddings.delete_blob, names))


class Done:
    """When images have been embedded, as the app's log tells it."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.lines: list[str] = []

    def read(self, line: str) -> None:
        """Take a line of the log."""
        if _EMBEDDED in line:
            self.at.append(time.perf_counter())
            self.lines.append(line)

    def wait(self, number: int) -> float:
        """Wait until so many have been, and return when the last of them had."""
        wait_until(lambda: len(self.at) >= number, seconds=_PATIENCE, every=0.01)
        return self.at[number - 1]


def seconds(site: Site, done: Done, names: list[str]) -> float:
    """From the first event to the last record, of images that are all new."""
    _forget(site)
    done.at.clear()
    done.lines.clear()
    start = time.perf_counter()
    list(site.threads.map(site.notify, names))
    return done.wait(len(names)) - start


@contextmanager
def uploaded(kind: str) -> Iterator[tuple[Site, Done, list[str]]]:
    """A stack whose container holds such images, all of them embedded once."""
    done = Done()
    with running(settings=SETTINGS, show=done.read) as site:
        names = _upload(site, kind)
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        yield site, done, names


@cache
def _throughput(kind: str) -> tuple[Measurement, Measurement]:
    """Through the stack, and of the bare loop, in turns on one stack."""
    with uploaded(kind) as (site, done, names), identity.running([_IDENTITY]) as tokens:
        rates, limits = [], []
        for _ in range(_ROUNDS):
            rates.append(len(names) / seconds(site, done, names))
            limits.append(_limit(site, tokens, names))
        threads = {at for _, at in limits}
    shown = "/".join(map(str, sorted(threads)))
    through = Measurement.median(rates, f"{len(names)} images, {_ROUNDS} rounds")
    return through, Measurement.median([rate for rate, _ in limits], f"{shown} threads, {_ROUNDS} rounds")


def _limit(site: Site, tokens: identity.Identity, names: list[str]) -> tuple[float, int]:
    """The bare loop's images a second, and its number of threads."""
    environment = {**os.environ, **SETTINGS, **app_settings(site.stack, tokens)}
    command = [sys.executable, "-m", "bench.uploads", *names]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPO_ROOT)
    rate, threads = json.loads(done.stdout)
    return rate, threads


def _bare_loop(names: list[str]) -> tuple[float, int]:
    """In this process, which has the app settings: the best rate over some numbers of threads, and that number."""
    app = application()
    images, embeddings = app.settings.images_container, app.settings.embeddings_container
    limits = Limits.of(app.settings)
    options = ModelOptions(input_type="document")

    def work(name: str) -> None:
        data = app.rest.read(app.rest.blob_url(images, name))
        if data is None:
            raise RuntimeError(f"{name} is gone.")
        answer = app.model.embed_image(prepare(data, limits).png, None, options, Schedule.of(MAX_TOTAL_WAIT, 60))
        record = msgspec.json.encode({"name": name, "embedding": answer.embedding})
        headers = {"x-ms-blob-type": "BlockBlob", "content-type": "application/json"}
        app.rest.send("PUT", app.rest.blob_url(embeddings, f"bare/{name}.json"), headers=headers, content=record)

    best = (0.0, 0)
    for threads in _THREADS:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, names[:threads]))
            start = time.perf_counter()
            list(pool.map(work, names))
            best = max(best, (len(names) / (time.perf_counter() - start), threads))
    return best


def _rss() -> Measurement:
    """The peak resident memory of the host's process, the app in it, over 16 uploads of 24 megapixels at once."""
    data = photographs.jpeg_24mp().read_bytes()
    with running(settings={"FOUNDRY_CONCURRENCY": "16"}) as site:
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        site.upload({f"large/{number}": distinct(data, number) for number in range(32)})
        site.settle("large/", "images")
        process = host_process(site)
        status = (process / "status").read_text() if process else ""
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    value = int(peak[1]) / 1024 if peak else float("nan")
    return Measurement(value, value, value, "32 images, 16 at once; the host's stand-in is in it")


@cache
def _usual_rate() -> Measurement:
    """Images a second of the usual code in the same stack."""
    _, number = _PICTURES["12mp"]
    few = number // 5
    with running(app=USUAL, settings=SETTINGS) as site:
        data = photographs.jpeg_12mp().read_bytes()
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        start = time.perf_counter()
        site.upload({f"12mp/{index}": distinct(data, index) for index in range(few)})
        wait_until(
            lambda: sum(1 for _ in site.embeddings.list_blob_names(name_starts_with="usual/")) == few,
            seconds=_PATIENCE,
            every=0.05,
        )
        rate = few / (time.perf_counter() - start)
    return Measurement(rate, rate, rate, f"{few} images")


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
    sys.stdout.write(json.dumps(_bare_loop(sys.argv[1:])))
