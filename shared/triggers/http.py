"""HTTP in and out: the body of a request, responses as JSON, errors in the API's shape."""

import math
from collections.abc import Mapping, Sequence

import azure.functions as func
import msgspec

from shared.errors import ModelError, ModelRefused, ModelUnavailable, QueryError

# The wait to name where the model named none, in seconds.
DEFAULT_RETRY_AFTER = 5
# 96 pictures of 512 x 512 pixels, or three of the largest that the model takes. The host rejects much larger bodies
# while they are still being sent: FUNCTIONS_REQUEST_BODY_SIZE_LIMIT in the deployment.
MAX_BODY_BYTES = 20 * 2**20


class ErrorBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an error says."""

    code: str
    message: str
    target: str | None = None
    details: "list[ErrorBody]" = []


class ErrorAnswer(msgspec.Struct, kw_only=True):
    """The body of every error."""

    error: ErrorBody


def read_body(request: func.HttpRequest) -> bytes:
    """The bytes of the body; raises :class:`~shared.errors.QueryError` (413) for too many of them."""
    body: bytes = request.get_body()
    if len(body) > MAX_BODY_BYTES:
        message = f"The body has {len(body):,} bytes; {MAX_BODY_BYTES:,} are allowed."
        raise QueryError("request_too_large", message, status=413)
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
    """An error in the API's shape, which its clients turn into exceptions with code and message.

    Azure SDK clients wait ``retry_after`` seconds before they try again.
    """
    headers = {"x-ms-error-code": code}
    if retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_after)))
    body = ErrorBody(code=code, message=message, target=target, details=list(details))
    return json_response(ErrorAnswer(error=body), status=status, headers=headers)


def failure_response(error: QueryError | ModelError) -> func.HttpResponse:
    """The response for a request that could not be answered; :func:`meaning` says with which status."""
    code, status, retry_after = meaning(error)
    if not isinstance(error, QueryError):
        return error_response(status, code, str(error), retry_after=retry_after)
    details = [ErrorBody(code=one.code, message=str(one), target=one.target) for one in error.details]
    return error_response(status, code, str(error), target=error.target, details=details, retry_after=retry_after)


def meaning(error: QueryError | ModelError) -> tuple[str, int, float | None]:
    """Code, status and wait: 4xx is for the caller to fix, 5xx for time or an operator."""
    match error:
        case QueryError():
            return error.code, error.status, None
        case ModelRefused():
            return error.code, error.status or 400, None
        case ModelUnavailable(status=429):
            return "too_many_requests", 429, error.retry_after or DEFAULT_RETRY_AFTER
        case ModelUnavailable(status=504):
            return "model_timeout", 504, None
        case ModelUnavailable(status=None | 500 | 502 | 200):
            return "model_failed", 502, None
        case ModelUnavailable():
            return "model_unavailable", 503, error.retry_after or DEFAULT_RETRY_AFTER
        case _:
            return "model_misconfigured", 502, None
