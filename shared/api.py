"""HTTP in and out: a request's body into a typed request, an answer or an error into a response."""

import logging
import math
import re
from collections.abc import Callable

import azure.functions as func
import msgspec
from azure.core.exceptions import AzureError

from shared.errors import ModelError, ModelRefused, ModelUnavailable, QueryError
from shared.log import Report
from shared.queries import Answered, QueryReport
from shared.reconcile import ReconcileRequest
from shared.records import AuditReport
from shared.wire import EmbeddingsOptions, ErrorAnswer, ErrorBody, ModelInfo

# The wait to name where the model named none, in seconds.
_RETRY_AFTER = 5

_CHOICES = {
    "input_type": "It is one of text, query and document.",
    "encoding_format": "It is float or base64.",
    "retry_failures": "It is false, or a list of failure codes such as damaged_image.",
}


def embeddings[Request: EmbeddingsOptions](
    request: func.HttpRequest, shape: type[Request], answer: Callable[[Request, QueryReport], Answered]
) -> func.HttpResponse:
    """Answer a request for embeddings: 200 with the API's own body, or an error in the API's own shape."""
    report = QueryReport()
    try:
        with report.step("total"):
            return _success(answer(_read(request.get_body(), shape), report))
    except (QueryError, ModelError) as failed:
        code, status, retry_after = _meaning(failed)
        report.outcome, report.code, report.status, report.message = "refused", code, status, str(failed)
        target = failed.target if isinstance(failed, QueryError) else None
        return error(status, code, str(failed), target=target, retry_after=retry_after)
    except Exception as failed:
        report.outcome, report.status, report.message = "error", 500, f"{type(failed).__name__}: {failed}"[:1000]
        raise
    finally:
        report.log("query", logging.INFO if report.status < 500 else logging.WARNING)


def audit(request: func.HttpRequest, start: Callable[[ReconcileRequest], AuditReport]) -> func.HttpResponse:
    """Answer with what an audit found: 200, or 202 where it goes on and this is only the beginning."""
    try:
        report = start(_read(request.get_body() or b"{}", ReconcileRequest))
    except QueryError as failed:
        return error(failed.status, failed.code, str(failed), target=failed.target)
    except AzureError as failed:
        return _storage_unavailable(failed)
    return json(report, status=200 if report.finished_at else 202)


def status(read: Callable[[], msgspec.Struct]) -> func.HttpResponse:
    """Answer with the state of the app."""
    try:
        return json(read())
    except AzureError as failed:
        return _storage_unavailable(failed)


def json(
    body: msgspec.Struct | dict[str, object], *, status: int = 200, headers: dict[str, str] | None = None
) -> func.HttpResponse:
    """Return ``body`` as a JSON response."""
    return func.HttpResponse(
        msgspec.json.encode(body), status_code=status, headers=headers, mimetype="application/json"
    )


def error(
    status: int, code: str, message: str, *, target: str | None = None, retry_after: float | None = None
) -> func.HttpResponse:
    """Return an error in the shape of the API, which its clients turn into exceptions with code and message."""
    headers = {"x-ms-error-code": code}
    # Clients of Azure's SDK retry whatever carries this header, so only what is worth it does.
    if retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_after)))
    return json(ErrorAnswer(error=ErrorBody(code=code, message=message, target=target)), status=status, headers=headers)


def model_info(model: str) -> ModelInfo:
    """Return what clients ask of ``/info``, from the settings: Foundry resources themselves do not answer it."""
    cohere = model.lower().startswith(("cohere", "embed-v"))
    return ModelInfo(model_name=model, model_type="embeddings", model_provider_name="Cohere" if cohere else "")


def _storage_unavailable(failed: AzureError) -> func.HttpResponse:
    message = f"Storage failed: {type(failed).__name__}: {failed.message}"[:1000]
    Report(outcome="error", message=message).log("storage_unavailable", logging.ERROR)
    return error(503, "storage_unavailable", message, retry_after=_RETRY_AFTER)


def _read[Request: msgspec.Struct](body: bytes, shape: type[Request]) -> Request:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        target = re.sub(r"^\.", "", path.rstrip("`")) or None
        hint = _CHOICES.get((target or "").partition("[")[0], "")
        raise QueryError("invalid_request", f"{message}. {hint}".rstrip(), target=target) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QueryError("invalid_json", f"The body is not JSON: {error}.") from error


def _success(answered: Answered) -> func.HttpResponse:
    headers: dict[str, str] = {"x-embedding-cache": answered.cache}
    if answered.records:
        headers["x-embedding-record"] = ", ".join(answered.records)
    return json(answered.answer, headers=headers)


def _meaning(failed: QueryError | ModelError) -> tuple[str, int, float | None]:
    """Code, status and wait: what the caller can mend is 4xx, what only time or an operator can, 5xx."""
    match failed:
        case QueryError():
            return failed.code, failed.status, None
        case ModelRefused():
            return failed.code, failed.status or 400, None
        case ModelUnavailable(status=429):
            return "too_many_requests", 429, failed.retry_after or _RETRY_AFTER
        case ModelUnavailable():
            return "model_unavailable", 503, failed.retry_after or _RETRY_AFTER
        case _:
            return "model_misconfigured", 502, None
