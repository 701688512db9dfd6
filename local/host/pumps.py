"""Queue listeners of the Functions host: they take messages, run a function for each, and handle failures.

The rules are those of the storage extension. A message that is taken is hidden for ten minutes, and kept hidden while
its function runs. Success deletes it. Failure makes it visible again, at once unless host.json says otherwise, until it
has had all of its attempts: then it moves to the poison queue. Not simulated: scaling out, and dynamic concurrency.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from local.storage import Queue, QueueMessage, StorageFailed

logger = logging.getLogger(__name__)

# Seconds between two polls of a queue that was empty: doubled each time, from the first to the second.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.025, 0.25


@dataclass(frozen=True)
class Rules:
    """How one queue is read. Times are in seconds."""

    batch: int
    """Messages taken at a time."""
    refill_at: int
    """Take more once no more than this many are running."""
    attempts: int
    """Failures before a message moves to the poison queue."""
    retry_after: float = 0
    """How long a message stays hidden after a failure."""
    lease: float = 600
    """How long a message is hidden when it is taken, and each time its lease is renewed."""


class Failed(Exception):
    """The function failed: retry; after the last attempt `poison` (default: the message) goes to the poison queue."""

    def __init__(self, poison: str | None = None) -> None:
        super().__init__("the function failed")
        self.poison = poison


class Undecodable(Exception):
    """The message cannot be read, however often it is retried: straight to the poison queue."""


class Pump:
    """Does `work` for each message of `queue`. `work` returns on success and raises Failed or Undecodable otherwise."""

    def __init__(
        self,
        queue: Queue,
        poison: Queue,
        work: Callable[[QueueMessage], Coroutine[None, None, None]],
        rules: Rules,
        executor: Executor,
    ) -> None:
        self._queue = queue
        self._poison = poison
        self._work = work
        self._rules = rules
        self._executor = executor
        self._running: set[asyncio.Task[None]] = set()
        self._more_waiting = False
        self._poll_now = asyncio.Event()

    def wake(self) -> None:
        """Poll the queue now: something was just put there."""
        self._poll_now.set()

    async def run(self) -> None:
        """Pump until cancelled."""
        await self._call(self._queue.create)
        pause = SHORTEST_PAUSE
        while True:
            self._poll_now.clear()
            if len(self._running) <= self._rules.refill_at:
                taken = await self._take()
                self._more_waiting = taken == self._rules.batch
                pause = SHORTEST_PAUSE if taken else min(pause * 2, LONGEST_PAUSE)
                if self._more_waiting:
                    continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._poll_now.wait()

    async def _take(self) -> int:
        try:
            messages = await self._call(self._queue.take, self._rules.batch, hide=self._rules.lease)
        except StorageFailed as error:
            logger.warning("could not read %s: %s", self._queue.name, error)
            return 0
        for message in messages:
            task = asyncio.create_task(self._handle(message))
            self._running.add(task)
            task.add_done_callback(self._finished)
        return len(messages)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._more_waiting:
            self.wake()
        if not task.cancelled() and (error := task.exception()):
            logger.error("a message on %s stays hidden until its lease ends: %r", self._queue.name, error)

    async def _handle(self, message: QueueMessage) -> None:
        """Run the function for one message, then delete, release or move the message."""
        if message.dequeue_count > self._rules.attempts:
            await self._to_poison(message, message.pop_receipt, message.text)
            return
        work = asyncio.create_task(self._work(message))
        receipt = message.pop_receipt
        while not (await asyncio.wait({work}, timeout=self._rules.lease / 2))[0]:
            receipt = await self._call(self._queue.hide, message, receipt, seconds=self._rules.lease)
        try:
            await work
        except Undecodable as error:
            logger.error("a message on %s cannot be read: %s", self._queue.name, error)  # noqa: TRY400 - the message is at fault, so no traceback
            await self._to_poison(message, receipt, message.text)
        except Failed as failure:
            if message.dequeue_count < self._rules.attempts:
                await self._call(self._queue.hide, message, receipt, seconds=self._rules.retry_after)
                self.wake()
            else:
                await self._to_poison(message, receipt, failure.poison or message.text)
        else:
            await self._call(self._queue.delete, message, receipt)

    async def _to_poison(self, message: QueueMessage, receipt: str, text: str) -> None:
        logger.error(
            "a message on %s moves to %s after %d attempts: %s",
            *(self._queue.name, self._poison.name, message.dequeue_count, text),
        )
        await self._call(self._poison.create)
        await self._call(self._poison.put, text)
        await self._call(self._queue.delete, message, receipt)

    async def _call[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make one call to storage, on the host's own threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))
