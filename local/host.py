"""A stand-in for the Functions host, the .NET program that no package registry offers.

    python -m local.host --app DIR

With `local.worker`, which runs the app through Microsoft's own worker library, it does what `func start` does for an
app with HTTP, blob (Event Grid), queue and timer triggers: it reads host.json, answers HTTP by the host's rules
(route prefix, keys, empty 401, 404 and 500), takes Event Grid's webhook, and pumps queues (`local.pumps`).

What it is not: it starts no timer by itself (`POST /admin/functions/<name>` runs one now, as on Azure), polls no
container for blobs, writes no receipts, does not scale, has no output bindings but HTTP's, and host and app share one
process and its CPU. One key, from FUNCTIONS_KEY in its environment, is function, system and master key at once. It and
the host's storage connection are taken out of the environment before the app is loaded.
"""

import argparse
import asyncio
import base64
import hmac
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from local import worker
from local.pumps import Failed, Pump, Rules, Undecodable
from local.storage import QueueMessage, Storage, StorageFailed
from local.worker import Blob, Function, IndexingError, InvocationError

logger = logging.getLogger("host")

ANY_VERB = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE"]
BODY_LIMIT = 104_857_600
BLOB_QUEUE = "azure-webjobs-blobtrigger-local"
BLOB_POISON_QUEUE = "webjobs-blobtrigger-poison"
TRIGGERS = {"httptrigger", "blobtrigger", "queuetrigger", "timertrigger"}


@dataclass(frozen=True)
class HostJson:
    """What host.json says, with the host's defaults. Times in seconds."""

    route_prefix: str
    timeout: float
    blobs: Rules
    queues: Rules
    queues_encoding: Literal["base64", "none"]


