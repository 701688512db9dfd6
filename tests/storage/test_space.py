"""A space holds vectors of one model: the first answer describes it, and any other kind is kept out."""

import json
import logging
import math
import time
from typing import Any

import pytest

from shared.clock import now
from shared.errors import WrongSpace
from shared.model.wire_format import ModelOptions
from shared.queries.queries import Query, QueryOptions, QueryReport
from shared.triggers import routes
from shared.uploads.requests import EmbeddingRequest
from tests.conftest import Cloud
from tests.drawing import picture
from tests.model.replay import VECTOR, answering


def describe(cloud: Cloud, **fields: Any) -> None:
    """Describe the space as an earlier embedding did."""
    known = {"model": "Cohere-embed-v3-english", "dimensions": 1024, "first_seen": "2026-11-22T12:00:00Z", **fields}
    cloud.embeddings.upload_blob(f"{cloud.folder}/space.json", json.dumps(known), overwrite=True)


def health(cloud: Cloud) -> Any:
    return json.loads(routes.health(cloud.checks().recent(), 1024).get_body())


def ask(cloud: Cloud, text: str) -> int:
    options = QueryOptions(ModelOptions("query", cloud.settings.embedding_dimensions), time.monotonic() + 60)
    [answer] = cloud.queries().answer([Query("input[0]", text=text)], options, QueryReport())
    return answer.record.dimensions


def test_the_first_embedding_describes_the_space_and_later_ones_leave_it_alone(cloud: Cloud) -> None:
    before = now()
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    description = cloud.stored("space.json")
    assert before.isoformat()[:19] <= description.pop("first_seen")[:19]
    expected = {"model": "Cohere-embed-v3-english", "provider": None, "version": None, "dimensions": 1024}
    assert {name: description[name] for name in expected} == expected
    etag = cloud.embeddings.get_blob_client("Cohere-embed-v3-english/space.json").get_blob_properties().etag
    cloud.upload("b.png", picture("blue"))
    cloud.sync().upload("b.png")
    assert cloud.embeddings.get_blob_client("Cohere-embed-v3-english/space.json").get_blob_properties().etag == etag


@pytest.mark.parametrize("attempt", [0, 30])
def test_another_model_under_the_same_name_replaces_no_vector_and_records_no_failure(
    cloud: Cloud, attempt: int
) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    before = cloud.record("a.png")
    cloud.model.behave(answers_as="embed-v-4-0")
    cloud.upload("a.png", picture("blue"))
    cloud.upload("b.png", picture("green"))
    for name in ("a.png", "b.png"):
        report = cloud.sync().request(EmbeddingRequest(name=name, attempt=attempt, first_seen=now()))
        assert report.outcome == "deferred"
        assert "FOUNDRY_MODEL" in (report.message or "")
    assert cloud.record("a.png") == before
    assert cloud.records() == ["Cohere-embed-v3-english/images/a.png.json"]


def test_vectors_of_another_length_are_kept_out_too(cloud: Cloud) -> None:
    cloud = cloud.with_settings(FOUNDRY_MODEL="plain-embed")
    describe(cloud, model="plain-embed", dimensions=256)
    cloud.upload("a.png", picture())
    report = cloud.sync().upload("a.png")
    assert report.outcome == "deferred"
    assert "EMBEDDING_DIMENSIONS" in (report.message or "")
    assert cloud.records() == []


