"""Dead letters are work: their images go on the queue, and nothing in them is lost."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient

from local.azurite import Azurite
from shared.errors import StorageError
from shared.operations.dead_letters import DeadLetterCounts
from shared.storage.blobs import JsonBlobs
from tests.conftest import Cloud
from tests.queue_messages import queued_names


def event(name: str, container: str) -> dict[str, Any]:
    """As Event Grid leaves it, in its own schema ("Set dead-letter location and retry policy")."""
    return {
        "id": "1",
        "eventTime": "2026-11-22T12:00:00.1234567Z",
        "eventType": "Microsoft.Storage.BlobCreated",
        "dataVersion": "",
        "metadataVersion": "1",
        "topic": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a",
        "subject": f"/blobServices/default/containers/{container}/blobs/{name}",
        "deadLetterReason": "UndeliverableDueToHttpUnauthorized",
        "deliveryAttempts": 1,
        "lastDeliveryOutcome": "Unauthorized",
        "publishTime": "2026-11-22T12:00:00.3456789Z",
        "lastDeliveryAttemptTime": "2026-11-22T12:00:01.3456789Z",
        "data": {"api": "PutBlob", "url": f"https://a.blob.core.windows.net/{container}/{name}"},
    }


def cloud_event(name: str, container: str) -> dict[str, Any]:
    """The same in the CloudEvents schema."""
    return {
        "specversion": "1.0",
        "id": "1",
        "type": "Microsoft.Storage.BlobCreated",
        "source": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a",
        "subject": f"/blobServices/default/containers/{container}/blobs/{name}",
        "time": "2026-11-22T12:00:00Z",
        "deadletterreason": "MaxDeliveryAttemptsExceeded",
        "deliveryattempts": 30,
        "data": {"api": "PutBlob", "url": f"https://a.blob.core.windows.net/{container}/{name}"},
    }


@pytest.fixture
def container(cloud: Cloud, azurite: Azurite) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(
        azurite.connection_string, connection_verify=str(azurite.ca_file)
    ) as service:
        yield service.create_container(f"dead-{cloud.settings.images_container}")


def leave(container: ContainerClient, name: str, content: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    container.upload_blob(f"TOPIC/UPLOADS/2026/11/22/12/{name}.json", data)


@pytest.mark.parametrize("schema", [event, cloud_event])
def test_each_image_that_a_dead_letter_names_is_put_on_the_queue_and_the_dead_letter_removed(
    cloud: Cloud, container: ContainerClient, schema: Any
) -> None:
    images = cloud.settings.images_container
    leave(container, "1", [schema("a.png", images), schema("Zoë/b.png", images)])
    leave(container, "2", [schema("c.png", images)])
    assert cloud.dead_letters(container.container_name).requeue() == DeadLetterCounts(requeued=3)
    assert sorted(queued_names(cloud, cloud.waiting)) == ["Zoë/b.png", "a.png", "c.png"]
    assert list(container.list_blob_names()) == []


@pytest.mark.parametrize("content", [b"", b"<html>", b"[{}]", b'[{"subject": "/elsewhere"}]'])
def test_a_dead_letter_that_nobody_can_read_is_kept_counted_and_read_only_once(
    cloud: Cloud, container: ContainerClient, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    leave(container, "1", content)
    assert cloud.dead_letters(container.container_name).requeue() == DeadLetterCounts(unreadable=1)
    monkeypatch.setattr(JsonBlobs, "read_bytes", lambda *_: 1 / 0)
    assert cloud.dead_letters(container.container_name).requeue() == DeadLetterCounts(unreadable=1)
    assert len(list(container.list_blob_names())) == 1


def test_dead_letters_of_another_container_are_left_for_the_app_that_watches_it(
    cloud: Cloud, container: ContainerClient
) -> None:
    leave(container, "1", [event("a.png", "another")])
    assert cloud.dead_letters(container.container_name).requeue() == DeadLetterCounts(waiting=1)
    assert len(list(container.list_blob_names())) == 1
    assert queued_names(cloud, cloud.waiting) == []


def test_dead_letters_of_an_app_that_is_gone_do_not_keep_ours_from_the_queue(
    cloud: Cloud, container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.operations.dead_letters._MAX_BLOBS", 2)
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 2)
    for number in range(5):
        leave(container, str(number), [event("a.png", "another")])
    leave(container, "5", [event("ours.png", cloud.settings.images_container)])
    letters = cloud.dead_letters(container.container_name)
    assert letters.count() == DeadLetterCounts(waiting=6)
    assert letters.requeue() == DeadLetterCounts(requeued=1, waiting=5)
    assert queued_names(cloud, cloud.waiting) == ["ours.png"]


def test_each_run_takes_dead_letters_in_another_order(
    cloud: Cloud, container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for number in range(20):
        leave(container, str(number), [event("a.png", "another")])
    monkeypatch.setattr(JsonBlobs, "read_bytes", lambda _, name: read.append(name))
    letters = cloud.dead_letters(container.container_name)
    letters.requeue()
    letters.requeue()
    assert read[:20] != read[20:]


def test_a_dead_letter_stays_while_the_queue_is_missing(cloud: Cloud, container: ContainerClient) -> None:
    leave(container, "1", [event("a.png", cloud.settings.images_container)])
    letters = cloud.with_settings(QUEUE_PREFIX="missing-").dead_letters(container.container_name)
    with pytest.raises(StorageError, match="QueueNotFound"):
        letters.requeue()
    assert len(list(container.list_blob_names())) == 1


def test_a_run_requeues_so_many_dead_letters_and_the_next_run_the_others(
    cloud: Cloud, container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.operations.dead_letters._MAX_BLOBS", 2)
    for number in range(3):
        leave(container, str(number), [event(f"{number}.png", cloud.settings.images_container)])
    assert cloud.dead_letters(container.container_name).count() == DeadLetterCounts(waiting=3)
    assert cloud.dead_letters(container.container_name).requeue() == DeadLetterCounts(requeued=2, waiting=1)
    assert cloud.dead_letters(container.container_name).requeue() == DeadLetterCounts(requeued=1)
    assert sorted(queued_names(cloud, cloud.waiting)) == ["0.png", "1.png", "2.png"]


def test_a_deployment_without_the_container_has_no_dead_letters(cloud: Cloud) -> None:
    missing = cloud.dead_letters()
    assert missing.requeue() == missing.count() == DeadLetterCounts()


def test_the_watch_requeues_dead_letters_and_logs_how_many(
    cloud: Cloud, container: ContainerClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "image_embeddings")
    leave(container, "1", [event("a.png", cloud.settings.images_container)])
    leave(container, "2", b"<html>")
    found = cloud.dead_letters(container.container_name)
    report = cloud.watch(dead_letters=found)()
    assert report.dead_letters == {"requeued": 1, "unreadable": 1}
    assert queued_names(cloud, cloud.waiting) == ["a.png"]
    assert json.loads(caplog.records[-1].getMessage())["dead_letters"] == {"requeued": 1, "unreadable": 1}


def test_dead_letters_that_the_app_may_not_read_are_a_problem_with_a_role_to_give(
    cloud: Cloud, container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("403 AuthorizationPermissionMismatch", status=403)

    monkeypatch.setattr(JsonBlobs, "pages", refuse)
    report = cloud.watch(dead_letters=cloud.dead_letters(container.container_name))()
    assert (report.outcome, report.problems) == ("misconfigured", ["dead_letters_out_of_reach"])
    assert "Storage Blob Data Contributor" in (report.message or "")
