"""Every few minutes: what got lost is asked for again, and one log line, for alerts, of problems and queues.

Azure's own metrics count the messages of a whole account, once an hour, not those of one queue. And if this line is
missing, the app is not running.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from shared.errors import StorageError, WrongSpace
from shared.log import Report
from shared.operations.checks import Checks
from shared.operations.dead_letters import CONTAINER, DeadLetters
from shared.search.upkeep.compaction import Compaction
from shared.storage.queues import UPLOADS_POISON, Queues, QueueState
from shared.uploads.requests import RequestQueue
from shared.uploads.waiting.quota import Quota

SCHEDULE = "0 */5 * * * *"

WatchOutcome = Literal["well", "waiting", "poisoned", "misconfigured"]


@dataclass(kw_only=True)
class WatchReport(Report):
    """``queues`` are the app's queues with their lengths, ``problems`` the codes of what is wrong.

    ``dead_letters`` has the counts of :class:`~shared.operations.dead_letters.DeadLetterCounts` that are not zero.
    ``paused`` says why nothing is embedded, where ``DAILY_TOKEN_LIMIT`` is the reason.
    """

    outcome: WatchOutcome = "well"
    queues: list[dict[str, str | int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    dead_letters: dict[str, int] = field(default_factory=dict)
    paused: str | None = None


class Watch:
    """Checks the app and its queues."""

    def __init__(
        self,
        checks: Checks,
        queues: Queues,
        dead_letters: DeadLetters,
        compaction: Compaction | None,
        requests: RequestQueue,
        quota: Quota,
    ) -> None:
        self._checks = checks
        self._queues = queues
        self._dead_letters = dead_letters
        self._compaction = compaction
        self._requests = requests
        self._quota = quota

    def __call__(self) -> WatchReport:
        """Check and log, whatever is out of reach; returns what was logged."""
        report = WatchReport()
        with report.step("total"):
            problems = self._checks.run_now()
            poison = {self._queues.requests_poison, UPLOADS_POISON}
            report.problems = [problem.code for problem in problems]
            self._requeue_dead_letters(report)
            # Storage that does not answer has a line of its own, and is asked again in five minutes.
            with suppress(StorageError, WrongSpace):
                self._requests.ask_if_any()
                if self._compaction is not None:
                    self._compaction.ask_if_due()
            if paused := self._quota.paused(self._quota.state()):
                report.paused = str(paused)
            waiting = [] if problems else self._read_queues(report)
            report.queues = [
                {name: value for name, value in msgspec.to_builtins(queue).items() if value is not None}
                for queue in waiting
            ]
        if report.problems:
            report.outcome = "misconfigured"
        elif any(queue.messages and queue.queue in poison for queue in waiting):
            report.outcome = "poisoned"
        elif any(queue.messages for queue in waiting):
            report.outcome = "waiting"
        report.log("watch", logging.INFO if report.outcome in {"well", "waiting"} else logging.ERROR)
        return report

    def _read_queues(self, report: WatchReport) -> list[QueueState]:
        try:
            return self._queues.states()
        except StorageError as error:
            # Without a line, the heartbeat's alert would say that the app does not run.
            report.problems.append("queues_out_of_reach")
            said = f"The lengths of the queues are not known: {error}"
            report.message = f"{report.message} {said}" if report.message else said
            return []

    def _requeue_dead_letters(self, report: WatchReport) -> None:
        try:
            counts = self._dead_letters.requeue()
        except StorageError as error:
            report.problems.append("dead_letters_out_of_reach")
            report.message = (
                f"The dead letters in {CONTAINER} were not put on the queue: {error} If access was denied, give the"
                " app's identity the roles Storage Blob Data Contributor on the container and Storage Queue Data"
                " Contributor on the queue."
            )
            return
        report.dead_letters = {name: count for name, count in msgspec.to_builtins(counts).items() if count}
