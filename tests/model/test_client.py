"""The model client: needs no key, retries what is transient, and accepts no answer without an embedding."""

import contextlib
import itertools
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest

from local import identity as identity_endpoint
from shared.errors import (
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimedOut,
    ModelUnavailable,
    NotSent,
)
from shared.identity import Identity
from shared.model.client import MAX_ATTEMPTS, MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import Input, ModelOptions, ServiceError, requested_wait
from tests.conftest import CLIENT_ID, PATIENCE, Clock, Cloud
from tests.drawing import picture
from tests.model.asking import embed_picture, embed_text, within
from tests.model.replay import VECTOR, answering

# Against the model stand-in, which checks what it is sent


@pytest.mark.either_format
def test_an_image_a_pair_and_a_text_are_embedded_without_a_key(cloud: Cloud) -> None:
    client, text = cloud.model_client(), "red, naïve \U0001f600"
    vectors = [
        embed_picture(cloud, client),
        embed_picture(cloud, client, "a red square"),
        embed_text(cloud, client, text).embedding,
    ]
    assert [len(vector) for vector in vectors] == [1024] * 3
    assert len(set(map(tuple, vectors))) == 3
    types = cloud.wire_format.input_types
    assert [(call["text"], call["input_type"]) for call in cloud.model.calls()] == [
        (None, types["document"]),
        ("a red square", types["document"]),
        (text, types["query"]),
    ]


@pytest.mark.either_format
def test_dimensions_are_sent_and_checked(cloud: Cloud) -> None:
    client = cloud.with_settings(FOUNDRY_MODEL="embed-v-4-0").model_client()
    assert len(client.embed(Input(text="red"), ModelOptions("query", 512), within(60)).embedding) == 512
    assert len(client.embed(Input(text="red"), ModelOptions("query"), within(60)).embedding) == 1536


@pytest.mark.either_format
def test_the_token_is_requested_for_the_scope_in_the_settings(cloud: Cloud) -> None:
    assert embed_picture(cloud.with_settings(FOUNDRY_SCOPE="https://ai.azure.com/.default"))
    with pytest.raises(ModelMisconfigured, match="FOUNDRY_SCOPE"):
        embed_picture(cloud.with_settings(FOUNDRY_SCOPE="https://ml.azure.com/.default"))


@pytest.mark.either_format
def test_a_401_fetches_one_fresh_token_and_no_more(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "unauthorized", "times": 1})
    assert embed_picture(cloud)
    cloud.model.reset()
    cloud.model.behave(fault={"kind": "unauthorized"})
    with pytest.raises(ModelMisconfigured, match="Cognitive Services User") as raised:
        embed_picture(cloud)
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
        assert embed_picture(cloud, client) == embed_picture(cloud, client)
        assert len(fetched) == 1
        clock.pass_(7000)
        assert embed_picture(cloud, client)
        assert len(fetched) == 2


def test_a_missing_identity_is_an_error_that_names_its_setting(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(ModelMisconfigured, match="AZURE_CLIENT_ID"):
        embed_picture(cloud)


@pytest.mark.either_format
def test_a_key_is_sent_if_the_settings_have_one(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured) as raised:
        embed_picture(cloud.with_settings(FOUNDRY_API_KEY="s3cret"))
    assert raised.value.status == 401
    assert "s3cret" not in str(raised.value)
    assert len(cloud.model.calls()) == 1


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", ["500", "502_html", "503", "drop", "malformed_json", "nan", "zeros"])
def test_a_transient_failure_is_retried(cloud: Cloud, kind: str) -> None:
    cloud.model.behave(fault={"kind": kind, "times": 2})
    assert embed_picture(cloud)
    assert len(cloud.model.calls()) == 3


@pytest.mark.either_format
def test_retries_end_after_a_few_attempts(cloud: Cloud, clock: Clock) -> None:
    cloud.model.behave(fault={"kind": "503"})
    with pytest.raises(ModelUnavailable) as raised:
        embed_picture(cloud)
    assert raised.value.status == 503
    assert len(cloud.model.calls()) == MAX_ATTEMPTS
    assert (len(clock.waits), sum(clock.waits) <= MAX_TOTAL_WAIT) == (MAX_ATTEMPTS - 1, True)


@pytest.mark.either_format
@pytest.mark.parametrize("retry_after", ["seconds", "ms", "body"])
def test_a_short_retry_after_is_waited_for(cloud: Cloud, clock: Clock, retry_after: str) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 3, "retry_after": retry_after})
    clock.meanwhile = cloud.model.behave
    assert embed_picture(cloud)
    assert clock.waits == [3]
    assert [call["status"] for call in cloud.model.calls()] == [429, 200]


