"""One audit of everything at a time: which one runs, and whether its requests still wait.

``reports/running.json`` belongs to the audit whose id it holds, and is written on the condition that it has not
changed. It stays when an audit has compared everything, for as long as much of what it requested may wait: the next
audit would find the same images missing and request them again. That is read off the length of the queue. A marker put
behind the requests would come back too early, since a request that finds the model throttled goes behind the marker.
"""

from contextlib import suppress
from datetime import timedelta

from shared.audit.report import AuditReport
from shared.audit.report_store import ReportStore
from shared.clock import now
from shared.errors import Conflict
from shared.races import until_won
from shared.storage.queues import Queues

# At most so many images are requested by two audits, at two reads each. More than none, since the queue always holds
# some: what others put there, and images that the model keeps failing on, for up to a day.
_FEW = 1000
# A step takes two minutes, and the message of one that died comes back after ten.
_STEP_PATIENCE = timedelta(minutes=15)
# A backlog in which nothing moved for so long is not waited for any more.
_BACKLOG_PATIENCE = timedelta(days=3)


class RunningAudit:
    """The audit that ``reports/running.json`` names. Raises ``StorageError`` where storage fails.

    Audits of a part, and dry runs, run next to it. They show their progress in the same place while it is free.
    """

    def __init__(self, reports: ReportStore, queues: Queues) -> None:
        self._reports = reports
        self._queues = queues

    def begin(self, report: AuditReport) -> AuditReport:
        """Make this audit of everything the running one; returns the one that runs now.

        That is another one if it is not over and does all that this one is asked to do. If it was asked for less, this
        one takes over and does what both are asked to do.
        """

        def attempt() -> AuditReport:
            running, version = self._reports.find_running() or (None, None)
            if running is not None and running.id == report.id:
                # Our own write, if the response to it was lost.
                return report
            waiting = self._queues.pending()
            if running is not None and running.is_full and not is_over(running, waiting):
                if _covers(running, report):
                    self._note_progress(running, version, waiting)
                    return running
                if running.finished_at is None:
                    _add(report, running)
            report.progressed_at, report.waiting = now(), waiting
            self._reports.write_running(report, replaces=version)
            return report

        return until_won(attempt)

    def holds(self, report: AuditReport) -> bool:
        """Whether this is the running audit."""
        found = self._reports.find_running()
        return found is not None and found[0].id == report.id

    def advance(self, report: AuditReport) -> bool:
        """Store how far an audit is; returns whether it is the running one, and no other has taken its place."""

        def attempt() -> bool:
            running, version = self._reports.find_running() or (None, None)
            free = running is None and not report.is_full
            if not free and (running is None or running.id != report.id):
                return False
            self._reports.write_running(report, replaces=version)
            return True

        return until_won(attempt)

    def end(self, report: AuditReport) -> bool:
        """Note that an audit has compared everything, or has failed; returns whether it was the running one."""
        if report.finished_at and report.is_full and min(report.requested, report.waiting or 0) > _FEW:
            return self.advance(report)

        def attempt() -> bool:
            running, version = self._reports.find_running() or (None, None)
            if running is None or version is None or running.id != report.id:
                return False
            self._reports.remove_running(version)
            return True

        return until_won(attempt)

    def _note_progress(self, running: AuditReport, version: str | None, waiting: int) -> None:
        if running.waiting is None or waiting < running.waiting:
            running.progressed_at, running.waiting = now(), waiting
            # The audit itself has just written it.
            with suppress(Conflict):
                self._reports.write_running(running, replaces=version)


def is_over(running: AuditReport, waiting: int) -> bool:
    """Whether a running audit is no longer to be waited for, with so many messages on the queue.

    Either its requests are served but for a few, or nothing moves: its step died, or the whole queue stands still.
    """
    idle = now() - (running.progressed_at or running.started_at)
    if waiting <= _FEW:
        return running.finished_at is not None or idle > _STEP_PATIENCE
    return idle > _BACKLOG_PATIENCE


def _covers(running: AuditReport, wanted: AuditReport) -> bool:
    """Whether one audit does all that another is asked to do."""
    retried, asked = running.retry_failures, wanted.retry_failures
    if wanted.refresh and not running.refresh:
        return False
    return retried is True or (asked is not True and set(asked or ()) <= set(retried or ()))


def _add(report: AuditReport, other: AuditReport) -> None:
    """Have one audit do what another was asked to do, too."""
    report.refresh = report.refresh or other.refresh
    ours, theirs = report.retry_failures, other.retry_failures
    if ours is True or theirs is True:
        report.retry_failures = True
    elif ours or theirs:
        report.retry_failures = [*(ours or ()), *(theirs or ())]
