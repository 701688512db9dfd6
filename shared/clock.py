"""The time that records are stamped with."""

from datetime import UTC, datetime


def now() -> datetime:
    """The current time: UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
