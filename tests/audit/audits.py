"""Audits as a test has them done: at once or in steps, now or later, and what they put on the queue."""

import base64
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.audit.reconcile import ReconcileRequest
from shared.audit.report import Audit, AuditReport
from shared.clock import now
from tests.conftest import Cloud
from tests.drawing import picture


def drain(cloud: Cloud) -> list[dict[str, Any]]:
    """Process the messages that wait, and those on the trigger's queue; returns all but the dispatcher's own."""
    intake = cloud.intake()
    messages = []
    for queue in (cloud.backlog, cloud.waiting, cloud.queue):
        while message := queue.receive_message():
            body = base64.b64decode(message.content)
            queue.delete_message(message)
            if "turn" not in (decoded := msgspec.json.decode(body)):
                messages.append(decoded)
                intake.queued(body)
    return messages


def embed(cloud: Cloud, *names: str) -> None:
    sync = cloud.sync()
    for index, name in enumerate(names):
        cloud.upload(name, picture(size=(16 + index, 16)))
        assert sync.upload(name).outcome == "embedded"


def audit(cloud: Cloud, **request: Any) -> AuditReport:
    return cloud.reconcile().start(ReconcileRequest(**request))


def in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each step end at its first check of the clock, and make storage's pages short."""
    monkeypatch.setattr("shared.audit.reconcile._STEP_SECONDS", -1)
    monkeypatch.setattr("shared.audit.merge._CLOCK_INTERVAL", 3)
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 2)


def take_steps(cloud: Cloud) -> int:
    """Take the steps of an audit from the queue until it ends; returns how many there were."""
    steps = 0
    reconcile = cloud.reconcile()
    while message := cloud.queue.receive_message():
        body = msgspec.json.decode(base64.b64decode(message.content))
        cloud.queue.delete_message(message)
        if "audit" in body:
            steps += 1
            reconcile.resume(msgspec.convert(body["audit"], Audit))
    return steps


def later(monkeypatch: pytest.MonkeyPatch, **by: float) -> None:
    for module in ("reconcile", "running"):
        monkeypatch.setattr(f"shared.audit.{module}.now", lambda: now() + timedelta(**by))
