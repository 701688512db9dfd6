"""The OpenAPI document is valid and complete, the app conforms to it, and the examples of docs/api.md work."""

import copy
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import azure.functions as func
import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

import function_app
from local import stack
from local.azurite import REPO_ROOT
from local.stack import Stack
from shared.audit.report import AuditReport
from shared.clock import now
from shared.triggers import openapi, routes
from shared.triggers.http import identified
from tests.conftest import PATIENCE, Cloud
from tests.drawing import picture
from tests.functions import start_anew
from tests.wire_formats import WIRE_FORMATS

DOCUMENT = openapi.document()
METHODS = {"get", "post", "put", "delete", "patch", "head", "options", "trace"}
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in METHODS
}
HOST_LIMIT = 22 * 2**20


def path_of(operation: str) -> str:
    """Its path, with the example of each parameter."""
    path = operation.split()[1]
    for parameter in OPERATIONS[operation].get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    return path


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stack]]:
    """An app for each wire format."""
    limit = {"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": str(HOST_LIMIT)}
    settings = [
        {
            **limit,
            **spoken.settings,
            "FOUNDRY_ENDPOINT": spoken.path,
            "IMAGES_CONTAINER": f"{name}-images",
            "EMBEDDINGS_CONTAINER": f"{name}-embeddings",
            "QUEUE_PREFIX": f"{name}-",
        }
        for name, spoken in WIRE_FORMATS.items()
    ]
    with stack.running_together(settings, logs=tmp_path_factory.mktemp("logs")) as started:
        yield dict(zip(WIRE_FORMATS, started, strict=True))


@pytest.fixture(scope="module")
def running(apps: dict[str, Stack]) -> Stack:
    """The one for all tests that do not concern the model."""
    return apps["foundry"]


@pytest.fixture(scope="module")
def http(running: Stack) -> Iterator[httpx.Client]:
    headers = {"x-functions-key": running.functions_key}
    with httpx.Client(base_url=f"{running.functions_url}/api", headers=headers, timeout=PATIENCE) as client:
        yield client


# The document itself


def validate(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    for shape in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **shape})


def test_the_document_is_openapi_3_1() -> None:
    validate(DOCUMENT)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (["info", "title"], 1),
        (["paths", "/status", "get", "responses", "200", "description"], None),
        (["paths", "/models/embeddings", "post", "parameters", 0, "in"], "body"),
        (["components", "schemas", "ModelInfo", "required"], True),
    ],
)
def test_an_invalid_document_would_be_noticed(path: list[Any], wrong: object) -> None:
    broken = copy.deepcopy(DOCUMENT)
    parent = broken
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = wrong
    with pytest.raises((jsonschema_rs.ValidationError, schemathesis.errors.InvalidSchema)):
        validate(broken)


def test_every_reference_resolves_and_every_component_is_used() -> None:
    used = set(re.findall(r'"#/components/(\w+/[\w-]+)"', json.dumps(DOCUMENT)))
    defined = {f"{kind}/{name}" for kind in ("schemas", "headers") for name in DOCUMENT["components"][kind]}
    stored = {f"schemas/{name}" for name in ("EmbeddingRecord", "FailureRecord", "QueryRecord")}
    assert used | stored == defined


def test_the_committed_document_is_that_of_this_version() -> None:
    assert (REPO_ROOT / "docs/openapi.json").read_text() == openapi.text(), "run make openapi"


def test_the_document_has_the_routes_of_the_app(running: Stack, http: httpx.Client) -> None:
    functions = (
        httpx.get(f"{running.functions_url}/admin/functions", headers=http.headers, timeout=PATIENCE)
        .raise_for_status()
        .json()
    )
    registered = {
        f"{method} /{trigger['route'].replace('{*', '{')}": (
            function["name"],
            trigger["authLevel"].upper() != "ANONYMOUS",
        )
        for function in functions
        for trigger in function["config"]["bindings"]
        if trigger["type"] == "httpTrigger"
        for method in trigger["methods"]
    }
    documented = {
        name: (operation["operationId"], operation.get("security") != []) for name, operation in OPERATIONS.items()
    }
    assert documented == registered


def test_the_page_on_the_routes_has_all_of_them() -> None:
    page = (REPO_ROOT / "docs/api.md").read_text()
    for operation in OPERATIONS:
        assert f"`{operation.replace(' /', ' /api/')}`" in page


def test_the_app_serves_the_document(http: httpx.Client) -> None:
    assert http.get("/openapi.json").raise_for_status().json() == DOCUMENT


# What the app answers

schemathesis.openapi.media_type(
    "image/*",
    st.sampled_from([picture(), picture(format="JPEG"), picture(format="JPEG")[:300]]) | st.binary(),
    aliases=["application/octet-stream"],
)
api = schemathesis.openapi.from_dict(DOCUMENT)
# A list longer than the document allows is a 413.
api.config.checks.negative_data_rejection.expected_statuses += ["413"]
ANSWER_CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


