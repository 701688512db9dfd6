"""A host that is killed again and again, at random moments."""

import io
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.site import LATENCY_MS, PATIENCE, Site, picture, pictures
from local.processes import wait_until


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
    """Kill the functions host so many times, each time at a random moment, and audit once in the end.

    Before each kill a batch of the images is uploaded, and up to three of those before it are overwritten. Each time
    the host starts, it finds the work that is left.
    """
    prefix = "kill/"
    chance = random.Random(seed)
    batches = list(pictures(prefix, images).items())
    at_work = 0
    site.behave(latency_ms=4 * LATENCY_MS)  # the longer calls take, the more there is to interrupt
    with restarts_unprinted():
        for number in range(kills):
            batch = dict(batches[number * images // kills : (number + 1) * images // kills])
            rewritten = {name: picture(f"{name} {number}") for name, _ in batches[: number * images // kills : 10]}
            site.upload(batch | dict(chance.sample(sorted(rewritten.items()), min(len(rewritten), 3))))
            wait_until(site.host_answers, seconds=PATIENCE)
            time.sleep(chance.uniform(0, 1))
            at_work += not site.drained()
            kill_host(site)
        wait_until(site.host_answers, seconds=PATIENCE)
    site.settle(prefix, "images", "failures")
    report = site.audit()
    site.settle(prefix, "images")
    return Kills(images, kills, at_work, brought_back=report["requested"], lost=len(site.lost(prefix)))


_blocks = 0
_stderr = sys.stderr
_restarting = threading.Lock()


@contextmanager
def restarts_unprinted() -> Iterator[None]:
    """The stack prints each restart of a host, with the end of its log: not while any thread is in such a block."""
    global _blocks, _stderr
    with _restarting:
        if not _blocks:
            _stderr, sys.stderr = sys.stderr, io.StringIO()
        _blocks += 1
    try:
        yield
    finally:
        with _restarting:
            _blocks -= 1
            if not _blocks:
                sys.stderr = _stderr


def kill_host(site: Site) -> None:
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
