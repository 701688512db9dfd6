"""The model client: needs no key, retries what is transient, and accepts no answer without an embedding."""

import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from PIL import Image

from local import identity as identity_endpoint
from shared.errors import (
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimedOut,
    ModelUnavailable,
    RateLimited,
)
from shared.identity import Identity
from shared.model.client import MAX_ATTEMPTS, MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import ModelOptions
from tests.conftest import CLIENT_ID, Clock, Cloud
from tests.model.replay import answering, replaying


def within(seconds: float) -> Schedule:
    return Schedule.of(MAX_TOTAL_WAIT, seconds)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return file.getvalue()


def embed(client: ModelClient, text: str | None = None) -> int:
    return len(client.embed_image(png(), text, ModelOptions("document"), within(60)).embedding)


# Against the model stand-in, which checks what it is sent


def test_an_image_a_pair_and_a_text_are_embedded_without_a_key(cloud: Cloud) -> None:
    client = cloud.model_client()
    assert embed(client) == 1024
    assert embed(client, "a red square") == 1024
    assert len(client.embed_text("red, naïve \U0001f600", ModelOptions("query"), within(60)).embedding) == 1024
    assert [call["text"] for call in cloud.model.calls()] == [None, "a red square", "red, naïve \U0001f600"]


def test_dimensions_are_sent_and_checked(cloud: Cloud) -> None:
    client = cloud.with_settings(FOUNDRY_MODEL="embed-v-4-0").model_client()
    assert len(client.embed_text("red", ModelOptions("query", 512), within(60)).embedding) == 512
    assert len(client.embed_text("red", ModelOptions("query"), within(60)).embedding) == 1536


def test_the_token_is_requested_for_the_scope_in_the_settings(cloud: Cloud) -> None:
    assert embed(cloud.with_settings(FOUNDRY_SCOPE="https://ai.azure.com/.default").model_client()) == 1024
    with pytest.raises(ModelMisconfigured, match="FOUNDRY_SCOPE"):
        embed(cloud.with_settings(FOUNDRY_SCOPE="https://ml.azure.com/.default").model_client())


def test_a_401_fetches_one_fresh_token_and_no_more(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "unauthorized", "times": 1})
    assert embed(cloud.model_client()) == 1024
    cloud.model.reset()
    cloud.model.behave(fault={"kind": "unauthorized"})
    with pytest.raises(ModelMisconfigured, match="Cognitive Services User") as raised:
        embed(cloud.model_client())
    assert raised.value.status == 401
    assert len(cloud.model.calls(401)) == 2


def test_a_token_is_replaced_before_it_expires(cloud: Cloud, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    fetch = Identity._fetch

    def noted(self: Identity, scope: str, fresh: bool) -> Any:
        fetched.append(scope)
        return fetch(self, scope, fresh)

    monkeypatch.setattr(Identity, "_fetch", noted)
    with identity_endpoint.running([CLIENT_ID], lifetime=7200) as short_lived:
        monkeypatch.setenv("IDENTITY_ENDPOINT", short_lived.endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", short_lived.header)
        client = cloud.model_client()
        assert (embed(client), embed(client), len(fetched)) == (1024, 1024, 1)
        clock.pass_(7000)
        assert (embed(client), len(fetched)) == (1024, 2)


def test_a_missing_identity_is_an_error_that_names_its_setting(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(ModelMisconfigured, match="AZURE_CLIENT_ID"):
        embed(cloud.model_client())


def test_a_key_is_sent_if_the_settings_have_one(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured) as raised:
        embed(cloud.with_settings(FOUNDRY_API_KEY="s3cret").model_client())
    assert raised.value.status == 401
    assert "s3cret" not in str(raised.value)
    assert len(cloud.model.calls()) == 1


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", ["500", "502_html", "503", "drop", "malformed_json", "nan", "zeros"])
def test_a_transient_failure_is_retried(cloud: Cloud, kind: str) -> None:
    cloud.model.behave(fault={"kind": kind, "times": 2})
    assert embed(cloud.model_client()) == 1024
    assert len(cloud.model.calls()) == 3


def test_retries_end_after_a_few_attempts(cloud: Cloud, clock: Clock) -> None:
    cloud.model.behave(fault={"kind": "503"})
    with pytest.raises(ModelUnavailable) as raised:
        embed(cloud.model_client())
    assert raised.value.status == 503
    assert len(cloud.model.calls()) == MAX_ATTEMPTS
    assert (len(clock.waits), sum(clock.waits) <= MAX_TOTAL_WAIT) == (MAX_ATTEMPTS - 1, True)


@pytest.mark.parametrize("retry_after", ["seconds", "ms", "body"])
def test_a_short_retry_after_is_waited_for(cloud: Cloud, clock: Clock, retry_after: str) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 3, "retry_after": retry_after})
    clock.meanwhile = cloud.model.behave
    assert embed(cloud.model_client()) == 1024
    assert clock.waits == [3]
    assert [call["status"] for call in cloud.model.calls()] == [429, 200]


def test_a_long_retry_after_is_left_to_the_caller(cloud: Cloud, clock: Clock) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    client = cloud.model_client()
    for _ in range(2):
        with pytest.raises(ModelUnavailable) as raised:
            embed(client)
        assert (raised.value.status, raised.value.retry_after) == (429, 60)
    assert clock.waits == []
    assert len(cloud.model.calls()) == 1


def test_an_empty_200_is_an_error_that_names_the_missing_path(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "empty_200"})
    with pytest.raises(ModelMisconfigured, match="/models"):
        embed(cloud.model_client())
    assert len(cloud.model.calls()) == 1


