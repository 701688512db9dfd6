"""The gate before the model: so many calls at once, and none while it has asked to be left alone."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ModelBusy

# Where a refusal names no wait, one call asks again after the first of these, each time later, up to the last.
_FIRST_UNSAID_WAIT, _LONGEST_UNSAID_WAIT = 1.5, 4.0


class Gate:
    """Lets calls through. Every call of the process shares one, so that one refusal spares all the others.

    After a refusal half as many calls are let through at once; answers open it again.
    """

    def __init__(self, most: int) -> None:
        """``most`` calls at once."""
        self._most = most
        self._allowed = self._half = float(most)
        self._inside = 0
        self._urgent = 0
        self._closed_until = 0.0
        self._unsaid_wait = _FIRST_UNSAID_WAIT
        self._changed = threading.Condition()

    @contextmanager
    def passage(self, patience: float, *, deadline: float = math.inf, urgent: bool = False) -> Iterator[None]:
        """Wait for a place; what is ``urgent`` goes first.

        Raises :class:`ModelBusy` at once where the gate stays closed longer than ``patience`` seconds, and when there
        has been no place by ``deadline`` (``time.monotonic``).
        """
        with self._changed:
            self._urgent += urgent
            try:
                while (closed := self._closed(patience)) > 0 or not self._has_place(urgent):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise ModelBusy("Other calls to the model have taken all the time there was.", status=503)
                    wait = min(left, closed if closed > 0 else math.inf)
                    self._changed.wait(wait if wait < math.inf else None)
            finally:
                self._urgent -= urgent
                self._changed.notify_all()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def check(self, patience: float) -> None:
        """Raise :class:`ModelBusy` if the gate stays closed for longer than ``patience`` seconds."""
        with self._changed:
            self._closed(patience)

    def refused(self, wait: float | None) -> None:
        """Close the gate for ``wait`` seconds, because the model said so, and halve what it lets through.

        Where it did not say how long, a single call asks again after a second and a half, and later each time it is
        refused.
        """
        with self._changed:
            now = time.monotonic()
            # Calls that were in flight together are refused together: that is one refusal.
            if self._closed_until <= now:
                # A single call that asks again and is refused says nothing new of how many are too many.
                if self._allowed > 1:
                    self._half = self._allowed / 2
                self._allowed = 1.0 if wait is None else max(1.0, self._half)
                if wait is None:
                    wait, self._unsaid_wait = self._unsaid_wait, min(self._unsaid_wait * 2, _LONGEST_UNSAID_WAIT)
            self._closed_until = max(self._closed_until, now + (wait or 0.0))

    def answered(self) -> None:
        """Let one more call through: for each answer up to half of what was too many, then for each round of them."""
        with self._changed:
            self._unsaid_wait = _FIRST_UNSAID_WAIT
            if self._allowed < self._most:
                more = 1.0 if self._allowed + 1 <= self._half else 1 / self._allowed
                self._allowed = min(float(self._most), self._allowed + more)
                self._changed.notify_all()

    def _has_place(self, urgent: bool) -> bool:
        return self._inside < int(self._allowed) and (urgent or not self._urgent)

    def _closed(self, patience: float) -> float:
        """For how many seconds the gate stays closed."""
        closed = self._closed_until - time.monotonic()
        if closed > patience:
            message = f"The model has asked to be left alone for another {closed:.0f} seconds."
            raise ModelBusy(message, status=429, retry_after=closed)
        return closed
