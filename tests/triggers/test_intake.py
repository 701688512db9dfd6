"""Every event and queue message either names images, or is dropped and recorded."""

import base64
import json
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from shared.uploads.messages import UnreadableMessageError, read_failed_upload, read_requests
from shared.uploads.requests import EmbeddingRequest, FolderRequest
from tests.audit.audits import drain
from tests.conftest import Cloud
from tests.drawing import picture

NAME = "Zoë/a b#1?&blobs/x.png"


def event(kind: str, name: str = NAME, container: str = "images") -> dict[str, Any]:
    return {
        "id": "1",
        "eventType": f"Microsoft.Storage.{kind}",
        "subject": f"/blobServices/default/containers/{container}/blobs/{name}",
        "data": {"api": "DeleteBlob", "url": f"https://x.blob.core.windows.net/{container}/{quote(name)}"},
        "eventTime": "2026-11-22T12:00:00Z",
    }


def cloud_event(name: str = NAME) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "Microsoft.Storage.BlobDeleted",
        "source": "/subscriptions/x",
        "id": "1",
        "subject": f"/blobServices/default/containers/images/blobs/{name}",
        "data": {},
    }


def requests(body: bytes) -> list[EmbeddingRequest]:
    return [request for request in read_requests(body) if isinstance(request, EmbeddingRequest)]


@pytest.mark.parametrize("encodings", [0, 1, 2])
@pytest.mark.parametrize(
    "message",
    [
        {"name": NAME},
        {"name": NAME, "attempt": 2, "first_seen": "2026-11-22T12:00:00Z"},
        event("BlobDeleted"),
        event("BlobCreated"),
        [event("BlobDeleted")],
        cloud_event(),
    ],
)
def test_requests_and_events_of_both_schemas_name_the_image(message: Any, encodings: int) -> None:
    body = json.dumps(message).encode()
    for _ in range(encodings):
        # In lines, as the usual tools write it.
        body = base64.encodebytes(body)
    [request] = requests(body)
    assert request.name == NAME


def test_a_request_keeps_its_attempt_and_the_time_of_the_first() -> None:
    [request] = requests(b'{"name":"a","attempt":7,"first_seen":"2026-11-22T12:00:00Z"}')
    assert request.attempt == 7
    assert request.first_seen is not None
    assert request.first_seen.hour == 12


def test_each_event_names_its_container() -> None:
    events = [event("BlobDeleted", container="images-archive"), event("BlobDeleted", "b.png")]
    read = [(request.container, request.name) for request in requests(json.dumps(events).encode())]
    assert read == [("images-archive", NAME), ("images", "b.png")]


UNREADABLE = [
    b"",
    b"hello",
    b"{",
    b"\xff\xfe",
    b"{}",
    b'{"name": 7}',
    b'{"name": "a", "attempt": "many"}',
    b'{"subject": "/somewhere/else"}',
    b'{"subject": "/blobServices/default/containers/images/blobs/"}',
    b"[1]",
    b"[" * 100_000,
    b'{"name": "a", "other": ' + b"[" * 100_000,
]


@pytest.mark.parametrize("body", UNREADABLE)
def test_anything_else_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableMessageError):
        read_requests(body)
    with pytest.raises(UnreadableMessageError):
        read_failed_upload(body)


