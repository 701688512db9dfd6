"""Cohere's own format: what is asked, what an answer must have, and what it may lack."""

import json
from typing import Any

import pytest

from shared.errors import ModelMisconfigured, ModelRefused, ModelUnavailable
from shared.model.client import ModelClient
from shared.model.wire_format import EncodingFormat, Input, ModelAnswer, ModelOptions
from tests.conftest import Cloud
from tests.drawing import picture
from tests.model.asking import embed_picture, embed_text, within
from tests.model.replay import VECTOR, Replay, answering, replaying

pytestmark = pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)


def ask(client: ModelClient, text: str = "red", **options: Any) -> ModelAnswer:
    return client.embed(Input(text=text), ModelOptions("query", **options), within(60))


def test_a_picture_costs_its_tokens_and_those_of_its_text_and_no_model_is_named(cloud: Cloud) -> None:
    client, options = cloud.model_client(), ModelOptions("document")
    image = client.embed(Input(picture()), options, within(60))
    pair = client.embed(Input(picture(), "a red square"), options, within(60))
    assert (image.total_tokens, pair.prompt_tokens, pair.total_tokens, image.model) == (1000, 1003, 1003, None)


def test_both_formats_fill_one_space(cloud: Cloud) -> None:
    other = embed_picture(cloud.with_settings(FOUNDRY_ENDPOINT=f"{cloud.model.url}/models"))
    assert embed_picture(cloud) == pytest.approx(other, abs=1e-8)


def test_a_text_that_is_neither_searched_for_nor_found_has_a_type_of_its_own(cloud: Cloud) -> None:
    cloud.model_client().embed(Input(text="red"), ModelOptions("text"), within(60))
    assert cloud.model.calls()[0]["input_type"] == "classification"


@pytest.mark.parametrize(
    ("encoding", "length"), [("float", 512), ("base64", 512), ("int8", 512), ("uint8", 512), ("binary", 64)]
)
def test_every_encoding_and_length_is_asked_for(cloud: Cloud, encoding: EncodingFormat, length: int) -> None:
    pro = cloud.with_settings(FOUNDRY_MODEL="Cohere-Embed-V5-Pro").model_client()
    answer = ask(pro, dimensions=512, encoding_format=encoding)
    assert len(answer.embedding) == length


def test_dimensions_that_the_model_lacks_are_named_as_the_caller_named_them(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured) as raised:
        ask(cloud.model_client(), dimensions=100)
    assert raised.value.fields == {"dimensions"}


def test_a_text_that_is_too_long_is_refused_and_not_cut(cloud: Cloud) -> None:
    with pytest.raises(ModelRefused, match="too many tokens") as raised:
        ask(cloud.model_client(), "word " * 600)
    assert raised.value.code == "refused_by_model"
    assert ask(cloud.model_client(), "word " * 600, extras={"truncate": "END"}).embedding


@pytest.mark.parametrize(
    ("meta", "tokens"),
    [
        ({"billed_units": {"input_tokens": 4, "image_tokens": 1610, "images": 1}}, 1614),
        ({"billed_units": {"input_tokens": 3.6}}, 4),
        ({"billed_units": {"images": 1}}, None),
        ({"billed_units": {"input_tokens": "many", "image_tokens": 2}}, 2),
        ({"billed_units": None}, None),
        ({}, None),
        (None, None),
        ("none", None),
    ],
)
def test_a_good_vector_counts_whatever_stands_beside_it(cloud: Cloud, meta: object, tokens: int | None) -> None:
    with answering(cloud, 200, {"embeddings": {"float": [VECTOR]}, "meta": meta}) as replayed:
        answer = embed_text(replayed)
    assert (answer.embedding, answer.prompt_tokens, answer.total_tokens) == (VECTOR, tokens, tokens)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"embeddings": {}},
        {"embeddings": {"int8": [[1]]}},
        {"embeddings": {"float": VECTOR}},
        {"embeddings": [VECTOR]},
    ],
)
def test_an_answer_of_another_shape_is_no_answer(cloud: Cloud, body: object) -> None:
    with answering(cloud, 200, body) as replayed, pytest.raises(ModelUnavailable):
        embed_text(replayed)


def test_the_request_is_as_the_documentation_says(cloud: Cloud) -> None:
    seen: list[Any] = []

    def respond(body: bytes) -> Replay:
        seen.append(json.loads(body))
        return 200, cloud.wire_format.vectors(VECTOR)

    with replaying(cloud, respond) as replayed:
        client = replayed.model_client()
        client.embed(Input(picture(), 'a "cat"'), ModelOptions("document", 1024), within(60))
        ask(client, "a cat", dimensions=1024)
    url = seen[0]["inputs"][0]["content"].pop()["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    options = {
        "model": cloud.settings.foundry_model,
        "embedding_types": ["float"],
        "output_dimension": 1024,
        "truncate": "NONE",
    }
    assert seen == [
        {**options, "input_type": "search_document", "inputs": [{"content": [{"type": "text", "text": 'a "cat"'}]}]},
        {**options, "input_type": "search_query", "texts": ["a cat"]},
    ]
