"""The model stand-in speaks the service's wire format, and refuses what the service refuses."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from tests.local.model.client import ENGLISH, IMAGES, PLAIN, TEXTS, V4, Client, data_url, png, serve, token, vector_of

# What a good request gets.


def test_an_image_gets_the_documented_answer(model: Client) -> None:
    response = model.image(input_type="document")
    body = response.json()

    assert response.status_code == 200
    assert list(body) == ["id", "object", "data", "model", "usage"]
    assert body["object"] == "list"
    assert body["model"] == ENGLISH
    assert body["usage"] == {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}
    assert [(item["index"], item["object"], len(item["embedding"])) for item in body["data"]] == [
        (0, "embedding", 1024)
    ]
    assert response.headers["num_tokens"] == "1000"


def test_texts_are_answered_in_order(model: Client) -> None:
    both = model.text("a red boat", "a blue boat").json()
    single = model.text("a blue boat").json()

    assert [item["index"] for item in both["data"]] == [0, 1]
    assert both["data"][1]["embedding"] == single["data"][0]["embedding"]
    assert both["usage"]["prompt_tokens"] == 6


def test_a_pair_differs_from_its_image_alone(model: Client) -> None:
    item = {"image": data_url(png()), "text": "a boat"}

    pair = model.post(IMAGES, {"model": ENGLISH, "input": [item]})

    assert vector_of(pair) != vector_of(model.image())
    assert pair.json()["usage"]["prompt_tokens"] == 1002


def test_the_text_red_is_nearer_to_a_red_image_than_to_a_blue_one(model: Client) -> None:
    text, red, blue = (
        np.array(vector_of(answer)) for answer in (model.text("red"), model.image(), model.image(png("blue")))
    )

    assert text @ red > text @ blue + 0.2


def test_documents_and_queries_get_the_same_vector(model: Client) -> None:
    assert vector_of(model.image(input_type="document")) == vector_of(model.image(input_type="query"))


def test_base64_holds_the_same_numbers_as_little_endian_float32(model: Client) -> None:
    encoded = model.image(encoding_format="base64").json()["data"][0]["embedding"]

    assert np.frombuffer(base64.b64decode(encoded), "<f4") == pytest.approx(vector_of(model.image()), abs=1e-8)


@pytest.mark.parametrize(("encoding", "length"), [("int8", 1536), ("uint8", 1536), ("binary", 192), ("ubinary", 192)])
def test_integers_come_as_a_list_of_whole_numbers(model: Client, encoding: str, length: int) -> None:
    answer = model.image(model=V4, encoding_format=encoding)

    assert len(vector_of(answer)) == length
    assert {type(number) for number in vector_of(answer)} == {int}
    assert model.calls()["calls"][0]["encoding_format"] == encoding


@pytest.mark.parametrize("length", [256, 512, 1024, 1536])
def test_embed_v4_gives_the_dimensions_asked_for(model: Client, length: int) -> None:
    assert len(vector_of(model.image(model=V4, dimensions=length))) == length


def test_embed_v4_gives_1536_dimensions_unasked(model: Client) -> None:
    assert len(vector_of(model.text("red", model=V4))) == 1536


def test_an_image_is_known_by_its_content_not_by_its_declared_type(model: Client) -> None:
    item = {"image": data_url(png(), "image/jpeg")}

    assert model.post(IMAGES, {"model": ENGLISH, "input": [item]}).status_code == 200


# Who may ask.


def test_the_other_audience_is_accepted_too(model: Client) -> None:
    headers = {"Authorization": f"Bearer {token('https://ai.azure.com/')}"}

    assert model.post(TEXTS, {"model": ENGLISH, "input": ["red"]}, headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": f"Bearer {token('https://ml.azure.com')}"},
        {"Authorization": f"Bearer {token(lifetime=-1)}"},
        {"Authorization": "Bearer some-key"},
        {"Authorization": f"Basic {token()}"},
        {"api-key": "some-key"},
    ],
    ids=["nothing", "wrong audience", "expired", "key as bearer", "wrong scheme", "api-key"],
)
def test_anything_but_a_good_token_is_refused_with_401(model: Client, headers: dict[str, str]) -> None:
    response = model.post(TEXTS, {"model": ENGLISH, "input": ["red"]}, headers)

    assert response.status_code == 401
    assert response.json()["statusCode"] == 401
    assert "audience is incorrect" in response.json()["message"]


def test_with_a_key_of_its_own_it_takes_that_key_and_no_other() -> None:
    with serve("--api-key", "right") as keyed:
        body = {"model": ENGLISH, "input": ["red"]}

        assert keyed.post(TEXTS, body, {"api-key": "right"}).status_code == 200
        assert keyed.post(TEXTS, body, {"Authorization": "Bearer right"}).status_code == 200
        assert keyed.post(TEXTS, body, {"api-key": "wrong"}).status_code == 401


# What is refused.


def test_a_request_without_api_version_is_refused(model: Client) -> None:
    headers = {"Authorization": f"Bearer {token()}"}

    assert model.http.post(IMAGES, json={}, headers=headers).status_code == 400


def test_a_request_with_a_retired_api_version_is_refused(model: Client) -> None:
    headers = {"Authorization": f"Bearer {token()}"}

    response = model.http.post(IMAGES, params={"api-version": "2020-01-01"}, json={}, headers=headers)

    assert (response.status_code, response.json()["error"]["message"]) == (400, "API version not supported")


def test_a_request_without_model_is_refused_in_the_services_words(model: Client) -> None:
    response = model.post(TEXTS, {"input": ["red"]})

    assert response.status_code == 400
    assert response.headers["x-ms-error-code"] == response.json()["error"]["code"] == "no_model_name"


def test_an_unknown_model_is_404(model: Client) -> None:
    response = model.text("red", model="nope")

    assert response.status_code == 404
    assert response.json()["error"] == {
        "code": "unknown_model",
        "message": "Unknown model: nope",
        "details": "Unknown model: nope",
    }


def test_an_unknown_key_is_refused_unless_the_client_says_otherwise(model: Client) -> None:
    body = {"model": ENGLISH, "input": ["red"], "truncate": "END"}

    assert "Extra parameters ['truncate']" in model.post(TEXTS, body).json()["error"]["message"]
    assert model.post(TEXTS, body).status_code == 400
    assert model.post(TEXTS, body, {"extra-parameters": "drop"}).status_code == 200
    assert model.post(TEXTS, body, {"extra-parameters": "pass-through"}).status_code == 200
    assert [call.get("passed_on") for call in model.calls()["calls"]] == [None, None, None, ["truncate"]]


@pytest.mark.parametrize(
    ("name", "extra", "kind"),
    [(ENGLISH, {"truncate": "MIDDLE"}, "enum"), (PLAIN, {"truncate": "END"}, "extra_forbidden")],
)
def test_a_key_that_is_passed_through_may_be_422_by_the_model(
    model: Client, name: str, extra: dict[str, Any], kind: str
) -> None:
    response = model.post(TEXTS, {"model": name, "input": ["red"], **extra}, {"extra-parameters": "pass-through"})

    [detail] = json.loads(response.json()["error"]["message"])["detail"]
    assert response.status_code == 422
    assert (detail["type"], detail["loc"]) == (kind, ["body", "truncate"])


def test_a_key_that_nobody_knows_is_passed_through_without_effect(model: Client) -> None:
    body = {"model": ENGLISH, "input": ["red"]}

    assert vector_of(model.post(TEXTS, {**body, "x": 1}, {"extra-parameters": "pass-through"})) == vector_of(
        model.post(TEXTS, body)
    )


@pytest.mark.parametrize(
    ("route", "given"),
    [
        (TEXTS, "red"),
        (TEXTS, []),
        (TEXTS, [1]),
        (TEXTS, ["x"] * 97),
        (IMAGES, []),
        (IMAGES, ["red"]),
        (IMAGES, [{"type": "image", "data": "x"}]),
        (IMAGES, [{"image": data_url(png()), "text": None}]),
    ],
)
def test_input_of_the_wrong_shape_is_422_and_says_where(model: Client, route: str, given: object) -> None:
    response = model.post(route, {"model": ENGLISH, "input": given})

    assert response.status_code == 422
    assert "$.input" in json.loads(response.json()["error"]["message"])["detail"][0]["msg"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b'{"model": "\xff"}'])
def test_a_body_that_is_no_json_object_is_400(model: Client, body: bytes) -> None:
    response = model.http.post(
        TEXTS, params={"api-version": "1"}, content=body, headers={"Authorization": f"Bearer {token()}"}
    )

    assert response.status_code == 400


@pytest.mark.parametrize(
    "image",
    [
        "https://example.org/a.png",
        "data:image/png;base64,",
        "data:image/png;base64,?",
        data_url(b"text"),
        data_url(png(file_format="JPEG")),
        data_url(png(size=(400, 300))[:-60]),
        data_url(png() + bytes(5_000_000)),
    ],
    ids=["url", "nothing", "no base64", "no image", "jpeg", "truncated", "too big"],
)
def test_an_image_that_cannot_be_used_is_400(model: Client, image: str) -> None:
    response = model.post(IMAGES, {"model": ENGLISH, "input": [{"image": image}]})

    assert response.status_code == 400
    assert "input[0].image" in response.json()["error"]["message"]


def test_two_images_are_refused_by_a_model_that_takes_one(model: Client) -> None:
    two = [{"image": data_url(png())}] * 2

    assert model.post(IMAGES, {"model": ENGLISH, "input": two}).status_code == 400
    assert len(model.post(IMAGES, {"model": V4, "input": two}).json()["data"]) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (ENGLISH, {"dimensions": 256}),
        (ENGLISH, {"input_type": "search_query"}),
        (ENGLISH, {"encoding_format": "int8"}),
        (V4, {"dimensions": 300}),
        (PLAIN, {"dimensions": 512}),
        (PLAIN, {"input_type": "query"}),
        (PLAIN, {"encoding_format": "base64"}),
    ],
)
def test_an_option_that_the_model_lacks_is_422(model: Client, name: str, options: dict[str, Any]) -> None:
    response = model.image(model=name, **options)

    assert response.status_code == 422
    assert response.json()["code"] == "parameter_not_supported"
    assert response.json()["detail"]["loc"] == ["body", *options]


def test_a_text_is_422_on_a_model_without_pairs(model: Client) -> None:
    item = {"image": data_url(png()), "text": "a boat"}

    assert model.post(IMAGES, {"model": PLAIN, "input": [item]}).status_code == 422


def test_info_and_unknown_paths_are_404(model: Client) -> None:
    headers = {"Authorization": f"Bearer {token()}"}

    for path in ("/models/info", "/models/nope", "/nope"):
        response = model.http.get(path, params={"api-version": "1"}, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "404")


def test_a_base_url_without_models_answers_200_with_nothing_in_it(model: Client) -> None:
    response = model.post("/images/embeddings", {})

    assert (response.status_code, response.content) == (200, b"")
