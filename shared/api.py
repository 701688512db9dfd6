"""HTTP in and out: a request's body into a typed request, an answer or an error into a response."""

import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import azure.functions as func
import msgspec

from shared.checks import Problem
from shared.endpoint import Answered, Endpoint
from shared.errors import ModelError, ModelRefused, ModelUnavailable, QueryError, StorageError
from shared.log import Report
from shared.queries import QueryReport
from shared.reconcile import ReconcileRequest
from shared.records import AuditReport
from shared.search import SearchAnswer, SearchRequest
from shared.wire import (
    EmbeddingsOptions,
    ErrorAnswer,
    ErrorBody,
    ImageEmbeddingsRequest,
    ImageInput,
    ModelInfo,
    TextEmbeddingsRequest,
)

# The wait to name where the model named none, in seconds.
_RETRY_AFTER = 5

# 96 pictures of 512 x 512 pixels, or three as large as the model takes. The host refuses what is much larger while it
# is still being sent: FUNCTIONS_REQUEST_BODY_SIZE_LIMIT in the deployment.
MOST_BYTES = 20 * 2**20
_QUERY_OPTIONS = {"model", "input_type", "dimensions", "encoding_format"}

_CHOICES = {
    "input_type": "It is one of text, query and document.",
    "encoding_format": "It is one of float, base64, int8, uint8, binary and ubinary.",
    "retry_failures": "It is false, or a list of failure codes such as damaged_image.",
}


