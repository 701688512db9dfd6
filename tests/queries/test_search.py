"""Search over HTTP: what it finds, in which order, by which filters, in pages; and what it refuses."""

import base64
import json
import math
import random
from datetime import UTC, datetime
from typing import Any

import azure.functions as func
import pytest

import function_app
from tests.conftest import Cloud
from tests.drawing import data_url, picture
from tests.functions import start_anew
from tests.search import records


def search(
    body: Any, *, params: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> func.HttpResponse:
    function: Any = function_app.search
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer: func.HttpResponse = function(
        func.HttpRequest("POST", "/", body=content, params=params or {}, headers=headers or {})
    )
    return answer


def found(body: Any, **more: Any) -> dict[str, Any]:
    answer = search(body, **more)
    assert answer.status_code == 200, answer.get_body()
    found: dict[str, Any] = json.loads(answer.get_body())
    return found


def names(body: Any, **more: Any) -> list[str]:
    return [result["name"] for result in found(body, **more)["results"]]


def refused(body: Any, **more: Any) -> tuple[int, str, str | None]:
    answer = search(body, **more)
    error = json.loads(answer.get_body())["error"]
    return answer.status_code, error["code"], error.get("target")


def embedded(cloud: Cloud, *names: str) -> None:
    """Embed a picture under each of these names, in the colour that the name begins with."""
    sync = cloud.sync()
    for name in names:
        cloud.upload(name, picture(name.partition(" ")[0]))
        sync.upload(name)


# What is found


@pytest.mark.either_format
def test_a_picture_is_found_by_itself_by_words_by_both_by_its_vector_and_by_another_like_it(cloud: Cloud) -> None:
    embedded(cloud, "red 1.png", "red 2.png", "green 1.png", "blue 1.png")
    red = picture("red")
    vector = cloud.record("red 1.png")["embedding"]
    for question in (
        {"image": data_url(red)},
        {"image": base64.b64encode(red).decode(), "text": "red"},
        {"text": "red"},
        {"vector": vector},
    ):
        assert names({**question, "top": 2}) == ["red 1.png", "red 2.png"], question
    assert names({"like": "red 1.png"})[0] == "red 2.png"
    assert "red 1.png" not in names({"like": "red 1.png"})


def test_the_picture_may_be_the_body_and_the_rest_in_the_query_string(cloud: Cloud) -> None:
    embedded(cloud, "red 1.png", "red 2.png", "green 1.png")
    beside = {"text": "red", "top": "1", "prefix": "red", "min_score": "-1", "since": "2026-01-01T00:00:00Z"}
    assert names(picture("red"), params=beside) == ["red 1.png"]
    form = b'--b\r\ncontent-disposition: form-data; name="top"\r\n\r\n1\r\n--b\r\n'
    form += b'content-disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + picture("green") + b"\r\n--b--"
    assert names(form, headers={"content-type": "multipart/form-data; boundary=b"}) == ["green 1.png"]


def test_a_result_has_the_facts_of_its_record_and_the_cosine_of_both_vectors(cloud: Cloud) -> None:
    embedded(cloud, "red a b#1.png")
    cloud.upload("green.png", picture("green"), text="grass", sku="G-1")
    cloud.sync().upload("green.png")
    query = [random.Random(1).gauss(0, 1) for _ in range(1024)]
    results = {result["name"]: result for result in found({"vector": query})["results"]}
    assert results.keys() == {"red a b#1.png", "green.png"}
    for name, result in results.items():
        record = cloud.record(name)
        stored = record["embedding"]
        cosine = math.sumprod(query, stored) / math.hypot(*query) / math.hypot(*stored)
        # Stored as float16, which has 11 bits.
        assert result.pop("score") == pytest.approx(cosine, abs=2**-11)
        assert result == {**{key: record.get(key) for key in result}, "metadata": record.get("metadata", {})}
        assert result.keys() >= {"url", "media_type", "width", "height", "text", "metadata", "embedded_at"}
    assert results["green.png"]["metadata"] == {"sku": "G-1"}


def test_an_answer_says_among_how_many_images_was_searched_and_what_it_cost(cloud: Cloud) -> None:
    embedded(cloud, "red 1.png", "green 1.png")
    first, again = found({"text": "red"}), found({"text": "red"})
    assert (first["space"], first["index"]["images"]) == (cloud.folder, 2)
    assert datetime.fromisoformat(first["index"]["as_of"]) <= datetime.now(UTC)
    assert first["usage"]["total_tokens"] > 0
    assert again["usage"]["total_tokens"] == 0
    assert found({"like": "red 1.png"})["usage"]["total_tokens"] == 0


@pytest.mark.either_format
def test_what_is_searched_for_is_embedded_and_kept_as_a_query(cloud: Cloud) -> None:
    embedded(cloud, "red 1.png")
    answer = search({"text": "red"})
    assert answer.headers["x-embedding-cache"] == "miss"
    path = answer.headers["x-embedding-record"].removeprefix(f"{cloud.folder}/")
    assert cloud.stored(path)["input_type"] == "query"
    assert search({"text": "red"}).headers["x-embedding-cache"] == "hit"
    assert search({"text": "red"}, headers={"cache-control": "no-cache"}).headers["x-embedding-cache"] == "miss"
    assert "x-embedding-cache" not in search({"like": "red 1.png"}).headers


def test_a_space_without_images_finds_none(cloud: Cloud) -> None:
    answer = found({"text": "red"})
    assert (answer["results"], answer["next"], answer["index"]["images"]) == ([], None, 0)


# Filters, order and pages


def written(cloud: Cloud, count: int) -> dict[str, list[float]]:
    """Records of so many images, some with the same vector."""
    rng = random.Random(7)
    directions = [[rng.gauss(0, 1) for _ in range(16)] for _ in range(count // 2)]
    vectors = {f"{number % 3}/{number:03}.png": directions[number // 2] for number in range(count)}
    store = cloud.record_store()
    for name, vector in vectors.items():
        store.write_record(records.record(name, "0x1", cloud.settings.images_container, vector), None)
    return vectors


def in_order(vectors: dict[str, list[float]], query: list[float], prefix: str = "") -> list[str]:
    """The names by their cosines, best first, those with equal ones by name."""

    def rank(name: str) -> tuple[float, str]:
        vector = vectors[name]
        return (-round(math.sumprod(query, vector) / math.hypot(*vector), 6), name)

    return sorted((name for name in vectors if name.startswith(prefix)), key=rank)


def test_pages_have_every_image_once_in_the_order_of_their_scores_and_then_names(cloud: Cloud) -> None:
    vectors = written(cloud, 24)
    query = [random.Random(3).gauss(0, 1) for _ in range(16)]
    for prefix in ("", "1/"):
        expected = in_order(vectors, query, prefix)
        for top in (1, 5, 8, 100):
            seen: list[str] = []
            token = None
            while True:
                page = found({"vector": query, "top": top, "prefix": prefix, "after": token})
                assert len(page["results"]) <= top
                seen += [result["name"] for result in page["results"]]
                token = page["next"]
                if token is None:
                    break
            assert seen == expected, (prefix, top)


def test_only_images_of_the_prefix_the_score_and_the_time_that_are_asked_for_are_found(cloud: Cloud) -> None:
    vectors = written(cloud, 12)
    query = vectors["0/000.png"]
    everything = found({"vector": query, "top": 100})["results"]
    assert {result["name"] for result in everything} == vectors.keys()
    middle = everything[5]["score"]
    assert names({"vector": query, "min_score": middle, "top": 100}) == [
        result["name"] for result in everything if result["score"] >= middle
    ]
    assert names({"vector": query, "prefix": "2/", "top": 1})[0].startswith("2/")
    then = records.EMBEDDED_AT.isoformat()
    assert len(names({"vector": query, "since": then, "top": 100})) == 12
    assert names({"vector": query, "since": "2026-11-22T00:00:01Z", "top": 100}) == []


# What is refused

NOTHING = [{}, {"image": ""}, {"text": " "}, {"image": None, "top": 3}]
TWO = [{"text": "red", "vector": [1.0]}, {"image": "aaaa", "like": "a"}, {"vector": [1.0], "like": "a"}]
WRONG = [
    ({"text": "red", "top": 0}, "top"),
    ({"text": "red", "top": 101}, "top"),
    ({"text": "red", "top": 1.5}, "top"),
    ({"text": "red", "since": "2026-11-22T12:00:00"}, "since"),
    ({"text": "red", "since": "yesterday"}, "since"),
    ({"text": "red", "min_score": "high"}, "min_score"),
    ({"text": 7}, "text"),
    ({"image": "no base64!"}, "image"),
    ({"text": "data:image/png;base64,aaaa"}, "text"),
    ({"vector": []}, "vector"),
    ({"vector": [0, 0.0]}, "vector"),
    ({"vector": [1e308] * 16}, "vector"),
    ({"vector": ["1"]}, "vector[0]"),
    ({"vector": [1, 2, 3]}, "vector"),
    ({"text": "red", "after": ""}, "after"),
    ({"text": "red", "after": "ü"}, "after"),
    ({"text": "red", "after": "AAAA"}, "after"),
]


@pytest.mark.parametrize(("body", "target"), WRONG)
def test_a_wrong_field_is_named(cloud: Cloud, body: Any, target: str) -> None:
    records.write(cloud, "a.png")
    assert refused(body) == (400, "invalid_request", target)


def test_a_search_for_nothing_or_for_two_things_is_refused(cloud: Cloud) -> None:
    for body in [*NOTHING, *TWO]:
        assert refused(body)[:2] == (400, "invalid_request"), body
    assert refused(picture(), params={"like": "a"}) == (400, "invalid_request", "like")
    assert refused(b"[]")[:2] == (400, "invalid_request")
    assert refused({"text": "red", "color": "red"})[:2] == (400, "invalid_request")
    assert refused({"vector": [math.inf]})[:2] == (400, "invalid_json")
    assert refused(picture()[:60])[:2] == (400, "damaged_image")
    assert cloud.model.calls() == []


def test_the_next_page_of_another_search_is_refused(cloud: Cloud) -> None:
    records.write(cloud, "a.png", "b.png", "c.png")
    question = {"vector": cloud.record("a.png")["embedding"], "top": 1}
    token = found(question)["next"]
    for other in ({"prefix": "b"}, {"min_score": 0}, {"vector": [1.0] * 8}, {"since": "2026-01-01T00:00:00Z"}):
        assert refused({**question, **other, "after": token}) == (400, "invalid_request", "after")
    # How many come at once may change from page to page.
    assert len(names({**question, "top": 2, "after": token})) == 2


def test_an_image_without_a_record_is_like_nothing(cloud: Cloud) -> None:
    records.write(cloud, "a.png", "b.png")
    assert refused({"like": "c.png"}) == (404, "unknown_image", "like")


def test_a_model_whose_vectors_have_another_length_than_the_index_is_an_operator_s_business(cloud: Cloud) -> None:
    # Records of another model, before the app knew which one fills the space.
    records.write(cloud, "a.png")
    assert refused({"text": "red"})[:2] == (502, "model_misconfigured")


def test_without_search_nothing_is_kept_and_the_route_says_so(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH", "off")
    start_anew()
    embedded(cloud.with_settings(SEARCH="off"), "red 1.png")
    assert not [name for name in cloud.embeddings.list_blob_names() if "/index/" in name]
    assert refused({"text": "red"}) == (404, "search_off", None)
    assert cloud.model.calls(200)[1:] == []


def test_an_index_that_this_instance_cannot_hold_is_503_with_the_way_out(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.write(cloud, "a.png")
    monkeypatch.setattr("shared.search.reader._memory", lambda: 0)
    answer = search({"like": "a.png"})
    error = json.loads(answer.get_body())["error"]
    assert (answer.status_code, error["code"]) == (503, "index_too_large")
    assert "INSTANCE_MEMORY_MB" in error["message"]
    assert int(answer.headers["retry-after"]) > 0


# The log


def test_a_search_logs_one_line_of_what_it_did_and_none_of_what_was_asked(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    embedded(cloud, "red 1.png")
    caplog.clear()
    search({"text": "secret wish", "image": data_url(picture("red"))})
    [line] = [json.loads(one.message) for one in caplog.records if '"search"' in one.message]
    assert (line["event"], line["kind"], line["scanned"], line["results"], line["cache"]) == (
        "search",
        "image+text",
        1,
        1,
        "miss",
    )
    assert line["ms"].keys() >= {"prepare", "embed", "index", "scan", "total"}
    assert "secret" not in caplog.text
