"""A backlog that many processes share: what it costs, and whether uploads and queries get past it."""

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from bench.site import LATENCY_MS, PATIENCE, SPACE, Site, picture, pictures, wait_for
from local.event_grid import Policy
from local.processes import wait_until
from local.stack import REQUESTS_QUEUE
from shared.uploads.waiting.dispatcher import PLACES

# Images below this prefix are in the container before anybody listens.
PREFIX = "backlog/"
EVENTS = Policy(unseen=PREFIX)
_QUEUE_FUNCTIONS = ("embed_queued_image", "record_failed_upload", "record_failed_request")
_BACKLOG_SHARE = 0.9
# What the model answers.
CALLS, WINDOW_S = 100, 5.0


def groups(processes: int) -> list[dict[str, str]]:
    """The settings of each process: one for uploads, one for queries, and so many for the queue."""
    without_uploads, without_queue = {_off("embed_uploaded_image")}, set(map(_off, _QUEUE_FUNCTIONS))
    uploads, queries, queue = without_queue, without_queue | without_uploads, without_uploads
    return [dict.fromkeys(sorted(off), "true") for off in (uploads, queries, *[queue] * processes)]


def _off(function: str) -> str:
    return f"AzureWebJobs.{function}.Disabled"


@dataclass(frozen=True)
class Backlog:
    """How a backlog was worked off. Times are in seconds.

    ``busy`` is the time in which a process of the queue had at least one invocation running, summed over them.
    """

    images: int
    seconds: float
    busy: float
    target_instances: int
    """The most instances that the platform's arithmetic wanted for the queue in any second."""
    used: float
    """Answered calls over those that the backlog's share of the quota allowed."""
    refused: float
    """Refused calls over all calls, queries and uploads included."""
    fresh: float
    """How long the slowest of the uploads in the middle took to get its record."""
    queries: int
    queries_refused: int
    query_p95: float
    lost: int


def backlog(sites: Sequence[Site], *, images: int, uploads: int = 3) -> Backlog:
    """Have an audit ask for so many images that nobody has seen, where the model takes 100 calls in 5 s.

    Meanwhile send a text query a second, and upload images one after the other. The ``sites`` are those of
    :func:`groups`.
    """
    site, asked, workers = sites[0], sites[1], sites[2:]
    site.behave(latency_ms=LATENCY_MS)
    # The space is described, and all processes have had their first call.
    _upload(site, "fresh/first.png")
    _ask(asked, "first")
    site.upload(pictures(PREFIX, images))
    site.forget_calls()
    site.behave(latency_ms=LATENCY_MS, throttle={"calls": CALLS, "window_s": WINDOW_S}, mode="cheap")
    busy = _busy(workers)
    start = time.monotonic()
    with _targets(site) as targets, _queries(asked) as answers, ThreadPoolExecutor(1) as threads:
        asked.post("reconcile", prefix=PREFIX).raise_for_status()
        fresh = threads.submit(_upload_some, site, uploads, images / CALLS * WINDOW_S)
        wait_until(site.drained, seconds=PATIENCE, every=0.5)
        seconds = time.monotonic() - start
        slowest = fresh.result()
    worked = _busy(workers) - busy
    site.settle(PREFIX, "images")
    made = [call for call in site.calls() if not call["text"]]
    refused = sum(call["status"] == 429 for call in site.calls())
    times = [call["time"] for call in made if call["status"] == 200]
    site.behave()
    return Backlog(
        images=images,
        seconds=seconds,
        busy=worked,
        target_instances=max(targets),
        used=len(times) / ((max(times) - min(times)) * CALLS / WINDOW_S * _BACKLOG_SHARE),
        refused=refused / len(site.calls()),
        fresh=slowest,
        queries=len(answers),
        queries_refused=sum(status != 200 for status, _ in answers),
        query_p95=statistics.quantiles([took for _, took in answers], n=20)[-1],
        lost=len(site.lost(PREFIX)),
    )


def _busy(sites: Sequence[Site]) -> float:
    return float(sum(site.http.get(f"{site.stack.functions_url}/admin/host/busy").json() for site in sites))


def _upload_some(site: Site, uploads: int, expected: float) -> float:
    """Upload so many images while the backlog lasts; returns the longest time to a record."""
    slowest = 0.0
    for number in range(uploads):
        time.sleep(expected / (uploads + 1))
        slowest = max(slowest, _upload(site, f"fresh/{number}.png"))
    return slowest


def _upload(site: Site, name: str) -> float:
    start = time.monotonic()
    site.images.upload_blob(name, picture(name))
    path = f"{SPACE}/images/{name}.json"
    wait_for("record", lambda: site.host_storage.blob_properties("embeddings", path) is not None)
    return time.monotonic() - start


def _ask(site: Site, text: str) -> tuple[int, float]:
    """A text query; returns the status and the time that it took."""
    start = time.monotonic()
    status = site.post("models/embeddings", input=[text]).status_code
    return status, time.monotonic() - start


@contextmanager
def _queries(site: Site) -> Iterator[list[tuple[int, float]]]:
    """Sends a new text query every second until the block ends; a slow one delays no other."""
    ended = threading.Event()
    answers: list[tuple[int, float]] = []
    with ThreadPoolExecutor(8) as threads:

        def send() -> None:
            number = 0
            while not ended.wait(1):
                number += 1
                threads.submit(lambda text: answers.append(_ask(site, text)), f"query {number}")

        sender = threading.Thread(target=send, name="queries")
        sender.start()
        try:
            yield answers
        finally:
            ended.set()
            sender.join()


@contextmanager
def _targets(site: Site) -> Iterator[list[int]]:
    """Collects how many instances the platform would want for the queue, every second until the block ends."""
    ended = threading.Event()
    targets = [0]
    queue = site.queues.get_queue_client(REQUESTS_QUEUE)

    def look() -> None:
        while not ended.wait(1):
            # Hidden messages count as long as one is visible; here always.
            length = queue.get_queue_properties().approximate_message_count or 0
            targets.append(-(-length // PLACES))

    watcher = threading.Thread(target=look, name="targets")
    watcher.start()
    try:
        yield targets
    finally:
        ended.set()
        watcher.join()
