"""The model client: keyless, patient with what passes, final with what does not, and never fooled by an answer."""

import contextlib
import http.server
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from PIL import Image

from local import identity as identity_endpoint
from shared.errors import ModelError, ModelMisconfigured, ModelRefused, ModelUnavailable
from shared.foundry import ATTEMPTS, LONGEST_WAITS, Foundry, ModelOptions
from shared.identity import Identity
from tests.conftest import CLIENT_ID, Clock, Cloud


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return file.getvalue()


def embed(foundry: Foundry, text: str | None = None) -> int:
    return len(foundry.embed_image(png(), text, ModelOptions("document")).embedding)


# The stand-in for the model, which checks what it is sent


def test_an_image_a_pair_and_a_text_are_embedded_without_a_key(cloud: Cloud) -> None:
    foundry = cloud.foundry()
    assert embed(foundry) == 1024
    assert embed(foundry, "a red square") == 1024
    assert len(foundry.embed_text("red, naïve \U0001f600", ModelOptions("query")).embedding) == 1024
    assert [call["text"] for call in cloud.model.calls()] == [None, "a red square", "red, naïve \U0001f600"]


def test_dimensions_are_asked_for_and_checked(cloud: Cloud) -> None:
    foundry = cloud.with_settings(FOUNDRY_MODEL="embed-v-4-0").foundry()
    assert len(foundry.embed_text("red", ModelOptions("query", 512)).embedding) == 512
    assert len(foundry.embed_text("red", ModelOptions("query")).embedding) == 1536


def test_the_token_is_asked_for_the_scope_of_the_settings(cloud: Cloud) -> None:
    assert embed(cloud.with_settings(FOUNDRY_SCOPE="https://ai.azure.com/.default").foundry()) == 1024
    with pytest.raises(ModelMisconfigured, match="FOUNDRY_SCOPE"):
        embed(cloud.with_settings(FOUNDRY_SCOPE="https://ml.azure.com/.default").foundry())


def test_a_401_fetches_one_fresh_token_and_no_more(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "unauthorized", "times": 1})
    assert embed(cloud.foundry()) == 1024
    cloud.model.reset()
    cloud.model.behave(fault={"kind": "unauthorized"})
    with pytest.raises(ModelMisconfigured, match="Cognitive Services User") as raised:
        embed(cloud.foundry())
    assert raised.value.status == 401
    assert len(cloud.model.calls(401)) == 2


