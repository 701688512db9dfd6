"""Query records are kept for QUERY_RETENTION_DAYS, in whichever space they are, and not for longer."""

from datetime import timedelta
from typing import Any

import pytest

from shared.audit.report import Audit, AuditReport
from shared.clock import now
from tests.audit.audits import audit, later
from tests.conftest import Cloud

SPACES = ["Cohere-embed-v3-english", "Cohere-embed-v3-english-256", "retired-model"]


def keep_queries(cloud: Cloud) -> list[str]:
    names = [f"{space}/queries/{digit}0/{digit}0.json" for space in SPACES for digit in "ab"]
    for name in names:
        cloud.embeddings.upload_blob(name, b"{}")
    return sorted(names)


def test_an_audit_removes_the_old_ones_of_every_space(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep_queries(cloud)
    later(monkeypatch, days=89)
    assert audit(cloud).queries_removed == 0
    assert [name for name in cloud.records() if "/queries/" in name] == kept
    later(monkeypatch, days=91)
    assert audit(cloud).queries_removed == 6
    assert [name for name in cloud.records() if "/queries/" in name] == []


def test_the_setting_says_for_how_many_days(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_queries(cloud)
    later(monkeypatch, days=8)
    assert audit(cloud.with_settings(QUERY_RETENTION_DAYS="7")).queries_removed == 6


@pytest.mark.parametrize("asked", [{"dry_run": True}, {"prefix": "a"}])
def test_an_audit_of_a_part_or_a_dry_run_removes_none(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    kept = keep_queries(cloud)
    later(monkeypatch, days=1000)
    assert audit(cloud, **asked).queries_removed == 0
    assert [name for name in cloud.records() if "/queries/" in name] == kept


def test_an_audit_that_takes_many_steps_removes_each_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_queries(cloud)
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 1)
    monkeypatch.setattr("shared.audit.reconcile._STEP_SECONDS", -1)
    later(monkeypatch, days=100)
    reconcile = cloud.reconcile()
    running = Audit(report=AuditReport(id="a", started_at=now() + timedelta(days=100)))
    cloud.report_store().write_running(running.report, replaces=None)
    running.cursor.judged = running.cursor.swept = True
    steps = 0
    while running.report.finished_at is None:
        reconcile.resume(running)
        steps += 1
    assert steps == 4
    assert running.report.queries_removed == 6
    assert [name for name in cloud.records() if "/queries/" in name] == []
