"""Uploads and queue messages of hours, in a process whose clock passes only while all of its invocations wait.

Real are the app, the worker process, storage and the model. Simulated are the host's two listeners: so many threads for
uploads and so many for messages, as in host.json, and a queue that hides messages by the same clock.
"""

import heapq
import itertools
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import httpx
import msgspec

from proof.clock import StandingClock
from shared.storage.queues import BACKLOG, QUEUE, WAITING, Queues, Taken
from shared.triggers.intake import Intake

# What host.json allows at once in one process.
_UPLOADS, _MESSAGES = 16, 12


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What happens: each of these images is uploaded at its time, and after so many seconds the model is mended.

    ``until`` is when it ends, whatever is still waiting.
    """

    container: str
    uploads: list[tuple[float, str]]
    model_url: str
    mended_after: float
    until: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it; times are the simulated ones, in seconds.

    ``longest`` is how long one invocation took at most, ``calls`` are those to the model before it was mended,
    ``settled`` is when nothing waited any more, and ``waiting`` what still does.
    """

    longest: float
    calls: int
    settled: float
    waiting: int


def run(plan: bytes, intake: Intake, clock: StandingClock) -> bytes:
    """Carry out a :class:`Plan` in JSON, and return its :class:`Outcome` in JSON."""
    return msgspec.json.encode(_Simulation(msgspec.json.decode(plan, type=Plan), intake, clock).run())


@dataclass(order=True)
class _Job:
    """Something to do once it is due."""

    due: float
    number: int
    do: Callable[[], object]


@dataclass
class _Waiting:
    """A message on a queue without a trigger, hidden until it is due."""

    due: float
    text: str
    receipt: str = ""
    times: int = 0


class _Simulation:
    """The two listeners and their queues, and the queues that no listener reads."""

    def __init__(self, plan: Plan, intake: Intake, clock: StandingClock) -> None:
        self._plan = plan
        self._intake = intake
        self._clock = clock
        self._changed = clock.condition()
        self._numbers = itertools.count()
        self._uploads: list[_Job] = []
        self._messages: list[_Job] = []
        self._waiting: dict[str, list[_Waiting]] = {WAITING: [], BACKLOG: []}
        self._running = 0
        self._longest = 0.0
        self._calls = 0
        self._end = clock.monotonic() + plan.until
        # Time must not pass before all are there.
        self._started = threading.Barrier(_UPLOADS + _MESSAGES)

    def run(self) -> Outcome:
        """Run until nothing is left to do."""
        for due, name in self._plan.uploads:
            self._put(self._uploads, due, partial(self._intake.uploaded, self._plan.container, name))
        self._put(self._messages, self._plan.mended_after, self._mend)
        start = self._clock.monotonic()
        with ExitStack() as patches, ThreadPoolExecutor(_UPLOADS + _MESSAGES) as threads:
            for method in ("send", "take", "delete", "release", "length", "has_visible"):
                patches.enter_context(patch.object(Queues, method, getattr(self, f"_{method}")))
            listeners = [self._uploads] * _UPLOADS + [self._messages] * _MESSAGES
            working = [threads.submit(self._listen, jobs) for jobs in listeners]
        for each in working:
            each.result()
        return Outcome(
            longest=self._longest,
            calls=self._calls,
            settled=self._clock.monotonic() - start,
            waiting=len(self._uploads) + len(self._messages) + sum(map(len, self._waiting.values())),
        )

    def _listen(self, jobs: list[_Job]) -> None:
        """Do one job after the other, as one of a listener's places does."""
        with self._clock.working():
            self._started.wait()
            while job := self._next(jobs):
                start = self._clock.monotonic()
                try:
                    job.do()
                finally:
                    with self._changed:
                        self._running -= 1
                        self._longest = max(self._longest, self._clock.monotonic() - start)
                        self._changed.notify_all()

    def _next(self, jobs: list[_Job]) -> _Job | None:
        """The next job that is due; ``None`` once nothing is left, or at the end of the plan."""
        with self._changed:
            while self._uploads or self._messages or self._running:
                now = self._clock.monotonic()
                due = min(jobs[0].due if jobs else math.inf, self._end)
                if now >= self._end:
                    break
                if now >= due:
                    self._running += 1
                    return heapq.heappop(jobs)
                self._changed.wait(due - now)
            self._changed.notify_all()
            return None

    def _put(self, jobs: list[_Job], after: float, do: Callable[[], object]) -> None:
        with self._changed:
            heapq.heappush(jobs, _Job(self._clock.monotonic() + after, next(self._numbers), do))
            self._changed.notify_all()

    # In place of the methods of ``Queues``: the queues of this simulation.

    def _send(self, message: msgspec.Struct | str, *, queue: str | None = None, hidden_seconds: float = 0) -> None:
        text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
        if queue in (None, QUEUE):
            self._put(self._messages, hidden_seconds, lambda: self._intake.queued(text.encode()))
        else:
            with self._changed:
                self._waiting[queue].append(_Waiting(self._clock.monotonic() + hidden_seconds, text))

    def _take(self, queue: str, most: int, *, hidden_seconds: float) -> list[Taken]:
        with self._changed:
            found = self._visible(queue)[:most]
            for message in found:
                message.due = self._clock.monotonic() + hidden_seconds
                message.receipt, message.times = str(next(self._numbers)), message.times + 1
            return [Taken(queue, "", message.receipt, message.text, message.times) for message in found]

    def _delete(self, taken: Taken) -> None:
        with self._changed:
            left = [message for message in self._waiting[taken.queue] if message.receipt != taken.receipt]
            self._waiting[taken.queue] = left

    def _release(self, taken: Taken) -> None:
        with self._changed:
            for message in self._waiting[taken.queue]:
                if message.receipt == taken.receipt:
                    message.due = 0.0

    def _length(self, queue: str) -> int:
        return len(self._messages) if queue == QUEUE else len(self._waiting[queue])

    def _has_visible(self, queue: str) -> bool:
        with self._changed:
            return bool(self._visible(queue))

    def _visible(self, queue: str) -> list[_Waiting]:
        return [message for message in self._waiting[queue] if message.due <= self._clock.monotonic()]

    def _mend(self) -> None:
        """Have the model answer as usual."""
        with httpx.Client(base_url=self._plan.model_url, trust_env=False) as model:
            self._calls = model.get("/admin/calls").raise_for_status().json()["total"]
            model.post("/admin/behaviour", json={}).raise_for_status()
