"""Callers that wait for the answer to another, as a test knows of them."""

import threading
from concurrent.futures import Future

import pytest

from shared.queries.records import QueryRecord


def waiting_callers(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """What is released once for each caller that has found the same query under way, and waits for its answer."""
    waiting = threading.Semaphore(0)

    class Waited(Future[QueryRecord]):
        def result(self, timeout: float | None = None) -> QueryRecord:
            waiting.release()
            return super().result(timeout)

    monkeypatch.setattr("shared.queries.cache.Future", Waited)
    return waiting
