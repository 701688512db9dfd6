"""Whether an image is ever lost, and what it costs to lose none. Each scenario runs once and yields several figures.

The app, its worker, storage and the stand-in for the model share the cores of this machine, so times depend on the
machine. What is lost, embedded twice or refused does not.
"""

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Literal

from bench.figures import Figure, Measurement
from bench.site import running
from local.faults import StorageFaults
from local.stack import LOGS
from proof import changes, faults, kills, quota
from proof.changes import Races, Starvation
from proof.faults import Faulty
from proof.kills import Kills
from proof.quota import Quota

_LEASE = 2.0
# Stacks that run at the same time log to folders of their own.
_LOGS = LOGS / "proof"


@cache
def _quota(retry_after: Literal["seconds", "none"]) -> Quota:
    """1,000 images where the model answers 100 calls in 5 s."""
    with running() as site:
        return quota.quota(site, images=1000, retry_after=retry_after)


def _model_faults() -> Sequence[Faulty]:
    with running(logs=_LOGS / "model faults") as site:
        return faults.model_faults(site, images=200, times=100)


def _storage_faults() -> Sequence[Faulty]:
    """A tenth of the requests fail, sixty in all; then every request, until thirty have failed."""
    switch = StorageFaults()
    with running(storage_faults=switch, logs=_LOGS / "storage faults") as site:
        often = faults.storage_faults(site, switch, images=100, share=0.1, times=60)
        always = faults.storage_faults(site, switch, images=30, share=1, times=30)
        return often + always


def _kills() -> Kills:
    with running(lease=_LEASE, logs=_LOGS / "kills") as site:
        return kills.kills(site, images=300, kills=30)


def _races() -> Races:
    with running(logs=_LOGS / "races") as site:
        return changes.races(site, names=8, changes=1200)


@cache
def _starvation() -> Starvation:
    with running() as site:
        return changes.starvation(site, uploads=100)


def _quota_used(retry_after: Literal["seconds", "none"]) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        spent = _quota(retry_after)
        source = f"{spent.answered:,} of {spent.allowed:,} calls, {spent.seconds:.1f} s"
        return Measurement.once(spent.used, source)

    return measure


def _calls_refused(retry_after: Literal["seconds", "none"]) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        spent = _quota(retry_after)
        return Measurement.once(spent.refused_share, f"{spent.refused:,} refused, {spent.answered:,} answered")

    return measure


def _side_by_side[One, Other](one: Callable[[], One], other: Callable[[], Other]) -> tuple[One, Other]:
    """Run two scenarios at once, each on its own stack: they count and do not time, and mostly wait."""
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.submit(one), threads.submit(other)
        return first.result(), second.result()


@cache
def _faults() -> Sequence[Faulty]:
    model, storage = _side_by_side(_model_faults, _storage_faults)
    return [*model, *storage]


def _embedded_twice() -> Measurement:
    faulty = _faults()
    images, met = sum(one.images for one in faulty), sum(one.met for one in faulty)
    return Measurement.once(
        sum(one.twice for one in faulty), f"{images:,} images, {met:,} faults of {len(faulty)} kinds"
    )


def _lost() -> Measurement:
    killed, raced = _side_by_side(_kills, _races)
    lost = _quota("seconds").lost + _quota("none").lost + killed.lost + raced.lost + _starvation().lost
    lost += sum(one.lost for one in _faults())
    source = f"quotas, faults, {killed.kills} kills ({killed.at_work} at work), {raced.changes:,} changes at once"
    return Measurement.once(lost, source)


def _upload_under_duplicates() -> Measurement:
    """The 95th percentile, with the middle half of the uploads as the range."""
    measured = _starvation()
    low, _, high = statistics.quantiles(measured.loaded_ms, n=4)
    quiet, loaded = (statistics.quantiles(times, n=20)[-1] for times in (measured.quiet_ms, measured.loaded_ms))
    return Measurement(loaded, low, high, f"{measured.requests_per_s:.0f} requests/s; {quiet:.0f} ms without any")


FIGURES = [
    Figure("quota_used", "share", "higher", 0.9, _quota_used("seconds")),
    Figure("quota_used_unsaid", "share", "higher", 0.9, _quota_used("none")),
    Figure("calls_refused", "share", "lower", 0.05, _calls_refused("seconds")),
    Figure("calls_refused_unsaid", "share", "lower", 0.05, _calls_refused("none")),
    Figure("upload_under_duplicates_ms", "ms", "lower", 1000, _upload_under_duplicates),
    Figure("embedded_twice", "calls", "lower", 0, _embedded_twice),
    Figure("lost", "images", "lower", 0, _lost),
]
