"""The functions of one app: what this host accepts of them, which one is meant, and how long one may run."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Iterator, Mapping

from local.host.worker import Function, IndexingError, InvocationError

logger = logging.getLogger("host")

TRIGGERS = {"httptrigger", "blobtrigger", "queuetrigger", "timertrigger"}


class Functions:
    """The functions of one app that are switched on. Raises IndexingError for one that this host cannot run."""

    def __init__(self, indexed: list[Function], settings: Mapping[str, str], timeout: float) -> None:
        self.indexed = [_resolved(function, settings) for function in indexed]
        """All of them, those that are switched off too."""
        self._by_name = {f.name.lower(): f for f in self.indexed if not _is_disabled(f, settings)}
        self._timeout = timeout
        self._running = 0
        self._busy, self._busy_since = 0.0, 0.0
        for function in self:
            _check(function)

    def __iter__(self) -> Iterator[Function]:
        return iter(self._by_name.values())

    @property
    def busy_seconds(self) -> float:
        """For how long at least one invocation has been running so far: what an instance is paid for."""
        return self._busy + (time.monotonic() - self._busy_since if self._running else 0.0)

    def of(self, trigger: str) -> list[Function]:
        """Those with this type of trigger, in lower case."""
        return [function for function in self if function.trigger["type"].lower() == trigger]

    def find(self, name: str, trigger: str) -> Function | None:
        """The one with this name, whatever its case, and this type of trigger."""
        function = self._by_name.get(name.lower())
        return function if function in self.of(trigger) else None

    async def run[Result](self, function: Function, call: Awaitable[Result]) -> Result:
        """Await one invocation, within functionTimeout. Logs an InvocationError and raises it.

        A thread cannot be stopped, so when time is up the whole process ends, as on Azure.
        """
        if not self._running:
            self._busy_since = time.monotonic()
        self._running += 1
        try:
            return await asyncio.wait_for(call, self._timeout)
        except TimeoutError:
            logger.critical("%s ran longer than functionTimeout allows: ending the process", function.name)
            os._exit(3)
        except InvocationError as error:
            logger.error("%s failed: %s\n%s", function.name, error, error.stack_trace.rstrip())  # noqa: TRY400 - the function's traceback, not the host's
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._busy += time.monotonic() - self._busy_since


def _resolved(function: Function, settings: Mapping[str, str]) -> Function:
    """The function with `%SETTING%` replaced in its bindings."""

    def setting(match: re.Match[str]) -> str:
        if match[1] not in settings:
            raise IndexingError(f"{function.name}: '%{match[1]}%' does not resolve: there is no such app setting")
        return settings[match[1]]

    bindings = [
        {key: re.sub("%([^%]+)%", setting, value) if isinstance(value, str) else value for key, value in b.items()}
        for b in function.bindings
    ]
    return Function(function.id, function.name, bindings)


def _is_disabled(function: Function, settings: Mapping[str, str]) -> bool:
    return settings.get(f"AzureWebJobs.{function.name}.Disabled", "").lower() == "true"


def _check(function: Function) -> None:
    """Refuse, loudly, what this host does not do."""
    trigger = function.trigger
    if trigger["type"].lower() not in TRIGGERS:
        raise IndexingError(f"{function.name}: this stand-in for the host knows no {trigger['type']}")
    if trigger["type"].lower() == "blobtrigger" and trigger.get("source") != "EventGrid":
        raise IndexingError(f"{function.name}: this stand-in for the host knows only blob triggers of source EventGrid")
    others = [b["type"] for b in function.bindings if b is not trigger and b["type"].lower() != "http"]
    if others:
        raise IndexingError(f"{function.name}: this stand-in for the host knows no {', '.join(others)} bindings")
