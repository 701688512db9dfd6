"""All that the host answers over HTTP: the HTTP functions, Event Grid's webhook and the admin API."""

import hmac
import logging
import os
import re
from collections.abc import Sequence
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from local.host import worker
from local.host.blob_events import messages, validation_code
from local.host.functions import Functions
from local.host.triggers import Triggers
from local.host.worker import Function, InvocationError
from local.storage import StorageFailed

logger = logging.getLogger("host")

ANY_VERB = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE"]
BODY_LIMIT = 104_857_600


class Front:
    """The routes of one app, below `route_prefix`. `key` is the one key that it takes.

    The first `refusals` calls of the webhook get 401, as on Flex Consumption while an app starts from zero.
    """

    def __init__(
        self, functions: Functions, triggers: Triggers, *, route_prefix: str, key: str, refusals: int = 0
    ) -> None:
        self._functions = functions
        self._triggers = triggers
        self._route_prefix = route_prefix
        self._key = key
        self._refusals = refusals

    def app(self, more: Sequence[Route] = ()) -> Starlette:
        """Make the ASGI application, with `more` routes before its own."""
        return Starlette(
            routes=[
                *more,
                Route("/", self._home, methods=["GET"]),
                Route("/admin/host/ping", self._ping, methods=["GET", "POST"]),
                Route("/admin/host/busy", self._busy, methods=["GET"]),
                Route("/admin/functions", self._list, methods=["GET"]),
                Route("/admin/functions/{name}", self._run_now, methods=["POST"]),
                Route("/runtime/webhooks/blobs", self._webhook, methods=["GET", "PUT", "POST", "DELETE", "OPTIONS"]),
                Route("/{path:path}", self._http, methods=ANY_VERB),
            ],
            exception_handlers={404: _not_found, 405: _not_found},
        )

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
            answer = await self._functions.run(function, call)
        except InvocationError:
            return Response(status_code=500)
        return Response(answer.body, answer.status, answer.headers)

    def _match(self, request: Request) -> tuple[Function, dict[str, str]] | None:
        """The function at this path that takes this verb, with its route parameters."""
        requested = request.scope["raw_path"].decode().strip("/")
        for function in self._functions.of("httptrigger"):
            trigger = function.trigger
            verbs = [verb.upper() for verb in trigger.get("methods", ANY_VERB)]
            route = trigger.get("route") or function.name
            path = "/".join(part for part in (self._route_prefix, route.strip("/")) if part)
            found = _route_pattern(path).fullmatch(requested)
            if found and request.method in verbs:
                return function, {name: _unescaped(value) for name, value in found.groupdict().items()}
        return None

    def _has_key(self, request: Request) -> bool:
        given = request.headers.get("x-functions-key", request.query_params.get("code", ""))
        return hmac.compare_digest(given.encode(), self._key.encode())

    async def _webhook(self, request: Request) -> Response:
        """Take a delivery of Event Grid's, as the storage extension does. 202 says only that its events are queued."""
        if self._refusals:
            self._refusals -= 1
            return Response(status_code=401)
        if not self._has_key(request):
            return Response(status_code=401)
        if not any(function.trigger["type"].lower() == "blobtrigger" for function in self._functions.indexed):
            return Response(status_code=404)
        kind = request.headers.get("aeg-event-type", "").lower()
        if kind == "unsubscribe":
            return Response(status_code=202)
        if kind not in ("subscriptionvalidation", "notification"):
            return Response(status_code=400)
        try:
            document = await request.json()
            if kind == "subscriptionvalidation":
                return JSONResponse({"validationResponse": validation_code(document)})
            # The name is taken as it is: where no function has it, its events are dropped later.
            await self._triggers.queue_blobs(messages(request.query_params.get("functionName"), document))
        except StorageFailed as error:
            logger.warning("the events of a delivery could not be queued: %s", error)
            return Response(status_code=500)
        except ValueError as error:
            logger.error("the webhook cannot read a delivery: %s", error)  # noqa: TRY400 - the delivery is at fault, so no traceback
            return Response(status_code=500)
        return Response(status_code=202)

    async def _home(self, request: Request) -> Response:
        return HTMLResponse("<!doctype html><title>Functions</title><p>Your Functions app is up and running.")

    async def _ping(self, request: Request) -> Response:
        return Response()

    async def _busy(self, request: Request) -> Response:
        """The seconds in which at least one invocation ran: no route of the real host, which bills them."""
        return JSONResponse(self._functions.busy_seconds)

    async def _list(self, request: Request) -> Response:
        if not self._has_key(request):
            return Response(status_code=401)
        enabled = list(self._functions)
        listed = [
            {"name": f.name, "isDisabled": f not in enabled, "config": {"bindings": f.bindings}}
            for f in self._functions.indexed
        ]
        return JSONResponse(listed)

    async def _run_now(self, request: Request) -> Response:
        if not self._has_key(request):
            return Response(status_code=401)
        function = self._functions.find(request.path_params["name"], "timertrigger")
        if function is None:
            return Response(status_code=404)
        self._triggers.run_timer(function)
        return Response(status_code=202)


def _route_pattern(route: str) -> re.Pattern[str]:
    """`models/{name}` as a pattern: case does not matter, a parameter is one segment of the path.

    `{*name}` at the end is all that follows, slashes too, or nothing.
    """
    route, _, rest = route.partition("/{*")
    parts = re.split(r"\{(\w+)\}", route)
    if any(brace in part for part in parts for brace in "{}") or not re.fullmatch(r"(\w+\})?", rest):
        raise ValueError(
            f"route {route!r}: this stand-in for the host knows only parameters like {{name}} and {{*name}}"
        )
    literal_or_name = [f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)]
    if rest:
        literal_or_name.append(f"(?:/(?P<{rest[:-1]}>.*))?")
    return re.compile("".join(literal_or_name), re.IGNORECASE | re.DOTALL)


def _unescaped(value: str | None) -> str:
    """The value of a parameter as the host hands it on: an encoded slash stays as it is."""
    return "%2F".join(unquote(part) for part in re.split("%2f", value or "", flags=re.IGNORECASE))


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


async def _not_found(request: Request, error: Exception) -> Response:
    return Response(status_code=404)
