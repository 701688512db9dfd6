"""The stand-in for Event Grid: what it reads from Azurite's access log, and how it delivers."""

import threading
from typing import Any

import httpx
import pytest

from local.events import Change, EventGrid, Subscription, change, event
from tests.local.conftest import eventually


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
def test_nothing_else_is(request_line: str, status: int) -> None:
    assert change(line(request_line, status)) is None
    assert change("Azurite Blob service is successfully listening at https://127.0.0.1:1") is None


def test_an_event_is_in_event_grids_own_schema() -> None:
    made = event(Change("PutBlob", "images", "trip/a%20b.png"), "https://storage/account")
    assert made["subject"] == "/blobServices/default/containers/images/blobs/trip/a b.png"
    assert made["eventType"] == "Microsoft.Storage.BlobCreated"
    assert made["data"]["url"] == "https://storage/account/images/trip/a%20b.png"
    assert event(Change("DeleteBlob", "images", "a"), "x")["eventType"] == "Microsoft.Storage.BlobDeleted"


class Receiver:
    """Takes events, but only from the third delivery on."""

    def __init__(self) -> None:
        self.refusals = 2
        self.events: list[str] = []
        self.deliveries = 0

    def __call__(self, events: list[dict[str, Any]]) -> None:
        self.deliveries += 1
        if self.deliveries <= self.refusals:
            raise httpx.ConnectError("not up yet")
        self.events += [one["data"]["url"] for one in events]


def test_events_come_in_order_many_at_a_time_and_again_until_they_are_taken() -> None:
    receiver, grid = Receiver(), EventGrid()
    for number in range(1000):
        grid.read(line(f"PUT /account/images/{number}", 201))
    with grid.delivering("", [Subscription("images", deletions=False, send=receiver)]):
        eventually(lambda: len(receiver.events) == 1000)
    assert receiver.events == [f"/images/{number}" for number in range(1000)]
    assert receiver.deliveries == 2 + 5


def test_a_subscriber_gets_only_what_it_subscribed_to() -> None:
    written, deleted, grid = Receiver(), Receiver(), EventGrid()
    written.refusals = deleted.refusals = 0
    for request in ("PUT /account/images/a", "PUT /account/images-archive/b"):
        grid.read(line(request, 201))
    grid.read(line("DELETE /account/images/c", 202))
    subscriptions = [
        Subscription("images", deletions=False, send=written),
        Subscription("images", deletions=True, send=deleted),
    ]
    with grid.delivering("", subscriptions):
        eventually(lambda: written.events and deleted.events)
    assert (written.events, deleted.events) == (["/images/a"], ["/images/c"])


def test_reading_never_waits_for_a_subscriber() -> None:
    grid, release = EventGrid(), threading.Event()

    def send(events: list[dict[str, Any]]) -> None:
        release.wait()

    with grid.delivering("", [Subscription("images", deletions=False, send=send)]):
        for number in range(10_000):
            grid.read(line(f"PUT /account/images/{number}", 201))
        release.set()
