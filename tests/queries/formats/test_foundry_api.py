"""The query routes speak the model's own format: shapes, the cache's headers, errors of the caller and of the model."""

import base64
import json
import logging
import struct
from typing import Any

import azure.functions as func
import pytest

import function_app
from tests.conftest import Cloud
from tests.drawing import data_url, picture
from tests.functions import call, start_anew


def image_query(body: object) -> tuple[int, dict[str, str], Any]:
    return call(function_app.image_embeddings, body)


def text_query(body: object) -> tuple[int, dict[str, str], Any]:
    return call(function_app.text_embeddings, body)


# The wire format


@pytest.mark.either_format
def test_texts_and_images_come_on_one_route_as_openai_s_clients_send_them(cloud: Cloud) -> None:
    red, blue = data_url(picture("red")), data_url(picture("blue"))
    inputs = ["a red thing", red, {"image": blue}, {"image": blue, "text": "a blue thing"}, {"text": "blue"}]
    status, _, body = text_query({"input": inputs, "user": "somebody"})
    assert (status, [item["index"] for item in body["data"]]) == (200, [0, 1, 2, 3, 4])
    vectors = [item["embedding"] for item in body["data"]]
    assert vectors[4] == text_query({"input": "blue"})[2]["data"][0]["embedding"]
    _, _, as_images = image_query({"input": [{"image": red}, *inputs[2:4]]})
    assert vectors[1:4] == [item["embedding"] for item in as_images["data"]]
    assert cloud.wire_format.image_route in [call["route"] for call in cloud.model.calls()]


def test_the_kind_of_input_may_come_in_the_query_string_and_a_field_counts_before_it(cloud: Cloud) -> None:
    function: Any = function_app.text_embeddings
    for text, said in (("red", {}), ("blue", {"input_type": "text"}), ("green", {"input_type": None})):
        content = json.dumps({"input": [text], **said}).encode()
        asked = func.HttpRequest(method="POST", url="/", params={"input_type": "document"}, body=content)
        assert function(asked).status_code == 200
    assert [call["input_type"] for call in cloud.model.calls()] == ["document", "text", "document"]
    wrong = func.HttpRequest(method="POST", url="/", params={"input_type": "search_query"}, body=b'{"input": "red"}')
    answer = function(wrong)
    assert (answer.status_code, json.loads(answer.get_body())["error"]["target"]) == (400, "input_type")


@pytest.mark.either_format
def test_an_image_query_is_answered_in_the_api_s_shape(cloud: Cloud) -> None:
    status, _, body = image_query({"input": [{"image": data_url(picture())}]})
    assert status == 200
    [item] = body.pop("data")
    assert (item["index"], item["object"], len(item["embedding"])) == (0, "embedding", 1024)
    assert body.pop("id")
    assert body == {
        "object": "list",
        "model": cloud.settings.foundry_model,
        "usage": {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000},
    }
    [call] = cloud.model.calls()
    assert (call["route"], call["text"]) == (cloud.wire_format.image_route, None)
    assert call["input_type"] == cloud.wire_format.input_types["query"]


@pytest.mark.either_format
def test_an_image_and_a_text_are_one_query(cloud: Cloud) -> None:
    status, _, body = image_query({"input": [{"image": data_url(picture()), "text": "a red thing"}]})
    assert (status, len(body["data"]), body["usage"]["prompt_tokens"]) == (200, 1, 1003)
    assert [call["text"] for call in cloud.model.calls()] == ["a red thing"]


@pytest.mark.either_format
@pytest.mark.parametrize("texts", ["a red thing", ["a red thing"]])
def test_a_text_query_takes_a_string_or_a_list(cloud: Cloud, texts: object) -> None:
    status, _, body = text_query({"input": texts, "model": cloud.settings.foundry_model})
    assert (status, len(body["data"])) == (200, 1)
    [call] = cloud.model.calls()
    assert (call["route"], call["text"]) == (cloud.wire_format.text_route, "a red thing")


@pytest.mark.either_format
@pytest.mark.parametrize("input_type", ["query", "document", "text"])
def test_every_input_type_reaches_the_model(cloud: Cloud, input_type: str) -> None:
    assert text_query({"input": "red", "input_type": input_type})[0] == 200
    assert image_query({"input": [{"image": data_url(picture())}], "input_type": input_type})[0] == 200
    assert {call["input_type"] for call in cloud.model.calls()} == {cloud.wire_format.input_types[input_type]}