@pytest.mark.either_format
def test_a_long_retry_after_is_left_to_the_caller(cloud: Cloud, clock: Clock) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    client = cloud.model_client()
    for _ in range(2):
        with pytest.raises(ModelUnavailable) as raised:
            embed_picture(cloud, client)
        assert (raised.value.status, raised.value.retry_after) == (429, 60)
    assert clock.waits == []
    assert len(cloud.model.calls()) == 1


@pytest.mark.either_format
def test_an_empty_200_is_an_error_that_names_the_missing_path(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "empty_200"})
    with pytest.raises(ModelMisconfigured, match=cloud.wire_format.path):
        embed_picture(cloud)
    assert len(cloud.model.calls()) == 1


@pytest.mark.either_format
def test_a_vector_of_another_length_is_a_setting_to_fix(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "wrong_length"})
    with pytest.raises(ModelMisconfigured, match="EMBEDDING_DIMENSIONS"):
        embed_picture(cloud)


@pytest.mark.either_format
def test_dimensions_that_the_model_does_not_support_are_a_setting_to_fix(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured, match="EMBEDDING_DIMENSIONS"):
        cloud.model_client().embed(Input(picture()), ModelOptions("document", 100), within(60))


@pytest.mark.either_format
def test_an_unknown_model_is_a_setting_to_fix(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured, match=r"unknown_model|DeploymentNotFound"):
        embed_picture(cloud.with_settings(FOUNDRY_MODEL="no-such-model"))


@pytest.mark.either_format
def test_no_more_calls_are_in_flight_than_the_settings_allow(cloud: Cloud) -> None:
    cloud.model.behave(latency_ms=100)
    client = cloud.with_settings(FOUNDRY_CONCURRENCY="2").model_client()
    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(embed_picture, [cloud] * 6, [client] * 6))
    assert cloud.model.most_at_once() <= 2


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
def test_an_unreachable_model_is_unavailable(cloud: Cloud, nobody: str) -> None:
    away = cloud.with_settings(FOUNDRY_ENDPOINT=f"http://{nobody}{cloud.wire_format.path}")
    with pytest.raises(ModelUnavailable, match=f"did not answer at http://{nobody}{cloud.wire_format.text_route}"):
        embed_text(away)


# Observed answers of the real service, replayed over HTTP


def failure(cloud: Cloud, status: int, body: object, text: str | None = None, **headers: str) -> ModelError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with answering(cloud, status, body, named) as replayed, pytest.raises(ModelError) as raised:
        embed_picture(replayed, text=text)
    assert raised.value.status == status
    return raised.value


NOT_ALLOWED = {"detail": [{"type": "extra_forbidden", "loc": ["body", "input", 0, "text"], "msg": "Extra inputs"}]}


@pytest.mark.either_format
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


@pytest.mark.either_format
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


@pytest.mark.either_format
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


@pytest.mark.parametrize(
    ("headers", "message"),
    [({"retry-after": "0"}, ""), ({"retry-after-ms": "0"}, ""), ({}, "Please retry after 0 seconds")],
)
def test_a_wait_of_nothing_is_none(headers: dict[str, str], message: str) -> None:
    assert requested_wait(headers, ServiceError("429", message)) is None


@pytest.mark.parametrize(("later", "wait"), [(60, 60), (-60, None)])
def test_the_wait_may_be_a_date(monkeypatch: pytest.MonkeyPatch, later: int, wait: float | None) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    monkeypatch.setattr("shared.model.wire_format.datetime", SimpleNamespace(now=lambda _: now))
    date = format_datetime(now + timedelta(seconds=later), usegmt=True)
    assert requested_wait({"retry-after": date}, ServiceError("429", "")) == wait


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [VECTOR, VECTOR],
        [None],
        ["AAAA"],
        [[]],
        [VECTOR[1:]],
        [[*VECTOR[1:], None]],
        [[*VECTOR[1:], "0.5"]],
        [[0.0] * 1024],
    ],
)
def test_an_answer_without_a_vector_of_numbers_is_an_error(cloud: Cloud, vectors: list[Any]) -> None:
    failure(cloud, 200, cloud.wire_format.vectors(*vectors))


@pytest.mark.either_format
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
    with answering(cloud, status, body, takes_harmless=False) as replayed:
        client = replayed.model_client()
        for ask in (embed_picture, embed_picture, embed_text):
            with pytest.raises(ModelMisconfigured, match="FOUNDRY_API_VERSION"):
                ask(replayed, client)


