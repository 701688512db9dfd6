"""An event names its image twice, and whichever way is right, that image is synced."""

import json

import pytest

from shared.uploads.messages import read_requests

ACCOUNT = "https://account.blob.core.windows.net"


def names(subject: str, url: str | None) -> list[str]:
    event = {"subject": f"/blobServices/default/containers/images/blobs/{subject}"}
    body = event if url is None else {**event, "data": {"api": "PutBlob", "url": f"{ACCOUNT}/images/{url}"}}
    return [request.name for request in read_requests(json.dumps([body]).encode(), "images")]


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


def test_where_the_two_do_not_agree_both_are_synced() -> None:
    assert names("a%41.jpg", "a%41.jpg") == ["a%41.jpg", "aA.jpg"]


def test_a_subject_that_has_lost_characters_is_not_believed() -> None:
    assert names("gem\ufffd\ufffd.jpg", "gem%F0%9F%92%8E.jpg") == ["gem\U0001f48e.jpg"]
    assert names("gem\ufffd\ufffd.jpg", None) == ["gem\ufffd\ufffd.jpg"]


def test_an_event_without_a_url_goes_by_its_subject() -> None:
    assert names("a.jpg", None) == ["a.jpg"]
