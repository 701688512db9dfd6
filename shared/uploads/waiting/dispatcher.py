"""Works off what waits for the model's quota, no faster than the quota lets it.

A dispatcher is a message on ``embedding-requests`` that continues itself: whoever takes it works for a minute and sends
the next. Only the message whose number is in ``quota.json`` may act, so there is one dispatcher at a time however many
instances there are, and a message that comes twice or late does nothing. It ends when nothing waits. If it gets lost,
whoever leaves something on the queues starts another, and so does the watch.

It embeds in its own process, as many pictures at once as the model may be asked for. So a backlog keeps one instance at
work, whatever the maximum is, and pays for none that waits. Only what one process cannot do in time is moved to the
trigger's queue: as many messages as the instances that this takes have places for.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import msgspec

from shared.errors import StorageError
from shared.log import Report
from shared.model.client import ModelClient
from shared.settings import Settings
from shared.storage.queues import Queues, Taken
from shared.uploads.messages import read_requests
from shared.uploads.report import ImageReport
from shared.uploads.requests import EmbeddingRequest, RequestQueue
from shared.uploads.sync import Sync
from shared.uploads.waiting.pace import Pace
from shared.uploads.waiting.quota import Quota, QuotaState

# After so long the next turn is asked for; this one goes on until that begins, at most for the overtime. With the 150 s
# that a sync may take, it is over within functionTimeout (host.json, 300 s).
_TURN_SECONDS, _OVERTIME = 60.0, 30.0
# An invocation that would have to wait for longer ends, and the next turn waits on the queue.
_LONGEST_WAIT = 5.0
# When to look again for images whose time has not come, at the latest.
_IDLE_SECONDS = 60.0
# After an error of storage, or so many images in a row that the model did not embed, the next turn waits.
_TROUBLE, _TROUBLE_SECONDS = 5, 30.0
_MODEL_TROUBLE = {"model_unavailable", "model_misconfigured"}
# Between two looks at the clock, and between two at how the work gets on.
_NAP, _TICK = 0.2, 1.0
# A message comes back after so long: the process at work on it is gone by then (functionTimeout).
_HIDDEN_SECONDS = 300
# So often. A picture that takes its process with it goes to the trigger then, where the platform counts.
_MAX_TIMES = 3
_MOST_AT_ONCE = 16
# Messages that an instance takes at a time: batchSize + newBatchThreshold (host.json).
PLACES = 12


@dataclass(kw_only=True)
class DispatchReport(Report):
    """What came of one turn: how many images were ``embedded``, and how many put off.

    ``moved`` messages went to the trigger's queue, and ``speed`` is how many calls a second were allowed in the end.
    """

    outcome: str = "goes_on"
    embedded: int = 0
    deferred: int = 0
    moved: int = 0
    speed: float = 0.0
    next_in: int | None = None


@dataclass
class _Turn:
    """What the threads of one turn share.

    ``number`` is that of the next turn. ``fresh`` says whether uploads waited when it looked last. ``wait`` is for
    how long the next turn is to wait, and ``next_due`` when the first of the images that were put off is due, both in
    seconds.
    """

    number: int
    refusals: int
    pace: Pace
    ends_at: float
    fresh: bool
    report: DispatchReport = field(default_factory=DispatchReport)
    taken: deque[Taken] = field(default_factory=deque)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    idle_threads: int = 0
    trouble: int = 0
    wait: float = 0.0
    next_due: float = _IDLE_SECONDS
    handed_over: bool = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count this thread among those that have nothing to do, for the block."""
        with self.lock:
            self.idle_threads += 1
        try:
            yield
        finally:
            with self.lock:
                self.idle_threads -= 1