def test_an_unreadable_message_is_recorded_and_dropped_never_retried(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    intake = cloud.intake()
    for receive in (intake.queued, intake.failed_upload, intake.failed_request):
        receive(b"hello")
    [path] = cloud.records()
    assert path.startswith("Cohere-embed-v3-english/dropped/")
    record = json.loads(cloud.embeddings.download_blob(path).readall())
    assert (record["content"], set(record)) == ("hello", {"content", "reason", "seen_at"})
    assert caplog.text.count("message_dropped") == 3


@pytest.mark.parametrize(
    ("body", "content"),
    [(b"abcd", "abcd"), (base64.b64encode(b'{"na": "me"}'), '{"na": "me"}'), (b"\xff", "\ufffd")],
)
def test_an_unreadable_message_is_recorded_as_an_operator_can_read_it(cloud: Cloud, body: bytes, content: str) -> None:
    cloud.intake().queued(body)
    [path] = cloud.records()
    assert json.loads(cloud.embeddings.download_blob(path).readall())["content"] == content


def test_a_deletion_event_removes_the_record(cloud: Cloud) -> None:
    cloud.upload(NAME, picture())
    intake = cloud.intake()
    intake.uploaded(cloud.settings.images_container, NAME)
    cloud.images.delete_blob(NAME)
    intake.queued(json.dumps(event("BlobDeleted", container=cloud.settings.images_container)).encode())
    assert cloud.records() == []


def renamed(container: str, kind: str, source: str, destination: str, *, cloud_event: bool = False) -> bytes:
    """As in "Azure Blob Storage as an Event Grid source"."""
    data = {
        "api": "RenameFile",
        "sourceUrl": f"https://x.dfs.core.windows.net/{container}/{quote(source)}",
        "destinationUrl": f"https://x.dfs.core.windows.net/{container}/{quote(destination)}",
    }
    subject = f"/blobServices/default/containers/{container}/blobs/{destination}"
    key = "type" if cloud_event else "eventType"
    return json.dumps({"subject": subject, key: f"Microsoft.Storage.{kind}", "data": data}).encode()


@pytest.mark.parametrize("cloud_event", [False, True])
def test_of_a_renamed_image_the_old_name_loses_its_record_and_the_new_one_gets_one(
    cloud: Cloud, cloud_event: bool
) -> None:
    cloud.upload("old ü.png", picture())
    intake = cloud.intake()
    container = cloud.settings.images_container
    intake.uploaded(container, "old ü.png")
    cloud.images.delete_blob("old ü.png")
    cloud.upload("new #.png", picture())
    intake.queued(renamed(container, "BlobRenamed", "old ü.png", "new #.png", cloud_event=cloud_event))
    assert (cloud.record("old ü.png"), cloud.record("new #.png") is None) == (None, False)


@pytest.mark.parametrize("cloud_event", [False, True])
def test_a_renamed_folder_is_audited_at_both_places(cloud: Cloud, cloud_event: bool) -> None:
    cloud.upload("old/a.png", picture())
    intake = cloud.intake()
    container = cloud.settings.images_container
    intake.uploaded(container, "old/a.png")
    cloud.images.delete_blob("old/a.png")
    cloud.upload("new/a.png", picture())
    intake.queued(renamed(container, "DirectoryRenamed", "old", "new", cloud_event=cloud_event))
    drain(cloud)
    assert (cloud.record("old/a.png"), cloud.record("new/a.png") is None) == (None, False)


def test_a_deleted_folder_is_audited(cloud: Cloud) -> None:
    cloud.upload("trip/a.png", picture())
    intake = cloud.intake()
    container = cloud.settings.images_container
    intake.uploaded(container, "trip/a.png")
    cloud.images.delete_blob("trip/a.png")
    event_ = {
        "subject": f"/blobServices/default/containers/{container}/blobs/trip",
        "eventType": "Microsoft.Storage.DirectoryDeleted",
        "data": {
            "api": "DeleteDirectory",
            "url": f"https://x.dfs.core.windows.net/{container}/trip",
            "recursive": "true",
        },
    }
    intake.queued(json.dumps(event_).encode())
    drain(cloud)
    assert cloud.record("trip/a.png") is None


def test_a_folder_that_goes_back_on_the_queue_for_another_app_is_read_as_it_was() -> None:
    folder = FolderRequest(prefix="trip/", container="another", returned=3)
    assert list(read_requests(msgspec.json.encode(folder))) == [folder]
    named = EmbeddingRequest(name='a "prefix": b.png')
    assert list(read_requests(msgspec.json.encode(named))) == [named]


def test_a_folder_that_the_platform_gave_up_on_is_an_error_that_says_what_to_do(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.intake().failed_request(msgspec.json.encode(FolderRequest(prefix="trip/")))
    assert "call reconcile" in caplog.text


def failed_upload(cloud: Cloud, name: str) -> bytes:
    return json.dumps(
        {
            "FunctionId": "Host.Functions.embed_uploaded_image",
            "BlobType": "BlockBlob",
            "ContainerName": cloud.settings.images_container,
            "BlobName": name,
            "ETag": "0x1",
        }
    ).encode()


def test_an_upload_that_the_platform_gave_up_on_gets_a_failure_record(cloud: Cloud) -> None:
    etag = cloud.upload("deadly.png", picture())
    cloud.intake().failed_upload(failed_upload(cloud, "deadly.png"))
    failure = cloud.failure("deadly.png")
    assert (failure["code"], failure["permanent"], failure["etag"]) == ("crashed", False, etag)
    assert cloud.model.calls() == []


def test_a_request_that_the_platform_gave_up_on_gets_a_failure_record(cloud: Cloud) -> None:
    cloud.upload("deadly.png", picture())
    cloud.intake().failed_request(b'{"name": "deadly.png", "attempt": 3}')
    assert cloud.failure("deadly.png")["code"] == "crashed"


def test_an_image_that_is_embedded_or_gone_by_then_gets_no_failure_record(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    intake = cloud.intake()
    intake.failed_upload(failed_upload(cloud, "a.png"))
    intake.failed_upload(failed_upload(cloud, "gone.png"))
    assert cloud.failure("a.png") is None
    assert cloud.failure("gone.png") is None