def read_host_json(text: str, environment: Mapping[str, str], *, cores: int, lease: float) -> HostJson:
    """Read host.json; `lease` is how many seconds a message is hidden at a time (the host's own: 600).

    A setting `AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism` stands above the file's, and so on.
    """
    document = json.loads(text)
    for name, value in environment.items():
        first, *path = name.split("__")
        if first == "AzureFunctionsJobHost" and path:
            part = document
            for key in path[:-1]:
                part = part.setdefault(key, {})
            part[path[-1]] = int(value) if value.isdecimal() else value
    extensions = document.get("extensions", {})
    blobs, queues = extensions.get("blobs", {}), extensions.get("queues", {})
    # One number of the blob extension is made two of the queue listener's: 16 becomes batches of 9, refilled at 7.
    parallel = blobs.get("maxDegreeOfParallelism", 8 * cores)
    blob_batch = min(32, parallel // 2 + 1)
    batch = queues.get("batchSize", 16)
    encoding = queues.get("messageEncoding", "base64")
    if encoding not in ("base64", "none"):
        raise ValueError(f"host.json: messageEncoding is {encoding!r}: it must be base64 or none")
    return HostJson(
        route_prefix=extensions.get("http", {}).get("routePrefix", "api").strip("/"),
        timeout=_seconds(document.get("functionTimeout", "00:30:00")),
        blobs=Rules(
            batch=blob_batch,
            refill_at=parallel - blob_batch,
            attempts=blobs.get("poisonBlobThreshold", 5),
            lease=lease,
        ),
        queues=Rules(
            batch=batch,
            refill_at=queues.get("newBatchThreshold", batch // 2),
            attempts=queues.get("maxDequeueCount", 5),
            retry_after=_seconds(queues.get("visibilityTimeout", "00:00:00")),
            lease=lease,
        ),
        queues_encoding=encoding,
    )


class Host:
    """The functions of one app, and what starts them."""

    def __init__(
        self, functions: list[Function], host_json: HostJson, storage: Callable[[str], Storage], key: str
    ) -> None:
        self._functions = {f.name.lower(): f for f in functions}
        self._host_json = host_json
        self._storage = storage
        self._key = key
        # Receiving and deleting must not wait for webhooks that put, nor the other way round: threads for both.
        self._executor = ThreadPoolExecutor(16, thread_name_prefix="host storage")
        self._background: set[asyncio.Task[None]] = set()
        own = storage("AzureWebJobsStorage")
        self._blob_queue = own.queue(BLOB_QUEUE)
        self._pumps = [self._queue_pump(f) for f in self._of("queuetrigger")]
        self._blob_pump: Pump | None = None
        if blob_functions := self._of("blobtrigger"):
            # The poison queue belongs to the account of the trigger, not to the host's own.
            poison = storage(blob_functions[0].trigger["connection"]).queue(BLOB_POISON_QUEUE)
            self._blob_pump = Pump(self._blob_queue, poison, self._run_blob, host_json.blobs, self._executor)
            self._pumps.append(self._blob_pump)

    async def pump(self) -> None:
        """Take work from the queues until cancelled."""
        async with asyncio.TaskGroup() as group:
            for pump in self._pumps:
                group.create_task(pump.run())

    def web(self) -> Starlette:
        """All that is answered over HTTP."""
        return Starlette(
            routes=[
                Route("/", self._home, methods=["GET"]),
                Route("/admin/host/ping", self._ping, methods=["GET", "POST"]),
                Route("/admin/functions", self._list, methods=["GET"]),
                Route("/admin/functions/{name}", self._run_now, methods=["POST"]),
                Route("/runtime/webhooks/blobs", self._webhook, methods=["GET", "PUT", "POST", "DELETE", "OPTIONS"]),
                Route("/{path:path}", self._http, methods=ANY_VERB),
            ],
            exception_handlers={404: _nothing_here, 405: _nothing_here},
        )

    # -- HTTP triggers

    async def _http(self, request: Request) -> Response:
        match = self._match(request)
        if match is None:
            return Response(status_code=404)
        function, parameters = match
        if function.trigger.get("authLevel", "FUNCTION").upper() != "ANONYMOUS" and not self._has_key(request):
            return Response(status_code=401)
        body = await _body(request)
        if body is None:
            return Response(status_code=413)
        call = worker.run_http(
            function,
            method=request.method,
            url=str(request.url),
            headers=request.headers,
            query=request.query_params,
            route=parameters,
            body=body,
        )
        try:
            answer = await self._within_time(function, call)
        except InvocationError as error:
            _log_failure(function, error)
            return Response(status_code=500)
        return Response(answer.body, answer.status, answer.headers)

    def _match(self, request: Request) -> tuple[Function, dict[str, str]] | None:
        """The function that has this path and this verb; the host does not tell apart what is missing."""
        path_asked = request.scope["raw_path"].decode().strip("/")
        for function in self._of("httptrigger"):
            trigger = function.trigger
            verbs = [verb.upper() for verb in trigger.get("methods", ANY_VERB)]
            route = trigger.get("route") or function.name
            path = "/".join(part for part in (self._host_json.route_prefix, route.strip("/")) if part)
            found = _route_pattern(path).fullmatch(path_asked)
            if found and request.method in verbs:
                return function, {name: unquote(value) for name, value in found.groupdict().items()}
        return None

    def _has_key(self, request: Request) -> bool:
        given = request.headers.get("x-functions-key", request.query_params.get("code", ""))
        return hmac.compare_digest(given.encode(), self._key.encode())

    # -- Administration

    async def _home(self, request: Request) -> Response:
        return HTMLResponse("<!doctype html><title>Functions</title><p>Your Functions app is up and running.")

    async def _ping(self, request: Request) -> Response:
        return Response()

    async def _list(self, request: Request) -> Response:
        if not self._has_key(request):
            return Response(status_code=401)
        functions = self._functions.values()
        return JSONResponse([{"name": f.name, "config": {"bindings": f.bindings}} for f in functions])

    async def _run_now(self, request: Request) -> Response:
        if not self._has_key(request):
            return Response(status_code=401)
        function = self._functions.get(request.path_params["name"].lower())
        if function is None or function not in self._of("timertrigger"):
            return Response(status_code=404)
        task = asyncio.create_task(self._run_timer(function))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return Response(status_code=202)

    async def _run_timer(self, function: Function) -> None:
        try:
            await self._within_time(function, worker.run_timer(function))
        except InvocationError as error:
            _log_failure(function, error)

    # -- Blob triggers

    async def _webhook(self, request: Request) -> Response:
        """Event Grid's delivery: the events are only put on a queue. 202 says no more than that."""
        if not self._has_key(request):
            return Response(status_code=401)
        name = request.query_params.get("functionName", "")
        function = self._functions.get(name.removeprefix("Host.Functions.").lower())
        if function is None or function not in self._of("blobtrigger"):
            return Response(f"cannot find function: '{name}'", status_code=404)
        kind = request.headers.get("aeg-event-type", "")
        if kind == "Unsubscribe":
            return Response(status_code=202)
        if kind not in ("SubscriptionValidation", "Notification"):
            return Response(status_code=400)
        document = await request.json()
        events: list[dict[str, Any]] = document if isinstance(document, list) else [document]
        if kind == "SubscriptionValidation":
            return JSONResponse({"validationResponse": events[0]["data"]["validationCode"]})
        loop = asyncio.get_running_loop()
        texts = [_blob_message(f"Host.Functions.{function.name}", event["data"]) for event in events]
        await asyncio.gather(*(loop.run_in_executor(self._executor, self._blob_queue.put, text) for text in texts))
        assert self._blob_pump
        self._blob_pump.wake()
        return Response(status_code=202)

    async def _run_blob(self, message: QueueMessage) -> None:
        """Run the function on the blob as it is now; a blob or function that is gone is no reason to fail."""
        notice = json.loads(base64.b64decode(message.text))
        function = self._functions.get(notice["FunctionId"].removeprefix("Host.Functions.").lower())
        if function is None:
            logger.error("%s is no function of this app: its event is dropped", notice["FunctionId"])
            return
        try:
            blob = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._look_up, function, notice["ContainerName"], notice["BlobName"]
            )
        except StorageFailed as error:
            logger.warning("could not read blob %s/%s: %s", notice["ContainerName"], notice["BlobName"], error)
            raise Failed from error
        if blob is None:
            return
        try:
            await self._within_time(function, worker.run_blob(function, blob))
        except InvocationError as error:
            _log_failure(function, error)
            raise Failed(_base64({**notice, "ETag": blob.properties["ETag"]})) from error

    def _look_up(self, function: Function, container: str, name: str) -> Blob | None:
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

    # -- Queue triggers

    def _queue_pump(self, function: Function) -> Pump:
        trigger = function.trigger
        storage = self._storage(trigger["connection"])

        async def work(message: QueueMessage) -> None:
            body = self._decoded(message.text)
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
                await self._within_time(function, worker.run_queue(function, shown))
            except InvocationError as error:
                _log_failure(function, error)
                raise Failed from error

        name = trigger["queueName"]
        return Pump(storage.queue(name), storage.queue(f"{name}-poison"), work, self._host_json.queues, self._executor)

    def _decoded(self, text: str) -> str:
        if self._host_json.queues_encoding == "none":
            return text
        try:
            return base64.b64decode(text, validate=True).decode()
        except ValueError as error:
            raise Undecodable(f"host.json says messages are base64, this is not: {text[:40]!r}") from error

    # -- All of them

    def _of(self, trigger: str) -> list[Function]:
        return [f for f in self._functions.values() if f.trigger["type"].lower() == trigger]

    async def _within_time[Result](self, function: Function, call: Awaitable[Result]) -> Result:
        """Wait for an invocation. A thread can not be stopped, so when time is up the process ends, as on Azure."""
        try:
            return await asyncio.wait_for(call, self._host_json.timeout)
        except TimeoutError:
            logger.critical("%s ran longer than functionTimeout allows: the process ends", function.name)
            os._exit(3)


def _route_pattern(route: str) -> re.Pattern[str]:
    """`models/{name}` as a pattern: case does not matter, a parameter is one part of the path."""
    parts = re.split(r"\{(\w+)\}", route)
    if any(brace in part for part in parts for brace in "{}"):
        raise ValueError(f"route {route!r}: only parameters like {{name}} are understood here")
    literal_or_name = [f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)]
    return re.compile("".join(literal_or_name), re.IGNORECASE)