@pytest.mark.either_format
def test_after_each_refusal_the_model_is_asked_for_something_harmless(cloud: Cloud) -> None:
    with answering(cloud, 400, {"message": "image could not be decoded"}) as replayed:
        client = replayed.model_client()
        sent: list[httpx.Request] = []
        client.deployments[0]._client.event_hooks["request"].append(sent.append)
        for _ in range(3):
            with pytest.raises(ModelRefused):
                embed_picture(replayed, client)
    assert len(sent) == 6


@pytest.mark.either_format
def test_a_model_that_has_answered_and_then_refuses_everything_refuses_no_image(cloud: Cloud) -> None:
    client = cloud.model_client()
    embed_picture(cloud, client)
    cloud.model.behave(fault={"kind": "400"})
    with pytest.raises(ModelMisconfigured, match="FOUNDRY_ENDPOINT"):
        embed_picture(cloud, client)


@pytest.mark.either_format
def test_what_speaks_of_the_api_version_is_a_matter_of_configuration(cloud: Cloud) -> None:
    body = {"error": {"code": "BadRequest", "message": "API version not supported"}}
    error = failure(cloud, 400, body)
    assert isinstance(error, ModelMisconfigured)
    assert "FOUNDRY_API_VERSION" in str(error)


@pytest.mark.usefixtures("clock")
def test_an_answer_in_a_broken_encoding_is_no_answer(cloud: Cloud) -> None:
    with (
        answering(cloud, 200, b"no gzip", {"content-encoding": "gzip"}, takes_harmless=False) as replayed,
        pytest.raises(ModelUnavailable, match="DecodingError"),
    ):
        embed_picture(replayed)


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """A server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/models"


def test_a_model_that_hangs_is_paid_for_once_a_place_and_keeps_nobody_else(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """28 calls for 8 places; none times out before all places are taken, and the model hangs until the end."""
    monkeypatch.setattr("shared.model.deployment._TIMEOUT", 0.2)
    monkeypatch.setattr("shared.model.deployment._HANGS_AFTER", 0.1)
    monkeypatch.setattr("shared.model.rate_limiter._FIRST_HANGING_WAIT", 2 * PATIENCE)
    all_places = threading.Barrier(8)
    sent: list[str] = []

    with hanging() as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).model_client()
        stream = client.deployments[0]._client.stream

        def sent_together(method: str, url: str, **request: Any) -> contextlib.AbstractContextManager[httpx.Response]:
            sent.append(url)
            if len(sent) <= 8:
                all_places.wait(PATIENCE)
            return stream(method, url, **request)

        monkeypatch.setattr(client.deployments[0]._client, "stream", sent_together)

        def call(_: int) -> type[Exception]:
            with pytest.raises(ModelUnavailable) as raised:
                client.embed(Input(picture()), ModelOptions("document"), Schedule.of(0, PATIENCE))
            return raised.type

        with ThreadPoolExecutor(28) as threads:
            ends = Counter(threads.map(call, range(28)))
    assert ends == {ModelTimedOut: 8, NotSent: 20}
    assert len(sent) == 8, "nobody's call is sent twice, nor into a model that hangs"


@pytest.mark.usefixtures("clock")
def test_a_model_that_cannot_be_connected_to_has_charged_nothing_and_is_asked_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.model.deployment._CONNECT_TIMEOUT", 0.1)
    with hanging() as endpoint:
        # Over TLS, a connection is there only after the first words of the other side.
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint.replace("http:", "https:")).model_client()
        sent: list[httpx.Request] = []
        client.deployments[0]._client.event_hooks["request"].append(sent.append)
        with pytest.raises(ModelUnavailable, match="cannot be reached at https://") as raised:
            embed_text(cloud, client)
    assert (raised.type, raised.value.status, len(sent) > 1) == (ModelUnavailable, None, True)


def streaming(client: ModelClient, parts: Iterator[bytes]) -> None:
    """Have the model answer with these parts."""

    class Stream(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return parts

    client.deployments[0]._client = httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=Stream()))
    )


def test_an_answer_that_trickles_in_is_over_with_its_time(cloud: Cloud, clock: Clock) -> None:
    def trickle() -> Iterator[bytes]:
        for _ in range(100):
            clock.pass_(10)
            yield b" "

    client = cloud.model_client()
    streaming(client, trickle())
    with pytest.raises(ModelTimedOut):
        embed_text(cloud, client)
    with pytest.raises(NotSent, match="does not answer"):
        client.check(Schedule.of(0, 60))


@pytest.mark.usefixtures("clock")
def test_an_answer_without_end_does_not_fill_the_memory(cloud: Cloud) -> None:
    client = cloud.model_client()
    streaming(client, itertools.repeat(b"x" * 2**20, 100))
    with pytest.raises(ModelUnavailable, match="more than 8,388,608 bytes"):
        embed_text(cloud, client)
