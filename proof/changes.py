"""Changes faster than their events, and more events than changes: races, and uploads among a flood of requests."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import quote

from azure.core.exceptions import ResourceNotFoundError

from bench.site import LATENCY_MS, PATIENCE, SPACE, Site, picture, pictures
from local.events import Change, event
from local.processes import wait_until


@dataclass(frozen=True)
class Races:
    """What became of a few names that were written, deleted and announced concurrently, in any order."""

    changes: int
    images: int
    """The names that had an image in the end."""
    lost: int


def races(site: Site, *, names: int, changes: int, threads: int = 6, seed: int = 0) -> Races:
    """Overwrite, delete and upload the same few names from several threads, and announce each change again at random.

    Announcements are events to the webhook, and deletions and requests on the queue. They are delivered late, twice and
    shuffled, in addition to those that the stand-in for Event Grid sends.
    """
    prefix = "race/"
    numbers = count()
    site.behave(latency_ms=LATENCY_MS)

    def change(thread: int) -> None:
        chance = random.Random(f"{seed} {thread}")
        waiting: list[Callable[[], None]] = []
        for _ in range(changes // threads):
            name = f"{prefix}{chance.randrange(names)}.png"
            if chance.random() < 0.7:
                site.images.upload_blob(name, picture(f"{seed} {next(numbers)}"), overwrite=True)
            else:
                with suppress(ResourceNotFoundError):
                    site.images.delete_blob(name)
            waiting += chance.choices(_announcements(site, name), k=2)
            chance.shuffle(waiting)
            for deliver in [waiting.pop() for _ in range(chance.randint(0, len(waiting)))]:
                deliver()
        for deliver in waiting:
            deliver()

    with ThreadPoolExecutor(threads) as changing:
        list(changing.map(change, range(threads)))
    site.settle(prefix, "images")
    return Races(
        changes=changes // threads * threads,
        images=len(list(site.images.list_blobs(name_starts_with=prefix))),
        lost=len(site.lost(prefix)),
    )


def _announcements(site: Site, name: str) -> list[Callable[[], None]]:
    """The ways in which the app learns that it must sync an image."""
    deleted = event(Change("DeleteBlob", "images", quote(name)), site.host_storage.blob_url)
    return [lambda: site.notify(name), lambda: site.request({"name": name}), lambda: site.request(deleted)]


@dataclass(frozen=True)
class Starvation:
    """Milliseconds from an upload to its record, one upload after another, without load and under load."""

    quiet_ms: list[float]
    loaded_ms: list[float]
    requests_per_s: float
    """The requests per second that were actually sent."""
    lost: int


def starvation(site: Site, *, uploads: int, rate: float = 100) -> Starvation:
    """Upload image after image while requests for others, which are up to date, arrive at this rate."""
    known = pictures("starvation/known ", 20)
    site.behave(latency_ms=LATENCY_MS)
    site.upload(known)
    site.settle("starvation/", "images")
    quiet = [_milliseconds_to_record(site, f"starvation/quiet {number}.png") for number in range(uploads)]
    with _requests(site, sorted(known), rate) as sent:
        start = time.monotonic()
        wait_until(lambda: sent() >= rate, seconds=PATIENCE)
        loaded = [_milliseconds_to_record(site, f"starvation/loaded {number}.png") for number in range(uploads)]
        actual = sent() / (time.monotonic() - start)
    site.settle("starvation/", "images")
    return Starvation(quiet, loaded, actual, lost=len(site.lost("starvation/")))


@contextmanager
def _requests(site: Site, names: Sequence[str], rate: float) -> Iterator[Callable[[], int]]:
    """Put requests on the queue at a steady rate, every other one as a retry. Yields a count of those sent so far."""
    stopping = threading.Event()
    sent = 0

    def send() -> None:
        nonlocal sent
        start = time.monotonic()
        while not stopping.wait(max(0, start + sent / rate - time.monotonic())):
            message: dict[str, Any] = {"name": names[sent % len(names)]}
            if sent % 2:
                message |= {"attempt": 3, "first_seen": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
            site.request(message)
            sent += 1

    sender = threading.Thread(target=send, name="requests")
    sender.start()
    try:
        yield lambda: sent
    finally:
        stopping.set()
        sender.join()


def _milliseconds_to_record(site: Site, name: str) -> float:
    content = picture(name)
    start = time.perf_counter()
    site.images.upload_blob(name, content)
    record = f"{SPACE}/images/{name}.json"
    wait_until(
        lambda: site.host_storage.blob_properties("embeddings", record) is not None, seconds=PATIENCE, every=0.01
    )
    return (time.perf_counter() - start) * 1000
