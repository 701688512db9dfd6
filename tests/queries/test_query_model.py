"""Queries may be embedded by another deployment than images, if both have their vectors in one space."""

import json
import math
from typing import Any

import pytest

import function_app
from tests.conftest import Cloud
from tests.drawing import data_url, picture
from tests.functions import call

PRO, FAST = "Cohere-Embed-V5-Pro", "Cohere-Embed-V5-Fast"


@pytest.fixture
def pair(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Images by Pro, queries by Fast, which Cohere recommends."""
    endpoint = f"{cloud.model.url}/providers/cohere/v2"
    changed = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint, FOUNDRY_MODEL=PRO, FOUNDRY_QUERY_MODEL=FAST)
    for name in ("FOUNDRY_ENDPOINT", "FOUNDRY_MODEL", "FOUNDRY_QUERY_MODEL"):
        monkeypatch.setenv(name, changed.environment[name])
    return changed


def texts(**body: Any) -> tuple[int, dict[str, str], Any]:
    return call(function_app.text_embeddings, {"input": ["red"], **body})


def asked(cloud: Cloud) -> list[str]:
    return [call["model"] for call in cloud.model.calls()]


def test_queries_are_embedded_by_it_into_the_space_of_the_images(pair: Cloud) -> None:
    status, headers, body = texts()
    assert (status, body["model"], asked(pair)) == (200, FAST, [FAST])
    assert headers["x-embedding-record"].startswith(f"{PRO}/queries/")
    record = json.loads(pair.embeddings.download_blob(headers["x-embedding-record"]).readall())
    assert record["model"] == FAST


def test_an_image_is_found_by_a_query_though_another_model_embedded_it(pair: Cloud) -> None:
    pair.upload("a.png", picture())
    assert pair.sync().upload("a.png").outcome == "embedded"
    stored = pair.record("a.png")
    _, _, body = call(function_app.image_embeddings, {"input": [{"image": data_url(picture())}]})
    assert (stored["model"], asked(pair)) == (PRO, [PRO, FAST])
    assert math.sumprod(stored["embedding"], body["data"][0]["embedding"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("input_type", ["document", "text"])
def test_what_is_no_query_is_embedded_by_the_model_of_the_images(pair: Cloud, input_type: str) -> None:
    assert texts(input_type=input_type)[2]["model"] == PRO
    call(function_app.skill, {"values": [{"recordId": "1", "data": {"text": "blue"}}]})
    assert asked(pair) == [PRO, PRO]


def test_a_request_that_names_a_model_is_embedded_by_that_one_and_never_by_what_the_cache_has_of_the_other(
    pair: Cloud,
) -> None:
    assert [texts(model=model)[2]["model"] for model in (PRO, FAST, PRO)] == [PRO, FAST, PRO]
    assert asked(pair) == [PRO, FAST]


@pytest.mark.usefixtures("pair")
def test_another_model_than_the_two_is_refused_with_the_names_of_both() -> None:
    status, _, body = texts(model="embed-v-4-0")
    assert status == 400
    assert f"{PRO} and {FAST}" in body["error"]["message"]


def test_health_asks_both(pair: Cloud) -> None:
    assert pair.checks().recent() == []
    assert sorted(asked(pair)) == [FAST, FAST, PRO, PRO]
    pair.model.behave(fault={"kind": "unauthorized", "match": FAST})
    [problem] = pair.checks().recent()
    assert (problem.code, problem.target) == ("model_misconfigured", "FOUNDRY_QUERY_MODEL")
    assert "for queries" in problem.message