def test_a_vector_of_another_length_is_a_setting_to_fix(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "wrong_length"})
    with pytest.raises(ModelMisconfigured, match="EMBEDDING_DIMENSIONS"):
        embed(cloud.model_client())


def test_dimensions_that_the_model_does_not_support_are_a_setting_to_fix(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured, match="EMBEDDING_DIMENSIONS"):
        cloud.model_client().embed_image(png(), None, ModelOptions("document", 512), within(60))


def test_an_unknown_model_is_a_setting_to_fix(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured, match="unknown_model"):
        embed(cloud.with_settings(FOUNDRY_MODEL="no-such-model").model_client())


def test_no_more_calls_are_in_flight_than_the_settings_allow(cloud: Cloud) -> None:
    cloud.model.behave(latency_ms=100)
    client = cloud.with_settings(FOUNDRY_CONCURRENCY="2").model_client()
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(embed, [client] * 6)) == [1024] * 6
    assert cloud.model.most_at_once() <= 2


@pytest.mark.usefixtures("clock")
def test_an_unreachable_model_is_unavailable(cloud: Cloud) -> None:
    with pytest.raises(ModelUnavailable, match=r"did not answer at http://127\.0\.0\.1:9/models/embeddings"):
        cloud.with_settings(FOUNDRY_ENDPOINT="http://127.0.0.1:9/models").model_client().embed_text(
            "red", ModelOptions("query"), within(60)
        )


# Observed answers of the real service, replayed over HTTP


def failure(cloud: Cloud, status: int, body: object, text: str | None = None, **headers: str) -> ModelError:
    with answering(status, body, {name.replace("_", "-"): value for name, value in headers.items()}) as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).model_client()
        with pytest.raises(ModelError) as raised:
            client.embed_image(png(), text, ModelOptions("document"), within(60))
    assert raised.value.status == status
    return raised.value


NOT_ALLOWED = {"detail": [{"type": "extra_forbidden", "loc": ["body", "input", 0, "text"], "msg": "Extra inputs"}]}


