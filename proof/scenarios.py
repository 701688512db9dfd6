"""What may go wrong, done to the app on the local stack, and what became of the images: none may be lost.

An image is lost when, once everything has settled, it has no record made from its current bytes, or has a failure
record. A record without an image counts as lost too. Every scenario has images under its own prefix, so several can
take turns on one stack. All images are different and need no preparation: the model gets the image's own bytes, so each
call tells which image it was for.
"""

import io
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints
from urllib.parse import quote

from azure.core.exceptions import ResourceNotFoundError

from bench.site import PATIENCE, SPACE, Site, picture, pictures
from local.events import Change, event
from local.faults import FaultKind, StorageFaults
from local.model.behaviour import Fault
from local.processes import wait_until

MODEL_FAULTS: tuple[str, ...] = get_args(get_type_hints(Fault)["kind"])
# The transient ones. A missing role is not: what storage refuses meanwhile ends on poison queues, and the next audit
# finds it.
STORAGE_FAULTS: tuple[FaultKind, ...] = tuple(
    kind for kind in get_args(FaultKind) if kind not in ("no_role", "firewall")
)

# The real service takes longer; this is enough for calls to overlap.
_LATENCY_MS = 75


@dataclass(frozen=True)
class Quota:
    """How a quota was used, in the seconds from the first call to the last answer."""

    answered: int
    refused: int
    seconds: float
    allowed: int
    """The calls allowed in all windows that had begun by the last answer."""
    lost: int

    @property
    def used(self) -> float:
        """Answered calls over allowed calls, the last window counted in full."""
        return self.answered / self.allowed

    @property
    def refused_share(self) -> float:
        """Refused (429) calls over all calls."""
        return self.refused / (self.answered + self.refused)


