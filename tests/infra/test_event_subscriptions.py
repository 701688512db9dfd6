"""Every event of an image arrives whole: by the webhook if it can carry the name, on the queue otherwise."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from shared.operations.dead_letters import CONTAINER as DEAD_LETTERS
from shared.storage.queues import QUEUE
from tests.infra.deployments import ROOT, made


def subscriptions(deployment: str = "events") -> dict[str, Any]:
    """What Event Grid is told to deliver, by the name of the subscription."""
    made_ = made(deployment, "Microsoft.EventGrid/systemTopics/eventSubscriptions")
    return {subscription["name"].rpartition("/")[2]: subscription["properties"] for subscription in made_}


IMAGES = "/blobServices/default/containers/images/blobs/"
KINDS = {
    "uploads": ["BlobCreated"],
    "uploads-unsafe": ["BlobCreated"],
    "uploads-unsafe-ending": ["BlobCreated"],
    "renames": ["BlobRenamed", "DirectoryRenamed", "DirectoryDeleted"],
    "deletions": ["BlobDeleted"],
}
# "String comparisons are case-insensitive", all conditions must hold, and of each any value: "Event filtering".
CONDITIONS: dict[str, Callable[[str, list[str]], bool]] = {
    "StringIn": lambda text, values: text in values,
    "StringContains": lambda text, values: any(value in text for value in values),
    "StringNotContains": lambda text, values: not any(value in text for value in values),
    "StringEndsWith": lambda text, values: text.endswith(tuple(values)),
    "StringNotEndsWith": lambda text, values: not text.endswith(tuple(values)),
}


def told_of_upload(name: str, api: str = "PutBlob") -> set[str]:
    """The subscriptions that get the event of an upload under this name."""
    event = {"subject": IMAGES + name, "data.api": api}
    return {
        subscription
        for subscription, properties in subscriptions().items()
        if KINDS[subscription] == ["BlobCreated"]
        and all(
            CONDITIONS[condition["operatorType"]](
                event[condition["key"]].lower(), [value.lower() for value in condition["values"]]
            )
            for condition in properties["filter"]["advancedFilters"]
        )
    }


def test_new_images_go_to_the_function_that_embeds_them() -> None:
    uploads = subscriptions()["uploads"]
    [name] = re.findall(r"functionName=Host\.Functions\.(\w+)&", uploads["destination"]["properties"]["endpointUrl"])
    assert re.search(rf"@uploads\.blob_trigger\(.*\ndef {name}\(", (ROOT / "function_app.py").read_text())


@pytest.mark.parametrize("name", ["a b.jpg", "trip/a#1.jpg", "a..b/.c/d", "ü/図.png", "a&code=1+2=3"])
def test_a_name_that_the_blob_trigger_can_carry_goes_to_it_alone(name: str) -> None:
    assert told_of_upload(name) == {"uploads"}


@pytest.mark.parametrize("api", ["PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose", "SftpCommit"])
def test_an_upload_is_announced_when_it_is_complete(api: str) -> None:
    assert told_of_upload("a.jpg", api) == {"uploads"}


@pytest.mark.parametrize("api", ["SftpCreate", "SftpWrite", "CreateFile", "AppendFile"])
def test_an_upload_is_not_announced_before_it_is_complete(api: str) -> None:
    assert told_of_upload("a.jpg", api) == set()


@pytest.mark.parametrize(
    "name",
    [
        *("/x.jpg", "/", "//", "a//b.jpg", "a/", "a//", "q?x=1.jpg", "back\\slash.jpg", "100%.jpg", "%2E%2e/q.jpg"),
        *(".", "..", "./q.jpg", "../q.jpg", "a/./q.jpg", "a/../q.jpg", "a/.", "a/..", "lost \ufffd.jpg"),
    ],
)
def test_a_name_that_the_blob_trigger_would_change_comes_over_the_queue(name: str) -> None:
    assert told_of_upload(name)
    assert "uploads" not in told_of_upload(name)


@pytest.mark.parametrize(("deployment", "webhook"), [("events", {"uploads"}), ("events-queue", set[str]())])
def test_all_but_the_webhook_goes_to_the_queue_that_the_app_reads_without_a_key(
    deployment: str, webhook: set[str]
) -> None:
    for name, subscription in subscriptions(deployment).items():
        delivery = subscription["deliveryWithResourceIdentity"]
        # Event Grid takes one of the two.
        assert (subscription.get("destination") is not None) == (delivery is None) == (name in webhook)
        if delivery:
            assert delivery["destination"]["properties"]["queueName"] == QUEUE
            assert delivery["identity"] == {"type": "SystemAssigned"}


@pytest.mark.parametrize("deployment", ["events", "events-queue"])
def test_each_subscription_takes_its_kinds_of_events_of_the_images_container_and_loses_none(deployment: str) -> None:
    assert subscriptions(deployment).keys() == KINDS.keys()
    for name, subscription in subscriptions(deployment).items():
        assert subscription["filter"]["includedEventTypes"] == [f"Microsoft.Storage.{kind}" for kind in KINDS[name]]
        assert subscription["filter"]["subjectBeginsWith"] == IMAGES
        assert subscription["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}
        kept = subscription["deadLetterWithResourceIdentity"]["deadLetterDestination"]["properties"]
        assert kept["blobContainerName"] == DEAD_LETTERS


def test_no_subscription_filters_by_more_values_than_event_grid_takes() -> None:
    for subscription in subscriptions().values():
        conditions = subscription["filter"].get("advancedFilters", [])
        assert sum(len(condition["values"]) for condition in conditions) <= 25
