"""The model stand-in speaks the service's wire format, refuses what it refuses, and fails when told to."""

import base64
import hashlib
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from local.model.behaviour import Behaviour, Throttle
from local.model.requests import Refusal
from local.model.service import Service
from tests.conftest import PATIENCE

ENGLISH = "Cohere-embed-v3-english"
V4 = "embed-v-4-0"
PLAIN = "plain-embed"
IMAGES = "/models/images/embeddings"
TEXTS = "/models/embeddings"


def token(audience: str = "https://cognitiveservices.azure.com", lifetime: float = 3600) -> str:
    """Make an unsigned JWT, like those of the local identity endpoint."""
    parts = [{"alg": "none"}, {"aud": audience, "exp": time.time() + lifetime, "appid": "the-app"}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2ln"])


def png(colour: str = "red", size: tuple[int, int] = (40, 30), file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, file_format)
    return file.getvalue()


def data_url(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


class Client:
    """Asks the stand-in as the app would."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)

    def post(self, route: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token()}"} | (headers or {})
        return self.http.post(route, params={"api-version": "2024-05-01-preview"}, json=body, headers=headers)

    def image(self, content: bytes | None = None, *, model: str = ENGLISH, **more: object) -> httpx.Response:
        item = {"image": data_url(png() if content is None else content)}
        return self.post(IMAGES, {"model": model, "input": [item], **more})

    def text(self, *texts: str, model: str = ENGLISH, **more: object) -> httpx.Response:
        return self.post(TEXTS, {"model": model, "input": list(texts), **more})

    def behave(self, **behaviour: object) -> None:
        self.http.post("/admin/behaviour", json=behaviour).raise_for_status()

    def calls(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/admin/calls").json()
        return answer


def serve(*arguments: str) -> Iterator[Client]:
    command = [sys.executable, "-m", "local.model", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        client = Client(process.stdout.readline().removeprefix("listening on ").strip())
        yield client
        client.http.close()
        process.terminate()


@pytest.fixture(scope="module")
def served() -> Iterator[Client]:
    yield from serve()


@pytest.fixture
def model(served: Client) -> Client:
    """Give the stand-in as it is at its start."""
    served.http.delete("/admin/behaviour")
    served.http.delete("/admin/calls")
    return served


def vector_of(response: httpx.Response) -> list[float]:
    assert response.status_code == 200, response.text
    vector: list[float] = response.json()["data"][0]["embedding"]
    return vector


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
    for keyed in serve("--api-key", "right"):
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


# How it can be made to behave.


def test_latency_is_what_was_set(model: Client) -> None:
    model.behave(latency_ms=150)
    start = time.monotonic()
    model.text("red")

    assert time.monotonic() - start >= 0.15


def test_calls_over_the_quota_are_429(model: Client) -> None:
    model.behave(throttle={"calls": 2, "window_s": 3600})

    assert [model.text("red").status_code for _ in range(3)] == [200, 200, 429]


def test_windows_follow_each_other_from_the_first_call_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # A moment at which floats make a little more than 20 of 20 seconds, which would be 21 when rounded up.
    began = 1_004_400_000_000
    assert (began / 1e9 + 20) - began / 1e9 > 20
    service = Service()
    service.behave(Behaviour(throttle=Throttle(calls=1, window_s=20)))

    def refused(after: float) -> str | None:
        monkeypatch.setattr(
            "local.model.service.time", SimpleNamespace(monotonic_ns=lambda: began + round(after * 1e9))
        )
        try:
            service.admit()
        except Refusal as refusal:
            return refusal.headers["Retry-After"]
        return None

    assert [refused(after) for after in (0, 0, 0.5, 19.999)] == [None, "20", "20", "1"]
    assert [refused(after) for after in (20, 39, 110, 119.5, 120)] == [None, "1", None, "1", None]


@pytest.mark.parametrize("way", ["seconds", "date", "ms", "body", "none"])
def test_a_429_says_when_to_come_back_in_one_way_only(model: Client, way: str) -> None:
    model.behave(throttle={"calls": 0, "window_s": 20, "retry_after": way})

    response = model.text("red")
    said = {
        name
        for name, there in {
            "seconds": response.headers.get("retry-after", "").isdigit(),
            "date": "GMT" in response.headers.get("retry-after", ""),
            "ms": "retry-after-ms" in response.headers,
            "body": "Please wait 20 seconds" in response.text,
        }.items()
        if there
    }

    assert response.status_code == 429
    assert response.headers["x-ms-error-code"] == "RateLimitReached"
    assert said == ({way} - {"none"})


@pytest.mark.parametrize("stated", [0, 86_400])
def test_a_429_can_say_any_wait_whatever_the_quota(model: Client, stated: int) -> None:
    model.behave(throttle={"calls": 0, "window_s": 20, "retry_after": stated})

    response = model.text("red")

    assert (response.status_code, response.headers["retry-after"]) == (429, str(stated))


def test_the_date_to_come_back_is_not_too_early(model: Client) -> None:
    model.behave(throttle={"calls": 0, "window_s": 20, "retry_after": "date"})
    before = time.time()

    date = parsedate_to_datetime(model.text("red").headers["retry-after"]).timestamp()

    assert before + 20 <= date <= time.time() + 21


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("400", 400),
        ("500", 500),
        ("502_html", 502),
        ("503", 503),
        ("unauthorized", 401),
        ("content_filter", 400),
        ("empty_200", 200),
        ("malformed_json", 200),
    ],
)
def test_a_fault_comes_as_often_as_was_asked(model: Client, kind: str, status: int) -> None:
    model.behave(fault={"kind": kind, "times": 1})

    response = model.text("red")

    assert response.status_code == status
    with pytest.raises((KeyError, ValueError)):
        response.json()["data"]
    assert len(vector_of(model.text("red"))) == 1024


@pytest.mark.parametrize("kind", ["wrong_length", "nan", "zeros"])
def test_a_vector_can_be_spoiled(model: Client, kind: str) -> None:
    model.behave(fault={"kind": kind})

    vector = vector_of(model.image())

    match kind:
        case "wrong_length":
            assert len(vector) == 1023
        case "nan":
            assert all(math.isnan(number) for number in vector)
        case _:
            assert not any(vector)


def test_a_connection_can_be_dropped_without_an_answer(model: Client) -> None:
    model.behave(fault={"kind": "drop", "times": 1})

    with pytest.raises(httpx.TransportError):
        model.image()
    assert model.image().status_code == 200


def test_an_answer_can_be_withheld(model: Client) -> None:
    model.behave(fault={"kind": "hang", "match": "quiet"})
    headers = {"Authorization": f"Bearer {token()}"}
    body = {"model": ENGLISH, "input": ["quiet"]}
    timeout = httpx.Timeout(PATIENCE, read=0.2)

    with pytest.raises(httpx.ReadTimeout):
        model.http.post(TEXTS, params={"api-version": "1"}, json=body, headers=headers, timeout=timeout)
    assert model.text("red").status_code == 200


@pytest.mark.parametrize("match", [V4, "boat", hashlib.sha256(png("blue")).hexdigest()[:12]])
def test_a_fault_can_be_kept_to_one_model_text_or_image(model: Client, match: str) -> None:
    model.behave(fault={"kind": "500", "match": match})

    answers = {
        V4: model.text("red", model=V4),
        "boat": model.text("a red boat"),
        hashlib.sha256(png("blue")).hexdigest()[:12]: model.image(png("blue")),
        "none of these": model.image(),
    }

    assert [name for name, answer in answers.items() if answer.status_code == 500] == [match]


def test_cheap_mode_looks_at_no_picture(model: Client) -> None:
    model.behave(mode="cheap")

    vector = vector_of(model.image(b"no picture"))

    assert len(vector) == 1024
    assert vector == vector_of(model.image(b"no picture"))
    assert vector != vector_of(model.image(b"another"))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "behaviour",
    [
        {"latency": 1},
        {"latency_ms": -1},
        {"throttle": {"calls": 1}},
        {"fault": {"kind": "nope"}},
        {"mode": "fast"},
    ],
)
def test_an_impossible_behaviour_is_refused(model: Client, behaviour: dict[str, Any]) -> None:
    assert model.http.post("/admin/behaviour", json=behaviour).status_code == 400


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_behaviour_can_be_reset(model: Client, method: str) -> None:
    model.behave(fault={"kind": "500"})

    model.http.request(method, "/admin/behaviour", json={} if method == "POST" else None)

    assert model.text("red").status_code == 200


# What it remembers.


def test_calls_are_remembered_with_what_was_asked(model: Client) -> None:
    content = png(size=(64, 48))
    item = {"image": data_url(content), "text": "a boat"}
    before = time.time()
    model.post(IMAGES, {"model": V4, "input": [item], "input_type": "document", "dimensions": 256})

    (call,) = model.calls()["calls"]

    assert before <= call.pop("time") <= time.time()
    assert call == {
        "route": IMAGES,
        "status": 200,
        "appid": "the-app",
        "model": V4,
        "input_type": "document",
        "dimensions": 256,
        "inputs": 1,
        "text": "a boat",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "width": 64,
        "height": 48,
    }


def test_calls_are_counted_by_status(model: Client) -> None:
    model.text("red")
    model.text("red", model="nope")
    model.behave(fault={"kind": "drop"})
    with pytest.raises(httpx.TransportError):
        model.text("red")

    calls = model.calls()

    assert calls["by_status"] == {"200": 1, "404": 1, "0": 1}
    assert calls["total"] == 3
    assert calls["peak"] == 1


def test_neither_tokens_nor_images_are_remembered(model: Client) -> None:
    model.image()

    shown = json.dumps(model.calls())

    assert token()[:20] not in shown
    assert base64.b64encode(png()).decode()[:40] not in shown


def test_calls_can_be_forgotten(model: Client) -> None:
    model.text("red")
    model.http.delete("/admin/calls")

    assert model.calls() == {"total": 0, "by_status": {}, "peak": 0, "calls": []}


def test_it_says_that_it_is_up(model: Client) -> None:
    assert model.http.get("/admin/health").json() == {"status": "ok"}
