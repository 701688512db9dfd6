"""How right the status is about when a backlog will be done."""

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from bench.site import LATENCY_MS, Site, pictures, wait_for
from local.host.triggers import BLOB_QUEUE
from proof.background import beside

# Uploads stay on the trigger's own queue, from which they are taken: nothing is embedded before the audit asks for it.
SETTINGS = {"AzureWebJobs.embed_uploaded_image.Disabled": "true"}


@dataclass(frozen=True)
class Estimate:
    """When the status was asked, and when it said that nothing would wait any more. Both in seconds since 1970."""

    asked: float
    done: float


@dataclass(frozen=True)
class Progress:
    """What the status said while a backlog was worked off. Times are in seconds."""

    images: int
    seconds: float
    estimates: int
    off: float
    """By which share of the time that was left the estimates were wrong, between a quarter and three quarters of it.

    It is the median; 1 without an estimate.
    """
    lost: int


def progress(site: Site, *, images: int, calls: int = 40, window_s: float = 2) -> Progress:
    """Have an audit ask for images that nobody has seen, where the model takes so many calls a window.

    The site has :data:`SETTINGS`.
    """
    prefix = "progress/"
    site.upload(pictures(prefix, images))
    _forget_uploads(site, images)
    throttle = {"calls": calls, "window_s": window_s, "retry_after": "seconds"}
    site.behave(latency_ms=LATENCY_MS, throttle=throttle, mode="cheap")
    with _estimates(site) as estimates:
        start = time.time()
        site.post("reconcile", prefix=prefix).raise_for_status()
        site.settle(prefix, "images")
        end = time.time()
    site.behave()
    return Progress(
        images=images,
        seconds=end - start,
        estimates=len(estimates),
        off=_off(estimates, start, end),
        lost=len(site.lost(prefix)),
    )


def _forget_uploads(site: Site, images: int) -> None:
    """Remove the events of the uploads, once all are there."""
    [queue] = [site.queues.get_queue_client(found) for found in site.queues.list_queues(BLOB_QUEUE)]
    wait_for("events of the uploads", lambda: (queue.get_queue_properties().approximate_message_count or 0) >= images)
    queue.clear_messages()


def _off(estimates: Sequence[Estimate], start: float, end: float) -> float:
    quarter = (end - start) / 4
    shares = [
        abs(one.done - end) / (end - one.asked) for one in estimates if start + quarter <= one.asked <= end - quarter
    ]
    return statistics.median(shares) if shares else 1.0


@contextmanager
def _estimates(site: Site) -> Iterator[list[Estimate]]:
    """Collects what the status says every second until the block ends."""
    found: list[Estimate] = []

    def ask(ended: threading.Event) -> None:
        while not ended.wait(1):
            asked = time.time()
            done = site.get("status").raise_for_status().json()["progress"]["done_at"]
            if done is not None:
                found.append(Estimate(asked, datetime.fromisoformat(done).timestamp()))

    with beside(ask, name="estimates"):
        yield found
