"""A record that nothing may change waits until an operator has lifted what holds it; a lost race just tries again."""

from datetime import timedelta
from typing import Any

import pytest
from azure.storage.blob import BlobClient, BlobLeaseClient

from local import faults as proxy
from local.faults import StorageFaults
from shared.audit.reconcile import ReconcileRequest
from shared.clock import now
from shared.errors import BlobHeld, StorageError
from shared.uploads.requests import EmbeddingRequest
from tests.conftest import Clock, Cloud
from tests.drawing import picture
from tests.queue_messages import queued

EXHAUSTED = EmbeddingRequest(name="a.png", attempt=30, first_seen=now() - timedelta(days=2))


@pytest.fixture(autouse=True)
def _clock(clock: Clock) -> None:
    """No wait takes time."""


def blob(cloud: Cloud, name: str = "a.png", kind: str = "images") -> BlobClient:
    return cloud.embeddings.get_blob_client(f"Cohere-embed-v3-english/{kind}/{name}.json")


def stale(cloud: Cloud) -> str:
    """An image that was embedded and then replaced; returns the ETag of its record's image."""
    cloud.upload("a.png", picture("red"))
    cloud.sync().upload("a.png")
    cloud.upload("a.png", picture("blue"))
    etag: str = cloud.record("a.png")["etag"]
    return etag


def test_a_leased_record_waits_on_the_queue_until_the_lease_is_over(cloud: Cloud, clock: Clock) -> None:
    old = stale(cloud)
    lease = blob(cloud).acquire_lease()
    sync = cloud.sync()
    report = sync.upload("a.png")
    assert (report.outcome, report.code, clock.waits) == ("deferred", "blob_leased", [])
    assert report.message is not None
    assert "LeaseIdMissing" in report.message
    assert "lease break" in report.message
    assert 1 <= (report.retry_in or 0) <= 30
    assert cloud.record("a.png")["etag"] == old
    lease.release()
    assert sync.request(EmbeddingRequest(name="a.png", attempt=1, first_seen=now())).outcome == "copied"
    assert cloud.record("a.png")["etag"] != old
    assert len(cloud.model.calls()) == 2, "what was embedded while the record was leased is not paid for again"


def test_the_record_of_a_deleted_image_waits_for_its_lease_too(cloud: Cloud) -> None:
    stale(cloud)
    cloud.images.delete_blob("a.png")
    lease = blob(cloud).acquire_lease()
    report = cloud.sync().upload("a.png")
    assert (report.outcome, report.code) == ("deferred", "blob_leased")
    report = cloud.sync().request(EXHAUSTED)
    assert (report.outcome, report.code) == ("failed", "blob_leased")
    assert cloud.failure("a.png") is None, "there is no image to fail"
    lease.release()
    assert cloud.sync().upload("a.png").outcome == "removed"


def test_a_record_with_snapshots_is_removed_once_they_are_gone(cloud: Cloud) -> None:
    stale(cloud)
    snapshot = blob(cloud).create_snapshot()
    cloud.images.delete_blob("a.png")
    report = cloud.sync().upload("a.png")
    assert (report.outcome, report.code) == ("deferred", "blob_has_snapshots")
    assert "--delete-snapshots" in (report.message or "")
    blob(cloud).delete_blob(delete_snapshots="only")
    assert snapshot
    assert cloud.sync().upload("a.png").outcome == "removed"


def test_an_immutable_record_waits_until_the_policy_is_gone(behind: Cloud, faults: StorageFaults) -> None:
    stale(behind)
    sync = behind.sync()
    faults.begin("immutable", requests="(PUT|DELETE) .*/images/")
    report = sync.upload("a.png")
    assert (report.outcome, report.code) == ("deferred", "blob_immutable")
    assert "immutability policy" in (report.message or "")
    assert faults.end() == 1, "what no retry can change is not tried again at once"
    assert sync.upload("a.png").outcome == "copied"