def test_one_answer_of_the_wrong_model_spares_the_other_images_their_calls(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.space._MISMATCH_SECONDS", math.inf)
    describe(cloud, model="another")
    sync = cloud.sync()
    for number in range(5):
        cloud.upload(f"{number}.png", picture(size=(20 + number, 20)))
        assert sync.upload(f"{number}.png").outcome == "deferred"
    assert len(cloud.model.calls()) == 1
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1


def test_images_are_embedded_again_once_the_right_model_is_back(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.storage.space._MISMATCH_SECONDS", 0)
    cloud.upload("a.png", picture())
    sync = cloud.sync()
    sync.upload("a.png")
    cloud.upload("a.png", picture("blue"))
    cloud.model.behave(answers_as="another")
    assert sync.upload("a.png").outcome == "deferred"
    cloud.model.behave()
    assert sync.upload("a.png").outcome == "embedded"


def test_a_corrected_description_counts_at_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.storage.space._MISMATCH_SECONDS", 0)
    describe(cloud, model="a gateway's name for it")
    cloud.upload("a.png", picture())
    sync = cloud.sync()
    assert sync.upload("a.png").outcome == "deferred"
    describe(cloud)
    assert sync.upload("a.png").outcome == "embedded"


def test_records_and_contents_name_the_model_as_the_service_does(cloud: Cloud) -> None:
    cloud.model.behave(answers_as="embed-english-v3.0")
    cloud.upload("a.png", picture())
    cloud.upload("copy.png", picture())
    sync = cloud.sync()
    assert [sync.upload(name).outcome for name in ("a.png", "copy.png")] == ["embedded", "copied"]
    for record in (cloud.record("a.png"), cloud.record("copy.png")):
        assert (record["model"], record["deployment"]) == ("embed-english-v3.0", "Cohere-embed-v3-english")
    assert cloud.stored("space.json")["model"] == "embed-english-v3.0"


@pytest.mark.parametrize("said", [{}, {"model": ""}, {"model": None}])
def test_a_service_that_names_no_model_is_compared_by_length_and_recorded_by_deployment(
    cloud: Cloud, said: dict[str, Any]
) -> None:
    cloud.upload("a.png", picture())
    with answering(cloud, 200, {**cloud.wire_format.vectors(VECTOR), **said}) as nameless:
        assert nameless.sync().upload("a.png").outcome == "embedded"
    assert cloud.record("a.png")["model"] == "Cohere-embed-v3-english"
    description = cloud.stored("space.json")
    assert (description["model"], description["dimensions"]) == (None, 1024)
    # The name is written down as soon as the service gives one.
    cloud.upload("b.png", picture("blue"))
    cloud.sync().upload("b.png")
    assert cloud.stored("space.json") == {**description, "model": "Cohere-embed-v3-english"}


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
def test_where_the_format_names_no_model_a_space_is_compared_by_length_and_recorded_by_deployment(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    assert cloud.sync().upload("a.png").outcome == "embedded"
    assert cloud.record("a.png")["model"] == cloud.settings.foundry_model
    description = cloud.stored("space.json")
    assert (description["model"], description["dimensions"]) == (None, 1024)
    describe(cloud, model=None, dimensions=1536)
    cloud.upload("b.png", picture("blue"))
    assert cloud.sync().upload("b.png").outcome == "deferred"


def test_the_same_name_in_other_letters_is_the_same_model(cloud: Cloud) -> None:
    describe(cloud, model="cohere-EMBED-v3-english")
    cloud.upload("a.png", picture())
    assert cloud.sync().upload("a.png").outcome == "embedded"


def test_whose_records_are_there_is_looked_for_beyond_a_page_without_any(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 1)
    model = cloud.settings.foundry_model
    for name, content in (("a.txt", b""), ("b.png.json", b'{"container": "another"}')):
        cloud.embeddings.upload_blob(f"{model}/images/{name}", content)
    assert cloud.space().folder() == f"{model}/containers/{cloud.settings.images_container}"


def test_whether_a_space_is_shared_is_looked_for_beyond_a_page_without_records(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 1)
    space = cloud.space()
    folder = f"{cloud.settings.foundry_model}/containers/another/images"
    cloud.embeddings.upload_blob(f"{folder}/a.txt", b"")
    assert not space.is_shared()
    cloud.embeddings.upload_blob(f"{folder}/b.png.json", b"{}")
    assert space.is_shared()


def test_fields_that_the_app_does_not_know_are_ignored(cloud: Cloud) -> None:
    describe(cloud, owner_of_the_quota="someone")
    cloud.upload("a.png", picture())
    assert cloud.sync().upload("a.png").outcome == "embedded"


def test_a_query_is_not_answered_with_a_vector_that_fits_no_image(cloud: Cloud) -> None:
    describe(cloud, model="another")
    with pytest.raises(WrongSpace, match="FOUNDRY_MODEL"):
        ask(cloud, "red")
    assert cloud.records() == []


def test_a_process_that_has_seen_only_the_claim_compares_with_what_is_described_later(cloud: Cloud) -> None:
    space = cloud.space()
    space.folder()
    space.compare("Cohere-embed-v3-english", 1024)
    describe(cloud, model="another")
    with pytest.raises(WrongSpace):
        space.compare("Cohere-embed-v3-english", 1024)


def test_queries_describe_no_space_and_are_answered_where_storage_fails(cloud: Cloud) -> None:
    assert ask(cloud, "red") == 1024
    assert cloud.stored("space.json") is None
    cloud.embeddings.delete_container()
    assert ask(cloud, "blue") == 1024


@pytest.mark.parametrize(
    ("described", "code", "setting"),
    [
        ({"model": "s3cret-model"}, "other_model", "FOUNDRY_MODEL"),
        ({"dimensions": 77}, "other_dimensions", "EMBEDDING_DIMENSIONS"),
        ({"dimensions": "many"}, "unreadable_space", "EMBEDDINGS_CONTAINER"),
    ],
)
def test_health_says_what_does_not_fit_and_what_to_do_without_naming_models(
    cloud: Cloud, described: dict[str, Any], code: str, setting: str
) -> None:
    assert health(cloud) == {"status": "ok", "dimensions": 1024}
    describe(cloud, **described)
    error = health(cloud)["error"]
    assert (error["code"], error["target"]) == (code, setting)
    assert not any(private in error["message"] for private in ("s3cret", "Cohere", "1024", "77"))
