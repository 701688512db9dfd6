"""Query records are kept for QUERY_RETENTION_DAYS, in whichever space they are, and not for longer."""

from datetime import timedelta

import pytest

from shared.audit.reconcile import ReconcileRequest
from shared.audit.report import Audit, AuditReport
from shared.clock import now
from tests.conftest import Cloud

SPACES = ["Cohere-embed-v3-english", "Cohere-embed-v3-english-256", "retired-model"]


def keep_queries(cloud: Cloud) -> list[str]:
    names = [f"{space}/queries/{digit}0/{digit}0.json" for space in SPACES for digit in "ab"]
    for name in names:
        cloud.embeddings.upload_blob(name, b"{}")
    return sorted(names)


def audit_after(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, days: float, request: ReconcileRequest | None = None
) -> AuditReport:
    with monkeypatch.context() as later:
        later.setattr("shared.audit.reconcile.now", lambda: now() + timedelta(days=days))
        return cloud.reconcile().start(request or ReconcileRequest())


def test_an_audit_removes_the_old_ones_of_every_space(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep_queries(cloud)
    assert audit_after(cloud, monkeypatch, 89).queries_removed == 0
    assert [name for name in cloud.records() if "/queries/" in name] == kept
    assert audit_after(cloud, monkeypatch, 91).queries_removed == 6
    assert [name for name in cloud.records() if "/queries/" in name] == []


def test_the_setting_says_for_how_many_days(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_queries(cloud)
    assert audit_after(cloud.with_settings(QUERY_RETENTION_DAYS="7"), monkeypatch, 8).queries_removed == 6


@pytest.mark.parametrize("asked", [ReconcileRequest(dry_run=True), ReconcileRequest(prefix="a")])
def test_an_audit_of_a_part_or_a_dry_run_removes_none(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, asked: ReconcileRequest
) -> None:
    kept = keep_queries(cloud)
    assert audit_after(cloud, monkeypatch, 1000, asked).queries_removed == 0
    assert [name for name in cloud.records() if "/queries/" in name] == kept


def test_an_audit_that_takes_many_steps_removes_each_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_queries(cloud)
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 1)
    monkeypatch.setattr("shared.audit.reconcile._STEP_SECONDS", -1)
    monkeypatch.setattr("shared.audit.reconcile.now", lambda: now() + timedelta(days=100))
    reconcile = cloud.reconcile()
    audit = Audit(id="a", report=AuditReport(started_at=now() + timedelta(days=100)))
    audit.cursor.judged = audit.cursor.swept = True
    steps = 0
    while audit.report.finished_at is None:
        reconcile.resume(audit)
        steps += 1
    assert steps == 4
    assert audit.report.queries_removed == 6
    assert [name for name in cloud.records() if "/queries/" in name] == []