def test_a_token_is_replaced_before_it_ends(cloud: Cloud, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    fetch = Identity._fetch

    def noted(self: Identity, scope: str, fresh: bool) -> Any:
        fetched.append(scope)
        return fetch(self, scope, fresh)

    monkeypatch.setattr(Identity, "_fetch", noted)
    with identity_endpoint.running([CLIENT_ID], lifetime=7200) as short_lived:
        monkeypatch.setenv("IDENTITY_ENDPOINT", short_lived.endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", short_lived.header)
        foundry = cloud.foundry()
        assert (embed(foundry), embed(foundry), len(fetched)) == (1024, 1024, 1)
        clock.pass_(7000)
        assert (embed(foundry), len(fetched)) == (1024, 2)


def test_an_identity_that_is_not_there_is_named(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(ModelMisconfigured, match="AZURE_CLIENT_ID"):
        embed(cloud.foundry())


def test_a_key_is_sent_only_where_one_is_set(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured) as raised:
        embed(cloud.with_settings(FOUNDRY_API_KEY="s3cret").foundry())
    assert raised.value.status == 401
    assert "s3cret" not in str(raised.value)
    assert len(cloud.model.calls()) == 1


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", ["500", "502_html", "503", "drop", "malformed_json", "nan", "zeros"])
def test_what_passes_is_tried_again(cloud: Cloud, kind: str) -> None:
    cloud.model.behave(fault={"kind": kind, "times": 2})
    assert embed(cloud.foundry()) == 1024
    assert len(cloud.model.calls()) == 3


def test_what_does_not_pass_is_given_up_after_a_few_attempts(cloud: Cloud, clock: Clock) -> None:
    cloud.model.behave(fault={"kind": "503"})
    with pytest.raises(ModelUnavailable) as raised:
        embed(cloud.foundry())
    assert raised.value.status == 503
    assert len(cloud.model.calls()) == ATTEMPTS
    assert (len(clock.waits), sum(clock.waits) <= LONGEST_WAITS) == (ATTEMPTS - 1, True)


@pytest.mark.parametrize("said", ["seconds", "ms", "body"])
def test_a_short_wait_that_the_model_asks_for_is_waited(cloud: Cloud, clock: Clock, said: str) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 3, "retry_after": said})
    clock.meanwhile = cloud.model.behave
    assert embed(cloud.foundry()) == 1024
    assert clock.waits == [3]
    assert [call["status"] for call in cloud.model.calls()] == [429, 200]


def test_a_long_wait_is_left_to_the_caller(cloud: Cloud, clock: Clock) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    foundry = cloud.foundry()
    for _ in range(2):
        with pytest.raises(ModelUnavailable) as raised:
            embed(foundry)
        assert (raised.value.status, raised.value.retry_after) == (429, 60)
    assert clock.waits == []
    assert len(cloud.model.calls()) == 1


def test_an_empty_200_names_the_missing_models(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "empty_200"})
    with pytest.raises(ModelMisconfigured, match="/models"):
        embed(cloud.foundry())
    assert len(cloud.model.calls()) == 1


def test_a_vector_of_another_length_is_refused_as_a_setting_to_mend(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "wrong_length"})
    with pytest.raises(ModelMisconfigured, match="EMBEDDING_DIMENSIONS"):
        embed(cloud.foundry())


def test_dimensions_that_the_model_does_not_take_are_a_setting_to_mend(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured, match="EMBEDDING_DIMENSIONS"):
        cloud.foundry().embed_image(png(), None, ModelOptions("document", 512))


def test_an_unknown_model_is_a_setting_to_mend(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured, match="unknown_model"):
        embed(cloud.with_settings(FOUNDRY_MODEL="no-such-model").foundry())


def test_no_more_calls_are_in_flight_than_the_settings_allow(cloud: Cloud) -> None:
    cloud.model.behave(latency_ms=100)
    foundry = cloud.with_settings(FOUNDRY_CONCURRENCY="2").foundry()
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(embed, [foundry] * 6)) == [1024] * 6
    assert cloud.model.most_at_once() <= 2


@pytest.mark.usefixtures("clock")
def test_a_model_out_of_reach_is_unavailable(cloud: Cloud) -> None:
    with pytest.raises(ModelUnavailable, match=r"No answer from http://127\.0\.0\.1:9/models/embeddings"):
        cloud.with_settings(FOUNDRY_ENDPOINT="http://127.0.0.1:9/models").foundry().embed_text(
            "red", ModelOptions("query")
        )


# Answers of the real service, as they were seen, played back over HTTP


@contextlib.contextmanager
def answering(status: int, body: object, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that gives one and the same answer to every request."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            for name, value in {**(headers or {}), "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/models"
        server.shutdown()


def failure(cloud: Cloud, status: int, body: object, text: str | None = None, **headers: str) -> ModelError:
    with answering(status, body, {name.replace("_", "-"): value for name, value in headers.items()}) as endpoint:
        foundry = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).foundry()
        with pytest.raises(ModelError) as raised:
            foundry.embed_image(png(), text, ModelOptions("document"))
    assert raised.value.status == status
    return raised.value


