"""Cohere's own format: the same pictures, texts and errors, asked and answered in another way."""

import json
from typing import Any

import pytest

from shared.errors import ModelMisconfigured, ModelRefused, ModelUnavailable
from shared.model.client import MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import EncodingFormat, ModelAnswer, ModelOptions
from tests.conftest import Cloud
from tests.drawing import picture
from tests.model.replay import replaying

V4, PRO = "embed-v-4-0", "Cohere-Embed-V5-Pro"
PATH = "/providers/cohere/v2"


def client_of(cloud: Cloud, model: str = V4) -> ModelClient:
    return cloud.speaking_cohere(FOUNDRY_MODEL=model).model_client()


def within(seconds: float) -> Schedule:
    return Schedule.of(MAX_TOTAL_WAIT, seconds)


def text_of(client: ModelClient, text: str = "red", **options: Any) -> ModelAnswer:
    return client.embed_text(text, ModelOptions("query", **options), within(60))


def test_an_image_a_pair_and_a_text_are_embedded(cloud: Cloud) -> None:
    client = client_of(cloud)
    options = ModelOptions("document")
    image = client.embed_image(picture(), None, options, within(60))
    pair = client.embed_image(picture(), "a red square", options, within(60))
    assert len({tuple(answer.embedding) for answer in (image, pair, text_of(client))}) == 3
    assert (image.total_tokens, pair.prompt_tokens, image.model) == (1000, 1003, None)
    assert [(call["text"], call["input_type"]) for call in cloud.model.calls()] == [
        (None, "search_document"),
        ("a red square", "search_document"),
        ("red", "search_query"),
    ]


def test_both_formats_fill_one_space(cloud: Cloud) -> None:
    options = ModelOptions("document")
    one = client_of(cloud).embed_image(picture(), None, options, within(60)).embedding
    other = cloud.with_settings(FOUNDRY_MODEL=V4).model_client().embed_image(picture(), None, options, within(60))
    assert one == pytest.approx(other.embedding, abs=1e-8)


def test_a_text_that_is_neither_searched_for_nor_found_has_a_type_of_its_own(cloud: Cloud) -> None:
    client_of(cloud).embed_text("red", ModelOptions("text"), within(60))
    assert cloud.model.calls()[0]["input_type"] == "classification"


@pytest.mark.parametrize(
    ("encoding", "length"), [("float", 512), ("base64", 512), ("int8", 512), ("uint8", 512), ("binary", 64)]
)
def test_every_encoding_and_length_is_asked_for(cloud: Cloud, encoding: EncodingFormat, length: int) -> None:
    answer = text_of(client_of(cloud, PRO), dimensions=512, encoding_format=encoding)
    assert len(answer.embedding) == length


@pytest.mark.parametrize(("options", "field"), [({"dimensions": 100}, "dimensions")])
def test_what_the_model_lacks_is_named_as_the_caller_named_it(
    cloud: Cloud, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(ModelMisconfigured) as raised:
        text_of(client_of(cloud), **options)
    assert raised.value.fields == {field}


def test_a_text_that_is_too_long_is_refused_and_not_cut(cloud: Cloud) -> None:
    with pytest.raises(ModelRefused, match="too many tokens") as raised:
        text_of(client_of(cloud), "word " * 600)
    assert raised.value.code == "refused_by_model"
    assert len(text_of(client_of(cloud), "word " * 600, extras={"truncate": "END"}).embedding) == 1536


def test_a_deployment_that_is_not_there_is_a_setting_to_fix(cloud: Cloud) -> None:
    with pytest.raises(ModelMisconfigured, match="DeploymentNotFound"):
        text_of(client_of(cloud, "another"))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", ["500", "503", "nan", "zeros", "malformed_json", "drop"])
def test_what_passes_is_tried_again(cloud: Cloud, kind: str) -> None:
    cloud.model.behave(fault={"kind": kind, "times": 1})
    assert len(text_of(client_of(cloud)).embedding) == 1536


@pytest.mark.parametrize("kind", ["wrong_length", "empty_200", "unauthorized"])
def test_what_only_a_setting_explains_is_a_setting_to_fix(cloud: Cloud, kind: str) -> None:
    cloud.model.behave(fault={"kind": kind})
    with pytest.raises(ModelMisconfigured):
        text_of(client_of(cloud))


def test_a_filtered_picture_is_refused_as_such(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "content_filter"})
    with pytest.raises(ModelRefused) as raised:
        text_of(client_of(cloud))
    assert raised.value.code == "content_filtered"


VECTOR = [0.5] * 1536


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
    with replaying(lambda _: (200, {"embeddings": {"float": [VECTOR]}, "meta": meta}), path=PATH) as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint, FOUNDRY_MODEL=V4).model_client()
        answer = text_of(client)
    assert (answer.embedding, answer.prompt_tokens, answer.total_tokens) == (VECTOR, tokens, tokens)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"embeddings": {}},
        {"embeddings": {"int8": [[1]]}},
        {"embeddings": {"float": []}},
        {"embeddings": {"float": [VECTOR, VECTOR]}},
        {"embeddings": {"float": [["a"]]}},
        {"embeddings": [VECTOR]},
    ],
)
def test_an_answer_of_another_shape_is_no_answer(cloud: Cloud, body: object) -> None:
    with replaying(lambda _: (200, body), path=PATH) as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint, FOUNDRY_MODEL=V4).model_client()
        with pytest.raises(ModelUnavailable):
            text_of(client)


def test_the_request_is_as_the_documentation_says(cloud: Cloud) -> None:
    seen: list[Any] = []

    def respond(body: bytes) -> tuple[int, object]:
        seen.append(json.loads(body))
        return 200, {"embeddings": {"float": [[0.5] * 1024]}}

    with replaying(respond, path=PATH) as endpoint:
        client = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint, FOUNDRY_MODEL=V4).model_client()
        client.embed_image(picture(), 'a "cat"', ModelOptions("document", 1024), within(60))
        text_of(client, "a cat", dimensions=1024)
    url = seen[0]["inputs"][0]["content"].pop()["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    options = {"model": V4, "embedding_types": ["float"], "output_dimension": 1024, "truncate": "NONE"}
    assert seen == [
        {**options, "input_type": "search_document", "inputs": [{"content": [{"type": "text", "text": 'a "cat"'}]}]},
        {**options, "input_type": "search_query", "texts": ["a cat"]},
    ]
