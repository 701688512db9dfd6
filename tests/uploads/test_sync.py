"""One image: whatever happened to it, a sync makes its record match it."""

import hashlib
import io
import logging
import random
from datetime import timedelta

import msgspec
import pytest
from PIL import Image

from shared.clock import now
from shared.errors import StorageError
from shared.uploads.records import content_key
from shared.uploads.requests import EmbeddingRequest
from tests.conftest import Cloud
from tests.drawing import picture
from tests.model.replay import VECTOR, Replay, replaying
from tests.queue_messages import length, queued
from tests.uploads.outdated import outdated


@pytest.mark.either_format
def test_a_new_image_gets_a_record_of_the_documented_shape(cloud: Cloud) -> None:
    data = picture("red", (400, 300), "JPEG")
    etag = cloud.upload("trip/a b#1.jpg", data)
    report = cloud.sync().upload("trip/a b#1.jpg")
    assert report.outcome == "embedded"
    record = cloud.record("trip/a b#1.jpg")
    embedding = record.pop("embedding")
    assert len(embedding) == 1024
    assert record.pop("embedded_at").endswith("Z")
    container = cloud.settings.images_container
    assert record == {
        "id": hashlib.sha256(f"{container}/trip/a b#1.jpg".encode()).hexdigest(),
        "schema": 2,
        "container": container,
        "name": "trip/a b#1.jpg",
        "url": f"{cloud.environment['ImageStorage__blobServiceUri']}/{container}/trip/a%20b%231.jpg",
        "etag": etag,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "media_type": "image/jpeg",
        "width": 400,
        "height": 300,
        "text": None,
        "model": cloud.settings.foundry_model,
        "deployment": cloud.settings.foundry_model,
        "input_type": "document",
        "dimensions": 1024,
        "preparation": cloud.preparation,
        "prompt_tokens": 1000,
        "total_tokens": 1000,
    }


@pytest.mark.either_format
def test_the_record_s_metadata_has_what_an_audit_needs(cloud: Cloud) -> None:
    data = picture()
    etag = cloud.upload("a.png", data)
    cloud.sync().upload("a.png")
    properties = cloud.embeddings.get_blob_client(f"{cloud.folder}/images/a.png.json").get_blob_properties()
    sha256 = hashlib.sha256(data).hexdigest()
    # When it was written, in milliseconds: what the index of search goes by.
    seq = int(properties.metadata.pop("seq"))
    assert abs(seq / 1000 - properties.last_modified.timestamp()) < 60
    assert properties.metadata == {
        "etag": etag,
        "preparation": str(cloud.preparation),
        "sha256": sha256,
        "content": content_key(sha256, None, cloud.preparation),
        "tokens": "1000",
        "images_container": cloud.settings.images_container,
    }
    assert properties.content_settings.content_type == "application/json"


@pytest.mark.either_format
def test_the_model_is_sent_one_picture_as_a_document_and_the_dimensions_that_are_set(cloud: Cloud) -> None:
    cloud.upload("a.tiff", picture("red", (4000, 1000), "TIFF"))
    cloud.sync().upload("a.tiff")
    [call] = cloud.model.calls()
    assert (call["route"], call["status"], call["inputs"]) == (cloud.wire_format.image_route, 200, 1)
    assert call["input_type"] == cloud.wire_format.input_types["document"]
    assert call["dimensions"] == cloud.settings.embedding_dimensions
    assert call["width"] * call["height"] <= 2_458_624


@pytest.mark.either_format
def test_dimensions_that_are_set_are_part_of_the_space_s_name(cloud: Cloud) -> None:
    cloud = cloud.with_settings(FOUNDRY_MODEL="embed-v-4-0", EMBEDDING_DIMENSIONS="256")
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    assert [call["dimensions"] for call in cloud.model.calls()] == [256]
    [blob] = cloud.records()
    assert blob == "embed-v-4-0-256/images/a.png.json"