async def _body(request: Request) -> bytes | None:
    """The whole body, or None when it is over the host's limit; no more than that is ever held."""
    limit = int(os.environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", BODY_LIMIT))
    if int(request.headers.get("content-length", 0)) > limit:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


async def _nothing_here(request: Request, error: Exception) -> Response:
    return Response(status_code=404)


def _blob_message(function_id: str, data: Mapping[str, Any]) -> str:
    """The host's own message about one blob. It takes the blob's URL, ETag and type from the event, no more."""
    url = urlsplit(data["url"].replace("#", "%23"))
    path = url.path.lstrip("/")
    if url.hostname in ("127.0.0.1", "localhost"):
        path = path.partition("/")[2]  # emulators have the account in the path
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


def _log_failure(function: Function, error: InvocationError) -> None:
    logger.error("%s failed: %s\n%s", function.name, error, error.stack_trace.rstrip())


def _seconds(span: str) -> float:
    """`hh:mm:ss`, the way host.json writes times; -1 is no limit."""
    if span == "-1":
        return float("inf")
    hours, minutes, seconds = span.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def resolve_settings(function: Function, settings: Mapping[str, str]) -> Function:
    """The function with `%SETTING%` replaced in its bindings. Raises IndexingError for a setting that is not there."""

    def setting(match: re.Match[str]) -> str:
        if match[1] not in settings:
            raise IndexingError(f"{function.name}: '%{match[1]}%' does not resolve: there is no such app setting")
        return settings[match[1]]

    bindings = [
        {key: re.sub("%([^%]+)%", setting, value) if isinstance(value, str) else value for key, value in b.items()}
        for b in function.bindings
    ]
    return Function(function.id, function.name, bindings)


def _check(function: Function) -> None:
    """Refuse, loudly, what this stand-in does not do."""
    trigger = function.trigger
    if trigger["type"].lower() not in TRIGGERS:
        raise IndexingError(f"{function.name}: a {trigger['type']} is more than this stand-in for the host knows")
    if trigger["type"].lower() == "blobtrigger" and trigger.get("source") != "EventGrid":
        raise IndexingError(f"{function.name}: this stand-in knows blob triggers of source EventGrid only")
    others = [b["type"] for b in function.bindings if b is not trigger and b["type"].lower() != "http"]
    if others:
        raise IndexingError(f"{function.name}: this stand-in knows no {', '.join(others)} bindings")


async def serve(app: Path, *, port: int, lease: float) -> None:
    """Load the app, say where it listens on the first line of stdout, and run it until SIGTERM.

    Raises IndexingError when the app can not be loaded.
    """
    key = os.environ.pop("FUNCTIONS_KEY")
    own_connection = os.environ.pop("AzureWebJobsStorage")
    host_json = read_host_json((app / "host.json").read_text(), os.environ, cores=os.cpu_count() or 1, lease=lease)
    accounts: dict[str, Storage] = {}

    def storage(connection: str) -> Storage:
        """The account a binding names; an identity-based connection is the host's account, there is but one here."""
        connection_string = os.environ.get(connection, own_connection)
        if connection_string not in accounts:
            ca_file = os.environ.get("REQUESTS_CA_BUNDLE")
            accounts[connection_string] = Storage(connection_string, Path(ca_file) if ca_file else None)
        return accounts[connection_string]

    functions = [resolve_settings(f, os.environ) for f in await worker.index(app)]
    enabled = [f for f in functions if os.environ.get(f"AzureWebJobs.{f.name}.Disabled", "").lower() != "true"]
    for function in enabled:
        _check(function)
    host = Host(enabled, host_json, storage, key)
    # The protocol is named so that asyncio sets TCP_NODELAY; without it small answers take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(host.web(), access_log=False, lifespan="off", log_config=None, timeout_graceful_shutdown=2)
    async with asyncio.TaskGroup() as group:
        pumping = group.create_task(host.pump())
        await uvicorn.Server(config).serve(sockets=[listener])
        pumping.cancel()


def main() -> None:
    """The program: see the module."""
    parser = argparse.ArgumentParser(description="Run a function app on this machine.")
    parser.add_argument("--app", type=Path, required=True, help="the folder with function_app.py and host.json")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--lease", type=float, default=600, help="seconds a message stays hidden if the process dies")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("azure", "httpx", "httpcore", "urllib3", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    status = 0
    try:
        asyncio.run(serve(options.app.resolve(), port=options.port, lease=options.lease))
    except IndexingError as error:
        print(f"The function app can not be loaded. {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        pass
    sys.stdout.flush()
    sys.stderr.flush()
    # A function that is still running has a thread that would keep the process: the platform does not wait either.
    os._exit(status)


if __name__ == "__main__":
    main()
