"""What a caller gains over calling the model itself: caching, parallel calls, answers in time."""

import base64
import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import azure.functions as func
import httpx
import pytest

import function_app
from shared.errors import ModelError, QueryError
from shared.model.client import ModelClient
from shared.model.wire_format import ModelAnswer
from shared.queries.formats import foundry_api
from tests.conftest import PATIENCE, Cloud
from tests.drawing import data_url, picture
from tests.queries.single_flight import waiting_callers


def embed(
    body: Any, *, headers: dict[str, str] | None = None, params: dict[str, str] | None = None
) -> func.HttpResponse:
    function: Any = function_app.text_embeddings
    if isinstance(body, bytes) or not isinstance(body["input"], str | list) or isinstance(body["input"][0], dict):
        function = function_app.image_embeddings
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer: func.HttpResponse = function(
        func.HttpRequest("POST", "/", body=content, headers=headers or {}, params=params or {})
    )
    return answer


def vectors(answer: func.HttpResponse) -> list[Any]:
    assert answer.status_code == 200, answer.get_body()
    return [item["embedding"] for item in json.loads(answer.get_body())["data"]]


def error(answer: func.HttpResponse) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(answer.get_body())["error"]
    return body


def usage(answer: func.HttpResponse) -> int:
    tokens: int = json.loads(answer.get_body())["usage"]["total_tokens"]
    return tokens