generated = partial(settings, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@api.parametrize()
@generated(max_examples=12)
def test_the_app_conforms_to_the_document(case: schemathesis.Case[Any], running: Stack) -> None:
    conforms(case, running)


# What is refused before any call is refused alike, whatever the format: here there is none of it.
asked = schemathesis.openapi.from_dict(DOCUMENT).include(path_regex="/(models/.*embeddings|search|skill|vectorizer)$")
asked.config.phases.coverage.enabled = False
asked.config.generation.update(modes=[schemathesis.GenerationMode.POSITIVE])


@asked.parametrize()
@generated(max_examples=25)
def test_so_does_an_app_that_speaks_cohere_s_format_with_the_model(
    case: schemathesis.Case[Any], apps: dict[str, Stack]
) -> None:
    conforms(case, apps["cohere"])


def conforms(case: schemathesis.Case[Any], running: Stack) -> None:
    # The host answers 404 instead of 405.
    excluded = [checks.unsupported_method]
    if "requestBody" in case.operation.definition.raw and case.path != "/reconcile":
        # The document cannot say which strings are pictures, or which names are models.
        excluded.append(checks.positive_data_acceptance)
    if case.path == "/reconcile" and isinstance(case.body, dict) and case.body.get("names") and case.body.get("prefix"):
        # Nor that these two do not go together, in a way that generators of clients understand.
        excluded.append(checks.positive_data_acceptance)
    if case.path in {"/models/images/embeddings", "/models/embeddings", "/search"} and (
        case.query or case.media_type != "application/json"
    ):
        # The app ignores the query string if the body is JSON, and the header extra-parameters if it is an image.
        excluded.append(checks.negative_data_rejection)
    if "after" in (case.query or {}):
        # Nor can it say which strings are the next of an answer.
        excluded.append(checks.positive_data_acceptance)
    case.call_and_validate(
        base_url=f"{running.functions_url}/api",
        headers={"x-functions-key": running.functions_key},
        excluded_checks=excluded,
        timeout=PATIENCE,
    )


def as_documented(operation: str, answer: httpx.Response) -> httpx.Response:
    method, path = operation.split()
    named = dict.fromkeys(re.findall(r"{(\w+)}", path), "x")
    api[path][method].Case(path_parameters=named).validate_response(answer, checks=ANSWER_CHECKS)
    return answer


def over_http(operation: str, answer: func.HttpResponse) -> httpx.Response:
    """What the host makes of a function's answer."""
    method, path = operation.split()
    made = httpx.Response(
        answer.status_code,
        content=answer.get_body(),
        headers={"content-type": answer.mimetype, **answer.headers},
        request=httpx.Request(method, f"http://127.0.0.1/api{path}"),
    )
    made.elapsed = timedelta()
    return made


TEXT = {"input": ["a red thing"]}
RECORD = {"values": [{"recordId": "0", "data": {"text": "a red thing"}}]}
QUERIES = [
    ("POST /models/embeddings", TEXT),
    ("POST /search", {"text": "a red thing"}),
    ("POST /skill", RECORD),
    ("POST /vectorizer", RECORD),
]


FUNCTIONS = {
    "POST /models/embeddings": function_app.text_embeddings,
    "POST /search": function_app.search,
    "POST /skill": function_app.skill,
    "POST /vectorizer": function_app.vectorizer,
}


@pytest.fixture
def in_this_process(cloud: Cloud) -> Iterator[Cloud]:
    start_anew()
    yield cloud
    start_anew()


def answer(operation: str, body: object) -> int:
    """The status that is answered in this process, as documented."""
    route: Any = FUNCTIONS[operation]
    asked = func.HttpRequest(method="POST", url="/", body=json.dumps(body).encode())
    return as_documented(operation, over_http(operation, route(asked))).status_code


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("operation", "body"), QUERIES)
@pytest.mark.parametrize(("fault", "status"), [("503", 503), ("unauthorized", 502), ("content_filter", 400)])
def test_the_errors_of_the_model_are_documented(
    in_this_process: Cloud, operation: str, body: object, fault: str, status: int
) -> None:
    in_this_process.model.behave(fault={"kind": fault})
    # A skill's request succeeds if the record is at fault.
    assert answer(operation, body) == (200 if (operation, fault) == ("POST /skill", "content_filter") else status)


@pytest.mark.either_format
@pytest.mark.parametrize(("operation", "body"), QUERIES)
def test_a_throttled_model_is_documented(in_this_process: Cloud, operation: str, body: object) -> None:
    in_this_process.model.behave(throttle={"calls": 0, "window_s": 60})
    assert answer(operation, body) == 429


