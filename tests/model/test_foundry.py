"""The format of Azure AI Foundry Models' own routes: what is asked, what an answer must have, and what it may lack."""

import json
from typing import Any

import msgspec
import pytest

from shared.errors import ModelUnavailable
from shared.model.wire_format import Input, ModelAnswer, ModelOptions
from tests.conftest import Cloud
from tests.drawing import picture
from tests.model.asking import embed_text, within
from tests.model.replay import VECTOR, Replay, answering, replaying

ITEM = {"index": 0, "object": "embedding", "embedding": VECTOR}


def test_the_request_is_as_the_documentation_says(cloud: Cloud) -> None:
    seen: list[Any] = []

    def respond(body: bytes) -> Replay:
        seen.append(json.loads(body))
        return 200, cloud.wire_format.vectors(VECTOR)

    with replaying(cloud, respond) as replayed:
        client = replayed.model_client()
        client.embed(Input(picture(), 'a "cat"'), ModelOptions("document"), within(60))
        client.embed(Input(text="a cat"), ModelOptions("query", 1024, "int8"), within(60))
    assert seen[0]["input"][0].pop("image").startswith("data:image/png;base64,")
    model = cloud.settings.foundry_model
    options = {"dimensions": 1024, "encoding_format": "int8"}
    assert seen == [
        {"model": model, "input_type": "document", "input": [{"text": 'a "cat"'}]},
        {"model": model, "input_type": "query", **options, "input": ["a cat"]},
    ]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("body", [{}, [], {"data": None}, {"data": [{"index": 0}]}, {"data": {"embedding": VECTOR}}])
def test_an_answer_of_another_shape_is_no_answer(cloud: Cloud, body: object) -> None:
    with answering(cloud, 200, body, takes_harmless=False) as replayed, pytest.raises(ModelUnavailable):
        embed_text(replayed)


def test_vectors_are_taken_by_their_index(cloud: Cloud) -> None:
    data = [{"index": index, "embedding": [float(index + 1)] * 1024} for index in (2, 0, 1)]
    texts = ("a", "bbbbbbbb", "c")
    with answering(cloud, 200, {"data": data, "usage": {"prompt_tokens": 10, "total_tokens": 11}}) as replayed:
        inputs = [Input(text=text) for text in texts]
        answers = [
            answer
            for answer in replayed.model_client().embed_all(inputs, ModelOptions("query"), within(60))
            if isinstance(answer, ModelAnswer)
        ]
    assert [answer.embedding[0] for answer in answers] == [1, 2, 3]
    assert [(answer.prompt_tokens, answer.total_tokens) for answer in answers] == [(1, 1), (8, 8), (1, 2)]


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

    def respond(body: bytes) -> Replay:
        asked.append(body)
        return 200, answer

    with replaying(cloud, respond) as replayed:
        taken = embed_text(replayed)
    assert (taken.embedding, taken.prompt_tokens, taken.total_tokens, taken.model) == (VECTOR, *tokens, name)
    assert len(asked) == 1