class Dispatcher:
    """Works off the queues ``embedding-waiting`` and ``embedding-backlog``, fresh uploads first."""

    def __init__(
        self,
        settings: Settings,
        queues: Queues,
        requests: RequestQueue,
        sync: Sync,
        quota: Quota,
        model: ModelClient,
    ) -> None:
        self._share = settings.backlog_share
        # A few more than may be in flight: so the model never waits for a picture that is being prepared.
        self._threads = min(32, settings.foundry_concurrency * len(settings.foundry_endpoints) + 4)
        self._queues = queues
        self._requests = requests
        self._sync = sync
        self._quota = quota
        self._model = model

    def run(self, number: int) -> DispatchReport | None:
        """Take the turn of this number and send the message for the next; ``None`` if another has its turn.

        Raises ``StorageError`` where the next turn cannot be asked for.
        """
        state = self._begin(number)
        if state is None:
            return None
        pace = Pace(state.rate, state.patience, self._share)
        turn = _Turn(state.turn, state.refusals, pace, time.monotonic() + _TURN_SECONDS, state.fresh_waits)
        turn.wait = max(0.0, state.spent_until - time.time())
        pace.close(turn.wait)
        report = turn.report
        try:
            with report.step("total"):
                if turn.wait <= _LONGEST_WAIT:
                    turn.wait = 0.0
                    self._work_all(turn)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next turn may do better
            report.outcome, report.message = "error", f"{type(error).__name__}: {error}"
            turn.wait = _TROUBLE_SECONDS
        finally:
            report.speed = round(pace.speed, 1)
            try:
                self._end(turn)
            finally:
                report.log("dispatch", logging.ERROR if report.outcome == "error" else logging.INFO)
        return report

    def _begin(self, number: int) -> QuotaState | None:
        """Claim the turn; returns the state with the number of the next, or ``None`` if it is not this one's."""

        def claimed(state: QuotaState) -> QuotaState:
            if state.turn != number or not state.due:
                return state
            if self._quota.paused(state):
                return msgspec.structs.replace(state, due=0.0)
            return msgspec.structs.replace(state, turn=number + 1, due=time.time() + _TURN_SECONDS, idle=False)

        state, is_claimed = self._quota.change(claimed)
        return state if is_claimed and state.due else None

    def _work_all(self, turn: _Turn) -> None:
        with ThreadPoolExecutor(self._threads) as threads:
            working = [threads.submit(self._work, turn) for _ in range(self._threads)]
            try:
                self._oversee(turn, working)
            finally:
                turn.over.set()
        for each in working:
            each.result()

    def _work(self, turn: _Turn) -> None:
        """Embed one image after the other, as each of the threads does. If one finds no more, the turn is over."""
        try:
            while taken := self._next(turn):
                self._embed(taken, turn)
        finally:
            turn.over.set()

    def _next(self, turn: _Turn) -> Taken | None:
        """The next message, once there is a call for it; ``None`` if there is none, or not for long."""
        with turn.waiting():
            while not turn.over.is_set():
                with turn.lock:
                    if not turn.taken and not self._fetch(turn, _MOST_AT_ONCE):
                        return None
                    wait = turn.pace.take(backlog=self._is_backlog(turn.taken[0]))
                    if not wait:
                        return turn.taken.popleft()
                if wait > _LONGEST_WAIT:
                    turn.wait = wait
                    return None
                time.sleep(min(wait, _NAP))
        return None

    def _fetch(self, turn: _Turn, most: int) -> bool:
        """Take what is next, fresh uploads first, no more than for a second; returns whether there is anything."""
        most = max(1, min(most, _MOST_AT_ONCE, int(turn.pace.speed)))
        found = self._queues.take(self._queues.waiting, most, hidden_seconds=_HIDDEN_SECONDS)
        turn.fresh = bool(found)
        found = found or self._queues.take(self._queues.backlog, most, hidden_seconds=_HIDDEN_SECONDS)
        turn.taken.extend(found)
        return bool(found)

    def _is_backlog(self, taken: Taken) -> bool:
        return taken.queue == self._queues.backlog

    def _embed(self, taken: Taken, turn: _Turn) -> None:
        """Sync the image of a message. What is not for this process goes to the trigger's queue."""
        request = self._read(taken)
        if request is None or taken.times > _MAX_TIMES:
            turn.pace.give_back(backlog=self._is_backlog(taken))
            self._move(taken, turn)
            return
        report = self._sync.request(request)
        if report.outcome == "embedded":
            turn.pace.answered(report.total_tokens or 0, self._model.stated())
        else:
            turn.pace.give_back(backlog=self._is_backlog(taken))
        self._count(report, turn)
        self._queues.delete(taken)

    def _read(self, taken: Taken) -> EmbeddingRequest | None:
        """The request of a message; ``None`` if it is of another kind, or for another app on the same queues."""
        try:
            [request] = read_requests(taken.text.encode())
        except ValueError:
            return None
        if not isinstance(request, EmbeddingRequest) or not self._requests.is_ours(request):
            return None
        return msgspec.structs.replace(request, origin="backlog" if self._is_backlog(taken) else "waiting")

    def _move(self, taken: Taken, turn: _Turn) -> None:
        self._queues.move(taken, self._read(taken))
        with turn.lock:
            turn.report.moved += 1

    def _count(self, report: ImageReport, turn: _Turn) -> None:
        with turn.lock:
            if report.outcome != "deferred":
                turn.report.embedded += report.outcome == "embedded"
                turn.trouble = 0
                return
            turn.report.deferred += 1
            turn.trouble += report.code in _MODEL_TROUBLE
            turn.next_due = min(turn.next_due, report.retry_in or _LONGEST_WAIT)
        if report.code == "quota_spent":
            turn.pace.close(report.retry_in or _LONGEST_WAIT)
        elif turn.trouble >= _TROUBLE:
            turn.pace.close(_TROUBLE_SECONDS)

    def _oversee(self, turn: _Turn, working: list[Future[None]]) -> None:
        """Watch over the turn while its threads work: what other processes say, and whether the threads keep pace."""
        ticked_at, embedded = time.monotonic(), 0
        while not all(each.done() for each in working):
            time.sleep(_NAP)
            now, state = time.monotonic(), self._quota.state()
            if state.turn != turn.number or self._quota.paused(state) or now > turn.ends_at + _OVERTIME:
                turn.over.set()
            if state.refusals != turn.refusals:
                turn.refusals = state.refusals
                turn.pace.refused(max(0.0, state.spent_until - time.time()))
            if turn.over.is_set():
                continue
            if now > turn.ends_at and not turn.handed_over:
                self._hand_over(turn)
            if now - ticked_at > _TICK:
                self._tell_whether_fresh_wait(turn, state)
                self._move_surplus(turn, turn.report.embedded - embedded)
                ticked_at, embedded = now, turn.report.embedded

    def _tell_whether_fresh_wait(self, turn: _Turn, state: QuotaState) -> None:
        """So that uploads know whether to queue behind others."""
        if turn.fresh != state.fresh_waits:
            self._keep(turn)

    def _move_surplus(self, turn: _Turn, embedded: int) -> None:
        """Move what the quota takes and these threads could not do to the trigger's queue, for other instances."""
        missed = turn.pace.missed()
        if not missed or turn.idle_threads:
            return
        # Each instance does as much as this one did, and is wanted for PLACES messages.
        places = math.ceil(PLACES * missed / max(1, embedded))
        room = min(missed, places - self._queues.length(self._queues.requests))
        while room > 0 and not turn.over.is_set():
            with turn.lock:
                if not turn.taken and not self._fetch(turn, room):
                    return
                taken = turn.taken.popleft()
            self._move(taken, turn)
            turn.pace.moved(1)
            room -= 1

    def _hand_over(self, turn: _Turn) -> None:
        """Ask for the next turn, which ends this one as it begins."""
        turn.handed_over = True
        if self._keep(turn, due=time.time()):
            self._requests.dispatch(turn.number)

    def _end(self, turn: _Turn) -> None:
        """Let go of what was taken, and see to it that there is a next turn as long as anything waits."""
        for taken in turn.taken:
            # Otherwise it comes back by itself.
            with suppress(StorageError):
                self._queues.release(taken)
        if turn.handed_over:
            if turn.taken:
                # The next turn may have ended by now, because it saw nothing of these.
                self._requests.ask()
            return
        queues = (self._queues.waiting, self._queues.backlog)
        if not any(map(self._queues.length, queues)):
            turn.report.outcome, turn.fresh = "finished", False
            self._keep(turn, due=0.0)
            # Whoever left something since then saw a dispatcher at work.
            self._requests.ask_if_any()
        elif self._quota.paused(self._quota.state()):
            turn.report.outcome = "paused"
            self._keep(turn, due=0.0)
        else:
            idle = not turn.wait and not any(map(self._queues.has_visible, queues))
            wait = turn.next_due if idle else turn.wait
            turn.report.next_in = round(wait)
            if self._keep(turn, due=time.time() + wait, idle=idle):
                self._requests.dispatch(turn.number, in_seconds=wait)
            if idle and any(map(self._queues.has_visible, queues)):
                self._requests.ask()

    def _keep(self, turn: _Turn, *, due: float | None = None, idle: bool = False) -> bool:
        """Write down what this turn knows; returns false, and writes nothing, if another has begun."""

        def kept(state: QuotaState) -> QuotaState:
            if state.turn != turn.number:
                return state
            return msgspec.structs.replace(
                state,
                due=state.due if due is None else due,
                idle=idle,
                fresh_waits=turn.fresh,
                rate=turn.pace.rate,
                patience=turn.pace.patience,
            )

        state, _ = self._quota.change(kept)
        return state.turn == turn.number
