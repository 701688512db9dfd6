"""Every few minutes one line in the log: whether the deployment holds, and what waits. Alerts are made from it.

Azure's own metrics know the messages of an account, once an hour, and not those of one queue. And where this line is
missing, the app does not run.
"""

import logging
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from shared.log import Report
from shared.operations.checks import Checks
from shared.storage.queues import REQUESTS_POISON, UPLOADS_POISON, Queues

SCHEDULE = "0 */5 * * * *"
_POISON = {REQUESTS_POISON, UPLOADS_POISON}

WatchOutcome = Literal["well", "waiting", "poisoned", "misconfigured"]


@dataclass(kw_only=True)
class WatchReport(Report):
    """What was found. ``queues`` are those that the app knows, ``problems`` the codes of what is wrong."""

    outcome: WatchOutcome = "well"
    queues: list[dict[str, str | int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Watch:
    """Looks after the app from within."""

    def __init__(self, checks: Checks, queues: Queues) -> None:
        self._checks = checks
        self._queues = queues

    def __call__(self) -> WatchReport:
        """Look and log. Raises ``StorageError`` where the queues cannot be read though nothing is wrong with them."""
        report = WatchReport()
        with report.step("total"):
            problems = self._checks.run()
            report.problems = [problem.code for problem in problems]
            waiting = [] if problems else self._queues.states()
            report.queues = [
                {name: value for name, value in msgspec.to_builtins(queue).items() if value is not None}
                for queue in waiting
            ]
        if problems:
            report.outcome = "misconfigured"
        elif any(queue.messages and queue.queue in _POISON for queue in waiting):
            report.outcome = "poisoned"
        elif any(queue.messages for queue in waiting):
            report.outcome = "waiting"
        report.log("watch", logging.INFO if report.outcome in {"well", "waiting"} else logging.ERROR)
        return report
