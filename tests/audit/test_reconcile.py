"""An audit finds every image that needs a sync and queues it; audits can be repeated and interrupted."""

import base64
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from shared.audit.merge import Found, ListedImage
from shared.audit.reconcile import classify
from shared.audit.report import Audit, AuditReport
from shared.clock import now
from shared.errors import StorageError
from shared.pictures.limits import PREPARATION_AS_PNG
from shared.uploads.records import FailureRecord
from tests.audit.audits import audit, drain, embed, in_steps, later, take_steps
from tests.conftest import Cloud
from tests.drawing import picture
from tests.uploads.outdated import outdated

TEXT = b"This is no picture."


def fail(
    cloud: Cloud, name: str, code: Any, *, attempts: int = 1, preparation: int = PREPARATION_AS_PNG, etag: str = ""
) -> None:
    """Record a failure of the image as it is now."""
    failure = FailureRecord(
        name=name,
        etag=etag or cloud.images.get_blob_client(name).get_blob_properties().etag.strip('"'),
        code=code,
        message="",
        status=None,
        permanent=False,
        attempts=attempts,
        first_seen=now(),
        last_seen=now(),
    )
    cloud.record_store().write_failure(failure, preparation)


def names(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(message["name"] for message in messages)


def counts(report: AuditReport) -> dict[str, int]:
    kinds = ("images", "current", "missing", "stale", "orphaned", "requested")
    return {kind: getattr(report, kind) for kind in kinds}


def test_each_image_is_current_missing_stale_or_failed_and_records_without_an_image_are_orphaned(cloud: Cloud) -> None:
    embed(cloud, "current.png", "current-too.png", "trip/stale.png", "trip/orphan.png")
    cloud.upload("trip/stale.png", picture(size=(40, 40)))
    cloud.images.delete_blob("trip/orphan.png")
    cloud.upload("missing.png", picture(size=(50, 50)))
    cloud.upload("broken.png", TEXT)
    assert cloud.sync().upload("broken.png").outcome == "failed"

    report = audit(cloud)
    assert counts(report) == {
        "images": 5, "current": 2, "missing": 1, "stale": 1, "orphaned": 1, "requested": 3
    }  # fmt: skip
    assert report.failed == {"not_an_image": 1}
    assert report.finished_at is not None
    assert names(drain(cloud)) == ["missing.png", "trip/orphan.png", "trip/stale.png"]

    report = audit(cloud)
    assert counts(report) == {
        "images": 5, "current": 4, "missing": 0, "stale": 0, "orphaned": 0, "requested": 0
    }  # fmt: skip
    assert cloud.record("trip/orphan.png") is None


def test_the_report_is_stored_as_the_latest(cloud: Cloud) -> None:
    embed(cloud, "a.png")
    report = audit(cloud, prefix="a")
    assert cloud.stored("reports/latest.json") == msgspec.to_builtins(report)


def test_the_estimate_says_what_embedding_the_rest_costs(cloud: Cloud) -> None:
    embed(cloud, "a.png", "b.png")
    for number in range(3):
        cloud.upload(f"{number}.png", picture())
    estimate = audit(cloud, dry_run=True).estimate
    assert (estimate.calls, estimate.total_tokens) == (3, 3 * cloud.record("a.png")["total_tokens"])


def test_without_a_record_there_is_no_estimate_of_tokens(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    estimate = audit(cloud, dry_run=True).estimate
    assert (estimate.calls, estimate.total_tokens) == (1, None)


def test_a_dry_run_changes_nothing(cloud: Cloud) -> None:
    embed(cloud, "orphan.png")
    cloud.images.delete_blob("orphan.png")
    cloud.upload("missing.png", picture())
    assert audit(cloud, dry_run=True).requested == 2
    assert drain(cloud) == []
    assert cloud.record("orphan.png")


def test_a_prefix_limits_the_audit_to_a_folder(cloud: Cloud) -> None:
    embed(cloud, "trip/gone.png", "other/gone.png")
    for folder in ("trip", "other"):
        cloud.images.delete_blob(f"{folder}/gone.png")
        cloud.upload(f"{folder}/new.png", picture())
    assert counts(audit(cloud, prefix="trip/"))["images"] == 1
    assert names(drain(cloud)) == ["trip/gone.png", "trip/new.png"]


@pytest.mark.parametrize(
    ("code", "attempts", "requested", "retried"),
    [
        ("damaged_image", 1, False, False),
        ("damaged_image", 1, ["not_an_image"], False),
        ("damaged_image", 1, ["damaged_image"], True),
        ("damaged_image", 1, True, True),
        ("gave_up", 30, False, True),
        ("crashed", 2, False, True),
        ("crashed", 3, False, False),
        ("crashed", 3, ["crashed"], True),
    ],
)
def test_a_failure_is_retried_on_request_or_when_the_image_may_not_be_at_fault(
    cloud: Cloud, code: str, attempts: int, requested: Any, retried: bool
) -> None:
    cloud.upload("a.png", picture())
    fail(cloud, "a.png", code, attempts=attempts)
    report = audit(cloud, retry_failures=requested)
    assert report.failed == {code: 1}
    assert report.requested == report.estimate.calls == int(retried)
    assert names(drain(cloud)) == ["a.png"] * retried
    assert (cloud.record("a.png") is not None) == retried


@pytest.mark.parametrize("change", [{"etag": "0x1"}, {"preparation": PREPARATION_AS_PNG - 1}])
def test_a_failure_of_another_version_or_an_older_preparation_does_not_count(
    cloud: Cloud, change: dict[str, Any]
) -> None:
    cloud.upload("a.png", picture())
    fail(cloud, "a.png", "damaged_image", **change)
    assert audit(cloud).missing == 1
    drain(cloud)
    assert cloud.record("a.png")
    assert cloud.failure("a.png") is None


def test_a_release_that_prepares_pictures_in_another_way_embeds_nothing_again_unasked(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    outdated(cloud, monkeypatch)
    tokens = cloud.record("a.png")["total_tokens"]
    report = audit(cloud)
    assert (report.current, report.outdated, report.stale, report.requested, report.estimate.calls) == (0, 1, 0, 0, 0)
    assert drain(cloud) == []
    estimate = audit(cloud, refresh=True, dry_run=True).estimate
    assert (estimate.calls, estimate.total_tokens) == (1, tokens)
    assert audit(cloud, refresh=True).requested == 1
    [request] = drain(cloud)
    assert (request["name"], request["refresh"]) == ("a.png", True)
    assert cloud.record("a.png")["preparation"] == cloud.preparation
    report = audit(cloud, refresh=True)
    assert (report.current, report.outdated, report.requested) == (1, 0, 0)


def test_a_failure_left_next_to_an_outdated_record_is_removed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    outdated(cloud, monkeypatch)
    fail(cloud, "a.png", "gave_up", preparation=PREPARATION_AS_PNG + 1)
    report = audit(cloud)
    assert (report.outdated, report.failed, report.requested) == (1, {}, 1)
    drain(cloud)
    assert (cloud.record("a.png")["preparation"], cloud.failure("a.png")) == (PREPARATION_AS_PNG, None)
    assert len(cloud.model.calls()) == 1


def test_the_vector_of_an_outdated_record_is_kept(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    outdated(cloud, monkeypatch)
    for hours in (0, 24, 48):
        later(monkeypatch, hours=hours)
        assert audit(cloud).contents == 1


def test_a_failure_left_next_to_a_current_record_by_a_crash_is_removed(cloud: Cloud) -> None:
    embed(cloud, "a.png")
    fail(cloud, "a.png", "gave_up")
    report = audit(cloud)
    assert (report.current, report.requested) == (1, 1)
    drain(cloud)
    assert cloud.failure("a.png") is None
    assert audit(cloud).requested == 0


def test_a_record_left_next_to_a_failure_by_a_crash_is_removed(cloud: Cloud) -> None:
    embed(cloud, "a.png")
    cloud.upload("a.png", TEXT)
    fail(cloud, "a.png", "not_an_image")
    assert audit(cloud).requested == 1
    drain(cloud)
    assert cloud.record("a.png") is None
    assert cloud.failure("a.png")["code"] == "not_an_image"


ODD = ["a", "a-b", "a.b", "a/b", "a.json", "\uff01", "\U0001f600", "Zoë/a b#1%.png", "x" * 1020, "x" * 1019 + "y"]


def test_names_that_sort_oddly_are_paired_with_their_records(cloud: Cloud) -> None:
    embed(cloud, *ODD)
    assert counts(audit(cloud)) == {
        "images": len(ODD), "current": len(ODD), "missing": 0, "stale": 0, "orphaned": 0, "requested": 0
    }  # fmt: skip


def test_the_orphaned_record_of_an_image_with_a_very_long_name_is_removed(cloud: Cloud) -> None:
    name = "x" * 1024
    embed(cloud, name)
    cloud.images.delete_blob(name)
    assert audit(cloud).orphaned == 1
    drain(cloud)
    assert cloud.records() == ["Cohere-embed-v3-english/reports/latest.json"]


def test_a_name_that_no_url_can_carry_is_counted_as_ignored() -> None:
    audited = Audit(report=AuditReport(started_at=now()))
    assert not classify(Found(ListedImage("a/../b.png", "0x1"), None, None), audited, PREPARATION_AS_PNG)
    assert (audited.report.images, audited.report.ignored, audited.calls) == (1, 1, 0)


def test_an_audit_too_large_for_one_invocation_continues_through_the_queue(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(cloud, "a", "a-b", "a.b", "b", "x" * 1020, "\uff01", "\U0001f600")
    cloud.images.delete_blob("a.b")
    cloud.upload("c", picture(size=(70, 70)))
    whole = audit(cloud, dry_run=True)
    in_steps(monkeypatch)
    started = audit(cloud, dry_run=True)
    assert started.finished_at is None
    assert cloud.stored("reports/running.json")["reached"] == started.reached != ""
    assert take_steps(cloud) >= 2
    finished = cloud.stored("reports/latest.json")
    assert finished["finished_at"]
    assert cloud.stored("reports/running.json") is None
    assert {kind: finished[kind] for kind in counts(whole)} == counts(whole)


def test_a_step_that_is_taken_twice_changes_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cloud, "a", "b", "c", "d", "e", "f", "g")
    in_steps(monkeypatch)
    audit(cloud, dry_run=True)
    message = cloud.queue.receive_message()
    assert message is not None
    cloud.queue.delete_message(message)
    for _ in range(2):
        cloud.intake().queued(base64.b64decode(message.content))
        assert take_steps(cloud) >= 1
        assert cloud.stored("reports/latest.json")["current"] == 7


def test_two_audits_of_a_folder_may_run_at_once(cloud: Cloud) -> None:
    embed(cloud, *(f"trip/{number}.png" for number in range(10)))
    cloud.images.delete_blob("trip/3.png")
    cloud.upload("trip/4.png", picture(size=(80, 80)))
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: audit(cloud, prefix="trip/"), range(2)))
    assert [counts(report) for report in reports] == [
        {"images": 9, "current": 8, "missing": 0, "stale": 1, "orphaned": 1, "requested": 2}
    ] * 2
    drain(cloud)
    assert audit(cloud).requested == 0


def test_another_model_starts_with_every_image_missing_and_does_not_touch_the_old_space(cloud: Cloud) -> None:
    embed(cloud, "a.png", "b.png")
    old = cloud.record("a.png")
    new = cloud.with_settings(FOUNDRY_MODEL="embed-v-4-0")
    assert audit(new).missing == 2
    drain(new)
    assert counts(audit(new))["current"] == 2
    assert len(new.record("a.png")["embedding"]) == 1536
    assert cloud.record("a.png") == old


def test_an_audit_that_the_platform_gave_up_on_is_logged_as_an_error_and_no_longer_runs(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    embed(cloud, "a", "b", "c", "d")
    in_steps(monkeypatch)
    audit(cloud)
    message = cloud.queue.receive_message()
    assert message is not None
    cloud.intake().failed_request(base64.b64decode(message.content))
    assert cloud.stored("reports/running.json") is None
    [line] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "call reconcile again" in line.getMessage()


def test_an_audit_fails_if_it_cannot_queue_a_sync(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.storage.queues.QUEUE", "no-such-queue")
    cloud.upload("a.png", picture())
    with pytest.raises(StorageError):
        audit(cloud)
    assert cloud.stored("reports/latest.json") is None
