"""The HTTP routes, one function each: read the request, call the use case, write the response."""

import logging
import time
from collections.abc import Callable, Sequence

import azure.functions as func
import msgspec

from shared.audit.reconcile import ReconcileRequest
from shared.audit.report import AuditReport
from shared.errors import IndexUnavailable, ModelError, QueryError, StorageError
from shared.exports.report import ExportReport, ExportRequest
from shared.model.wire_format import ModelOptions
from shared.operations.checks import Problem
from shared.parsing import convert, read_json_body
from shared.queries.azure_ai_search import WebApiAnswer, WebApiRequest
from shared.queries.formats import foundry_api
from shared.queries.formats.foundry_api import ParsedRequest
from shared.queries.formats.search_api import read_search
from shared.queries.queries import Queries, QueryOptions, QueryReport
from shared.queries.search import Search, SearchReport
from shared.settings import Settings
from shared.triggers.http import (
    ErrorBody,
    classify,
    error_response,
    failure_response,
    json_response,
    read_body,
    search_off,
    storage_unavailable,
)

_MAX_HEADER = 4096


def image_embeddings(request: func.HttpRequest, settings: Settings, queries: Queries) -> func.HttpResponse:
    """Embed images: the body is JSON in the API's shape, a form with one image, or one image."""

    def read() -> ParsedRequest:
        body, kind = read_body(request), request.headers.get("content-type", "")
        return foundry_api.read_image_request(body, kind, request.params, _extra_parameters(request))

    return _answer_queries(read, request, settings, queries)


def text_embeddings(request: func.HttpRequest, settings: Settings, queries: Queries) -> func.HttpResponse:
    """Embed texts, or images in the shapes of OpenAI's clients: the body is JSON."""

    def read() -> ParsedRequest:
        return foundry_api.read_texts(_read_json(request), request.params, _extra_parameters(request))

    return _answer_queries(read, request, settings, queries)


def search(request: func.HttpRequest, settings: Settings, use: Search | None) -> func.HttpResponse:
    """Find the stored images nearest to an image, a text, both, a vector or a stored image."""

    def answer(report: SearchReport) -> func.HttpResponse:
        if use is None:
            raise search_off()
        deadline = time.monotonic() + settings.foundry_timeout
        asked = read_search(read_body(request), request.headers.get("content-type", ""), request.params)
        model = ModelOptions(input_type="query", dimensions=settings.embedding_dimensions)
        found = use.find(asked, QueryOptions(model, deadline, _wants_fresh(request)), report)
        embedded = found.embedded
        headers = {} if embedded is None else _cache_headers([embedded.path] if embedded.path else [], report)
        return json_response(found.answer, headers=headers)

    return _logged(answer, SearchReport(), "search")


def azure_ai_search(
    request: func.HttpRequest, answer: Callable[[WebApiRequest, QueryReport], WebApiAnswer]
) -> func.HttpResponse:
    """Answer a request from Azure AI Search, in the shape that its skills and vectorizers share."""
    return _logged(
        lambda report: json_response(answer(convert(_read_json(request), WebApiRequest), report)),
        QueryReport(),
        "query",
    )


def models(settings: Settings) -> func.HttpResponse:
    """List the deployments, as OpenAI's API does."""
    return json_response(foundry_api.model_list(settings))


def model_info(settings: Settings) -> func.HttpResponse:
    """Describe the model."""
    return json_response(foundry_api.model_info(settings.foundry_model))


def reconcile(request: func.HttpRequest, start: Callable[[ReconcileRequest], AuditReport]) -> func.HttpResponse:
    """Run an audit and answer with its report: 200, or 202 if the audit continues in the background."""
    try:
        report = start(convert(_read_json(request, default={}), ReconcileRequest))
    except (QueryError, ModelError) as error:
        return failure_response(error)
    except StorageError as error:
        return storage_unavailable(error)
    return json_response(report, status=200 if report.finished_at else 202)