@pytest.mark.parametrize(
    ("status", "body", "message"),
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
def test_an_error_that_every_input_would_get_is_a_misconfiguration(
    cloud: Cloud, status: int, body: Any, message: str
) -> None:
    error = failure(cloud, status, body)
    assert isinstance(error, ModelMisconfigured)
    assert message in str(error)


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
def test_an_error_of_one_input_is_a_refusal_with_its_code(
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
def test_the_wait_is_read_from_every_place_where_the_service_names_it(
    cloud: Cloud, headers: dict[str, str], body: Any, seconds: int
) -> None:
    error = failure(cloud, 429, body, **headers)
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == seconds


@pytest.mark.parametrize(("later", "wait"), [(60, 60), (-60, 0)])
def test_the_wait_may_be_a_date(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, later: int, wait: int) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    monkeypatch.setattr("shared.model.wire_format.datetime", SimpleNamespace(now=lambda _: now))
    error = failure(cloud, 429, b"", retry_after=format_datetime(now + timedelta(seconds=later), usegmt=True))
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == wait


VECTOR = [0.5] * 1024
ITEM = {"index": 0, "object": "embedding", "embedding": VECTOR}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "data",
    [
        [],
        None,
        [ITEM, ITEM],
        [{"index": 0}],
        [{"index": 0, "embedding": None}],
        [{"index": 0, "embedding": "AAAA"}],
        [{"index": 0, "embedding": []}],
        [{"index": 0, "embedding": [0.5] * 1023}],
        [{"index": 0, "embedding": [0.5] * 1023 + [None]}],
        [{"index": 0, "embedding": [0.0] * 1024}],
    ],
)
def test_an_answer_without_a_vector_of_numbers_is_an_error(cloud: Cloud, data: Any) -> None:
    failure(cloud, 200, {"data": data, "usage": {}})


@pytest.mark.parametrize(
    ("answer", "tokens", "name"),
    [
        ({"data": [ITEM]}, (None, None), None),
        ({"data": [ITEM], "usage": None}, (None, None), None),
        ({"data": [ITEM], "usage": []}, (None, None), None),
        ({"data": [ITEM], "usage": {"prompt_tokens": 7.0, "total_tokens": 9.4}}, (7, 9), None),
        ({"data": [ITEM], "usage": {"prompt_tokens": "7", "total_tokens": -1}}, (None, None), None),
        ({"data": [ITEM], "usage": {"prompt_tokens": True, "total_tokens": 10**30}}, (None, None), None),
        ({"data": [ITEM], "object": None, "id": 7, "model": "m"}, (None, None), "m"),
        ({"data": [ITEM], "model": ["m"]}, (None, None), None),
        ({"data": [ITEM], "model": ""}, (None, None), None),
        ({"data": [{"embedding": VECTOR}]}, (None, None), None),
        ({"data": [{"index": "0", "object": None, "embedding": VECTOR}], "object": 1}, (None, None), None),
        ({"data": [{"index": None, "embedding": VECTOR, "more": {"a": [None]}}]}, (None, None), None),
        (
            b'{"usage": {"total_tokens": 1e999}, "model": {}, "data": [{"embedding": %s}]}'
            % msgspec.json.encode(VECTOR),
            (None, None),
            None,
        ),
    ],
)
def test_a_good_vector_is_taken_whatever_stands_beside_it(
    cloud: Cloud, answer: Any, tokens: tuple[int | None, int | None], name: str | None
) -> None:
    asked: list[bytes] = []

    def respond(body: bytes) -> tuple[int, object]:
        asked.append(body)
        return 200, answer

    with replaying(respond) as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).model_client()
        taken = client.embed_text("red", ModelOptions("query"), within(60))
    assert (taken.embedding, taken.prompt_tokens, taken.total_tokens, taken.model) == (VECTOR, *tokens, name)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"<html><h1>400 Bad Request</h1></html>"),
        (400, {"error": {"code": "BadRequest", "message": "Bad request"}}),
        (422, {"error": "invalid input error"}),
        (413, b"<html>Request Entity Too Large</html>"),
    ],
)
def test_a_refusal_of_a_harmless_picture_too_is_a_matter_of_configuration(
    cloud: Cloud, status: int, body: object
) -> None:
    with answering(status, body, takes_harmless=False) as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).model_client()
        for _ in range(2):
            with pytest.raises(ModelMisconfigured, match="FOUNDRY_API_VERSION"):
                embed(client)
        with pytest.raises(ModelMisconfigured, match="FOUNDRY_API_VERSION"):
            client.embed_text("red", ModelOptions("query"), within(60))


def test_a_model_is_asked_for_something_harmless_once_and_its_refusals_count_from_then_on(cloud: Cloud) -> None:
    with answering(400, {"message": "image could not be decoded"}) as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).model_client()
        sent: list[httpx.Request] = []
        client._client.event_hooks["request"].append(sent.append)
        for _ in range(3):
            with pytest.raises(ModelRefused):
                embed(client)
    assert len(sent) == 4


def test_what_speaks_of_the_api_version_is_a_matter_of_configuration(cloud: Cloud) -> None:
    body = {"error": {"code": "BadRequest", "message": "API version not supported"}}
    error = failure(cloud, 400, body)
    assert isinstance(error, ModelMisconfigured)
    assert "FOUNDRY_API_VERSION" in str(error)


def test_an_answer_in_a_broken_encoding_is_no_answer(cloud: Cloud) -> None:
    with answering(200, b"no gzip", {"content-encoding": "gzip"}) as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).model_client()
        with pytest.raises(ModelUnavailable, match="DecodingError"):
            embed(client)


@contextlib.contextmanager
def hanging() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes every connection and never says a word; and the connections it took."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/models", taken
        server.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


def test_a_model_that_hangs_keeps_nobody_beyond_the_deadline_and_is_paid_for_once_a_place(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """28 calls for 8 places, with a hundredth of the real times: 0.6 s for a call and 1.5 s in all."""
    monkeypatch.setattr("shared.model.client._TIMEOUT", 0.6)
    monkeypatch.setattr("shared.model.client._HANGS_AFTER", 0.2)
    ends: list[type[Exception]] = []
    with hanging() as (endpoint, taken):
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).model_client()

        def call() -> None:
            try:
                client.embed_image(png(), None, ModelOptions("document"), Schedule.of(0.05, 1.5))
            except ModelUnavailable as error:
                ends.append(type(error))

        threads = [threading.Thread(target=call) for _ in range(28)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert len(ends) == 28
    assert ends.count(ModelTimedOut) == len(taken) == 8, "nobody's call is sent twice, nor into a model that hangs"
    assert ends.count(RateLimited) == 20
