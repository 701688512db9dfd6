"""The time that records are stamped with, and the wait of a writer that others were faster than."""

import random
import time
from datetime import UTC, datetime

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0


def now() -> datetime:
    """The current time: UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def back_off(losses: int) -> None:
    """Wait after so many lost races in a row: up to 0.1 s, twice as long each time, up to 2 s, with full jitter."""
    time.sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (losses - 1))))  # noqa: S311 - jitter, not a secret
