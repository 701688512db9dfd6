"""The model stand-in is slow, throttles and fails when told to, and remembers what it was asked."""

import base64
import hashlib
import json
import math
import time
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from local.model.behaviour import Behaviour, Throttle
from local.model.requests import Refusal
from local.model.service import Service
from tests.conftest import PATIENCE
from tests.local.model.client import ENGLISH, IMAGES, TEXTS, V4, Client, data_url, png, serve, token, vector_of

# How it can be made to behave.


def test_latency_is_what_was_set(model: Client) -> None:
    model.behave(latency_ms=150)
    start = time.monotonic()
    model.text("red")

    assert time.monotonic() - start >= 0.15


def test_calls_over_the_quota_are_429(model: Client) -> None:
    model.behave(throttle={"calls": 2, "window_s": 3600})

    assert [model.text("red").status_code for _ in range(3)] == [200, 200, 429]


def test_it_can_be_several_deployments_with_quotas_and_calls_of_their_own() -> None:
    with serve("--also", "west") as first:
        west = Client(f"{first.http.base_url}/west")
        first.behave(throttle={"calls": 0, "window_s": 3600})
        assert (first.text("red").status_code, west.text("red").status_code) == (429, 200)
        assert [call["status"] for call in west.calls()["calls"]] == [200]
        assert west.calls()["calls"][0]["route"] == TEXTS
        west.http.close()


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
def test_a_fault_can_be_limited_to_one_model_text_or_image(model: Client, match: str) -> None:
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
        "image_type": "image/png",
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
