"""Whether an image is ever lost, and what it costs to lose none. Each scenario runs once and yields several figures.

The app, its worker, storage and the stand-in for the model share the cores of this machine, so times depend on the
machine. What is lost, embedded twice or refused does not.
"""

import statistics
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from bench.figures import Figure, Measurement
from bench.site import LATENCY_MS, running, running_in_groups, running_together
from infra import plan
from local.faults import StorageFaults
from local.stack import LOGS
from proof import APP, backlog, changes, faults, hang, kills, quota, refusals, sharing
from proof.backlog import Backlog
from proof.changes import Races, Starvation
from proof.faults import Faulty
from proof.hang import Hang
from proof.kills import Kills
from proof.quota import Quota, Throttled
from proof.refusals import Refusals
from proof.sharing import Sharing

_LEASE = 2.0
# Stacks that run at the same time log to folders of their own.
_LOGS = LOGS / "proof"
_HANG_MINUTES = 10
# Processes that share one queue: what is true of one must hold for as many as the platform may start.
_PROCESSES = (1, 4, 12)
_BACKLOG_IMAGES = 2000


# Scenarios that only count run side by side, so many at a time: each has a stack of its own, and mostly waits.
_AT_ONCE = threading.Semaphore(3)


def _counting[Result](scenario: Callable[[], Result]) -> Callable[[], Result]:
    """Run a scenario once, for whichever figure asks first, and give its result to all of them."""
    lock = threading.Lock()

    @cache
    def result() -> Result:
        with _AT_ONCE:
            return scenario()

    def wait_for_result() -> Result:
        with lock:
            return result()

    return wait_for_result


