"""Callers and images get the same, whichever wire format the app speaks with the model."""

import base64
import struct
from typing import Any

import pytest

import function_app
from tests.conftest import Cloud
from tests.drawing import data_url, picture
from tests.functions import call

MODEL = "embed-v-4-0"


@pytest.fixture(params=["/models", "/providers/cohere/v2"])
def either(cloud: Cloud, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    endpoint = cloud.settings.foundry_endpoint.removesuffix("/models") + request.param
    monkeypatch.setenv("FOUNDRY_ENDPOINT", endpoint)
    monkeypatch.setenv("FOUNDRY_MODEL", MODEL)
    return cloud.with_settings(FOUNDRY_ENDPOINT=endpoint, FOUNDRY_MODEL=MODEL)


def images(**body: Any) -> tuple[int, dict[str, str], Any]:
    return call(function_app.image_embeddings, body)


def texts(**body: Any) -> tuple[int, dict[str, str], Any]:
    return call(function_app.text_embeddings, body)


@pytest.mark.parametrize("text", [None, "a red thing"])
def test_a_picture_with_or_without_a_text_is_answered(either: Cloud, text: str | None) -> None:
    item = {"image": data_url(picture()), **({"text": text} if text else {})}
    status, _, body = images(input=[item])
    assert (status, body["model"], len(body["data"][0]["embedding"])) == (200, MODEL, 1536)
    assert body["usage"]["prompt_tokens"] == (1003 if text else 1000)
    assert either.model.calls()[0]["text"] == text


def test_texts_are_answered_in_order(either: Cloud) -> None:
    status, _, body = texts(input=["blue", "red", "blue"])
    assert status == 200
    vectors = [item["embedding"] for item in body["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    assert len(either.model.calls()) == 2


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("input_type", ["query", "document", "text"])
def test_every_input_type_is_taken(input_type: str) -> None:
    assert texts(input=["red"], input_type=input_type)[0] == 200


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("encoding", ["float", "base64", "int8", "uint8", "binary", "ubinary"])
def test_every_encoding_is_answered(encoding: str) -> None:
    status, _, body = texts(input=["red"], encoding_format=encoding, dimensions=256)
    embedding = body["data"][0]["embedding"]
    if encoding == "base64":
        embedding = struct.unpack("<256f", base64.b64decode(embedding))
    assert (status, len(embedding)) == (200, 32 if "binary" in encoding else 256)


@pytest.mark.usefixtures("either")
def test_dimensions_that_the_model_lacks_are_the_caller_s_error() -> None:
    status, _, body = texts(input=["red"], dimensions=100)
    assert (status, body["error"]["code"], body["error"]["target"]) == (422, "parameter_not_supported", "dimensions")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("fault", "status"), [("content_filter", 400), ("503", 503), ("unauthorized", 502)])
def test_errors_of_the_model_become_the_same_answers(either: Cloud, fault: str, status: int) -> None:
    either.model.behave(fault={"kind": fault})
    assert texts(input=["red"])[0] == status


def test_a_throttled_model_is_429_with_its_wait(either: Cloud) -> None:
    either.model.behave(throttle={"calls": 0, "window_s": 60})
    status, headers, _ = texts(input=["red"])
    assert (status, 0 < int(headers["retry-after"]) <= 61) == (429, True)


def test_an_upload_becomes_a_record(either: Cloud) -> None:
    either.upload("a.png", picture(), text="a red thing")
    assert either.sync().upload("a.png").outcome == "embedded"
    record = either.record("a.png")
    assert (record["model"], record["dimensions"], record["total_tokens"], record["text"]) == (
        MODEL,
        1536,
        1003,
        "a red thing",
    )