NOT_ALLOWED = {"detail": [{"type": "extra_forbidden", "loc": ["body", "input", 0, "text"], "msg": "Extra inputs"}]}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"error": {"code": "no_model_name", "message": "No model specified in request."}}, "FOUNDRY_MODEL"),
        (400, {"error": {"code": "OperationNotSupported", "message": "does not work"}}, "FOUNDRY_ENDPOINT"),
        (401, {"error": {"code": "PermissionDenied", "message": "lacks the required data action"}}, "Services User"),
        (403, {"error": {"code": "403", "message": "Public access is disabled."}}, "may reach it"),
        (404, {"error": {"code": "DeploymentNotFound", "message": "does not exist"}}, "new deployment"),
        (404, {"status": "Serverless endpoint not found"}, "Serverless endpoint not found"),
        (409, b"", "answered 409"),
        (301, b"", "answered 301"),
        (
            422,
            {"status": 422, "detail": {"loc": ["body", "input_type"]}, "message": "not supported"},
            "FOUNDRY_MODEL",
        ),
    ],
)
def test_what_would_fail_for_every_input_is_a_matter_of_configuration(
    cloud: Cloud, status: int, body: Any, said: str
) -> None:
    error = failure(cloud, status, body)
    assert isinstance(error, ModelMisconfigured)
    assert said in str(error)


@pytest.mark.parametrize(
    ("status", "body", "text", "code"),
    [
        (
            400,
            {"status": 400, "code": "content_filter", "message": "The response was filtered"},
            None,
            "content_filtered",
        ),
        (400, {"error": {"code": "content_filter", "message": "filtered"}}, None, "content_filtered"),
        (400, {"message": "image could not be decoded"}, None, "refused_by_model"),
        (413, b"<html>Request Entity Too Large</html>", None, "refused_by_model"),
        (422, {"error": "invalid input error"}, None, "refused_by_model"),
        (
            422,
            {"error": {"code": "Invalid input", "message": msgspec.json.encode(NOT_ALLOWED).decode(), "status": 422}},
            "a cat",
            "text_not_supported",
        ),
        (400, {"message": "texts must be empty when input_type=image"}, "a cat", "text_not_supported"),
    ],
)
def test_what_is_wrong_with_this_input_alone_is_a_refusal_with_its_code(
    cloud: Cloud, status: int, body: Any, text: str | None, code: str
) -> None:
    error = failure(cloud, status, body, text)
    assert isinstance(error, ModelRefused)
    assert error.code == code


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry_after": "33"}, b"", 33),
        ({"retry_after_ms": "44000"}, b"", 44),
        ({"x_ms_retry_after_ms": "55000"}, b"", 55),
        ({"retry_after": "33", "retry_after_ms": "44000"}, b"", 33),
        ({"retry_after": "soon"}, {"error": {"message": "Please wait 22 seconds before retrying."}}, 22),
        ({}, {"error": {"code": "429", "message": "Please retry after 55 seconds"}}, 55),
    ],
)
def test_the_wait_is_read_wherever_the_service_says_it(
    cloud: Cloud, headers: dict[str, str], body: Any, seconds: int
) -> None:
    error = failure(cloud, 429, body, **headers)
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == seconds


@pytest.mark.parametrize(("later", "wait"), [(60, 60), (-60, 0)])
def test_the_wait_may_be_a_date(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, later: int, wait: int) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    monkeypatch.setattr("shared.foundry.datetime", SimpleNamespace(now=lambda _: now))
    error = failure(cloud, 429, b"", retry_after=format_datetime(now + timedelta(seconds=later), usegmt=True))
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == wait


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("data", [[], [{"index": 0, "embedding": "AAAA"}], [{"index": 0, "embedding": []}]])
def test_an_answer_without_one_vector_of_numbers_is_no_answer(cloud: Cloud, data: Any) -> None:
    failure(cloud, 200, {"data": data, "usage": {}})


def test_an_answer_without_usage_is_still_an_answer(cloud: Cloud) -> None:
    with answering(200, {"data": [{"index": 0, "embedding": [0.5] * 1024}]}) as endpoint:
        answer = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).foundry().embed_text("red", ModelOptions("query"))
    assert (answer.prompt_tokens, answer.total_tokens) == (None, None)
