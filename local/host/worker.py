"""Drives Microsoft's Python worker library for Azure Functions inside this process.

Real: `azure_functions_runtime`, the library that production uses from Python 3.13 on. It imports `function_app.py`,
checks and indexes the functions, converts the bindings, and runs `def` functions on its thread pool, whose size is
PYTHON_THREADPOOL_THREAD_COUNT, and `async def` functions on the event loop. Simulated: the messages. On Azure they
are protobuf over gRPC; here plain classes with the same fields replace the generated ones, so no bytes are copied
between processes. Cookies, retry policies and output bindings other than HTTP are left out.
"""

import json
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime


class IndexingError(Exception):
    """The app could not be loaded. The message is the app's own, with its traceback."""


class InvocationError(Exception):
    """A function raised. The message is its exception; `stack_trace` is where it happened."""

    def __init__(self, message: str, stack_trace: str) -> None:
        super().__init__(message)
        self.stack_trace = stack_trace


@dataclass(frozen=True)
class Function:
    """One indexed function."""

    id: str
    name: str
    bindings: list[dict[str, Any]]

    @property
    def trigger(self) -> dict[str, Any]:
        """The binding that starts it."""
        return next(binding for binding in self.bindings if binding["type"].lower().endswith("trigger"))

    @property
    def takes_client(self) -> bool:
        """Whether its trigger passes an SDK client, made from names, instead of the content."""
        return bool(self.trigger.get("properties", {}).get("SupportsDeferredBinding"))


@dataclass(frozen=True)
class HttpAnswer:
    """What an HTTP function returned."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Blob:
    """A blob as a blob trigger gets it; `content` is for functions that do not take a client."""

    container: str
    name: str
    uri: str
    properties: dict[str, Any]
    metadata: dict[str, str]
    content: bytes | None


@dataclass(frozen=True)
class Message:
    """A queue message as a queue trigger gets it."""

    id: str
    body: str
    dequeue_count: int
    inserted_on: datetime
    expires_on: datetime
    next_visible_on: datetime
    pop_receipt: str


class _Fields(SimpleNamespace):
    """A message of the protocol. The two fields below may be left out."""

    exception = None
    return_value = None


class _OneOf(_Fields):
    """A message that holds exactly one of its possible fields, or none."""

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802 - protobuf's name
        return next(iter(vars(self)), None)


class _Status(_Fields):
    Failure, Success = 0, 1


class _BindingInfo(_Fields):
    undefined, out, inout = 0, 1, 2


# The library gets its protobuf classes from the program that starts it.
_PROTOS = SimpleNamespace(
    BindingInfo=_BindingInfo,
    FunctionMetadataResponse=_Fields,
    InvocationResponse=_Fields,
    ParameterBinding=_OneOf,
    RpcException=_Fields,
    RpcFunctionMetadata=_Fields,
    RpcHttp=_Fields,
    StatusResult=_Status,
    TypedData=_OneOf,
    WorkerInitResponse=_Fields,
    WorkerMetadata=_Fields,
)


async def index(app: Path) -> list[Function]:
    """Load the function app in `app`; call it once, from the event loop that will run the functions.

    It becomes the working directory and comes first in the search for imports, as on Azure. Raises IndexingError.
    """
    os.chdir(app)
    sys.path.insert(0, str(app))
    runtime.start_threadpool_executor()
    init = _Fields(function_app_directory=str(app), capabilities={})
    answer = await runtime.worker_init_request(_request(worker_init_request=init))
    if answer.result.status != _Status.Success:
        failure = answer.result.exception
        raise IndexingError(f"{failure.message}\n\n{failure.stack_trace}")
    metadata = await runtime.functions_metadata_request(_request(functions_metadata_request=_Fields()))
    found = metadata.function_metadata_results
    if found is None:
        raise IndexingError(f"{app} has no function_app.py with a function in it")
    return [Function(f.function_id, f.name, [json.loads(raw) for raw in f.raw_bindings]) for f in found]


async def run_http(
    function: Function,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    route: Mapping[str, str],
    body: bytes,
) -> HttpAnswer:
    """Run an HTTP function. Raises InvocationError when it raises."""
    request = _Fields(method=method, url=url, headers=headers, query=query, params=route, body=_OneOf(bytes=body))
    answer = await _invoke(function, _OneOf(http=request), {}) or _OneOf()
    match answer.WhichOneof("data"):
        case "http":
            response = answer.http
            return HttpAnswer(int(response.status_code), response.headers, response.body.bytes)
        case "string":
            return HttpAnswer(200, {"content-type": "text/plain; charset=utf-8"}, answer.string.encode())
        case kind:
            raise InvocationError(f"{function.name} returned {kind}, which is not an HTTP response", "")


async def run_blob(function: Function, blob: Blob) -> None:
    """Run a blob function. Raises InvocationError when it raises."""
    if function.takes_client:
        names = {
            "Connection": function.trigger["connection"],
            "ContainerName": blob.container,
            "BlobName": blob.name,
        }
        reference = _Fields(
            version="1.0",
            source="AzureStorageBlobs",
            content_type="application/json",
            content=json.dumps(names).encode(),
        )
        data = _OneOf(model_binding_data=reference)
    else:
        data = _OneOf(bytes=blob.content)
    metadata = {
        "BlobTrigger": _OneOf(string=f"{blob.container}/{blob.name}"),
        "Uri": _json(blob.uri),
        "Properties": _json(blob.properties),
        "Metadata": _json(blob.metadata),
    }
    await _invoke(function, data, metadata)


async def run_queue(function: Function, message: Message) -> None:
    """Run a queue function. Raises InvocationError when it raises."""
    metadata = {
        "QueueTrigger": _OneOf(string=message.body),
        "Id": _OneOf(string=message.id),
        "DequeueCount": _json(message.dequeue_count),
        "InsertionTime": _json(message.inserted_on.isoformat()),
        "ExpirationTime": _json(message.expires_on.isoformat()),
        "NextVisibleTime": _json(message.next_visible_on.isoformat()),
        "PopReceipt": _OneOf(string=message.pop_receipt),
    }
    await _invoke(function, _OneOf(string=message.body), metadata)


async def run_timer(function: Function) -> None:
    """Run a timer function as if its time had come. Raises InvocationError when it raises."""
    await _invoke(function, _json({"Schedule": {"AdjustForDST": True}, "IsPastDue": False}), {})


async def _invoke(function: Function, data: _OneOf, metadata: dict[str, _OneOf]) -> _OneOf | None:
    """Run one invocation and return what the function returned, as typed data."""
    invocation = _Fields(
        invocation_id=str(uuid.uuid4()),
        function_id=function.id,
        input_data=[_Binding(name=function.trigger["name"], data=data)],
        trigger_metadata=metadata,
        trace_context=_Fields(trace_parent="", trace_state="", attributes={}),
        retry_context=_Fields(retry_count=0, max_retry_count=0, exception=None),
    )
    answer = await runtime.invocation_request(_request(invocation_request=invocation))
    if answer.result.status != _Status.Success:
        failure = answer.result.exception
        raise InvocationError(failure.message, failure.stack_trace)
    returned: _OneOf | None = answer.return_value
    return returned


class _Binding(_Fields):
    """An input and its data, the only way of passing it that this stand-in knows."""

    def WhichOneof(self, group: str) -> str:  # noqa: N802 - protobuf's name
        return "data"


def _json(value: object) -> _OneOf:
    return _OneOf(json=json.dumps(value))


def _request(**body: _Fields) -> _Fields:
    return _Fields(request=_Fields(**body), properties={"host": "127.0.0.1", "protos": _PROTOS})