@pytest.mark.either_format
@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"text": "a red square"}, "a red square"),
        ({"Text": "Zo%C3%AB%27s 100%25"}, "Zoë's 100%"),
        ({"text": "  "}, None),
        ({"other": "a red square"}, None),
    ],
)
def test_the_text_in_the_blob_s_metadata_is_embedded_with_the_image(
    cloud: Cloud, metadata: dict[str, str], text: str | None
) -> None:
    cloud.upload("a.png", picture(), **metadata)
    cloud.sync().upload("a.png")
    assert cloud.model.calls()[0]["text"] == text
    assert cloud.record("a.png")["text"] == text


@pytest.mark.either_format
def test_an_empty_metadata_key_sends_no_text(cloud: Cloud) -> None:
    cloud.upload("a.png", picture(), text="a red square")
    cloud.with_settings(TEXT_METADATA="").sync().upload("a.png")
    assert cloud.model.calls()[0]["text"] is None


@pytest.mark.either_format
def test_an_unchanged_image_is_neither_downloaded_nor_embedded_again(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    sync = cloud.sync()
    sync.upload("a.png")
    report = sync.upload("a.png")
    assert report.outcome == "unchanged"
    assert "download" not in report.ms
    assert len(cloud.model.calls()) == 1


@pytest.mark.either_format
def test_a_changed_image_gets_a_new_record(cloud: Cloud) -> None:
    sync = cloud.sync()
    cloud.upload("a.png", picture("red"))
    sync.upload("a.png")
    etag = cloud.upload("a.png", picture("blue"))
    assert sync.upload("a.png").outcome == "embedded"
    assert cloud.record("a.png")["etag"] == etag
    assert cloud.record("a.png")["sha256"] == hashlib.sha256(picture("blue")).hexdigest()


@pytest.mark.either_format
def test_an_image_of_an_older_preparation_is_embedded_again_only_on_request(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cloud.preparation
    outdated(cloud, monkeypatch)
    sync = cloud.sync()
    assert sync.upload("a.png").outcome == "unchanged"
    assert sync.request(EmbeddingRequest(name="a.png")).outcome == "unchanged"
    assert (cloud.record("a.png")["preparation"], len(cloud.model.calls())) == (before, 1)
    assert sync.request(EmbeddingRequest(name="a.png", refresh=True)).outcome == "embedded"
    assert sync.request(EmbeddingRequest(name="a.png", refresh=True)).outcome == "unchanged"
    assert (cloud.record("a.png")["preparation"], len(cloud.model.calls())) == (cloud.preparation, 2)


@pytest.mark.either_format
def test_a_refresh_that_is_put_off_stays_one(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    outdated(cloud, monkeypatch)
    monkeypatch.setattr("shared.uploads.requests._wait", lambda *_: 0.0)
    cloud.model.behave(fault={"kind": "unauthorized"})
    deferred = cloud.sync().request(EmbeddingRequest(name="a.png", refresh=True))
    assert deferred.outcome == "deferred"
    assert [message["refresh"] for message in queued(cloud, cloud.waiting)] == [True]


@pytest.mark.either_format
def test_a_refresh_that_is_given_up_keeps_the_embedding(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    outdated(cloud, monkeypatch)
    before = cloud.record("a.png")
    cloud.model.behave(fault={"kind": "unauthorized"})
    given_up = cloud.sync().request(EmbeddingRequest(name="a.png", refresh=True, attempt=30))
    assert given_up.outcome == "unchanged"
    cloud.sync().crashed("a.png")
    assert cloud.record("a.png") == before
    assert cloud.failure("a.png") is None


def test_a_deleted_image_loses_its_record_and_its_failure(cloud: Cloud) -> None:
    sync = cloud.sync()
    for name, data in (("good.png", picture()), ("bad.png", b"not a picture")):
        cloud.upload(name, data)
        sync.upload(name)
        cloud.images.delete_blob(name)
        assert sync.upload(name).outcome == "removed"
    assert cloud.records() == []


def test_an_image_that_never_existed_leaves_nothing(cloud: Cloud) -> None:
    assert cloud.sync().upload("never.png").outcome == "removed"
    assert cloud.records() == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"these are words", "not_an_image"),
        (b"%PDF-1.7 a document", "unsupported_format"),
        (picture("red", (400, 300), "JPEG")[:900], "damaged_image"),
    ],
)
def test_a_blob_that_is_no_picture_gets_a_failure_record_and_no_model_call(
    cloud: Cloud, data: bytes, code: str
) -> None:
    etag = cloud.upload("bad.jpg", data)
    report = cloud.sync().upload("bad.jpg")
    assert (report.outcome, report.code) == ("failed", code)
    failure = cloud.failure("bad.jpg")
    assert failure.pop("message")
    assert failure.pop("first_seen") == failure.pop("last_seen")
    assert failure == {
        "name": "bad.jpg",
        "etag": etag,
        "code": code,
        "status": None,
        "permanent": True,
        "attempts": 1,
    }
    assert cloud.model.calls() == []


def test_a_blob_over_the_limit_is_never_downloaded(cloud: Cloud) -> None:
    cloud.upload("big.png", b"x" * 2000)
    limited = cloud.with_settings(IMAGE_MAX_BYTES="1999")
    found = limited.image_reader().find("big.png", with_content=True)
    assert found is not None
    assert (found.size, found.content) == (2000, None)
    assert limited.sync().upload("big.png").code == "too_many_bytes"
    assert "2,000 bytes" in cloud.failure("big.png")["message"]


def test_a_picture_over_the_pixel_limit_is_refused(cloud: Cloud) -> None:
    cloud.upload("wide.png", picture())
    assert cloud.with_settings(IMAGE_MAX_PIXELS="4799").sync().upload("wide.png").code == "too_many_pixels"


@pytest.mark.either_format
def test_a_refusal_of_the_model_is_recorded_after_one_call(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "content_filter"})
    cloud.upload("a.png", picture())
    report = cloud.sync().upload("a.png")
    assert (report.outcome, report.code) == ("failed", "content_filtered")
    failure = cloud.failure("a.png")
    assert (failure["status"], failure["permanent"]) == (400, True)
    assert "filtered" in failure["message"]
    assert len(cloud.model.calls()) == 1


