"""An event names its image twice: its URL is believed, and its subject where there is no URL."""

import json
import logging
from urllib.parse import quote

import msgspec
import pytest

from shared.triggers.intake import read_queued
from shared.uploads.messages import read_failed_upload, read_requests
from shared.uploads.requests import EmbeddingRequest
from tests.conftest import Cloud
from tests.drawing import picture

ACCOUNT = "https://account.blob.core.windows.net"


WORDS = ["subject", "prefix", "returned", "audit"]


def names(subject: str, url: str | None) -> list[str]:
    event = {"subject": f"/blobServices/default/containers/images/blobs/{subject}"}
    body = event if url is None else {**event, "data": {"api": "PutBlob", "url": f"{ACCOUNT}/images/{url}"}}
    requests = read_requests(json.dumps([body]).encode())
    return [request.name for request in requests if isinstance(request, EmbeddingRequest)]


@pytest.mark.parametrize(
    ("subject", "url"),
    [
        ("a b.jpg", "a%20b.jpg"),
        ("a b.jpg", "a b.jpg"),
        ("100%.jpg", "100%25.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("a%20b.jpg", "a%2520b.jpg"),
        ("a#b.jpg", "a%23b.jpg"),
        ("a#b.jpg", "a#b.jpg"),
        ("q?x=1.jpg", "q%3Fx%3D1.jpg"),
        ("q?x=1.jpg", "q?x=1.jpg"),
        ("/leading.jpg", "/leading.jpg"),
        ("/leading.jpg", "%2Fleading.jpg"),
        ("doubled//slash.jpg", "doubled//slash.jpg"),
        ("trailing/", "trailing/"),
        ("back\\slash.jpg", "back%5Cslash.jpg"),
        ("Zoë/日本.jpg", "Zo%C3%AB/%E6%97%A5%E6%9C%AC.jpg"),
        ("images/images/a.jpg", "images/images/a.jpg"),
        ("\U0001f48e.jpg", "%F0%9F%92%8E.jpg"),
    ],
)
def test_a_name_is_the_same_by_subject_and_url_escaped_or_not(subject: str, url: str) -> None:
    assert names(subject, url) == [subject]


@pytest.mark.parametrize(
    ("subject", "url", "name"),
    [
        ("gem\ufffd\ufffd.jpg", "gem%F0%9F%92%8E.jpg", "gem\U0001f48e.jpg"),
        ("gem\ufffd\ufffd.jpg", "gem\U0001f48e.jpg", "gem\U0001f48e.jpg"),
        ("gem??.jpg", "gem%F0%9F%92%8E.jpg", "gem\U0001f48e.jpg"),
        ("lost \ufffd.jpg", "lost%20%EF%BF%BD.jpg", "lost \ufffd.jpg"),
        ("a%41.jpg", "a%2541.jpg", "a%41.jpg"),
    ],
)
def test_where_the_two_do_not_agree_the_url_is_believed(subject: str, url: str, name: str) -> None:
    assert names(subject, url) == [name]


@pytest.mark.parametrize("url", ["", "Zo%EB.jpg"])
def test_a_url_that_has_no_name_is_not_believed(url: str) -> None:
    assert names("Zo\u00eb.jpg", url) == ["Zo\u00eb.jpg"]


@pytest.mark.parametrize("word", WORDS)
def test_an_image_or_a_container_may_be_named_like_any_field_of_a_message(word: str) -> None:
    request = EmbeddingRequest(name=word, container=word, space=word)
    assert list(read_queued(msgspec.json.encode(request))) == [request]
    put_back = EmbeddingRequest(name=word, container=word, returned=1)
    assert read_failed_upload(msgspec.json.encode(put_back)) == [put_back]
    failed = json.dumps({"ContainerName": word, "BlobName": word, "ETag": "0x1"}).encode()
    assert read_failed_upload(failed) == [EmbeddingRequest(name=word, container=word)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 1025}, "name"),
        ({"attempt": -1}, "attempt"),
        ({"first_seen": "2026-11-22T12:00:00"}, "first_seen"),
    ],
)
def test_a_request_written_by_hand_that_could_never_be_settled_is_dropped_with_a_reason(
    cloud: Cloud, fields: dict[str, object], reason: str
) -> None:
    cloud.intake().queued(json.dumps({"name": "a.png", **fields}).encode())
    [path] = cloud.records()
    assert path.startswith("Cohere-embed-v3-english/dropped/")
    assert f"`$.{reason}`" in json.loads(cloud.embeddings.download_blob(path).readall())["reason"]


def test_no_line_says_that_an_image_was_removed_that_never_was(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "image_embeddings")
    name = "gem \U0001f48e 100%.png"
    cloud.upload(name, picture())
    container = cloud.settings.images_container
    event = {
        "subject": f"/blobServices/default/containers/{container}/blobs/gem \ufffd\ufffd 100%.png",
        "data": {"url": f"{ACCOUNT}/{container}/{quote(name)}"},
    }
    cloud.intake().queued(json.dumps(event).encode())
    assert cloud.record(name) is not None
    lines = [json.loads(record.message) for record in caplog.records if record.name == "image_embeddings"]
    assert [(line["name"], line["outcome"]) for line in lines] == [(name, "embedded")]


def test_an_event_without_a_url_goes_by_its_subject() -> None:
    assert names("a.jpg", None) == ["a.jpg"]
