"""The log line of one sync."""

from dataclasses import dataclass
from typing import Literal

from shared.log import Report

Outcome = Literal["embedded", "copied", "failed", "deferred", "unchanged", "removed", "ignored", "error"]


@dataclass(kw_only=True)
class ImageReport(Report):
    """What the sync of one image came to. ``prepared`` is the size of the file that the model received."""

    name: str
    outcome: Outcome = "unchanged"
    bytes: int | None = None
    prepared: dict[str, int] | None = None
    attempt: int | None = None
    retry_in: int | None = None
