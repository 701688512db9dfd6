"""One audit of everything runs at a time, and what it has requested is not requested again while it waits."""

import base64
import json
import logging
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from local.faults import StorageFaults
from shared import clock
from shared.audit.report import AuditReport
from shared.errors import StorageError
from shared.triggers import routes
from tests.audit.audits import audit, drain, embed, in_steps, later, take_steps
from tests.conftest import Cloud
from tests.drawing import picture
from tests.operations.asking import reconcile_request, status
from tests.queue_messages import length, queued

NIGHT = 24


@pytest.fixture
def _backlog(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images wait in a backlog that is long already at two, besides the dispatcher's message."""
    monkeypatch.setattr("shared.audit.running._FEW", 2)
    for number in range(5):
        cloud.upload(f"{number}.png", picture(size=(20 + number, 20)))


def waiting(cloud: Cloud) -> int:
    """How many images wait for the model, on either queue."""
    return length(cloud.backlog) + length(cloud.waiting)


def embed_some(cloud: Cloud, count: int) -> None:
    for _ in range(count):
        message = cloud.backlog.receive_message()
        assert message is not None
        cloud.intake().queued(base64.b64decode(message.content))
        cloud.backlog.delete_message(message)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [json.loads(record.getMessage()) for record in caplog.records if record.name == "image_embeddings"]
    return [line for line in found if line["event"] == "audit"]


@pytest.mark.usefixtures("_backlog")
def test_the_nights_of_a_long_backlog_request_nothing_again_until_it_is_served(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = audit(cloud)
    assert (first.requested, first.waiting, waiting(cloud)) == (5, 6, 5)
    for night in range(1, 5):
        later(monkeypatch, hours=night * NIGHT)
        skipped = audit(cloud)
        assert (skipped.id, skipped.waiting) == (first.id, 7 - night)
        assert waiting(cloud) == 6 - night
        embed_some(cloud, 1)
    later(monkeypatch, hours=5 * NIGHT)
    last = audit(cloud)
    assert last.id != first.id
    assert (last.current, last.requested) == (4, 1)
    assert cloud.stored("reports/running.json") is None
    assert [line["outcome"] for line in lines(caplog)] == ["finished", *["skipped"] * 4, "finished"]


@pytest.mark.usefixtures("_backlog")
def test_each_skipped_night_says_when_the_backlog_last_became_shorter(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    started_at = audit(cloud).started_at
    for night, embedded in enumerate([1, 0, 2], start=1):
        later(monkeypatch, hours=night * NIGHT)
        embed_some(cloud, embedded)
        audit(cloud)
    progress = [msgspec.convert(line["progressed_at"], type(started_at)) - started_at for line in lines(caplog)[1:]]
    assert [round(age / timedelta(hours=NIGHT)) for age in progress] == [1, 1, 3]


@pytest.mark.usefixtures("_backlog")
def test_a_backlog_that_stands_still_for_three_days_is_audited_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = audit(cloud)
    later(monkeypatch, hours=3 * NIGHT - 1)
    assert audit(cloud).id == first.id
    later(monkeypatch, hours=3 * NIGHT + 1)
    again = audit(cloud)
    assert again.id != first.id
    assert again.requested == 5
    assert cloud.stored("reports/running.json")["id"] == again.id


@pytest.mark.usefixtures("_backlog")
def test_a_call_during_a_backlog_is_answered_with_what_the_audit_found(cloud: Cloud) -> None:
    first = routes.reconcile(reconcile_request(b""), cloud.reconcile().start)
    again = routes.reconcile(reconcile_request(b""), cloud.reconcile().start)
    assert (first.status_code, again.status_code) == (200, 200)
    assert json.loads(again.get_body()) == json.loads(first.get_body())
    assert waiting(cloud) == 5


@pytest.mark.usefixtures("_backlog")
def test_the_status_shows_an_audit_while_its_requests_wait(cloud: Cloud) -> None:
    found = audit(cloud)
    assert status(cloud)["running_audit"] == msgspec.to_builtins(found)
    embed_some(cloud, 4)
    assert status(cloud)["running_audit"] is None


@pytest.mark.usefixtures("_backlog")
@pytest.mark.parametrize("asked", [{"retry_failures": True}, {"retry_failures": ["damaged_image"]}, {"refresh": True}])
def test_a_call_that_asks_for_more_is_not_kept_waiting_by_a_backlog(cloud: Cloud, asked: dict[str, Any]) -> None:
    first = audit(cloud)
    assert audit(cloud, **asked).id != first.id
    assert audit(cloud).id == audit(cloud, **asked).id, "both ask for no more than the one that runs now"


def test_an_audit_with_few_requests_is_over_at_once(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    first = audit(cloud)
    assert cloud.stored("reports/running.json") is None
    assert audit(cloud).id != first.id


def test_a_call_while_an_audit_runs_is_a_202_and_starts_none(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cloud, "a", "b", "c", "d")
    cloud.upload("e", picture())
    in_steps(monkeypatch)
    first = audit(cloud)
    again = routes.reconcile(reconcile_request(b""), cloud.reconcile().start)
    assert again.status_code == 202
    assert json.loads(again.get_body()) == msgspec.to_builtins(first)
    assert len([message for message in queued(cloud) if "audit" in message]) == 1


def test_a_dry_run_and_an_audit_of_a_folder_do_not_touch_the_running_one(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(cloud, "a", "b", "c", "d", "e")
    in_steps(monkeypatch)
    first = audit(cloud)
    running = cloud.stored("reports/running.json")
    for request in ({"dry_run": True}, {"prefix": "a"}):
        assert audit(cloud, **request).id != first.id
        assert cloud.stored("reports/running.json") == running
    take_steps(cloud)
    assert cloud.stored("reports/running.json") is None


def test_a_call_that_asks_for_more_takes_over_and_does_what_both_are_asked(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(cloud, "a", "b", "c", "d", "e")
    in_steps(monkeypatch)
    audit(cloud, retry_failures=["crashed"], refresh=True)
    second = audit(cloud, retry_failures=["damaged_image"])
    assert (second.retry_failures, second.refresh) == (["damaged_image", "crashed"], True)
    take_steps(cloud)
    latest = cloud.stored("reports/latest.json")
    assert (latest["id"], latest["current"]) == (second.id, 5)
    assert cloud.stored("reports/running.json") is None


def test_the_step_of_an_audit_that_was_superseded_does_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cloud, "a", "b", "c", "d", "e")
    in_steps(monkeypatch)
    audit(cloud)
    later(monkeypatch, minutes=16)
    second = audit(cloud)
    message = cloud.queue.receive_message()
    assert message is not None
    assert msgspec.json.decode(base64.b64decode(message.content))["audit"]["report"]["id"] != second.id
    cloud.queue.delete_message(message)
    before = cloud.stored("reports/running.json")
    cloud.intake().queued(base64.b64decode(message.content))
    assert cloud.stored("reports/running.json") == before
    assert len(queued(cloud)) == 1, "the step of the second audit alone"


def test_an_audit_that_is_superseded_during_its_step_stops_there(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cloud, "a", "b", "c", "d", "e")
    in_steps(monkeypatch)
    other = AuditReport(id="other", started_at=clock.now())
    reports = cloud.report_store()
    write = type(reports).write_filter

    def overtaken(*arguments: Any) -> None:
        write(*arguments)
        found = reports.find_running()
        assert found is not None
        reports.write_running(other, replaces=found[1])

    monkeypatch.setattr("shared.audit.report_store.ReportStore.write_filter", overtaken)
    audit(cloud)
    assert cloud.stored("reports/running.json")["id"] == "other"
    assert queued(cloud) == []


@pytest.mark.usefixtures("clock")
def test_an_audit_whose_note_was_stored_and_never_confirmed_runs(behind: Cloud, faults: StorageFaults) -> None:
    behind.upload("a.png", picture())
    faults.begin("lost", times=1, requests="PUT .*/reports/running.json")
    report = audit(behind)
    assert faults.end() == 1
    assert (report.requested, report.finished_at is None) == (1, False)


def test_an_audit_that_died_in_its_first_step_blocks_no_other_after_a_quarter_of_an_hour(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = AuditReport(id="dead", started_at=clock.now(), progressed_at=clock.now(), waiting=0)
    cloud.report_store().write_running(dead, replaces=None)
    later(monkeypatch, minutes=10)
    assert audit(cloud).id == "dead"
    assert status(cloud)["running_audit"]["id"] == "dead"
    later(monkeypatch, minutes=16)
    assert status(cloud)["running_audit"] is None
    assert audit(cloud).finished_at is not None


def test_an_audit_that_storage_failed_blocks_no_other(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.upload("a.png", picture())
    with monkeypatch.context() as broken:
        broken.setattr("shared.storage.queues.QUEUE", "no-such-queue")
        with pytest.raises(StorageError):
            audit(cloud)
    assert cloud.stored("reports/running.json") is None
    assert audit(cloud).requested == 1


def test_an_audit_given_up_after_it_was_superseded_does_not_touch_the_other(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    embed(cloud, "a", "b", "c", "d", "e")
    in_steps(monkeypatch)
    audit(cloud)
    message = cloud.queue.receive_message()
    assert message is not None
    cloud.queue.delete_message(message)
    later(monkeypatch, minutes=16)
    second = audit(cloud)
    cloud.intake().failed_request(base64.b64decode(message.content))
    assert cloud.stored("reports/running.json")["id"] == second.id
    assert [record for record in caplog.records if record.levelno == logging.ERROR] == []


def test_a_running_audit_of_an_older_release_is_identified_by_its_start(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"started_at": clock.now().isoformat(), "finished_at": None, "images": 7}
    cloud.embeddings.upload_blob("Cohere-embed-v3-english/reports/running.json", json.dumps(old))
    assert audit(cloud).images == 7
    later(monkeypatch, minutes=16)
    assert audit(cloud).images == 0


@pytest.mark.usefixtures("_backlog")
def test_requests_put_off_by_a_throttled_model_still_wait(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    audit(cloud)
    cloud.model.behave(throttle={"calls": 0, "window_s": 600})
    embed_some(cloud, 5)
    later(monkeypatch, hours=NIGHT)
    audit(cloud)
    assert waiting(cloud) == 5


# What an audit keeps between its steps


def kept(cloud: Cloud) -> list[str]:
    """What audits have left, besides their reports."""
    names = [name.rpartition("/")[2] for name in cloud.embeddings.list_blob_names() if "/reports/" in name]
    return [name for name in names if name not in {"latest.json", "running.json"}]


def test_a_step_too_large_for_a_message_is_kept_in_storage_until_the_audit_ends(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None of these can be compared before the last is listed: each begins the next, and sorts after it as a record.
    for characters in range(900, 960):
        cloud.upload("-" * characters, b"")
    monkeypatch.setattr("shared.audit.reconcile._STEP_SECONDS", -1)
    monkeypatch.setattr("shared.audit.merge._CLOCK_INTERVAL", 2)
    audit(cloud, dry_run=True)
    [name] = [name for name in kept(cloud) if name.endswith(".step")]
    [message] = queued(cloud)
    assert message["audit"] == name.removesuffix(".step")
    cloud.queue.clear_messages()
    monkeypatch.setattr("shared.audit.merge._CLOCK_INTERVAL", 25)
    cloud.intake().queued(json.dumps({"audit": name.removesuffix(".step")}).encode())
    drain(cloud)
    latest = cloud.stored("reports/latest.json")
    assert (latest["images"], latest["missing"]) == (60, 60)
    assert kept(cloud) == []


def test_a_step_whose_state_is_gone_ends_there(cloud: Cloud) -> None:
    message = json.dumps({"audit": f"{'0' * 32}.3"}).encode()
    cloud.intake().queued(message)
    cloud.intake().failed_request(message)
    assert cloud.records() == []


@pytest.mark.parametrize("name", ["../../images/a.png", "latest", ""])
def test_a_step_is_kept_under_no_other_name(cloud: Cloud, name: str) -> None:
    cloud.intake().queued(json.dumps({"audit": name}).encode())
    [path] = cloud.records()
    assert "/dropped/" in path


def test_an_audit_that_the_platform_gave_up_on_leaves_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cloud, "a", "b", "c", "d", "e")
    in_steps(monkeypatch)
    audit(cloud)
    assert kept(cloud)
    message = cloud.queue.receive_message()
    assert message is not None
    cloud.intake().failed_request(base64.b64decode(message.content))
    assert kept(cloud) == []
    assert cloud.stored("reports/running.json") is None


def test_an_audit_that_was_superseded_leaves_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cloud, "a", "b", "c", "d", "e")
    in_steps(monkeypatch)
    audit(cloud)
    later(monkeypatch, minutes=16)
    audit(cloud)
    take_steps(cloud)
    assert kept(cloud) == []


def test_what_dead_audits_have_left_is_removed_after_a_week(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dead.filter", "dead.7.step", "notes.txt"):
        cloud.embeddings.upload_blob(f"Cohere-embed-v3-english/reports/{name}", b"")
    for days, left in ((6, 3), (8, 1)):
        later(monkeypatch, days=days)
        audit(cloud, prefix="a")
        audit(cloud)
        assert len(kept(cloud)) == left, f"after {days} days"
    assert kept(cloud) == ["notes.txt"]