def test_after_the_last_attempt_a_failure_says_what_holds_the_record_and_audits_ask_for_it(cloud: Cloud) -> None:
    old = stale(cloud)
    lease = blob(cloud).acquire_lease()
    report = cloud.sync().request(EXHAUSTED)
    assert (report.outcome, report.code) == ("failed", "blob_leased")
    failure = cloud.failure("a.png")
    assert (failure["code"], failure["permanent"], failure["status"]) == ("blob_leased", False, 412)
    assert "lease break" in failure["message"]
    assert cloud.record("a.png")["etag"] == old
    cloud.waiting.clear_messages()
    audited = cloud.reconcile().start(ReconcileRequest())
    assert (audited.failed, audited.requested) == ({"blob_leased": 1}, 1)
    assert [message["name"] for message in queued(cloud, cloud.backlog)] == ["a.png"]
    lease.release()
    assert cloud.sync().upload("a.png").outcome == "copied"
    assert cloud.failure("a.png") is None


def test_a_crash_on_an_image_with_a_leased_record_is_told_by_the_lease(cloud: Cloud) -> None:
    stale(cloud)
    lease = blob(cloud).acquire_lease()
    report = cloud.sync().crashed("a.png")
    assert (report.outcome, report.code) == ("failed", "blob_leased")
    assert cloud.failure("a.png")["code"] == "blob_leased"
    lease.release()


def test_a_leased_failure_waits_as_well(cloud: Cloud) -> None:
    cloud.upload("a.png", b"words")
    cloud.sync().upload("a.png")
    cloud.upload("a.png", picture())
    lease: BlobLeaseClient = blob(cloud, kind="failures").acquire_lease()
    sync = cloud.sync()
    assert sync.upload("a.png").code == "blob_leased"
    assert sync.request(EXHAUSTED).code == "blob_leased"
    lease.release()
    assert sync.upload("a.png").outcome == "unchanged"
    assert cloud.failure("a.png") is None


def test_a_lost_race_backs_off_and_one_lost_for_long_goes_on_the_queue(
    behind: Cloud, faults: StorageFaults, clock: Clock
) -> None:
    stale(behind)
    sync = behind.sync()
    faults.begin("changed", requests="PUT .*/images/", times=3)
    assert sync.upload("a.png").outcome == "embedded"
    assert len(clock.waits) == 3
    assert all(wait <= longest for wait, longest in zip(clock.waits, [0.1, 0.2, 0.4], strict=True))
    behind.upload("a.png", picture("green"))
    faults.begin("changed", requests="PUT .*/images/")
    report = sync.upload("a.png")
    assert (report.outcome, report.code) == ("deferred", None)
    assert "20 times" in (report.message or "")
    assert len(clock.waits) == 3 + 20
    assert sum(clock.waits) <= 40
    assert [call["status"] for call in behind.model.calls()] == [200] * 3, "each version was paid for once"


@pytest.mark.parametrize("held", ["space.json", "reports/running.json"])
def test_nothing_else_waits_for_ever_for_a_blob_that_is_leased(cloud: Cloud, held: str) -> None:
    path = f"Cohere-embed-v3-english/{held}"
    cloud.embeddings.upload_blob(path, b'{"first_seen": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:00Z"}')
    lease = cloud.embeddings.get_blob_client(path).acquire_lease()

    def write() -> Any:
        return cloud.space().confirm("a", 3) if held == "space.json" else cloud.reconcile().start(ReconcileRequest())

    with pytest.raises(BlobHeld, match="lease"):
        write()
    lease.release()
    write()


def test_another_conflict_of_storage_is_no_race(
    behind: Cloud, faults: StorageFaults, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale(behind)
    monkeypatch.setitem(proxy._ERRORS, "changed", (409, "PendingCopyOperation", "There is a pending copy operation."))
    faults.begin("changed", requests="PUT .*/images/")
    with pytest.raises(StorageError, match="409 PendingCopyOperation"):
        behind.sync().upload("a.png")
    assert clock.waits == []