def export(request: func.HttpRequest, start: Callable[[ExportRequest], ExportReport]) -> func.HttpResponse:
    """Begin an export, which continues in the background, and answer with its report."""
    try:
        return json_response(start(convert(_read_json(request, default={}), ExportRequest)), status=202)
    except (QueryError, ModelError) as error:
        return failure_response(error)
    except StorageError as error:
        return storage_unavailable(error)


def status(read: Callable[[], msgspec.Struct]) -> func.HttpResponse:
    """Answer with the state of the app, or 503."""
    try:
        return json_response(read())
    except ModelError as error:
        return failure_response(error)
    except StorageError as error:
        return storage_unavailable(error)


def health(problems: Sequence[Problem], dimensions: int | None) -> func.HttpResponse:
    """Answer 200 with the length of the vectors if the deployment works, or 503 with every problem."""
    if not problems:
        return json_response({"status": "ok", "dimensions": dimensions})
    details = [ErrorBody(code=problem.code, message=problem.message, target=problem.target) for problem in problems]
    first = problems[0]
    return error_response(503, first.code, first.message, target=first.target, details=details)


def _answer_queries(
    read: Callable[[], ParsedRequest], request: func.HttpRequest, settings: Settings, queries: Queries
) -> func.HttpResponse:
    """Answer a query in the API's own format."""

    def answer(report: QueryReport) -> func.HttpResponse:
        deadline = time.monotonic() + settings.foundry_timeout
        parsed = read()
        options = foundry_api.query_options(parsed.options, settings, deadline=deadline, fresh=_wants_fresh(request))
        writer = foundry_api.AnswerWriter(parsed.options.encoding_format)
        for answers in queries.answer_in_turns(parsed.queries, options, report):
            writer.add(answers)
        return json_response(writer.body(), headers=_cache_headers(writer.paths, report))

    return _logged(answer, QueryReport(), "query")


def _cache_headers(paths: Sequence[str], report: QueryReport) -> dict[str, str]:
    headers: dict[str, str] = {"x-embedding-cache": report.cache or "miss"}
    if paths:
        headers["x-embedding-record"] = _shortened(paths)
    return headers


def _logged[Line: QueryReport](
    answer: Callable[[Line], func.HttpResponse], report: Line, event: str
) -> func.HttpResponse:
    """The response, which is an error in the API's shape if ``answer`` raises; logs one line."""
    try:
        with report.step("total"):
            return answer(report)
    except (QueryError, ModelError, IndexUnavailable) as error:
        report.outcome, report.message = "refused", str(error)
        report.code, report.status, _ = classify(error)
        return failure_response(error)
    except StorageError as error:
        report.outcome, report.code, report.status = "error", "storage_unavailable", 503
        return storage_unavailable(error)
    except Exception as error:
        report.outcome, report.status = "error", 500
        report.message = f"{type(error).__name__}: {error}"
        raise
    finally:
        report.log(event, logging.INFO if report.status < 500 else logging.WARNING)


def _read_json(request: func.HttpRequest, *, default: object = None) -> object:
    """The body as JSON, or the default for none; raises :class:`~shared.errors.QueryError`."""
    body = read_body(request)
    if not body and default is not None:
        return default
    return read_json_body(body, request.headers.get("content-type", ""))


def _extra_parameters(request: func.HttpRequest) -> str:
    """The header that says what to do with fields that the API does not have."""
    return str(request.headers.get("extra-parameters", "error"))


def _shortened(records: Sequence[str]) -> str:
    """As many names as fit into 4,096 bytes, and how many more there are: clients refuse headers of over 8 KiB."""
    shown = ", ".join(records)
    if len(shown) <= _MAX_HEADER:
        return shown
    kept = shown[: _MAX_HEADER - len(", and 2047 more")].rpartition(", ")[0]
    return f"{kept}, and {len(records) - kept.count(', ') - 1} more"


def _wants_fresh(request: func.HttpRequest) -> bool:
    return "no-cache" in request.headers.get("cache-control", "").lower()