@pytest.mark.either_format
def test_several_inputs_are_answered_in_order_and_none_is_asked_for_twice(cloud: Cloud) -> None:
    _, _, one = text_query({"input": ["red"]})
    status, headers, body = text_query({"input": ["blue", "red", "blue"]})
    assert status == 200
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert body["data"][1]["embedding"] == one["data"][0]["embedding"]
    assert body["data"][0]["embedding"] == body["data"][2]["embedding"]
    assert headers["x-embedding-cache"] == "mixed"
    assert [call["inputs"] for call in cloud.model.calls()] == [1, 1]


def test_any_format_and_bare_base64_are_accepted(cloud: Cloud) -> None:
    bare = base64.b64encode(picture("red", format="JPEG")).decode()
    assert image_query({"input": [{"image": bare}]})[0] == 200


@pytest.mark.either_format
def test_base64_answers_are_little_endian_float32(cloud: Cloud) -> None:
    _, _, floats = text_query({"input": "red"})
    _, headers, packed = text_query({"input": "red", "encoding_format": "base64"})
    assert headers["x-embedding-cache"] == "hit"
    unpacked = struct.unpack("<1024f", base64.b64decode(packed["data"][0]["embedding"]))
    assert unpacked == pytest.approx(floats["data"][0]["embedding"], abs=1e-7)


