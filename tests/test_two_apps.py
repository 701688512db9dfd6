"""Two apps with images of their own and one embeddings container: neither loses anything to the other."""

import base64
import json
import logging
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueClient

from local.azurite import Azurite
from shared.audit.reconcile import ReconcileRequest
from shared.audit.report import Audit, AuditMessage, AuditReport
from shared.clock import now
from shared.storage.queues import REQUESTS_POISON, UPLOADS_POISON
from shared.uploads.requests import MAX_RETURNS, EmbeddingRequest, _wait
from tests.conftest import Cloud
from tests.drawing import picture
from tests.queue_messages import queued
from tests.search.found import searched

MODEL = "Cohere-embed-v3-english"
PREFIX = "second-"


@pytest.fixture
def second_images(cloud: Cloud, azurite: Azurite) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(
        azurite.connection_string, connection_verify=str(azurite.ca_file)
    ) as service:
        yield service.create_container(f"{cloud.settings.images_container}-second")


def queue(cloud: Cloud, azurite: Azurite, name: str) -> QueueClient:
    client = cloud.resources.enter_context(
        QueueClient.from_connection_string(azurite.connection_string, name, connection_verify=str(azurite.ca_file))
    )
    with suppress(ResourceExistsError):
        client.create_queue()
    client.clear_messages()
    return client


@pytest.fixture
def second(cloud: Cloud, second_images: ContainerClient) -> Cloud:
    """The second app. It shares all with the first but its images container."""
    settings = {"IMAGES_CONTAINER": second_images.container_name}
    return replace(cloud.with_settings(**settings), images=second_images)


@pytest.fixture
def second_with_queues(second: Cloud, azurite: Azurite) -> Cloud:
    """The second app with queues of its own."""
    own = second.with_settings(QUEUE_PREFIX=PREFIX)
    names = (own.queues().requests, own.queues().waiting, own.queues().backlog)
    requests, waiting, backlog = (queue(own, azurite, name) for name in names)
    return replace(own, queue=requests, waiting=waiting, backlog=backlog)


@pytest.fixture
def _nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.uploads.requests._wait", lambda attempt, retry_after: 0.0)


def folder(app: Cloud) -> str:
    return app.space().folder()


def blobs(cloud: Cloud, *folders: str) -> dict[str, Any]:
    """What is stored below these folders, by path, without the index of search."""
    return {
        name: json.loads(cloud.embeddings.download_blob(name).readall())
        for name in cloud.embeddings.list_blob_names()
        if name.startswith(folders) and "/index/" not in name
    }


def work(*apps: Cloud) -> None:
    """Process all messages on the queues of the apps; who takes which is chance, the same in every run."""
    chance = random.Random(1)
    intakes = [(app, app.intake()) for app in apps]
    while any((app.queue.get_queue_properties().approximate_message_count or 0) for app in apps):
        app, intake = chance.choice(intakes)
        if message := app.queue.receive_message():
            intake.queued(base64.b64decode(message.content))
            app.queue.delete_message(message)