def quota(
    site: Site, *, images: int, retry_after: Literal["seconds", "none"], calls: int = 100, window_s: float = 5
) -> Quota:
    """Upload all images at once where the model takes so many calls a window, and says how long to wait or does not."""
    prefix = f"quota {retry_after}/"
    throttle = {"calls": calls, "window_s": window_s, "retry_after": retry_after}
    site.behave(latency_ms=_LATENCY_MS, throttle=throttle, mode="cheap")
    site.forget_calls()
    site.upload(pictures(prefix, images), text=prefix)
    site.settle(prefix, "images")
    made = [call for call in site.calls() if call["text"] == prefix]
    site.behave()
    start = min(call["time"] for call in made)
    answered = sorted(call["time"] - start for call in made if call["status"] == 200)
    seconds = answered[-1]
    return Quota(
        answered=len(answered),
        refused=sum(call["status"] == 429 for call in made),
        seconds=seconds,
        allowed=calls * (int(seconds // window_s) + 1),
        lost=len(site.lost(prefix)),
    )


@dataclass(frozen=True)
class Faulty:
    """What became of the images that were uploaded during a fault. ``met`` counts the calls or requests that met it.

    ``twice`` counts the successful calls for an image that had already been embedded.
    """

    kind: str
    images: int
    met: int
    twice: int
    lost: int


def model_faults(site: Site, *, images: int, times: int, kinds: Sequence[str] = MODEL_FAULTS) -> list[Faulty]:
    """Let so many calls of each batch of images meet one of the model's faults, and then wait for all of them.

    A batch is uploaded as soon as the fault of the one before is over. A call that hangs does so for a minute, so only
    a few do: the others must get past them.
    """
    site.forget_calls()
    for kind in kinds:
        meeting = min(times, 3) if kind == "hang" else times
        # The image's text tells the model which batch it is of: a retry meets no other batch's fault.
        site.behave(latency_ms=_LATENCY_MS, fault={"kind": kind, "times": meeting, "match": kind})
        site.upload(pictures(f"model {kind}/", images), text=kind)
        wait_until(partial(_all_met, site, kind, meeting), seconds=PATIENCE)
    site.behave()
    site.settle("model ", "images", "failures")
    if "content_filter" in kinds:
        # What the model has refused for good is retried only on request.
        site.audit(prefix="model content_filter/", retry_failures=["content_filtered"])
    site.settle("model ", "images")
    made = site.calls()
    return [
        Faulty(
            kind=kind,
            images=images,
            met=_met(made, kind),
            twice=_twice(call for call in made if call["text"] == kind),
            lost=len(site.lost(f"model {kind}/")),
        )
        for kind in kinds
    ]


def _met(calls: list[dict[str, Any]], kind: str) -> int:
    return sum(call.get("fault") == kind for call in calls)


def _all_met(site: Site, kind: str, times: int) -> bool:
    return _met(site.calls(), kind) >= times


def _twice(calls: Iterator[dict[str, Any]]) -> int:
    answered = Counter(call["sha256"] for call in calls if call["status"] == 200 and call.get("fault") is None)
    return answered.total() - len(answered)


def storage_faults(
    site: Site,
    faults: StorageFaults,
    *,
    images: int,
    share: float,
    times: float,
    kinds: Sequence[FaultKind] = STORAGE_FAULTS,
) -> list[Faulty]:
    """Let a share of the app's requests to storage meet a fault, at most so many, with one batch of images a kind."""
    site.behave(latency_ms=_LATENCY_MS)
    site.forget_calls()
    met = {}
    for kind in kinds:
        prefix = f"storage {share} {kind}/"
        faults.begin(kind, share=share, times=times)
        site.upload(pictures(prefix, images), text=prefix)
        wait_until(partial(_over, site, faults, times, prefix), seconds=PATIENCE)
        met[kind] = faults.end()
        # These images must not meet the next fault.
        site.settle(prefix, "images", "failures")
    # The platform gives up what failed too often. An audit has it retried.
    site.audit(prefix=f"storage {share} ")
    site.settle(f"storage {share} ", "images")
    made = site.calls()
    return [
        Faulty(
            kind=kind,
            images=images,
            met=met[kind],
            twice=_twice(call for call in made if call["text"] == prefix),
            lost=len(site.lost(prefix)),
        )
        for kind in kinds
        for prefix in [f"storage {share} {kind}/"]
    ]


def _over(site: Site, faults: StorageFaults, times: float, prefix: str) -> bool:
    return faults.met >= times or site.at_rest(prefix, "images", "failures")


@dataclass(frozen=True)
class Kills:
    """What became of the images while the host was killed again and again."""

    images: int
    kills: int
    at_work: int
    """Kills while there was work to do."""
    brought_back: int
    """Images that the audit afterwards requested again."""
    lost: int


def kills(site: Site, *, images: int, kills: int, seed: int = 0) -> Kills:
    """Kill the functions host at random moments while images come in, every tenth of them overwritten once.

    Each time it starts, it finds the work that came meanwhile. Afterwards there is one audit.
    """
    prefix = "kill/"
    chance = random.Random(seed)
    batches = list(pictures(prefix, images).items())
    at_work = 0
    site.behave(latency_ms=4 * _LATENCY_MS)  # the longer calls take, the more there is to interrupt
    with redirect_stderr(io.StringIO()):  # the stack prints each crash with the end of the log
        for number in range(kills):
            batch = dict(batches[number * images // kills : (number + 1) * images // kills])
            rewritten = {name: picture(f"{name} {number}") for name, _ in batches[: number * images // kills : 10]}
            site.upload(batch | dict(chance.sample(sorted(rewritten.items()), min(len(rewritten), 3))))
            wait_until(site.host_answers, seconds=PATIENCE)
            time.sleep(chance.uniform(0, 1))
            at_work += not site.drained()
            _kill_host(site)
        wait_until(site.host_answers, seconds=PATIENCE)
    site.settle(prefix, "images", "failures")
    report = site.audit()
    site.settle(prefix, "images")
    return Kills(images, kills, at_work, brought_back=report["requested"], lost=len(site.lost(prefix)))


def _kill_host(site: Site) -> None:
    """Kill the process and wait until it is gone, so that it cannot answer the next request."""
    deadline = time.monotonic() + PATIENCE
    while (process := site.host_process()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if process is None:
        raise RuntimeError("The functions host is not running.")
    os.kill(int(process.name), signal.SIGKILL)
    wait_until(partial(_is_gone, process), seconds=PATIENCE, every=0.01)


def _is_gone(process: Path) -> bool:
    return not process.exists()


@dataclass(frozen=True)
class Races:
    """What became of a few names that were written, deleted and announced concurrently, in any order."""

    changes: int
    announcements: int
    images: int
    """The names that had an image in the end."""
    lost: int


def races(site: Site, *, names: int, changes: int, threads: int = 6, seed: int = 0) -> Races:
    """Overwrite, delete and upload the same few names from several threads, and announce each change again at random.

    Announcements are events to the webhook, and deletions and requests on the queue. They are delivered late, twice and
    shuffled, in addition to those that the stand-in for Event Grid sends.
    """
    prefix = "race/"
    numbers, announced = count(), count()
    site.behave(latency_ms=_LATENCY_MS)

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
                next(announced)
        for deliver in waiting:
            deliver()
            next(announced)

    with ThreadPoolExecutor(threads) as changing:
        list(changing.map(change, range(threads)))
    site.settle(prefix, "images")
    return Races(
        changes=changes // threads * threads,
        announcements=next(announced),
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
    site.behave(latency_ms=_LATENCY_MS)
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