@pytest.mark.either_format
def test_other_dimensions_belong_to_another_space(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_MODEL", "embed-v-4-0")
    _, headers, body = text_query({"input": "red", "dimensions": 256})
    assert len(body["data"][0]["embedding"]) == 256
    assert headers["x-embedding-record"].startswith("embed-v-4-0-256/queries/")


def test_info_names_the_deployed_model(cloud: Cloud) -> None:
    status, _, body = call(function_app.model_info, b"")
    assert (status, body) == (
        200,
        {"model_name": cloud.settings.foundry_model, "model_type": "embeddings", "model_provider_name": "Cohere"},
    )


# The cache


@pytest.mark.either_format
def test_a_repeated_query_is_answered_from_storage_without_a_call_to_the_model(cloud: Cloud) -> None:
    query = {"input": [{"image": data_url(picture()), "text": "a red thing"}]}
    _, first_headers, first = image_query(query)
    start_anew()
    _, headers, again = image_query(query)
    assert (first_headers["x-embedding-cache"], headers["x-embedding-cache"]) == ("miss", "hit")
    assert again["data"] == first["data"]
    assert again["usage"]["total_tokens"] == 0
    assert len(cloud.model.calls()) == 1


@pytest.mark.either_format
def test_the_response_names_the_record_of_a_query(cloud: Cloud) -> None:
    _, headers, body = text_query({"input": "a red thing"})
    path = headers["x-embedding-record"]
    record = json.loads(cloud.embeddings.download_blob(path).readall())
    assert path == f"{cloud.folder}/queries/{record['id'][:2]}/{record['id']}.json"
    assert record["embedding"] == body["data"][0]["embedding"]
    assert (record["text"], record["image_sha256"], record["input_type"]) == ("a red thing", None, "query")


@pytest.mark.either_format
def test_whatever_changes_the_embedding_changes_the_record(cloud: Cloud) -> None:
    image = data_url(picture())
    paths = {
        image_query({"input": [item], **options})[1]["x-embedding-record"]
        for item in ({"image": image}, {"image": image, "text": "red"}, {"image": data_url(picture("blue"))})
        for options in ({}, {"input_type": "document"})
    }
    assert len(paths) == 6


def test_vector_records_do_not_hold_the_text_of_a_query(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERY_RECORDS", "vector")
    _, headers, _ = text_query({"input": "a private thing"})
    assert b"private" not in cloud.embeddings.download_blob(headers["x-embedding-record"]).readall()
    start_anew()
    assert text_query({"input": "a private thing"})[1]["x-embedding-cache"] == "hit"


def test_nothing_of_a_query_is_stored_if_records_are_off(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERY_RECORDS", "off")
    for _ in range(2):
        _, headers, _ = text_query({"input": "red"})
        assert headers["x-embedding-cache"] == "miss"
        assert "x-embedding-record" not in headers
    assert cloud.records() == []


def test_a_query_is_answered_when_storage_fails_and_the_failure_is_logged(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.embeddings.delete_container()
    assert text_query({"input": "red"})[0] == 200
    assert '"event":"query_record","outcome":"error"' in caplog.text


@pytest.mark.parametrize("broken", [b"{", b"\xff", b'{"text": "\xff"}'])
def test_an_unreadable_record_of_a_query_is_replaced(cloud: Cloud, broken: bytes) -> None:
    _, headers, _ = text_query({"input": "red"})
    cloud.embeddings.upload_blob(headers["x-embedding-record"], broken, overwrite=True)
    start_anew()
    assert text_query({"input": "red"})[1]["x-embedding-cache"] == "miss"
    assert text_query({"input": "red"})[1]["x-embedding-cache"] == "hit"


# Errors of the caller


@pytest.mark.parametrize(
    ("body", "target", "message"),
    [
        (b"{", None, "not JSON"),
        (b"\xff", None, "not JSON"),
        (b'{"input":' + b"[" * 100_000, None, "not JSON"),
        (b'{"other":' + b"[" * 100_000, None, "not JSON"),
        ([], None, "JSON object"),
        ({}, None, "missing required field `input`"),
        ({"input": "data:"}, "input", "Expected `array`"),
        ({"input": []}, "input", "1 to 96"),
        ({"input": [{}]}, "input[0]", "missing required field `image`"),
        ({"input": [{"image": 1}]}, "input[0].image", "Expected `str`"),
        ({"input": [{"image": "?"}]}, "input[0].image", "base64"),
        ({"input": [{"image": ""}]}, "input[0].image", "no bytes"),
        ({"input": [{"image": "data:image/png,abc"}]}, "input[0].image", "data:image/png;base64"),
        ({"input": [{"image": "https://example.com/a.png"}]}, "input[0].image", "links are not followed"),
        ({"input": [{"image": "aGVsbG8="}]}, "input[0].image", "not a picture"),
        ({"input": [{"image": "aGk=", "size": 1}]}, "input[0].size", "Extra parameters [input[0].size]"),
        ({"input": [{"image": "aGk="}], "input_type": "search_query"}, "input_type", "text, query and document"),
        ({"input": [{"image": "aGk="}], "dimensions": 0}, "dimensions", ">= 1"),
        ({"input": [{"image": "aGk="}], "encoding_format": "int4"}, "encoding_format", "float, base64, int8"),
        ({"input": [{"image": "aGk="}], "truncate": "END"}, "truncate", "Extra parameters [truncate]"),
        ({"input": [{"image": "aGk="}], "extras": {"truncate": "END"}}, "extras", "Extra parameters [extras]"),
    ],
)
def test_a_bad_image_query_is_400_and_names_the_field(
    cloud: Cloud, body: object, target: str | None, message: str
) -> None:
    status, headers, answer = image_query(body)
    assert status == 400
    assert message in answer["error"]["message"]
    assert answer["error"].get("target") == target
    assert headers["x-ms-error-code"] == answer["error"]["code"]
    assert "retry-after" not in headers
    assert cloud.model.calls() == []


@pytest.mark.parametrize(
    ("body", "target", "message"),
    [
        ({"input": []}, "input", "1 to 96"),
        ({"input": ["red", " "]}, "input[1]", "empty"),
        ({"input": "data:image/png;base64,AAAA"}, "input[0]", "not a picture"),
        ({"input": [{"image": "https://example.com/a.png"}]}, "input[0].image", "links are not followed"),
        ({"input": ["red", {}]}, "input[1]", "neither a text nor an image"),
        ({"input": {"text": ""}}, "input[0].text", "empty"),
        ({"input": {"image": "AAAA", "type": "image"}}, "input[0].type", "not allowed"),
        ({"input": ["red", [15, 17]]}, "input[1]", "check_embedding_ctx_length=False"),
        ({"input": [15, 17]}, "input[0]", "check_embedding_ctx_length=False"),
        ({"input": "red", "model": "embed-v-4-0"}, "model", "Unknown model: embed-v-4-0"),
    ],
)
def test_a_bad_text_query_is_400_and_names_the_field(cloud: Cloud, body: object, target: str, message: str) -> None:
    status, _, answer = text_query(body)
    assert status == 400
    assert message in answer["error"]["message"]
    assert answer["error"]["target"] == target
    assert cloud.model.calls() == []


def test_too_many_inputs_or_too_many_bytes_are_413(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for route, inputs in (
        (text_query, ["x"] * 2049),
        (text_query, [*["x"] * 96, {"image": "AAAA"}]),
        (image_query, [{"image": "AAAA"}] * 97),
    ):
        status, _, answer = route({"input": inputs})
        assert (status, answer["error"]["target"]) == (413, "input")
        assert "send 1 to" in answer["error"]["message"]
    monkeypatch.setattr("shared.triggers.http.MAX_BODY_BYTES", 1000)
    status, _, answer = text_query({"input": ["x" * 1000]})
    assert (status, answer["error"]["code"]) == (413, "request_too_large")
    assert cloud.model.calls() == []


@pytest.mark.either_format
def test_one_bad_input_of_several_means_no_call_to_the_model(cloud: Cloud) -> None:
    inputs = [{"image": data_url(picture())}, {"image": base64.b64encode(picture("red", format="JPEG")[:300]).decode()}]
    status, _, answer = image_query({"input": inputs})
    assert (status, answer["error"]["code"], answer["error"]["target"]) == (400, "damaged_image", "input[1].image")
    assert cloud.model.calls() == []


def test_an_image_too_large_is_413(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_MAX_PIXELS", "4000")
    status, _, answer = image_query({"input": [{"image": data_url(picture())}]})
    assert (status, answer["error"]["code"]) == (413, "too_many_pixels")
    start_anew()
    monkeypatch.setenv("IMAGE_MAX_BYTES", "100")
    status, _, answer = image_query({"input": [{"image": data_url(picture())}]})
    assert (status, answer["error"]["code"]) == (413, "too_many_bytes")


# Errors of the model


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("behaviour", "status", "code", "retry_after"),
    [
        ({"throttle": {"calls": 0, "window_s": 60}}, 429, "too_many_requests", True),
        ({"fault": {"kind": "503"}}, 503, "model_unavailable", True),
        ({"fault": {"kind": "unauthorized"}}, 502, "model_misconfigured", False),
        ({"fault": {"kind": "content_filter"}}, 400, "content_filtered", False),
    ],
)
def test_the_model_s_errors_become_the_api_s_errors(
    cloud: Cloud, behaviour: dict[str, Any], status: int, code: str, retry_after: bool
) -> None:
    cloud.model.behave(**behaviour)
    actual, headers, answer = text_query({"input": "red"})
    assert (actual, answer["error"]["code"]) == (status, code)
    assert ("retry-after" in headers) == retry_after


@pytest.mark.either_format
def test_each_query_logs_one_line_without_its_text(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    text_query({"input": "a private thing"})
    text_query({"input": [" "]})
    answered, rejected = (json.loads(record.message) for record in caplog.records if "query" in record.message)
    assert answered.pop("request_id") != rejected.pop("request_id")
    assert set(answered.pop("ms")) == {"prepare", "embed", "total"}
    assert answered == {
        "event": "query",
        "outcome": "answered",
        "status": 200,
        "inputs": 1,
        "cache": "miss",
        "total_tokens": 3,
    }
    assert (rejected["outcome"], rejected["status"], rejected["code"]) == ("refused", 400, "invalid_request")
    assert "private" not in caplog.text


def test_an_unexpected_exception_is_logged_and_raised(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queries.queries.now", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        text_query({"input": "red"})
    assert '"outcome":"error","message":"ZeroDivisionError: division by zero"' in caplog.text


def test_the_header_with_the_records_stays_below_what_clients_take(cloud: Cloud) -> None:
    body = {"input": [f"text {index}" for index in range(96)]}
    status, headers, answer = call(function_app.text_embeddings, body)
    assert (status, len(answer["data"])) == (200, 96)
    named = headers["x-embedding-record"]
    assert len(named) <= 4096
    *records, rest = named.split(", ")
    assert all(cloud.embeddings.get_blob_client(record).exists() for record in records[:3])
    assert rest == f"and {96 - len(records)} more"
