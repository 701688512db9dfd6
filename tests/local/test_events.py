"""What the stand-in for Event Grid reads from Azurite's access log, and which subscription gets which event."""

from urllib.parse import quote

import pytest

from local.events import Change, Subscription, change, deletions, event, unsafe_uploads, uploads
from local.host.blob_events import blob_of
from tests.infra.deployments import made
from tests.local.extension_cases import NAMES


def line(request: str, status: int) -> str:
    return f'127.0.0.1 - - [22/Nov/2026:19:16:22 +0000] "{request} HTTP/1.1" {status} -'


@pytest.mark.parametrize(
    ("request_line", "status", "api"),
    [
        ("PUT /devstoreaccount1/images/trip/a%20b.png", 201, "PutBlob"),
        ("PUT /devstoreaccount1/images/trip/a%20b.png?timeout=30&sig=x", 201, "PutBlob"),
        ("PUT /devstoreaccount1/images/trip/a%20b.png?comp=blocklist", 201, "PutBlockList"),
        ("PUT /devstoreaccount1/images/trip/a%20b.png", 202, "CopyBlob"),
        ("DELETE /devstoreaccount1/images/trip/a%20b.png", 202, "DeleteBlob"),
    ],
)
def test_a_write_or_deletion_of_a_blob_is_a_change(request_line: str, status: int, api: str) -> None:
    assert change(line(request_line, status)) == Change(api, "images", "trip/a%20b.png")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /devstoreaccount1/images/a.png", 200),
        ("PUT /devstoreaccount1/images/a.png", 403),
        ("PUT /devstoreaccount1/images?restype=container", 201),
        ("PUT /devstoreaccount1/images/a.png?comp=block&blockid=1", 201),
        ("PUT /devstoreaccount1/images/a.png?comp=metadata", 200),
        ("PUT /devstoreaccount1/images/a.png?comp=snapshot", 201),
        ("PUT /devstoreaccount1/images/a.png?comp=lease", 201),
        ("PUT /devstoreaccount1/queue", 201),
        ("POST /devstoreaccount1/queue/messages?visibilitytimeout=0", 201),
        ("DELETE /devstoreaccount1/images?restype=container", 202),
        ("DELETE /devstoreaccount1/images/a.png?snapshot=1", 202),
        ("DELETE /devstoreaccount1/queue/messages/1?popreceipt=x", 204),
    ],
)
def test_no_other_request_is_a_change(request_line: str, status: int) -> None:
    assert change(line(request_line, status)) is None
    assert change("Azurite Blob service is successfully listening at https://127.0.0.1:1") is None


def test_an_event_is_in_event_grids_own_schema() -> None:
    written = event(Change("PutBlob", "images", "trip/a%20b.png"), "https://storage/account")
    assert written["subject"] == "/blobServices/default/containers/images/blobs/trip/a b.png"
    assert written["eventType"] == "Microsoft.Storage.BlobCreated"
    assert written["data"]["url"] == "https://storage/account/images/trip/a%20b.png"
    assert event(Change("DeleteBlob", "images", "a"), "x")["eventType"] == "Microsoft.Storage.BlobDeleted"


def nobody(event: object) -> int:
    raise AssertionError("nothing is delivered in these tests")


UPLOADS = [uploads("images", nobody), *unsafe_uploads("images", nobody)]
DELETIONS = deletions("images", nobody)


def takers(api: str, name: str, container: str = "images") -> list[str]:
    """The subscriptions of a deployment that get the event of this blob."""
    written = event(Change(api, container, quote(name)), "https://account.blob.core.windows.net")
    return [subscription.name for subscription in (*UPLOADS, DELETIONS) if subscription.wants(written)]


@pytest.mark.parametrize("deployment", ["events", "events-queue"])
def test_the_subscriptions_are_those_of_a_deployment(deployment: str) -> None:
    deployed = made(deployment, "Microsoft.EventGrid/systemTopics/eventSubscriptions")
    assert [as_deployed(subscription) for subscription in (*UPLOADS, DELETIONS)] == [
        (
            subscription["name"].rpartition("/")[2],
            subscription["properties"]["filter"]["includedEventTypes"],
            [
                (condition["key"], condition["operatorType"], tuple(condition["values"]))
                for condition in subscription["properties"]["filter"].get("advancedFilters", [])
            ],
        )
        for subscription in deployed
        # Azurite has no folders, and renames nothing.
        if not subscription["name"].endswith("/renames")
    ]


def as_deployed(subscription: Subscription) -> tuple[str, list[str], list[tuple[str, str, tuple[str, ...]]]]:
    filters: list[tuple[str, str, tuple[str, ...]]] = [
        (one.key, one.operator, one.values) for one in subscription.filters
    ]
    return subscription.name, [subscription.event_type], filters


@pytest.mark.parametrize("name", ["a.png", "trip/a b#1.jpg", "ü/🍋.jpg", ".hidden", "a..b/...c", "a:b&c+d.jpg"])
def test_an_upload_is_announced_once(name: str) -> None:
    assert takers("PutBlob", name) == ["uploads"]


@pytest.mark.parametrize(
    "name", ["q?x=1", "back\\slash", "100%.jpg", "\ufffd", "/x", "d//x", "a/../q", "../q", "./q", "a/./q", "a/?/."]
)
def test_an_upload_whose_name_the_webhook_loses_is_announced_apart(name: str) -> None:
    assert "uploads-unsafe" in takers("PutBlob", name)
    assert "uploads" not in takers("PutBlob", name)


@pytest.mark.parametrize("name", ["a/", "a/.", "a/..", ".."])
def test_an_upload_whose_name_ends_in_what_the_webhook_loses_is_announced_on_the_queue(name: str) -> None:
    assert takers("PutBlob", name) == ["uploads-unsafe-ending"]


@pytest.mark.parametrize("name", sorted({*NAMES, *NAMES.values()}))
def test_every_name_is_announced_and_to_the_webhook_only_where_it_arrives_whole(name: str) -> None:
    found = takers("PutBlob", name)
    assert found
    if "uploads" in found:
        assert found == ["uploads"]
        assert blob_of(f"https://account.blob.core.windows.net/images/{quote(name)}") == ("images", name)


@pytest.mark.parametrize("name", ["a.png", "q?x=1", "a/"])
def test_a_deletion_is_announced_whatever_the_name(name: str) -> None:
    assert takers("DeleteBlob", name) == ["deletions"]


@pytest.mark.parametrize("container", ["images-archive", "embeddings"])
def test_blobs_of_other_containers_are_not_announced(container: str) -> None:
    assert not takers("PutBlob", "a.png", container)


@pytest.mark.parametrize("api", ["PutBlock", "SetBlobTier"])
def test_an_upload_that_is_not_complete_is_not_announced(api: str) -> None:
    assert not takers(api, "a.png")
