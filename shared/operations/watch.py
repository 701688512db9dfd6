"""One log line every few minutes, which alerts read: problems of the deployment, and the length of the queues.

Azure's own metrics count the messages of a whole account, once an hour, not those of one queue. And if this line is
missing, the app is not running.
"""

import logging
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from shared.log import Report
from shared.operations.checks import Checks
from shared.storage.queues import UPLOADS_POISON, Queues

SCHEDULE = "0 */5 * * * *"

WatchOutcome = Literal["well", "waiting", "poisoned", "misconfigured"]


@dataclass(kw_only=True)
class WatchReport(Report):
    """``queues`` are the app's queues with their lengths, ``problems`` the codes of what is wrong."""

    outcome: WatchOutcome = "well"
    queues: list[dict[str, str | int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Watch:
    """Checks the app and its queues."""

    def __init__(self, checks: Checks, queues: Queues) -> None:
        self._checks = checks
        self._queues = queues

    def __call__(self) -> WatchReport:
        """Check and log; returns what was logged. Raises ``StorageError`` if only reading the queues fails."""
        report = WatchReport()
        with report.step("total"):
            problems = self._checks.run()
            poison = {self._queues.requests_poison, UPLOADS_POISON}
            report.problems = [problem.code for problem in problems]
            waiting = [] if problems else self._queues.states()
            report.queues = [
                {name: value for name, value in msgspec.to_builtins(queue).items() if value is not None}
                for queue in waiting
            ]
        if problems:
            report.outcome = "misconfigured"
        elif any(queue.messages and queue.queue in poison for queue in waiting):
            report.outcome = "poisoned"
        elif any(queue.messages for queue in waiting):
            report.outcome = "waiting"
        report.log("watch", logging.INFO if report.outcome in {"well", "waiting"} else logging.ERROR)
        return report
