"""Blob, queue and timer triggers: what comes from storage and from Event Grid, turned into runs of functions."""

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit

from local.host import worker
from local.host.functions import Functions
from local.host.host_json import HostJson
from local.host.pumps import Failed, Pump, Undecodable
from local.host.worker import Blob, Function, InvocationError
from local.storage import QueueMessage, Storage, StorageFailed

logger = logging.getLogger("host")

BLOB_QUEUE = "azure-webjobs-blobtrigger-local"
BLOB_POISON_QUEUE = "webjobs-blobtrigger-poison"


class Triggers:
    """Runs functions for blobs, messages and timers. `storage` returns the account of a connection's name."""

    def __init__(self, functions: Functions, host_json: HostJson, storage: Callable[[str], Storage]) -> None:
        self._functions = functions
        self._host_json = host_json
        self._storage = storage
        # Webhooks put messages while pumps take and delete them: threads enough that neither waits for the other.
        self._executor = ThreadPoolExecutor(16, thread_name_prefix="host storage")
        self._timers: set[asyncio.Task[None]] = set()
        self._blob_queue = storage("AzureWebJobsStorage").queue(BLOB_QUEUE)
        self._pumps = [self._queue_pump(function) for function in functions.of("queuetrigger")]
        self._blob_pump: Pump | None = None
        if blob_functions := functions.of("blobtrigger"):
            # The poison queue belongs to the trigger's account, not to the host's own.
            poison = storage(blob_functions[0].trigger["connection"]).queue(BLOB_POISON_QUEUE)
            self._blob_pump = Pump(self._blob_queue, poison, self._run_blob, host_json.blobs, self._executor)
            self._pumps.append(self._blob_pump)

    async def pump(self) -> None:
        """Take work from the queues until cancelled."""
        async with asyncio.TaskGroup() as group:
            for pump in self._pumps:
                group.create_task(pump.run())

    async def queue_blobs(self, function: Function, events: Sequence[Mapping[str, Any]]) -> None:
        """Queue a run of a blob function for each event, as the host does before it answers Event Grid."""
        loop = asyncio.get_running_loop()
        texts = [_blob_message(f"Host.Functions.{function.name}", event["data"]) for event in events]
        await asyncio.gather(*(loop.run_in_executor(self._executor, self._blob_queue.put, text) for text in texts))
        assert self._blob_pump
        self._blob_pump.wake()

    def run_timer(self, function: Function) -> None:
        """Start a timer function now and do not wait for it."""
        task = asyncio.create_task(self._run_timer(function))
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)

    async def _run_timer(self, function: Function) -> None:
        with contextlib.suppress(InvocationError):
            await self._functions.run(function, worker.run_timer(function))

    async def _run_blob(self, message: QueueMessage) -> None:
        """Run the function on the blob as it is now. A blob or function that no longer exists is not a failure."""
        notice = json.loads(base64.b64decode(message.text))
        function = self._functions.find(notice["FunctionId"].removeprefix("Host.Functions."), "blobtrigger")
        if function is None:
            logger.error("%s is not a function of this app: its event is dropped", notice["FunctionId"])
            return
        try:
            blob = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._read_blob, function, notice["ContainerName"], notice["BlobName"]
            )
        except StorageFailed as error:
            logger.warning("could not read blob %s/%s: %s", notice["ContainerName"], notice["BlobName"], error)
            raise Failed from error
        if blob is None:
            return
        try:
            await self._functions.run(function, worker.run_blob(function, blob))
        except InvocationError as error:
            raise Failed(_base64({**notice, "ETag": blob.properties["ETag"]})) from error

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

        async def work(message: QueueMessage) -> None:
            shown = worker.Message(
                id=message.id,
                body=self._decoded(message.text),
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
        return Pump(storage.queue(name), storage.queue(f"{name}-poison"), work, self._host_json.queues, self._executor)

    def _decoded(self, text: str) -> str:
        if self._host_json.queues_encoding == "none":
            return text
        try:
            return base64.b64decode(text, validate=True).decode()
        except ValueError as error:
            raise Undecodable(f"host.json says that messages are base64, but this one is not: {text[:40]!r}") from error


def _blob_message(function_id: str, data: Mapping[str, Any]) -> str:
    """The host's own message about one blob: of the event it uses the blob's URL, ETag and type only."""
    url = urlsplit(data["url"].replace("#", "%23"))
    path = url.path.lstrip("/")
    if url.hostname in ("127.0.0.1", "localhost"):
        path = path.partition("/")[2]  # an emulator's path begins with the account
    container, _, name = path.partition("/")
    return _base64(
        {
            "Type": "BlobTrigger",
            "FunctionId": function_id,
            "BlobType": data["blobType"],
            "ContainerName": container,
            "BlobName": unquote(name),
            "ETag": data["eTag"],
        }
    )


def _base64(document: Mapping[str, Any]) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()