def before_each_call(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Have something happen before the model is asked."""
    embed_all = ModelClient.embed_all

    def embed_later(self: ModelClient, *arguments: Any, **options: Any) -> list[ModelAnswer | ModelError]:
        happens()
        return embed_all(self, *arguments, **options)

    monkeypatch.setattr(ModelClient, "embed_all", embed_later)


def answers_of(monkeypatch: pytest.MonkeyPatch, callers: int) -> list[func.HttpResponse]:
    """What so many are answered who ask the same, all of them before the model has answered the first."""
    with monkeypatch.context() as together, ThreadPoolExecutor(callers) as pool:
        waiting = waiting_callers(together)

        def all_others_wait() -> None:
            for _ in range(callers - 1):
                assert waiting.acquire(timeout=PATIENCE)

        before_each_call(together, all_others_wait)
        return list(pool.map(lambda _: embed({"input": ["red"]}), range(callers)))


# Several inputs


@pytest.mark.either_format
def test_images_are_embedded_in_parallel_and_answered_in_order(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    # However many images one call takes: each goes into a call of its own.
    monkeypatch.setattr("shared.queries.queries._MAX_BATCH_BYTES", 0)
    everybody = threading.Barrier(cloud.settings.foundry_concurrency)
    images = [{"image": data_url(picture(size=(56, 56 + number)))} for number in range(2 * everybody.parties)]
    with monkeypatch.context() as together:
        before_each_call(together, lambda: everybody.wait(PATIENCE))
        answered = vectors(embed({"input": images}))
    assert answered == [vectors(embed({"input": [image]}))[0] for image in images]


@pytest.mark.either_format
def test_an_input_that_a_request_repeats_is_embedded_once(cloud: Cloud) -> None:
    answer = embed({"input": ["red", "blue", "red"]})
    first, second, third = vectors(answer)
    assert (first == third, first == second) == (True, False)
    assert [call["inputs"] for call in cloud.model.calls()] == [2]
    assert usage(answer) == sum(
        usage(embed({"input": [word]}, headers={"cache-control": "no-cache"})) for word in ("red", "blue")
    )


def test_every_bad_input_is_named_and_the_first_is_the_error(cloud: Cloud) -> None:
    good, bad = {"image": data_url(picture())}, {"image": base64.b64encode(b"no picture").decode()}
    found = error(embed({"input": [good, bad, good, bad]}))
    assert (found["code"], found["target"]) == ("not_an_image", "input[1].image")
    assert [detail["target"] for detail in found["details"]] == ["input[1].image", "input[3].image"]
    assert cloud.model.calls() == []


@pytest.mark.either_format
def test_after_one_failure_of_the_model_the_other_inputs_are_not_sent(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "unauthorized"})
    images = [{"image": data_url(picture(size=(56, 56 + number)))} for number in range(96)]
    assert embed({"input": images}).status_code == 502
    # Those in flight together, each with one fresh token.
    assert len(cloud.model.calls()) <= 2 * cloud.settings.foundry_concurrency


# The cache


@pytest.mark.either_format
def test_identical_queries_at_once_share_one_call(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = answers_of(monkeypatch, 8)
    assert len({json.dumps(vectors(answer)) for answer in answers}) == 1
    assert len(cloud.model.calls()) == 1
    assert sum(usage(answer) for answer in answers) == usage(embed({"input": ["blu"]}))


@pytest.mark.either_format
def test_queries_that_share_a_call_fail_with_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.model.behave(fault={"kind": "content_filter"})
    assert {answer.status_code for answer in answers_of(monkeypatch, 4)} == {400}
    assert len(cloud.model.calls()) == 1


def test_the_latest_answers_are_served_without_storage(cloud: Cloud) -> None:
    first = vectors(embed({"input": ["red"]}))
    cloud.embeddings.delete_container()
    again = embed({"input": ["red"]})
    assert (vectors(again), again.headers["x-embedding-cache"]) == (first, "hit")


def test_the_process_holds_a_limited_number_of_answers(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.queries.cache._MAX_IN_PROCESS", 2)
    for word in ("red", "green", "blue"):
        embed({"input": [word]})
    cloud.embeddings.delete_container()
    hits = [embed({"input": [word]}).headers["x-embedding-cache"] for word in ("blue", "green", "red")]
    assert hits == ["hit", "hit", "miss"]


@pytest.mark.either_format
def test_no_cache_calls_the_model_and_refreshes_the_cache(cloud: Cloud) -> None:
    embed({"input": ["red"]})
    answer = embed({"input": ["red"]}, headers={"Cache-Control": "no-cache"})
    assert (answer.headers["x-embedding-cache"], len(cloud.model.calls())) == ("miss", 2)
    assert embed({"input": ["red"]}).headers["x-embedding-cache"] == "hit"


# Encodings and extra fields


@pytest.mark.either_format
def test_base64_is_encoded_from_the_cached_floats(cloud: Cloud) -> None:
    embed({"input": ["red"]})
    answer = embed({"input": ["red"], "encoding_format": "base64"})
    assert answer.headers["x-embedding-cache"] == "hit"
    assert len(base64.b64decode(vectors(answer)[0])) == 4 * 1024


@pytest.mark.either_format
@pytest.mark.parametrize(("encoding", "numbers"), [("int8", 1024), ("uint8", 1024), ("binary", 128), ("ubinary", 128)])
def test_integer_encodings_come_from_the_model_and_are_cached_separately(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, encoding: str, numbers: int
) -> None:
    monkeypatch.setenv("FOUNDRY_MODEL", "embed-v-4-0")
    monkeypatch.setenv("EMBEDDING_DIMENSIONS", "1024")
    floats = embed({"input": ["red"]})
    answer = embed({"input": ["red"], "encoding_format": encoding})
    [vector] = vectors(answer)
    assert (len(vector), {type(number) for number in vector}) == (numbers, {int})
    assert answer.headers["x-embedding-record"] != floats.headers["x-embedding-record"]
    again = embed({"input": ["red"], "encoding_format": encoding})
    assert (vectors(again), again.headers["x-embedding-cache"]) == ([vector], "hit")


@pytest.mark.either_format
@pytest.mark.usefixtures("cloud")
def test_dimensions_that_the_model_does_not_have_are_the_caller_s_error() -> None:
    answer = embed({"input": ["red"], "dimensions": 100})
    found = error(answer)
    assert (answer.status_code, found["code"], found["target"]) == (422, "parameter_not_supported", "dimensions")


@pytest.mark.usefixtures("cloud")
def test_an_encoding_that_the_model_does_not_have_is_the_caller_s_error() -> None:
    answer = embed({"input": ["red"], "encoding_format": "int8"})
    found = error(answer)
    assert (answer.status_code, found["code"], found["target"]) == (422, "parameter_not_supported", "encoding_format")


@pytest.mark.either_format
def test_extra_fields_are_rejected_dropped_or_passed_through_as_the_header_says(cloud: Cloud) -> None:
    body = {"input": ["red"], "truncate": "END"}
    assert embed(body).status_code == 400
    plain = embed({"input": ["red"]})
    dropped = embed(body, headers={"extra-parameters": "drop"})
    assert dropped.headers["x-embedding-record"] == plain.headers["x-embedding-record"]
    passed = embed(body, headers={"extra-parameters": "pass-through"})
    assert passed.status_code == 200
    assert passed.headers["x-embedding-record"] != plain.headers["x-embedding-record"]
    assert error(embed(body, headers={"extra-parameters": "perhaps"}))["target"] == "extra-parameters"


# The image itself as the body


@pytest.mark.parametrize("kind", ["image/jpeg", "image/heic; q=1", "application/octet-stream"])
def test_an_image_may_be_the_body(cloud: Cloud, kind: str) -> None:
    data = picture("green", format="JPEG")
    answer = embed(data, headers={"Content-Type": kind}, params={"text": "at night", "code": "key"})
    wrapped = embed({"input": [{"image": base64.b64encode(data).decode(), "text": "at night"}]})
    assert vectors(answer) == vectors(wrapped)
    assert wrapped.headers["x-embedding-cache"] == "hit"


@pytest.mark.either_format
def test_the_options_of_an_image_body_are_in_the_query_string(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_MODEL", "embed-v-4-0")
    params = {"dimensions": "256", "input_type": "document", "encoding_format": "base64"}
    answer = embed(picture(), headers={"Content-Type": "image/png"}, params=params)
    assert len(base64.b64decode(vectors(answer)[0])) == 4 * 256
    assert cloud.model.calls()[0]["input_type"] == cloud.wire_format.input_types["document"]
    wrong = embed(picture(), headers={"Content-Type": "image/png"}, params={"dimensions": "many"})
    assert (wrong.status_code, error(wrong)["target"]) == (400, "dimensions")


@pytest.mark.parametrize(("body", "code"), [(b"", "empty"), (b"no picture", "not_an_image")])
def test_a_body_that_is_no_image_is_refused(cloud: Cloud, body: bytes, code: str) -> None:
    answer = embed(body, headers={"Content-Type": "image/png"})
    assert (answer.status_code, error(answer)["code"]) == (400, code)


# A model that is slow or fails


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("500", 502, "model_failed"), ("503", 503, "model_unavailable"), ("drop", 502, "model_failed")],
)
def test_each_failure_of_the_model_has_its_own_status_and_code(cloud: Cloud, kind: str, status: int, code: str) -> None:
    cloud.model.behave(fault={"kind": kind})
    answer = embed({"input": ["red"]})
    assert (answer.status_code, error(answer)["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)


def test_an_answer_comes_in_time_even_if_the_model_hangs(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_TIMEOUT", "5")
    cloud.model.behave(fault={"kind": "hang"})
    given: list[float] = []
    stream = httpx.Client.stream

    def noted(client: httpx.Client, *arguments: Any, timeout: httpx.Timeout, **options: Any) -> Any:
        given.append(timeout.read or math.inf)
        return stream(client, *arguments, timeout=timeout, **options)

    monkeypatch.setattr(httpx.Client, "stream", noted)
    answer = embed({"input": [f"word {number}" for number in range(20)]})
    assert (answer.status_code, error(answer)["code"]) == (504, "model_timeout")
    assert max(given, default=0) <= 5, (
        "no call has more time than its caller has left, which is less than a call's own minute"
    )
    assert len(given) <= cloud.settings.foundry_concurrency, "none is sent after those that took all the time there was"


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("depth", range(9_980, 10_000, 3))
def test_a_field_nested_too_deep_to_be_passed_through_is_refused_or_sent_and_raises_nothing(
    cloud: Cloud, depth: int
) -> None:
    cloud.model.behave(fault={"kind": "500"})
    body = b'{"input": ["red"], "deep": ' + b"[" * depth + b"]" * depth + b"}"
    request = func.HttpRequest("POST", "/", body=body, headers={"extra-parameters": "pass-through"})
    function: Any = function_app.text_embeddings
    assert function(request).status_code in {400, 502}


def test_the_error_for_a_wrong_choice_does_not_repeat_the_value() -> None:
    wrong = {"input": ["red"], "input_type": f"data:image/png;base64,{'QUJD' * 1000}"}
    with pytest.raises(QueryError, match="one of text, query and document") as raised:
        foundry_api.read_texts(wrong, {}, "error")
    assert "QUJD" not in str(raised.value)
    assert raised.value.target == "input_type"