@pytest.mark.either_format
@pytest.mark.usefixtures("in_this_process")
def test_options_that_the_model_does_not_have_are_documented() -> None:
    assert answer("POST /models/embeddings", {**TEXT, "dimensions": 7}) == 422


@pytest.mark.parametrize("operation", [name for name, operation in OPERATIONS.items() if "requestBody" in operation])
def test_the_errors_for_large_bodies_are_documented(http: httpx.Client, operation: str) -> None:
    path = operation.split()[1]
    of_the_app = as_documented(operation, http.post(path, content=bytes(HOST_LIMIT - 1)))
    assert (of_the_app.status_code, of_the_app.json()["error"]["code"]) == (413, "request_too_large")
    of_the_host = http.post(path, content=bytes(HOST_LIMIT + 1))
    assert (of_the_host.status_code, of_the_host.content) == (413, b"")


def test_an_unfinished_audit_is_documented() -> None:
    asked = func.HttpRequest(method="POST", url="/", body=b"")
    unfinished = AuditReport(started_at=now(), reached="a")
    begun = identified(lambda request: routes.reconcile(request, lambda _: unfinished))(asked)
    assert as_documented("POST /reconcile", over_http("POST /reconcile", begun)).status_code == 202


@pytest.mark.parametrize("operation", ["POST /reconcile", "GET /status", "GET /failures"])
def test_a_space_that_cannot_be_read_is_documented(in_this_process: Cloud, operation: str) -> None:
    in_this_process.embeddings.upload_blob(f"{in_this_process.folder}/space.json", b"[]", overwrite=True)
    route: Any = getattr(function_app, OPERATIONS[operation]["operationId"])
    answer = as_documented(operation, over_http(operation, route(func.HttpRequest(method="POST", url="/", body=b""))))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "model_misconfigured")


def test_a_search_that_finds_nothing_to_be_like_and_one_of_an_app_without_an_index_are_documented(
    in_this_process: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer("POST /search", {"like": "no such image"}) == 404
    monkeypatch.setenv("SEARCH", "off")
    start_anew()
    assert answer("POST /search", {"text": "red"}) == 404


def test_thumbnails_and_records_are_documented_with_what_they_answer_where_there_is_none(
    in_this_process: Cloud,
) -> None:
    def statuses(operation: str, function: Any) -> list[int]:
        def ask(name: str, known: str = "") -> func.HttpResponse:
            headers = {"if-none-match": known} if known else {}
            asked = func.HttpRequest("GET", "/", body=b"", headers=headers, route_params={"name": name})
            answer: func.HttpResponse = function(asked)
            return answer

        answers = [ask(name) for name in ("a.png", "b.png", "c.png", "..")]
        answers.append(ask("a.png", answers[0].headers["etag"]))
        return [as_documented(operation, over_http(operation, answer)).status_code for answer in answers]

    for name, data in (("a.png", picture()), ("b.png", b"no picture")):
        in_this_process.upload(name, data)
        in_this_process.sync().upload(name)
    assert statuses("GET /thumbnails/{name}", function_app.thumbnail) == [200, 422, 404, 400, 304]
    assert statuses("GET /records/{name}", function_app.stored_record) == [200, 404, 404, 400, 304]


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream"])
def test_a_body_that_is_an_image_is_documented(http: httpx.Client, kind: str) -> None:
    query = {"text": "a red thing", "input_type": "document", "encoding_format": "base64"}
    answer = http.post(
        "/models/images/embeddings", content=picture(format="JPEG"), headers={"content-type": kind}, params=query
    )
    assert as_documented("POST /models/images/embeddings", answer).status_code == 200


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_key_is_needed_where_the_document_says_so(running: Stack, operation: str) -> None:
    url = f"{running.functions_url}/api{path_of(operation)}"
    request = partial(httpx.request, operation.split()[0], url, timeout=PATIENCE)
    without = request()
    if OPERATIONS[operation].get("security") == []:
        assert without.status_code == 200
        return
    assert (without.status_code, without.content) == (401, b"")
    assert request(params={"code": "wrong"}).status_code == 401
    for let_in in (
        request(params={"code": running.functions_key}),
        request(headers={"x-functions-key": running.functions_key}),
    ):
        # The app has no image of that name, and may be at the export of another test.
        known = {"unknown_image", "export_running"}
        assert let_in.status_code in {200, 202, 400} or let_in.headers["x-ms-error-code"] in known


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if not one.startswith(("GET /openapi", "GET /gallery"))]
)
def test_an_app_with_a_missing_setting_is_documented(
    in_this_process: Cloud, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setenv("FOUNDRY_MODEL", "")
    function: Any = getattr(function_app, OPERATIONS[operation]["operationId"])
    answer = function(func.HttpRequest(method=operation.split()[0], url="/", body=b""))
    assert as_documented(operation, over_http(operation, answer)).status_code == 503
