"""Queue listeners of the Functions host: they take messages, run a function for each, and handle failures.

The rules are those of the storage extension. A message that is taken is hidden for ten minutes, and kept hidden while
its function runs. Success deletes it. Failure makes it visible again, at once unless host.json says otherwise, until it
has had all of its attempts: then it moves to the poison queue, if there is one. An idle queue is polled less and less
often. Not simulated: scaling out, and dynamic concurrency.
"""

import asyncio
import base64
import contextlib
import logging
import os
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from local.storage import Queue, QueueMessage, StorageFailed

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE = 0.1


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
    longest_pause: float = 60
    """The longest time between two polls of an idle queue."""
    base64: bool = True
    """Whether messages are base64-encoded."""
    lease: float = 600
    """How long a message is hidden when it is taken, and each time its lease is renewed."""


class Failed(Exception):
    """The function failed: try again, or give up after the last attempt."""

    def __init__(self) -> None:
        super().__init__("the function failed")


class Unhandled(Exception):
    """The extension itself fails at the message. That ends the process; the message stays hidden for its lease."""


class Pauses:
    """The seconds from one poll of a queue to the next, after polls that found nothing.

    The extension's own arithmetic: about 0.1, 0.2, 0.3, 0.5, 0.9, 1.7, 3.3 and so on, up to `longest`.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self.found()

    def found(self) -> None:
        """Begin again: the queue had a message."""
        self._empty_polls = 0
        self._pause = 0.0

    def next(self) -> float:
        """The next pause. Once it is the longest, it stays so until a message is found, whatever chance says."""
        if self._pause < self._longest:
            pause = _SHORTEST_PAUSE
            if self._empty_polls:
                pause += random.uniform(0.8, 1.2) * 2 ** (self._empty_polls - 1) * _SHORTEST_PAUSE
            self._pause = min(pause, self._longest)
            self._empty_polls += 1
        return self._pause


class Pump:
    """Does `work` for each message of `queue`, given the message and its decoded body.

    `work` returns on success and raises Failed or Unhandled otherwise. Without a poison queue, a message that failed
    stays hidden for its lease, and after the last attempt it is taken in vain.
    """

    def __init__(
        self,
        queue: Queue,
        poison: Queue | None,
        work: Callable[[QueueMessage, bytes], Coroutine[None, None, None]],
        rules: Rules,
        executor: Executor,
    ) -> None:
        self._queue = queue
        self._poison = poison
        self._work = work
        self._rules = rules
        self._executor = executor
        self._running: set[asyncio.Task[None]] = set()
        self._poll_now = asyncio.Event()

    def wake(self) -> None:
        """Poll the queue now: something was just put there."""
        self._poll_now.set()

    async def run(self) -> None:
        """Pump until cancelled."""
        await self._call(self._queue.create)
        pauses = Pauses(self._rules.longest_pause)
        while True:
            self._poll_now.clear()
            if await self._take():
                pauses.found()
                while len(self._running) > self._rules.refill_at:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pauses.next()):
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
        if not task.cancelled() and (error := task.exception()):
            logger.error("a message on %s stays hidden until its lease ends: %r", self._queue.name, error)

    async def _handle(self, message: QueueMessage) -> None:
        """Run the function for one message, then delete, release or move the message."""
        if message.dequeue_count > self._rules.attempts:
            await self._give_up(message, message.pop_receipt)
            return
        body = self._decoded(message.text)
        if body is None:
            logger.error("a message on %s is not base64: %r", self._queue.name, message.text[:40])
            await self._give_up(message, message.pop_receipt)
            return
        work = asyncio.create_task(self._work(message, body))
        receipt = message.pop_receipt
        while not (await asyncio.wait({work}, timeout=self._rules.lease / 2))[0]:
            receipt = await self._call(self._queue.hide, message, receipt, seconds=self._rules.lease)
        try:
            await work
        except Unhandled as error:
            logger.critical("a message on %s cannot be handled: %s: ending the process", self._queue.name, error)
            os._exit(4)
        except Failed:
            if self._poison and message.dequeue_count < self._rules.attempts:
                await self._call(self._queue.hide, message, receipt, seconds=self._rules.retry_after)
            else:
                await self._give_up(message, receipt)
        else:
            await self._call(self._queue.delete, message, receipt)

    async def _give_up(self, message: QueueMessage, receipt: str) -> None:
        """Move the message to the poison queue as it is. Without one, leave it hidden."""
        if self._poison is None:
            return
        logger.error(
            "a message on %s moves to %s after %d attempts: %s",
            *(self._queue.name, self._poison.name, message.dequeue_count, message.text),
        )
        await self._call(self._poison.create)
        await self._call(self._poison.put, message.text)
        await self._call(self._queue.delete, message, receipt)

    def _decoded(self, text: str) -> bytes | None:
        if not self._rules.base64:
            return text.encode()
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            return None

    async def _call[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make one call to storage, on the host's own threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))
