"""The stand-in speaks Cohere's own format too, with its limits and its refusals."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from tests.local.model.client import ENGLISH, V4, Client, data_url, png, vector_of

ROUTE = "/providers/cohere/v2/embed"
PRO, FAST = "Cohere-Embed-V5-Pro", "Cohere-Embed-V5-Fast"


def embed(client: Client, *, model: str = V4, input_type: str = "search_document", **more: object) -> httpx.Response:
    return client.post(ROUTE, {"model": model, "input_type": input_type, **more})


def vectors(response: httpx.Response, encoding: str = "float") -> list[Any]:
    found: list[Any] = response.raise_for_status().json()["embeddings"][encoding]
    return found


def pair(image: str | None, text: str | None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if text is not None:
        parts.append({"type": "text", "text": text})
    if image is not None:
        parts.append({"type": "image_url", "image_url": {"url": image}})
    return {"content": parts}


def test_texts_get_the_documented_answer(model: Client) -> None:
    body = embed(model, texts=["a red boat", "a blue boat"]).json()
    assert list(body) == ["id", "embeddings", "texts", "response_type", "meta"]
    assert body["response_type"] == "embeddings_by_type"
    assert body["texts"] == ["a red boat", "a blue boat"]
    assert [len(vector) for vector in body["embeddings"]["float"]] == [1536, 1536]
    assert body["meta"] == {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 6}}


def test_a_picture_a_text_and_both_are_inputs_of_one_call(model: Client) -> None:
    inputs = [pair(data_url(png()), None), pair(None, "a boat"), pair(data_url(png()), "a boat")]
    response = embed(model, inputs=inputs)
    assert len({tuple(vector) for vector in vectors(response)}) == 3
    assert response.json()["meta"]["billed_units"] == {"input_tokens": 4, "image_tokens": 2000, "images": 2}


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_pictures_of_four_formats_are_taken(model: Client, file_format: str) -> None:
    [vector] = vectors(embed(model, images=[data_url(png("red", file_format=file_format))]))
    [same] = vectors(embed(model, images=[data_url(png("red"))]))
    assert np.dot(vector, same) > 0.9


def test_both_formats_answer_with_the_same_vector(model: Client) -> None:
    [vector] = vectors(embed(model, images=[data_url(png())]))
    assert np.allclose(vector, vector_of(model.image(model=V4)), atol=1e-8)


def test_pro_and_fast_share_a_space_and_no_other_models_do(model: Client) -> None:
    pro, fast, four = (
        vectors(embed(model, model=name, texts=["red"], output_dimension=1024))[0] for name in (PRO, FAST, V4)
    )
    assert np.dot(pro, fast) > 0.999
    assert abs(np.dot(pro, four)) < 0.5


def test_the_vectors_come_in_every_encoding_that_is_asked_for(model: Client) -> None:
    response = embed(model, texts=["red"], embedding_types=["float", "base64", "int8", "ubinary"], output_dimension=256)
    [floats], [text], [whole], [bits] = (vectors(response, kind) for kind in ("float", "base64", "int8", "ubinary"))
    assert np.allclose(np.frombuffer(base64.b64decode(text), "<f4"), floats)
    assert (len(whole), len(bits)) == (256, 32)


@pytest.mark.parametrize("length", [256, 512, 768, 1024, 1536, 2048])
def test_embed_5_has_six_lengths(model: Client, length: int) -> None:
    assert len(vectors(embed(model, model=PRO, texts=["red"], output_dimension=length))[0]) == length


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {}),
        (400, {"texts": ["a"], "images": [data_url(png())]}),
        (400, {"texts": []}),
        (400, {"texts": ["a"] * 97}),
        (400, {"texts": [7]}),
        (400, {"texts": ["a"], "embedding_types": ["float64"]}),
        (400, {"texts": ["a"], "embedding_types": []}),
        (400, {"texts": ["a"], "truncate": "MIDDLE"}),
        (400, {"texts": ["a"], "input_type": "query"}),
        (400, {"texts": ["a"], "input_type": "image"}),
        (400, {"texts": ["word " * 600], "truncate": "NONE"}),
        (400, {"inputs": [{"content": []}]}),
        (400, {"inputs": [{"content": [{"type": "text"}]}]}),
        (400, {"inputs": [{"content": [{"type": "video"}]}]}),
        (400, {"images": ["https://example.com/a.png"]}),
        (400, {"images": [data_url(b"no picture")]}),
        (422, {"texts": ["a"], "output_dimension": 100}),
        (404, {"texts": ["a"], "model": ENGLISH}),
        (404, {"texts": ["a"], "model": "unknown"}),
    ],
)
def test_what_the_documentation_refuses_is_refused(model: Client, status: int, body: dict[str, Any]) -> None:
    response = embed(model, **body)
    assert response.status_code == status
    said = response.json()
    assert said.get("message") or said["error"]["message"]


def test_a_text_that_is_too_long_is_cut_unless_the_request_forbids_it(model: Client) -> None:
    assert embed(model, texts=["word " * 600]).status_code == 200


def test_embed_5_does_not_answer_on_the_older_routes(model: Client) -> None:
    assert model.text("red", model=PRO).status_code == 404


def test_the_quota_and_the_faults_are_those_of_the_other_format(model: Client) -> None:
    model.behave(throttle={"calls": 0, "window_s": 6})
    assert embed(model, texts=["a"]).headers["retry-after"]
    model.behave(fault={"kind": "wrong_length", "times": 1})
    assert len(vectors(embed(model, texts=["a"]))[0]) == 1535