@pytest.mark.usefixtures("_nothing_waits")
@pytest.mark.parametrize("queues", ["shared", "not shared"])
def test_two_nights_of_audits_leave_every_record_of_both_apps(
    cloud: Cloud, second: Cloud, second_with_queues: Cloud, queues: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.audit.reconcile._KEEP_UNUSED", timedelta(-1))
    apps = (cloud, second if queues == "shared" else second_with_queues)
    for number, app in enumerate(apps):
        for name in ("same.png", f"only-{number}.png", "no picture.png", "missed by events.png"):
            app.upload(name, b"text" if name.startswith("no") else picture(size=(20 + number, 20 + len(name))))
            if name != "missed by events.png":
                app.sync().upload(name)
    for _night in range(2):
        for app in apps:
            app.reconcile().start(ReconcileRequest())
        work(*apps)
    for app, where in zip(apps, (MODEL, folder(second)), strict=True):
        stored = blobs(app, f"{where}/images/", f"{where}/failures/")
        number = apps.index(app)
        names = {
            "images/same.png",
            f"images/only-{number}.png",
            "images/missed by events.png",
            "failures/no picture.png",
        }
        assert set(stored) == {f"{where}/{name}.json" for name in names}
        container = app.settings.images_container
        assert {record["container"] for record in stored.values() if "container" in record} == {container}
        report = app.reconcile().start(ReconcileRequest(dry_run=True))
        assert (report.images, report.current, report.orphaned, report.requested) == (4, 3, 0, 0)
    assert len(blobs(cloud, f"{MODEL}/contents/")) == 6
    assert not blobs(cloud, f"{MODEL}/dropped/", f"{folder(second)}/dropped/")


@pytest.mark.usefixtures("_nothing_waits")
def test_what_one_app_deletes_the_other_keeps(cloud: Cloud, second: Cloud) -> None:
    for app in (cloud, second):
        app.upload("same.png", picture(size=(30, 30)))
        app.sync().upload("same.png")
    cloud.images.delete_blob("same.png")
    for app in (cloud, second):
        app.reconcile().start(ReconcileRequest())
    work(cloud, second)
    [path] = [name for name in cloud.records() if "/images/" in name]
    assert path == f"{folder(second)}/images/same.png.json"


def test_the_first_app_claims_the_space_and_others_have_folders_of_their_own(cloud: Cloud, second: Cloud) -> None:
    for app in (cloud, second):
        app.upload("same.png", picture())
        assert app.sync().upload("same.png").outcome in {"embedded", "copied"}
    assert cloud.stored("space.json")["images"] == cloud.images.url
    assert cloud.record("same.png")["url"] == f"{cloud.images.url}/same.png"
    [(path, record)] = blobs(cloud, f"{MODEL}/containers/").items()
    assert path == f"{MODEL}/containers/{second.settings.images_container}/images/same.png.json"
    assert record["url"] == f"{second.images.url}/same.png"
    # Each finds its own image.
    for app in (cloud, second):
        assert searched(app) == {
            "same.png": app.images.get_blob_client("same.png").get_blob_properties().etag.strip('"')
        }
    # The bytes are the same, so the model was called once.
    assert len(cloud.model.calls()) == 1


def without_claim(cloud: Cloud, *names: str) -> None:
    """As an app wrote records before there were claims."""
    cloud.embeddings.delete_blob(f"{MODEL}/space.json")
    for name in names:
        record = cloud.embeddings.get_blob_client(f"{MODEL}/images/{name}.json")
        metadata = record.get_blob_properties().metadata
        record.set_blob_metadata({key: value for key, value in metadata.items() if key != "images_container"})


def test_records_older_than_claims_claim_the_space_for_their_own_app(cloud: Cloud, second: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    without_claim(cloud, "a.png")
    second.reconcile().start(ReconcileRequest())
    assert cloud.stored("space.json")["images"] == cloud.images.url
    assert cloud.sync().upload("a.png").outcome == "unchanged"


def test_a_record_older_than_claims_is_removed_only_by_the_app_that_it_names(cloud: Cloud, second: Cloud) -> None:
    for name in ("a.png", "b.png"):
        cloud.upload(name, picture())
        cloud.sync().upload(name)
    without_claim(cloud, "a.png", "b.png")
    theirs = f"{MODEL}/images/b.png.json"
    record = json.loads(cloud.embeddings.download_blob(theirs).readall())
    metadata = cloud.embeddings.get_blob_client(theirs).get_blob_properties().metadata
    record["container"] = second.settings.images_container
    cloud.embeddings.upload_blob(theirs, json.dumps(record), overwrite=True, metadata=metadata)
    for name in ("a.png", "b.png"):
        cloud.images.delete_blob(name)
    assert [cloud.sync().upload(name).outcome for name in ("a.png", "b.png")] == ["removed", "ignored"]
    assert cloud.records() == [theirs]


def test_a_record_that_names_another_container_is_neither_replaced_nor_removed(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    record = cloud.embeddings.get_blob_client(f"{MODEL}/images/a.png.json")
    metadata = {**record.get_blob_properties().metadata, "images_container": "another"}
    record.set_blob_metadata(metadata)
    cloud.upload("a.png", picture("blue"))
    before = cloud.record("a.png")
    report = cloud.sync().upload("a.png")
    assert report.outcome == "ignored"
    assert "another" in (report.message or "")
    cloud.images.delete_blob("a.png")
    assert cloud.sync().upload("a.png").outcome == "ignored"
    assert cloud.record("a.png") == before
    audit = cloud.reconcile().start(ReconcileRequest(dry_run=True))
    assert (audit.orphaned, audit.requested) == (0, 0)


def test_both_containers_copied_to_another_account_are_the_same_app_s(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    description = cloud.stored("space.json")
    copied = {**description, "images": f"https://former.blob.example/{cloud.settings.images_container}"}
    cloud.embeddings.upload_blob(f"{MODEL}/space.json", json.dumps(copied), overwrite=True)
    assert cloud.sync().upload("a.png").outcome == "unchanged"


def test_the_reports_of_two_apps_do_not_meet(cloud: Cloud, second: Cloud) -> None:
    cloud.upload("a.png", picture())
    for app in (cloud, second):
        app.reconcile().start(ReconcileRequest())
    reports = [app.report_store().find(MODEL, "latest") for app in (cloud, second)]
    assert [report.images for report in reports if report] == [1, 0]


# Messages


def event(container: str, name: str = "a.png") -> dict[str, Any]:
    return {"subject": f"/blobServices/default/containers/{container}/blobs/{name}", "data": {}}


def failed_upload(container: str) -> dict[str, Any]:
    return {"ContainerName": container, "BlobName": "a.png"}


def audit_step(cloud: Cloud) -> AuditMessage:
    audit = Audit(report=AuditReport(id="1", started_at=now(), prefix="a"))
    return AuditMessage(audit=audit, container=cloud.settings.images_container, space=MODEL)


def test_a_message_says_whose_it_is(cloud: Cloud) -> None:
    cloud.request_queue().send(EmbeddingRequest(name="a.png"))
    container = cloud.settings.images_container
    assert queued(cloud) == [{"container": container, "space": MODEL, "name": "a.png"}]


def test_an_operator_s_message_is_for_whichever_app_takes_it(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.intake().queued(b'{"name": "a.png"}')
    assert cloud.record("a.png")


@pytest.mark.usefixtures("_nothing_waits")
@pytest.mark.parametrize(
    ("message", "rest"),
    [
        (
            {"name": "a.png", "container": "another", "space": MODEL, "attempt": 3},
            {"container": "another", "space": MODEL, "attempt": 3},
        ),
        ({"name": "a.png", "container": "another"}, {"container": "another"}),
        ({"name": "a.png", "space": "another"}, {"space": "another"}),
        (event("another"), {"container": "another"}),
        ([event("another")], {"container": "another"}),
    ],
)
def test_a_message_for_another_app_goes_back_on_the_queue(cloud: Cloud, message: Any, rest: dict[str, Any]) -> None:
    cloud.upload("a.png", picture())
    cloud.intake().queued(json.dumps(message).encode())
    assert cloud.records() == []
    [left] = queued(cloud)
    assert (left.pop("name"), left.pop("returned")) == ("a.png", 1)
    assert left == rest


@pytest.mark.usefixtures("_nothing_waits")
def test_of_several_events_each_goes_to_its_own_app(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    events = [event("another", "b.png"), event(cloud.settings.images_container)]
    cloud.intake().queued(json.dumps(events).encode())
    assert cloud.record("a.png")
    assert queued(cloud) == [{"container": "another", "returned": 1, "name": "b.png"}]


@pytest.mark.usefixtures("_nothing_waits")
def test_the_step_of_another_app_s_audit_goes_back_on_the_queue(cloud: Cloud, second: Cloud) -> None:
    cloud.intake().queued(msgspec.json.encode(audit_step(second)))
    assert cloud.stored("reports/latest.json") is None
    [left] = queued(cloud)
    assert (left["container"], left["returned"]) == (second.settings.images_container, 1)
    second.intake().queued(json.dumps(left).encode())
    assert blobs(second, f"{folder(second)}/reports/")


def test_a_message_for_another_app_comes_back_later_and_later(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.uploads.requests.random.uniform", lambda least, most: most)
    requests = cloud.request_queue()
    assert requests.put_back(EmbeddingRequest(name="a.png", container="another", returned=7), requests.queue)
    assert queued(cloud) == []
    assert [_wait(returned + 1, None) for returned in (0, 1, 2, 50)] == [30, 60, 120, 3600]


@pytest.mark.usefixtures("_nothing_waits")
@pytest.mark.parametrize("kind", ["failed upload", "failed request"])
def test_poison_messages_of_another_app_go_back_on_their_poison_queue(
    cloud: Cloud, second: Cloud, azurite: Azurite, kind: str
) -> None:
    poison = queue(cloud, azurite, UPLOADS_POISON if kind == "failed upload" else REQUESTS_POISON)
    second.upload("a.png", picture())
    container = second.settings.images_container
    body = failed_upload(container) if kind == "failed upload" else {"name": "a.png", "container": container}

    def bring(app: Cloud, message: bytes) -> None:
        (app.intake().failed_upload if kind == "failed upload" else app.intake().failed_request)(message)

    bring(cloud, json.dumps(body).encode())
    assert cloud.records() == []
    left = poison.receive_message()
    assert left is not None
    poison.delete_message(left)
    bring(second, base64.b64decode(left.content))
    [failure] = blobs(second, f"{folder(second)}/failures/").values()
    assert (failure["name"], failure["code"]) == ("a.png", "crashed")


@pytest.mark.parametrize("queues", ["requests", "uploads"])
def test_a_message_that_no_app_takes_is_dropped_with_a_record_and_an_error(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, queues: str
) -> None:
    lost = EmbeddingRequest(name="a.png", container="gone", returned=MAX_RETURNS)
    intake = cloud.intake()
    (intake.queued if queues == "requests" else intake.failed_upload)(msgspec.json.encode(lost))
    assert queued(cloud) == []
    [record] = blobs(cloud, f"{MODEL}/dropped/").values()
    assert json.loads(record["content"])["name"] == "a.png"
    assert "'gone'" in record["reason"]
    assert [line.levelno for line in caplog.records if "message_dropped" in line.message] == [logging.ERROR]


def test_a_prefix_gives_an_app_queues_of_its_own(cloud: Cloud, second_with_queues: Cloud) -> None:
    second_with_queues.request_queue().send(EmbeddingRequest(name="a.png"))
    assert [message["name"] for message in queued(second_with_queues)] == ["a.png"]
    assert queued(cloud) == []
    names = set(second_with_queues.queues().lengths())
    own = {"embedding-requests", "embedding-requests-poison", "embedding-waiting", "embedding-backlog"}
    assert names == {*(f"{PREFIX}{name}" for name in own), UPLOADS_POISON}