@pytest.mark.either_format
def test_an_answer_with_a_vector_and_nothing_else_makes_a_record(cloud: Cloud) -> None:
    asked: list[bytes] = []

    def respond(body: bytes) -> Replay:
        asked.append(body)
        return 200, cloud.wire_format.vectors(VECTOR)

    cloud.upload("a.png", picture())
    with replaying(cloud, respond) as replayed:
        assert replayed.sync().upload("a.png").outcome == "embedded"
    assert len(asked) == 1
    record = cloud.record("a.png")
    assert (record["embedding"], record["total_tokens"]) == (VECTOR, None)


@pytest.mark.either_format
def test_a_png_over_the_model_s_limit_is_a_refusal_if_model_max_bytes_is_too_high(cloud: Cloud) -> None:
    file = io.BytesIO()
    noise = random.Random(1).randbytes(1500 * 1400 * 3)
    Image.frombytes("RGB", (1500, 1400), noise).save(file, "PNG", compress_level=0)
    cloud.upload("a.png", file.getvalue())
    report = cloud.with_settings(MODEL_MAX_BYTES="9000000").sync().upload("a.png")
    assert (report.outcome, report.code) == ("failed", "refused_by_model")


def test_a_failure_counts_its_attempts_and_keeps_the_time_of_the_first(cloud: Cloud) -> None:
    cloud.upload("bad.png", b"words")
    sync = cloud.sync()
    sync.upload("bad.png")
    first = cloud.failure("bad.png")
    sync.upload("bad.png")
    second = cloud.failure("bad.png")
    assert (second["attempts"], second["first_seen"]) == (2, first["first_seen"])
    cloud.upload("bad.png", b"other words")
    sync.upload("bad.png")
    assert cloud.failure("bad.png")["attempts"] == 1


