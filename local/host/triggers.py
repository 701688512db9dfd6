"""Blob, queue and timer triggers: what comes from storage and from Event Grid, turned into runs of functions."""

import asyncio
import base64
import contextlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from local.host import worker
from local.host.blob_events import BlobMessage, read_message
from local.host.functions import Functions
from local.host.host_json import HostJson
from local.host.pumps import Failed, Pump, Unhandled
from local.host.worker import Blob, Function, InvocationError
from local.storage import QueueMessage, Storage, StorageFailed

logger = logging.getLogger("host")

BLOB_QUEUE = "azure-webjobs-blobtrigger-"  # and the host's id, as apps may share the account
BLOB_POISON_QUEUE = "webjobs-blobtrigger-poison"


class Triggers:
    """Runs functions for blobs, messages and timers. `storage` returns the account of a connection's name.

    `host_id` tells this host from others with the same account.
    """

    def __init__(
        self, functions: Functions, host_json: HostJson, storage: Callable[[str], Storage], host_id: str
    ) -> None:
        self._functions = functions
        self._host_json = host_json
        self._storage = storage
        # Webhooks put messages while pumps take and delete them: threads enough that neither waits for the other.
        self._executor = ThreadPoolExecutor(16, thread_name_prefix="host storage")
        self._timers: set[asyncio.Task[None]] = set()
        self._blob_queue = storage("AzureWebJobsStorage").queue(BLOB_QUEUE + host_id)
        self._pumps = [self._queue_pump(function) for function in functions.of("queuetrigger")]
        self._blob_queue_exists = False
        self._blob_functions: dict[str, Function] = {}
        self._blob_pump: Pump | None = None
        if blob_functions := functions.of("blobtrigger"):
            self._blob_functions = {prefix + f.name: f for f in blob_functions for prefix in ("Host.Functions.", "")}
            # The poison queue belongs to the trigger's account, not to the host's own.
            poison = storage(blob_functions[0].trigger["connection"]).queue(BLOB_POISON_QUEUE)
            self._blob_pump = Pump(self._blob_queue, poison, self._run_blob, host_json.blobs, self._executor)
            self._pumps.append(self._blob_pump)

    async def pump(self) -> None:
        """Take work from the queues until cancelled."""
        async with asyncio.TaskGroup() as group:
            for pump in self._pumps:
                group.create_task(pump.run())

    async def queue_blobs(self, messages: Iterable[BlobMessage]) -> None:
        """Queue the messages, one after the other, as the host does before it answers Event Grid.

        The listener of this process hears of it at once. Where all blob functions are switched off there is none, and
        the messages wait for as long as messages live.
        """
        loop = asyncio.get_running_loop()
        if not self._blob_queue_exists:
            await loop.run_in_executor(self._executor, self._blob_queue.create)
            self._blob_queue_exists = True
        for message in messages:
            await loop.run_in_executor(self._executor, self._blob_queue.put, base64.b64encode(message.body).decode())
            if self._blob_pump:
                self._blob_pump.wake()

    def run_timer(self, function: Function) -> None:
        """Start a timer function now and do not wait for it."""
        task = asyncio.create_task(self._run_timer(function))
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)

    async def _run_timer(self, function: Function) -> None:
        with contextlib.suppress(InvocationError):
            await self._functions.run(function, worker.run_timer(function))

    async def _run_blob(self, message: QueueMessage, body: bytes) -> None:
        """Run the function on the blob as it is now. A blob or function that does not exist is not a failure."""
        try:
            asked = read_message(body)
        except ValueError as error:
            raise Unhandled(str(error)) from error
        if asked.function_id is None:
            raise Unhandled(f"it names no function: {body!r}")
        function = self._blob_functions.get(asked.function_id)
        if function is None:
            logger.debug("%s is not a function of this app: its event is dropped", asked.function_id)
            return
        if not asked.name:
            raise Unhandled(f"it names no blob: {body!r}")
        try:
            blob = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._read_blob, function, asked.container, asked.name
            )
        except StorageFailed as error:
            logger.warning("could not read blob %s/%s: %s", asked.container, asked.name, error)
            raise Failed from error
        if blob is None:
            return
        try:
            await self._functions.run(function, worker.run_blob(function, blob))
        except InvocationError as error:
            raise Failed from error

    def _read_blob(self, function: Function, container: str, name: str) -> Blob | None:
        storage = self._storage(function.trigger["connection"])
        headers = storage.blob_properties(container, name)
        if headers is None:
            return None
        return Blob(
            container=container,
            name=name,
            uri=f"{storage.blob_url}/{container}/{name}",
            properties={
                "ContentLength": int(headers["content-length"]),
                "ContentType": headers.get("content-type"),
                "ETag": headers["etag"].strip('"'),
                "LastModified": headers["last-modified"],
            },
            metadata={key[10:]: value for key, value in headers.items() if key.startswith("x-ms-meta-")},
            content=None if function.takes_client else storage.blob_content(container, name),
        )

    def _queue_pump(self, function: Function) -> Pump:
        trigger = function.trigger
        storage = self._storage(trigger["connection"])

        async def work(message: QueueMessage, body: bytes) -> None:
            shown = worker.Message(
                id=message.id,
                body=body,
                dequeue_count=message.dequeue_count,
                inserted_on=message.inserted_on,
                expires_on=message.expires_on,
                next_visible_on=message.next_visible_on,
                pop_receipt=message.pop_receipt,
            )
            try:
                await self._functions.run(function, worker.run_queue(function, shown))
            except InvocationError as error:
                raise Failed from error

        name = trigger["queueName"]
        poison = None if name.endswith("-poison") else storage.queue(f"{name}-poison")
        return Pump(storage.queue(name), poison, work, self._host_json.queues, self._executor)
