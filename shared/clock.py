"""The time that records are stamped with."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The current time: UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def milliseconds() -> int:
    """The current time in whole milliseconds since 1970, by which changes of a record are ordered."""
    return int(time.time() * 1000)
