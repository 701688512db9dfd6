"""Many inputs are one call where the wire format allows it, and each is answered as if it had been alone."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import function_app
from shared.model.wire_format import Input
from tests.conftest import Cloud
from tests.drawing import data_url, picture
from tests.functions import call, start_anew
from tests.model.asking import options, within
from tests.model.replay import VECTOR, Replay, answering, replaying
from tests.queries.search_requests import envelope
from tests.wire_formats import COHERE

TOO_LONG = "word " * 600


def texts(*inputs: str) -> tuple[int, Any]:
    status, _, body = call(function_app.text_embeddings, {"input": list(inputs)})
    return status, body


def images(*inputs: dict[str, str]) -> tuple[int, Any]:
    status, _, body = call(function_app.image_embeddings, {"input": list(inputs)})
    return status, body


def vectors(body: Any) -> list[Any]:
    return [item["embedding"] for item in body["data"]]


def sizes(cloud: Cloud) -> list[int]:
    """The inputs of each call to the model, the most first."""
    return sorted((call["inputs"] for call in cloud.model.calls(200)), reverse=True)


def words(number: int) -> list[str]:
    return [f"{'very ' * (index % 5)}red {index}" for index in range(number)]


def pictures(number: int) -> list[dict[str, str]]:
    return [{"image": data_url(picture(size=(56, 56 + index)))} for index in range(number)]


@pytest.mark.either_format
def test_96_texts_are_one_call_answered_in_order_and_stored_as_if_each_were_alone(cloud: Cloud) -> None:
    status, together = texts(*words(96))
    assert (status, sizes(cloud)) == (200, [96])
    start_anew()
    cloud.model.reset()
    for word, vector in list(zip(words(96), vectors(together), strict=True))[::19]:
        assert vectors(texts(word)[1]) == [vector]
    assert cloud.model.calls() == [], "each is found in storage by the key that it has alone"


@pytest.mark.either_format
def test_more_texts_than_a_call_takes_are_several_calls_answered_in_order(cloud: Cloud) -> None:
    status, headers, together = call(function_app.text_embeddings, {"input": [*words(500), "red 0"]})
    assert (status, sizes(cloud), headers["x-embedding-cache"]) == (200, [96, 96, 96, 96, 96, 20], "mixed")
    assert [item["index"] for item in together["data"]] == list(range(501))
    assert together["usage"]["total_tokens"] == sum(len(word.split()) for word in words(500))
    assert headers["x-embedding-record"].endswith(" more")
    assert len(headers["x-embedding-record"]) <= 4096
    for index in (0, 383, 384, 499):
        assert vectors(texts(words(500)[index])[1]) == [vectors(together)[index]]
    assert vectors(together)[500] == vectors(together)[0]


def test_of_many_texts_a_wrong_one_costs_no_call(cloud: Cloud) -> None:
    status, body = texts(*words(500), " ")
    assert (status, body["error"]["target"], cloud.model.calls()) == (400, "input[500]", [])


@pytest.mark.either_format
def test_the_tokens_of_a_call_are_shared_out_and_add_up(cloud: Cloud) -> None:
    _, body = texts(*words(7))
    charged = sum(len(word.split()) for word in words(7))
    records = [json.loads(cloud.embeddings.download_blob(path).readall()) for path in cloud.records()]
    assert body["usage"]["total_tokens"] == charged == sum(record["total_tokens"] for record in records)
    by_text = {record["text"]: record["total_tokens"] for record in records}
    assert by_text["very very very very red 4"] > by_text["red 0"]


@pytest.mark.either_format
def test_pictures_with_and_without_texts_are_one_call_where_the_format_takes_several(cloud: Cloud) -> None:
    inputs = [*pictures(4), {"image": data_url(picture()), "text": "a red square"}]
    status, together = images(*inputs)
    assert (status, sizes(cloud)) == (200, [5] if cloud.wire_format is COHERE else [1] * 5)
    start_anew()
    for one, vector in zip(inputs, vectors(together), strict=True):
        assert vectors(images(one)[1]) == [vector]


@pytest.mark.either_format
def test_no_call_is_larger_than_the_format_takes(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.queries.queries._MAX_BATCH_BYTES", 3 * len(picture(size=(56, 60))))
    assert images(*pictures(8))[0] == 200
    assert max(sizes(cloud)) <= 3


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
def test_what_the_model_refuses_is_found_by_halves_and_costs_the_others_nothing(cloud: Cloud) -> None:
    inputs = words(95)
    inputs.insert(37, TOO_LONG)
    _, _, body = call(function_app.skill, envelope(*({"text": text} for text in inputs)))
    errors = {index: item["errors"] for index, item in enumerate(body["values"]) if item["errors"]}
    assert list(errors) == [37]
    assert "too many tokens" in errors[37][0]["message"]
    calls = cloud.model.calls(200)
    # All but the one, and the harmless word that proves that it is at fault.
    assert sum(call["inputs"] for call in calls) == 95 + 1
    assert len(calls) + len(cloud.model.calls(400)) <= 2 * 7 + 3


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
def test_a_request_for_which_the_model_refuses_an_input_names_it(cloud: Cloud) -> None:
    status, body = texts("red", "blue", TOO_LONG, "green")
    assert (status, body["error"]["code"], body["error"]["target"]) == (400, "refused_by_model", "input[2]")
    assert len(cloud.records()) == 3, "the others are paid for and kept"


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
def test_a_request_that_is_refused_as_a_whole_is_asked_no_further(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "400"})
    status, body = texts(*words(96))
    assert (status, body["error"]["code"]) == (502, "model_misconfigured")
    assert len(cloud.model.calls()) == 2


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
def test_an_error_of_the_moment_is_one_of_all_inputs_of_a_call(cloud: Cloud) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    status, _ = texts(*words(96))
    assert (status, len(cloud.model.calls())) == (429, 1)


@pytest.mark.either_format
def test_requests_at_once_that_share_inputs_pay_for_each_of_them_once(cloud: Cloud) -> None:
    cloud.model.behave(latency_ms=200)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda start: texts(*words(24)[start : start + 12]), (0, 4, 8, 12)))
    assert {status for status, _ in answers} == {200}
    assert sum(sizes(cloud)) == 24
    charged = sum(len(word.split()) for word in words(24))
    assert sum(body["usage"]["total_tokens"] for _, body in answers) == charged


# Against observed answers


def ask(cloud: Cloud, *texts: str) -> list[Any]:
    return cloud.model_client().embed_all([Input(text=text) for text in texts], options(cloud, "query"), within(60))


@pytest.mark.either_format
def test_a_broken_vector_among_good_ones_is_asked_for_once_more_by_itself(cloud: Cloud) -> None:
    asked: list[list[str]] = []

    def respond(body: bytes) -> Replay:
        asked.append(texts := cloud.wire_format.texts_in(body))
        broken = [0.0] * 1024 if len(texts) > 1 else VECTOR
        return 200, cloud.wire_format.vectors(*(broken if text == "b" else VECTOR for text in texts))

    with replaying(cloud, respond) as replayed:
        answers = ask(replayed, "a", "b", "c")
    assert [answer.embedding for answer in answers] == [VECTOR] * 3
    assert asked == [["a", "b", "c"], ["b"]]


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("count", [2, 4])
def test_an_answer_with_another_number_of_vectors_is_no_answer(cloud: Cloud, count: int) -> None:
    with answering(cloud, 200, cloud.wire_format.vectors(*[VECTOR] * count)) as replayed:
        failed = ask(replayed, *"abc")
    assert {str(error) for error in failed} == {f"The model answered 3 inputs with {count} embeddings"}


@pytest.mark.usefixtures("cloud")
def test_of_many_wrong_inputs_the_first_hundred_are_listed() -> None:
    status, body = texts(*[" "] * 2048)
    assert (status, body["error"]["target"]) == (400, "input[0]")
    assert [detail["target"] for detail in body["error"]["details"]] == [f"input[{index}]" for index in range(100)]