def image_embeddings(request: func.HttpRequest, endpoint: Endpoint) -> func.HttpResponse:
    """Answer a request for embeddings of images: JSON in the API's own shape, or the image itself as the body."""

    def answer(report: QueryReport) -> Answered:
        fresh = _wants_fresh(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind != "application/octet-stream":
            return endpoint.images(read_embeddings(request, ImageEmbeddingsRequest), fresh, report)
        wanted = {name: value for name, value in request.params.items() if name in _QUERY_OPTIONS}
        options = _checked(lambda: msgspec.convert(wanted, EmbeddingsOptions, strict=False))
        return endpoint.image(_body(request), request.params.get("text"), options, fresh, report)

    return _answered(answer)


def text_embeddings(request: func.HttpRequest, endpoint: Endpoint) -> func.HttpResponse:
    """Answer a request for embeddings of texts, in the API's own shape."""
    return _answered(
        lambda report: endpoint.texts(read_embeddings(request, TextEmbeddingsRequest), _wants_fresh(request), report)
    )


def search(
    request: func.HttpRequest, answer: Callable[[SearchRequest, QueryReport], SearchAnswer]
) -> func.HttpResponse:
    """Answer a request of Azure AI Search, in the shape that its skills and vectorizers share."""

    def read_and_answer(report: QueryReport) -> SearchAnswer:
        content = _json(_body(request))
        return answer(_checked(lambda: msgspec.convert(content, SearchRequest)), report)

    return _answered(read_and_answer)


def _answered(answer: Callable[[QueryReport], Answered | SearchAnswer]) -> func.HttpResponse:
    """200 with the answer's own body, or an error in the API's own shape; and one line in the log."""
    report = QueryReport()
    try:
        with report.step("total"):
            answered = answer(report)
            return json(answered) if isinstance(answered, SearchAnswer) else _success(answered, report)
    except (QueryError, ModelError) as failed:
        code, status, retry_after = _meaning(failed)
        report.outcome, report.code, report.status, report.message = "refused", code, status, str(failed)
        return _failure(failed, code, status, retry_after)
    except StorageError as failed:
        report.outcome, report.code, report.status = "error", "storage_unavailable", 503
        return _storage_unavailable(failed)
    except Exception as failed:
        report.outcome, report.status, report.message = "error", 500, f"{type(failed).__name__}: {failed}"[:1000]
        raise
    finally:
        report.log("query", logging.INFO if report.status < 500 else logging.WARNING)


def audit(request: func.HttpRequest, start: Callable[[ReconcileRequest], AuditReport]) -> func.HttpResponse:
    """Answer with what an audit found: 200, or 202 where it goes on and this is only the beginning."""
    try:
        content = _json(_body(request) or b"{}")
        report = start(_checked(lambda: msgspec.convert(content, ReconcileRequest)))
    except QueryError as failed:
        return _failure(failed, failed.code, failed.status, None)
    except StorageError as failed:
        return _storage_unavailable(failed)
    return json(report, status=200 if report.finished_at else 202)


def status(read: Callable[[], msgspec.Struct]) -> func.HttpResponse:
    """Answer with the state of the app."""
    try:
        return json(read())
    except StorageError as failed:
        return _storage_unavailable(failed)


def health(problems: Sequence[Problem]) -> func.HttpResponse:
    """Answer whether the deployment holds: 200, or 503 with all that is wrong."""
    if not problems:
        return json({"status": "ok"})
    details = [ErrorBody(code=problem.code, message=problem.message, target=problem.target) for problem in problems]
    body = ErrorBody(code=details[0].code, message=details[0].message, target=details[0].target, details=details)
    return _error(503, body, None)


def json(
    body: msgspec.Struct | dict[str, object], *, status: int = 200, headers: dict[str, str] | None = None
) -> func.HttpResponse:
    """Return ``body`` as a JSON response."""
    return func.HttpResponse(
        msgspec.json.encode(body), status_code=status, headers=headers, mimetype="application/json"
    )


def error(status: int, code: str, message: str, *, retry_after: float | None = None) -> func.HttpResponse:
    """Return an error in the shape of the API, which its clients turn into exceptions with code and message."""
    return _error(status, ErrorBody(code=code, message=message), retry_after)


def model_info(model: str) -> ModelInfo:
    """Return what clients ask of ``/info``, from the settings: Foundry resources themselves do not answer it."""
    cohere = model.lower().startswith(("cohere", "embed-v"))
    return ModelInfo(model_name=model, model_type="embeddings", model_provider_name="Cohere" if cohere else "")


def read_embeddings[Request: EmbeddingsOptions](request: func.HttpRequest, shape: type[Request]) -> Request:
    """Read a request for embeddings; raises :class:`~shared.errors.QueryError`.

    Fields that the API does not have are refused, unless the header ``extra-parameters`` says ``drop`` or
    ``pass-through``, as the API has it.
    """
    content = _json(_body(request))
    if not isinstance(content, dict):
        raise QueryError("invalid_request", "The body must be a JSON object.")
    known = {name: value for name, value in content.items() if name in shape.__struct_fields__ and name != "extras"}
    extras = {name: value for name, value in content.items() if name not in known}
    wish = request.headers.get("extra-parameters", "error").strip().lower()
    if wish not in {"error", "drop", "pass-through"}:
        message = f"extra-parameters is {wish[:50]!r}; it is one of error, drop and pass-through."
        raise QueryError("invalid_request", message, target="extra-parameters")
    if wish == "error":
        _refuse_extras(extras, known.get("input"))
    # What can be read, nested a thousand times, may be too deep to be written again.
    _json_of(extras)
    read = _checked(lambda: msgspec.convert({k: v for k, v in known.items() if v is not None}, shape))
    return msgspec.structs.replace(read, extras=extras) if wish == "pass-through" else read


def _refuse_extras(extras: dict[str, Any], inputs: object) -> None:
    targets = list(extras)
    for index, item in enumerate(inputs if isinstance(inputs, list) else []):
        if isinstance(item, dict):
            targets += [f"input[{index}].{name}" for name in item if name not in ImageInput.__struct_fields__]
    if targets:
        shown = ", ".join(target[:100] for target in targets[:10])
        raise QueryError(
            "invalid_request",
            f"Extra parameters [{shown}] are not allowed. The header extra-parameters may say drop or pass-through.",
            target=targets[0][:100],
        )


def _body(request: func.HttpRequest) -> bytes:
    body: bytes = request.get_body()
    if len(body) > MOST_BYTES:
        message = f"The body has {len(body):,} bytes; {MOST_BYTES:,} are allowed."
        raise QueryError("request_too_large", message, status=413)
    return body


def _wants_fresh(request: func.HttpRequest) -> bool:
    return "no-cache" in request.headers.get("cache-control", "").lower()


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QueryError("invalid_json", f"The body is not JSON: {error}.") from error


def _json_of(extras: dict[str, Any]) -> None:
    try:
        msgspec.json.encode([[[extras]]])
    except RecursionError as error:
        raise QueryError("invalid_json", "The body is nested too deep.") from error


def _checked[Shape](convert: Callable[[], Shape]) -> Shape:
    """The result; what does not fit the shape becomes an error that names the field at fault."""
    try:
        return convert()
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        target = re.sub(r"^\.", "", path.rstrip("`"))[:100] or None
        hint = _CHOICES.get((target or "").partition("[")[0], "")
        raise QueryError("invalid_request", f"{message}. {hint}".rstrip(), target=target) from error


def _success(answered: Answered, report: QueryReport) -> func.HttpResponse:
    headers: dict[str, str] = {"x-embedding-cache": report.cache or "miss"}
    if answered.records:
        headers["x-embedding-record"] = ", ".join(answered.records)
    return json(answered.answer, headers=headers)


def _failure(failed: QueryError | ModelError, code: str, status: int, retry_after: float | None) -> func.HttpResponse:
    body = ErrorBody(code=code, message=str(failed))
    if isinstance(failed, QueryError):
        body.target = failed.target
        body.details = [ErrorBody(code=one.code, message=str(one), target=one.target) for one in failed.details]
    return _error(status, body, retry_after)


def _error(status: int, body: ErrorBody, retry_after: float | None) -> func.HttpResponse:
    headers = {"x-ms-error-code": body.code}
    # Clients of Azure's SDK wait for as long as this header says before they ask again.
    if retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_after)))
    return json(ErrorAnswer(error=body), status=status, headers=headers)


def _storage_unavailable(failed: StorageError) -> func.HttpResponse:
    message = str(failed)[:1000]
    Report(outcome="error", message=message).log("storage_unavailable", logging.ERROR)
    return error(503, "storage_unavailable", message, retry_after=_RETRY_AFTER)


def _meaning(failed: QueryError | ModelError) -> tuple[str, int, float | None]:
    """Code, status and wait: what the caller can mend is 4xx, what only time or an operator can, 5xx."""
    match failed:
        case QueryError():
            return failed.code, failed.status, None
        case ModelRefused():
            return failed.code, failed.status or 400, None
        case ModelUnavailable(status=429):
            return "too_many_requests", 429, failed.retry_after or _RETRY_AFTER
        case ModelUnavailable(status=504):
            return "model_timeout", 504, None
        case ModelUnavailable(status=None | 500 | 502 | 200):
            return "model_failed", 502, None
        case ModelUnavailable():
            return "model_unavailable", 503, failed.retry_after or _RETRY_AFTER
        case _:
            return "model_misconfigured", 502, None
