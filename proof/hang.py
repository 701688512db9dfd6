"""A model that takes calls and does not answer them, and comes back."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from bench.app import SETTINGS
from bench.site import LATENCY_MS, Site, picture, pictures
from proof.background import beside

# The app's clock runs faster (proof/app), so that less of ours passes. What the host waits for is shortened alike, and
# the machine, which is not faster, takes a larger share of every deadline than it does otherwise.
SPEED = 5
FAST = {"PROOF_SPEED": str(SPEED), "AzureFunctionsJobHost__functionTimeout": f"00:00:{300 / SPEED:02.0f}"}
LEASE = 600 / SPEED
_EVERY = 1.5  # real seconds
# Real seconds by which a busy machine may be late through no fault of the app.
_LATE = 10.0
_REFUSED = {429, 503, 504}


@dataclass(frozen=True)
class Hang:
    """What became of images and queries while the model hung. Times are the app's, in seconds."""

    images: int
    calls: int
    """Calls that got no answer."""
    queries: Counter[int]
    """How many were answered with each status, 0 for no answer."""
    slowest_query: float
    bad_queries: int
    """Those answered too late, with anything but an answer or a refusal, or refused though their answer was known."""
    restarts: int
    crashed: int
    lost: int


@dataclass(frozen=True)
class _Answer:
    query: Literal["known", "text", "image"]
    status: int
    seconds: float

    @property
    def is_bad(self) -> bool:
        allowed = {200} if self.query == "known" else {200, *_REFUSED}
        return self.status not in allowed or self.seconds > SETTINGS.foundry_timeout + _LATE * SPEED


def hang(site: Site, *, images: int, minutes: float) -> Hang:
    """Upload images to a model that hangs for so many of the app's minutes, and send it queries all the while.

    The site's app is that of ``proof/app``, with the settings ``FAST``.
    """
    prefix = "hang/"
    site.behave(latency_ms=LATENCY_MS)
    _ask(site, "known", 0)
    site.forget_calls()
    site.behave(fault={"kind": "hang"})
    with _watched(site) as processes, _queries(site) as asked:
        site.upload(pictures(prefix, images))
        time.sleep(minutes * 60 / SPEED)
        calls = sum(call.get("fault") == "hang" for call in site.calls())
        site.behave(latency_ms=LATENCY_MS)
        site.settle(prefix, "images", "failures")
    answers = [one.result() for one in asked]
    return Hang(
        images=images,
        calls=calls,
        queries=Counter(answer.status for answer in answers),
        slowest_query=max(answer.seconds for answer in answers),
        bad_queries=sum(answer.is_bad for answer in answers),
        restarts=len(processes) - 1,
        crashed=sum(code == "crashed" for code in site.failure_codes(prefix)),
        lost=len(site.lost(prefix)),
    )


@contextmanager
def _watched(site: Site) -> Iterator[set[Path]]:
    """Collects the host's processes, of which there is one unless it is restarted."""
    processes: set[Path] = set()

    def watch(ended: threading.Event) -> None:
        while not ended.wait(0.2):
            process = site.host_process()
            if process is not None:
                processes.add(process)

    with beside(watch, name="host watch"):
        yield processes


@contextmanager
def _queries(site: Site) -> Iterator[list[Future[_Answer]]]:
    """Sends a query whose answer is known, a new text and a new image again and again, until the block ends."""
    asked: list[Future[_Answer]] = []

    def send(ended: threading.Event) -> None:
        for number in itertools.count(1):
            asked.extend(threads.submit(_ask, site, query, number) for query in ("known", "text", "image"))
            if ended.wait(_EVERY):
                return

    with ThreadPoolExecutor(32) as threads, beside(send, name="queries"):
        yield asked


def _ask(site: Site, query: Literal["known", "text", "image"], number: int) -> _Answer:
    match query:
        case "known":
            content, kind, route = _text("known"), "application/json", "embeddings"
        case "text":
            content, kind, route = _text(f"number {number}"), "application/json", "embeddings"
        case "image":
            content, kind, route = picture(f"query {number}"), "image/png", "images/embeddings"
    headers = {"x-functions-key": site.stack.functions_key, "content-type": kind}
    start = time.monotonic()
    try:
        url = f"{site.stack.functions_url}/api/models/{route}"
        status = site.http.post(url, content=content, headers=headers).status_code
    except httpx.TransportError:
        # The process was ended.
        status = 0
    return _Answer(query, status, (time.monotonic() - start) * SPEED)


def _text(text: str) -> bytes:
    return json.dumps({"input": [text]}).encode()
