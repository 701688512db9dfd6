"""HTTP requests and responses: reads bodies, writes JSON, and gives errors the API's shape."""

import functools
import logging
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import azure.functions as func
import msgspec

from shared.errors import (
    Busy,
    IndexUnavailable,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    QueryError,
    SettingError,
    StorageError,
)
from shared.log import MESSAGE_LIMIT, Report, of_request

# The Retry-After of responses when the model named no wait, in seconds.
DEFAULT_RETRY_AFTER = 5
# By then the rate limiter lets a call through again: Azure names a whole day when a daily quota is spent, and an SDK's
# client would sleep for that long.
_MAX_RETRY_AFTER = 300
# Room for 96 pictures of 512 x 512 pixels, or three of the largest that the model accepts. The host rejects much larger
# bodies before they have arrived: FUNCTIONS_REQUEST_BODY_SIZE_LIMIT in the deployment.
MAX_BODY_BYTES = 20 * 2**20
# The codings of RFC 9110 and the newer ones; what else people put into the header means nothing.
_COMPRESSED = {"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"}
_GZIP = b"\x1f\x8b"  # no JSON and no picture begins so
_UNSAFE = re.compile(r"[^A-Za-z0-9._:/+=-]")
_MAX_CLIENT_ID = 128


class ErrorBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One error: its code, a message, and the field at fault (``target``)."""

    code: str
    message: str
    target: str | None = None
    details: "list[ErrorBody]" = []


class ErrorAnswer(msgspec.Struct, kw_only=True):
    """The body of every error."""

    error: ErrorBody


type _Function = Callable[[func.HttpRequest], func.HttpResponse]


class Routes:
    """HTTP functions that answer 503 (``bad_settings``) while an app setting is missing or invalid."""

    def __init__(self) -> None:
        self.blueprint = func.Blueprint()

    def route(self, route: str, *, methods: Sequence[str]) -> Callable[[_Function], Any]:
        """Make a function one of them; it raises :class:`~shared.errors.SettingError` where it needs the settings."""
        register = self.blueprint.route(route, methods=methods)
        return lambda function: register(identified(_answering_bad_settings(function)))


def identified(function: _Function) -> _Function:
    """A function whose answers and log lines name the request: by an id of ours, and by the caller's if it sent one."""

    @functools.wraps(function)
    def answer(req: func.HttpRequest) -> func.HttpResponse:
        ids = {"request_id": str(uuid.uuid4())}
        # It goes into a header and a log.
        if client_id := _UNSAFE.sub("", req.headers.get("x-ms-client-request-id", ""))[:_MAX_CLIENT_ID]:
            ids["client_request_id"] = client_id
        with of_request(ids):
            response = function(req)
        for name, value in ids.items():
            response.headers[f"x-ms-{name.replace('_', '-')}"] = value
        return response

    return answer


def _answering_bad_settings(function: _Function) -> _Function:
    @functools.wraps(function)
    def answer(req: func.HttpRequest) -> func.HttpResponse:
        try:
            return function(req)
        except SettingError as error:
            return error_response(503, "bad_settings", str(error), retry_after=DEFAULT_RETRY_AFTER)

    return answer


def read_body(request: func.HttpRequest) -> bytes:
    """The bytes of the body; raises :class:`~shared.errors.QueryError` for too many (413) or compressed ones."""
    body: bytes = request.get_body()
    if len(body) > MAX_BODY_BYTES:
        message = (
            f"The body has {len(body):,} bytes; the limit is {MAX_BODY_BYTES:,} (20 MiB). In base64 that is 15 MiB of"
            " images: an image that is the body itself takes a quarter less."
        )
        raise QueryError("request_too_large", message, status=413)
    named = {name.strip().lower() for name in request.headers.get("content-encoding", "").split(",")}
    encodings = sorted(named & _COMPRESSED) or ["gzip"] * body.startswith(_GZIP)
    if encodings:
        message = f"The body is compressed ({', '.join(encodings)}). Send it as it is, without content-encoding."
        raise QueryError("invalid_request", message, target="content-encoding")
    return body


def json_response(
    body: msgspec.Struct | dict[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """``body`` as a JSON response."""
    return func.HttpResponse(
        msgspec.json.encode(body),
        status_code=status,
        headers=None if headers is None else dict(headers),
        mimetype="application/json",
    )


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    target: str | None = None,
    details: Sequence[ErrorBody] = (),
    retry_after: float | None = None,
) -> func.HttpResponse:
    """An error in the API's shape, from which Azure SDK clients make exceptions with its code and message.

    They retry after ``retry_after`` seconds.
    """
    headers = {"x-ms-error-code": code}
    if retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_after)))
    body = ErrorBody(code=code, message=message, target=target, details=list(details))
    return json_response(ErrorAnswer(error=body), status=status, headers=headers)


def failure_response(error: QueryError | ModelError | IndexUnavailable | Busy) -> func.HttpResponse:
    """The error response for a failed request."""
    code, status, retry_after = classify(error)
    if not isinstance(error, QueryError):
        return error_response(status, code, str(error), retry_after=retry_after)
    details = [ErrorBody(code=one.code, message=str(one), target=one.target) for one in error.details]
    return error_response(status, code, str(error), target=error.target, details=details, retry_after=retry_after)


def storage_unavailable(error: StorageError) -> func.HttpResponse:
    """The error response for storage that fails, which is logged."""
    message = str(error)[:MESSAGE_LIMIT]
    Report(outcome="error", message=message).log("storage_unavailable", logging.ERROR)
    return error_response(503, "storage_unavailable", message, retry_after=DEFAULT_RETRY_AFTER)


def search_off() -> QueryError:
    """The error of what needs the index of search, where there is to be none."""
    return QueryError("search_off", "This app keeps no index to search: its setting SEARCH is off.", status=404)


def classify(error: QueryError | ModelError | IndexUnavailable | Busy) -> tuple[str, int, float | None]:
    """The code, status and ``Retry-After`` of an error: the caller fixes 4xx; 5xx take a retry or an operator."""
    match error:
        case QueryError():
            return error.code, error.status, None
        case IndexUnavailable():
            return error.code, 503, error.retry_after
        case Busy():
            return "busy", 503, error.retry_after
        case ModelRefused():
            return error.code, error.status or 400, None
        case ModelUnavailable(status=429):
            return "too_many_requests", 429, _retry_after(error)
        case ModelUnavailable(status=504):
            return "model_timeout", 504, None
        case ModelUnavailable(status=None | 500 | 502 | 200):
            return "model_failed", 502, None
        case ModelUnavailable():
            return "model_unavailable", 503, _retry_after(error)
        case _:
            return "model_misconfigured", 502, None


def _retry_after(error: ModelUnavailable) -> float:
    return min(error.retry_after or DEFAULT_RETRY_AFTER, _MAX_RETRY_AFTER)