def test_a_failure_is_removed_once_the_image_is_embedded(cloud: Cloud) -> None:
    sync = cloud.sync()
    cloud.upload("a.png", b"words")
    sync.upload("a.png")
    cloud.upload("a.png", picture())
    sync.upload("a.png")
    assert cloud.failure("a.png") is None
    assert cloud.record("a.png") is not None


def test_an_image_overwritten_by_something_unusable_loses_its_record(cloud: Cloud) -> None:
    sync = cloud.sync()
    cloud.upload("a.png", picture())
    sync.upload("a.png")
    cloud.upload("a.png", b"words")
    sync.upload("a.png")
    assert cloud.record("a.png") is None
    assert cloud.failure("a.png")["code"] == "not_an_image"


def test_a_blob_of_another_container_is_ignored(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.upload("a.png", picture())
    cloud.intake().uploaded("another", "a.png")
    assert cloud.records() == []
    assert "another is not IMAGES_CONTAINER" in caplog.text


@pytest.mark.parametrize("name", ["../another/a.png", "b/../a.png", "./a.png", ".."])
def test_a_name_that_a_url_resolves_to_another_image_is_ignored(cloud: Cloud, name: str) -> None:
    cloud.upload("a.png", picture())
    report = cloud.sync().upload(name)
    assert report.outcome == "ignored"
    assert cloud.records() == []


@pytest.mark.either_format
def test_each_sync_logs_one_line_with_its_times_and_tokens(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "image_embeddings")
    cloud.upload("a.png", picture(), text="secret words")
    cloud.intake().uploaded(cloud.settings.images_container, "a.png")
    [line] = [msgspec.json.decode(record.message) for record in caplog.records if record.name == "image_embeddings"]
    assert (line["event"], line["name"], line["outcome"]) == ("image", "a.png", "embedded")
    assert line["total_tokens"] == cloud.record("a.png")["total_tokens"]
    assert {"look", "download", "prepare", "embed", "write", "total"} == set(line["ms"])
    assert "secret" not in caplog.text


def test_a_sync_that_storage_fails_raises_and_logs_its_line(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.upload("a.png", picture())
    cloud.embeddings.delete_container()
    with pytest.raises(StorageError):
        cloud.sync().upload("a.png")
    [line] = [msgspec.json.decode(record.message) for record in caplog.records if record.name == "image_embeddings"]
    assert (line["name"], line["outcome"]) == ("a.png", "error")
    assert "ContainerNotFound" in line["message"]


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
def test_while_the_model_is_throttled_no_image_is_prepared(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 60, "retry_after": "seconds"})
    sync = cloud.sync()
    cloud.upload("a.png", picture())
    assert sync.upload("a.png").outcome == "deferred"
    monkeypatch.setattr("shared.uploads.embed.prepare", None)
    cloud.upload("b.png", picture(size=(30, 30)))
    report = sync.upload("b.png")
    assert report.outcome == "deferred"
    assert len(cloud.model.calls()) == 1


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
def test_a_sync_that_the_rate_limiter_stopped_does_not_count_as_an_attempt(cloud: Cloud) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 100, "retry_after": "seconds"})
    sync = cloud.sync()
    cloud.upload("a.png", picture())
    cloud.upload("b.png", picture(size=(30, 30)))
    sync.upload("a.png")
    exhausted = EmbeddingRequest(name="b.png", attempt=30, first_seen=now() - timedelta(days=2))
    assert sync.request(exhausted).outcome == "deferred"
    assert cloud.failure("b.png") is None
    assert length(cloud.waiting) == 2
    assert sync.request(EmbeddingRequest(name="b.png", attempt=3)).attempt == 3
