"""How a test learns that callers wait for the answer to somebody else's query."""

import threading
from concurrent.futures import Future

import pytest

from shared.queries.cache import Failure
from shared.queries.records import QueryRecord


def waiting_callers(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """A semaphore that a caller releases when it finds its query under way already, before it waits for the answer."""
    waiting = threading.Semaphore(0)

    class Waited(Future[QueryRecord | Failure]):
        def result(self, timeout: float | None = None) -> QueryRecord | Failure:
            waiting.release()
            return super().result(timeout)

    monkeypatch.setattr("shared.queries.cache.Future", Waited)
    return waiting