@cache
def _quota(retry_after: Literal["seconds", "none"], deployments: int = 1) -> Quota:
    """1,000 images where the model answers 100 calls in 5 s, each of its deployments an equal part of them."""
    with running(deployments=deployments) as site:
        return quota.quota(site, images=1000, retry_after=retry_after, calls=100 // deployments)


@cache
def _backlog(processes: int) -> Backlog:
    """2,000 images that an audit asks for, where the model answers 100 calls in 5 s, and so many processes."""
    sites = running_in_groups(backlog.groups(processes), logs=_LOGS / f"backlog {processes}", events=backlog.EVENTS)
    with sites as found:
        return backlog.backlog(found, images=_BACKLOG_IMAGES)


@_counting
def _model_faults() -> Sequence[Faulty]:
    with running(logs=_LOGS / "model faults") as site:
        return faults.model_faults(site, images=200, times=100)


@_counting
def _storage_faults() -> Sequence[Faulty]:
    """A tenth of the requests fail, sixty in all; then every request, until thirty have failed."""
    switch = StorageFaults()
    with running(storage_faults=switch, logs=_LOGS / "storage faults") as site:
        often = faults.storage_faults(site, switch, images=100, share=0.1, times=60)
        always = faults.storage_faults(site, switch, images=30, share=1, times=30)
        return often + always


@_counting
def _kills() -> Kills:
    with running(lease=_LEASE, logs=_LOGS / "kills") as site:
        return kills.kills(site, images=300, kills=30)


@_counting
def _races() -> Races:
    with running(logs=_LOGS / "races") as site:
        return changes.races(site, names=8, changes=1200)


@cache
def _starvation() -> Starvation:
    with running() as site:
        return changes.starvation(site, uploads=100)


@_counting
def _hang() -> Hang:
    """Ten minutes of the app's time."""
    with running(app=APP, settings=hang.FAST, lease=hang.LEASE, logs=_LOGS / "hang") as site:
        return hang.hang(site, images=60, minutes=_HANG_MINUTES)


@_counting
def _throttled() -> Sequence[Throttled]:
    with running(app=APP, settings=quota.STANDING, logs=_LOGS / "throttled") as site:
        return [quota.throttled(site, images=60, retry_after=seconds) for seconds in quota.WAITS]


@_counting
def _sharing() -> Sharing:
    with running_together(sharing.CONTAINERS, app=APP, settings=sharing.FAST, logs=_LOGS / "sharing") as sites:
        return sharing.sharing(sites, images=40, nights=2)


@_counting
def _refusals() -> Sequence[Refusals]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "settings.json"
        settings = refusals.settings(file)
        with running(app=APP, settings=settings, lease=refusals.LEASE, logs=_LOGS / "refusals") as site:
            return [refusals.refusals(site, file, cause=cause, images=30) for cause in refusals.CAUSES]


def _quota_used(retry_after: Literal["seconds", "none"], deployments: int = 1) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        spent = _quota(retry_after, deployments)
        source = f"{spent.answered:,} of {spent.allowed:,} calls, {spent.seconds:.1f} s"
        return Measurement.once(spent.used, source)

    return measure


def _calls_refused(retry_after: Literal["seconds", "none"]) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        spent = _quota(retry_after)
        return Measurement.once(spent.refused_share, f"{spent.refused:,} refused, {spent.answered:,} answered")

    return measure


def _instance_seconds_vs_one() -> Measurement:
    one, many = _backlog(1), _backlog(12)
    took = f"in {many.seconds:.0f} and {one.seconds:.0f} s"
    source = f"{many.busy:.0f} s with 12 processes, {one.busy:.0f} s with one, {took}"
    return Measurement.once(many.busy / one.busy, source)


def _instance_seconds_vs_plan() -> Measurement:
    """By how much the plan's instances are too few. Its other numbers are those of this scenario."""
    found = _backlog(1)
    calls_a_minute = int(backlog.CALLS / backlog.WINDOW_S * 60)
    planned = plan.plan(
        plan.Backlog(images=found.images, tpm=10**9, rpm=calls_a_minute, cpu=0.01, model=LATENCY_MS / 1000)
    )
    seconds = planned.instances * planned.hours * 3600
    return Measurement.once(found.busy / seconds, f"{found.busy:.0f} s, planned are {seconds:.0f} s")


def _of_backlogs(
    value: Callable[[Backlog], float],
    unit: str,
    *,
    processes: Sequence[int] = _PROCESSES,
    worst: Callable[[Iterable[float]], float] = max,
) -> Callable[[], Measurement]:
    """The worst of the backlogs with so many processes, whatever is worse."""

    def measure() -> Measurement:
        values = {number: value(_backlog(number)) for number in processes}
        source = ", ".join(f"{found:.3g}{unit} with {number}" for number, found in values.items())
        return Measurement.once(worst(values.values()), f"{source} processes")

    return measure


def _faults() -> Sequence[Faulty]:
    model, storage = _together(_model_faults, _storage_faults)
    return [*model, *storage]


def _together[One, Other](one: Callable[[], One], other: Callable[[], Other]) -> tuple[One, Other]:
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.submit(one), threads.submit(other)
        return first.result(), second.result()


def _embedded_twice() -> Measurement:
    faulty = _faults()
    images, met = sum(one.images for one in faulty), sum(one.met for one in faulty)
    return Measurement.once(
        sum(one.twice for one in faulty), f"{images:,} images, {met:,} faults of {len(faulty)} kinds"
    )


def _lost() -> Measurement:
    lost = _quota("seconds").lost + _quota("none").lost + _quota("seconds", 2).lost + _starvation().lost
    faulty, (killed, raced) = _together(_faults, partial(_together, _kills, _races))
    lost += killed.lost + raced.lost + sum(one.lost for one in faulty)
    source = f"quotas, faults, {killed.kills} kills ({killed.at_work} at work), {raced.changes:,} changes at once"
    return Measurement.once(lost, source)


def _upload_under_duplicates() -> Measurement:
    """The 95th percentile, with the middle half of the uploads as the range."""
    measured = _starvation()
    low, _, high = statistics.quantiles(measured.loaded_ms, n=4)
    quiet, loaded = (statistics.quantiles(times, n=20)[-1] for times in (measured.quiet_ms, measured.loaded_ms))
    return Measurement(loaded, low, high, f"{measured.requests_per_s:.0f} requests/s; {quiet:.0f} ms without any")


def _of_hang(value: Callable[[Hang], float]) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        hung = _hang()
        seconds = 60 * _HANG_MINUTES
        source = (
            f"{hung.images} images, {hung.calls} calls without an answer; {seconds} s as {seconds / hang.SPEED:g}, with"
            f" FOUNDRY_TIMEOUT {90 / hang.SPEED:g} s, functionTimeout {300 / hang.SPEED:g} s"
        )
        return Measurement.once(value(hung), source)

    return measure


def _bad_queries() -> Measurement:
    hung = _hang()
    statuses = ", ".join(f"{number} times {status}" for status, number in sorted(hung.queries.items()))
    return Measurement.once(hung.bad_queries, f"{statuses}; the slowest took {hung.slowest_query:.0f} of 90 s")


def _throttled_calls(retry_after: int) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        [hour] = [one for one in _throttled() if one.retry_after == retry_after]
        return Measurement.once(hour.calls, f"{hour.images} images")

    return measure


def _longest_while_throttled() -> Measurement:
    hours = _throttled()
    longest = max(hours, key=lambda hour: hour.longest)
    return Measurement.once(longest.longest, f"one invocation, Retry-After {longest.retry_after}; simulated")


def _settled_after_throttling() -> Measurement:
    hours = _throttled()
    longest = max(hours, key=lambda hour: hour.settled)
    return Measurement.once(
        longest.settled, f"from the end of the hour of Retry-After {longest.retry_after}; simulated"
    )


def _throttled_lost() -> Measurement:
    hours = _throttled()
    images, asked = sum(hour.images for hour in hours), ", ".join(str(hour.retry_after) for hour in hours)
    return Measurement.once(sum(hour.lost for hour in hours), f"{images} images, an hour each of Retry-After {asked}")


def _of_sharing(value: Callable[[Sharing], float]) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        shared = _sharing()
        return Measurement.once(value(shared), f"{shared.images} images of 2 apps, {shared.requested} synced by audits")

    return measure


def _of_refusals(value: Callable[[Refusals], float]) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        causes = _refusals()
        source = "; ".join(f"{one.cause}: {one.images} images, {one.refused} calls refused" for one in causes)
        return Measurement.once(sum(map(value, causes)), source)

    return measure


FIGURES = [
    Figure("quota_used", "share", "higher", 0.9, _quota_used("seconds")),
    Figure("quota_used_unsaid", "share", "higher", 0.9, _quota_used("none")),
    Figure("quota_used_two_deployments", "share", "higher", 0.9, _quota_used("seconds", deployments=2)),
    Figure("calls_refused", "share", "lower", 0.05, _calls_refused("seconds")),
    Figure("calls_refused_unsaid", "share", "lower", 0.05, _calls_refused("none")),
    Figure("backlog_instance_seconds_vs_one", "ratio", "lower", 1.5, _instance_seconds_vs_one),
    Figure("backlog_instance_seconds_vs_plan", "ratio", "lower", 1.2, _instance_seconds_vs_plan),
    # As many as twice that quota would need, by infra/plan.py's seconds of a core for a picture.
    Figure("backlog_target_instances", "instances", "lower", 6, _of_backlogs(lambda one: one.target_instances, "")),
    Figure("backlog_quota_used", "share", "higher", 0.9, _of_backlogs(lambda one: one.used, "", worst=min)),
    Figure("backlog_refused_4", "share", "lower", 0.05, _of_backlogs(lambda one: one.refused, "", processes=(1, 4))),
    Figure("backlog_refused_12", "share", "lower", 0.1, _of_backlogs(lambda one: one.refused, "", processes=(12,))),
    Figure("backlog_fresh_s", "s", "lower", 15, _of_backlogs(lambda one: one.fresh, " s")),
    Figure(
        "backlog_queries_refused", "queries", "lower", 0, _of_backlogs(lambda one: one.queries_refused, ""), counts=True
    ),
    Figure("backlog_query_p95_s", "s", "lower", 2, _of_backlogs(lambda one: one.query_p95, " s")),
    Figure("backlog_lost", "images", "lower", 0, _of_backlogs(lambda one: one.lost, ""), counts=True),
    Figure("upload_under_duplicates_ms", "ms", "lower", 1000, _upload_under_duplicates),
    # A probe every 4 s, and those in flight at first; a call for each wait; a probe every five minutes.
    Figure("throttled_calls_0", "calls/h", "lower", 1000, _throttled_calls(0), counts=True),
    Figure("throttled_calls_55", "calls/h", "lower", 100, _throttled_calls(55), counts=True),
    Figure("throttled_calls_86400", "calls/h", "lower", 30, _throttled_calls(86_400), counts=True),
    # A message hidden for an hour, and a probe.
    Figure("throttled_settled_min", "minutes", "lower", 75, _settled_after_throttling, counts=True),
    # functionTimeout, after which the platform ends the process with everything in it.
    Figure("throttled_longest_s", "s", "lower", 300, _longest_while_throttled, counts=True),
    Figure("throttled_lost", "images", "lower", 0, _throttled_lost, counts=True),
    Figure("hang_lost", "images", "lower", 0, _of_hang(lambda hung: hung.lost), counts=True),
    Figure("hang_crashed", "images", "lower", 0, _of_hang(lambda hung: hung.crashed), counts=True),
    Figure("hang_restarts", "restarts", "lower", 0, _of_hang(lambda hung: hung.restarts), counts=True),
    Figure("hang_bad_queries", "queries", "lower", 0, _bad_queries, counts=True),
    Figure("sharing_lost", "images", "lower", 0, _of_sharing(lambda shared: shared.lost), counts=True),
    Figure("sharing_stolen", "records", "lower", 0, _of_sharing(lambda shared: shared.stolen), counts=True),
    Figure("sharing_removed", "contents", "lower", 0, _of_sharing(lambda shared: shared.removed), counts=True),
    Figure("refused_lost", "images", "lower", 0, _of_refusals(lambda one: one.lost), counts=True),
    Figure("refused_failures", "records", "lower", 0, _of_refusals(lambda one: one.failures), counts=True),
    Figure("refused_unnoticed", "causes", "lower", 0, _of_refusals(lambda one: not one.noticed), counts=True),
    Figure("refused_removed", "records", "lower", 0, _of_refusals(lambda one: one.removed), counts=True),
    Figure("embedded_twice", "calls", "lower", 0, _embedded_twice, counts=True),
    Figure("lost", "images", "lower", 0, _lost, counts=True),
]
