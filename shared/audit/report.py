"""What an audit found, and its state while it runs: plain data, carried from step to step by queue messages."""

from datetime import datetime
from typing import Annotated

import msgspec

from shared.errors import FailureCode
from shared.storage.queues import Message


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What it would cost to embed everything that needs it, outdated images only if the audit is to refresh them.

    ``total_tokens`` assumes the average of the current records; it is ``None`` if there is none.
    """

    calls: int
    total_tokens: int | None


class IndexReport(msgspec.Struct, kw_only=True):
    """What an audit found of the index of search, which finds ``images``.

    ``missing`` had a record that the index did not know, or not in its last version; ``extra`` were found and had no
    record. Both are mended, or counted alone in a ``dry_run``. ``extra`` is 0 in an audit of a prefix. What is not
    compacted yet is in none of its ``segments``.

    ``recall`` is the share of the ten images nearest to one that a search finds, on average over a hundred images. A
    search computes exact cosines of so many ``candidates``. Both are ``None`` while it computes all of them, so that
    the recall is 1, and in a ``dry_run`` or an audit of a prefix; ``recall`` alone where it could not be measured.
    """

    images: int = 0
    missing: int = 0
    extra: int = 0
    segments: int = 0
    recall: float | None = None
    candidates: int | None = None


class AuditReport(msgspec.Struct, kw_only=True):
    """What an audit found, or has found so far while ``finished_at`` is ``None``.

    Every image is one of ``current``, ``outdated`` (its record is of this ETag, but of another preparation or with
    other keys of the image's metadata than now; it is left alone without ``refresh``), ``missing`` (nothing is
    recorded for this version of it), ``stale`` (its record is of another ETag), ``failed`` (by code) and ``ignored``
    (its name has a segment ``.`` or ``..``).
    ``text_refused`` counts the current and outdated ones that were embedded without their text, since the model takes
    none.
    ``excluded`` counts blobs whose names match no pattern of ``IMAGE_NAMES``, which are no images. ``orphaned`` counts
    names that have records but no image, or an excluded one. ``requested`` counts the names put on the queue, or that
    ``dry_run`` kept off it. ``contents`` counts the vectors kept for images with the same bytes, ``contents_removed``
    those removed because no record had used them for a day. ``queries_removed`` counts the query records, of all
    spaces, that were older than ``QUERY_RETENTION_DAYS``. ``reached`` is the last key that an unfinished audit has
    compared. At ``progressed_at``, the end of its last step or a later moment at which the queue had become shorter,
    ``waiting`` messages were on ``embedding-requests``. ``index`` is ``None`` where there is no search. Older reports
    have no ``schema``.
    """

    schema: int = 1
    id: str = ""
    started_at: datetime
    finished_at: datetime | None = None
    progressed_at: datetime | None = None
    prefix: str = ""
    dry_run: bool = False
    retry_failures: bool | list[FailureCode] = False
    refresh: bool = False
    images: int = 0
    current: int = 0
    outdated: int = 0
    text_refused: int = 0
    missing: int = 0
    stale: int = 0
    orphaned: int = 0
    ignored: int = 0
    excluded: int = 0
    failed: dict[str, int] = msgspec.field(default_factory=dict)
    requested: int = 0
    estimate: Estimate = Estimate(calls=0, total_tokens=0)
    contents: int = 0
    contents_removed: int = 0
    queries_removed: int = 0
    index: IndexReport | None = None
    waiting: int | None = None
    reached: str | None = None

    @property
    def is_full(self) -> bool:
        """Whether this audit is of all images, and requests what it finds."""
        return not self.prefix and not self.dry_run


class Cursor(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far an audit is, so that another process can resume it.

    ``done`` is the last key that was compared. ``images``, ``records``, ``failures`` and ``contents`` are storage's
    markers of the pages to resume at. ``listed`` is the last image read from its page; ``held`` are images (name, ETag,
    and which keys of metadata their records are to have) that were read but sort after ``done``. ``judged`` says that
    all names are compared, ``mended`` that the index is true as well, ``swept`` that the contents are done; the query
    records of ``query_space`` are listed from the marker ``queries`` on.
    """

    done: str = ""
    images: str = ""
    listed: str = ""
    held: list[tuple[str, ...]] = []
    records: str = ""
    failures: str = ""
    judged: bool = False
    mended: bool = False
    contents: str = ""
    swept: bool = False
    query_space: str = ""
    queries: str = ""


class Audit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A running audit.

    ``step`` counts the invocations so far. ``order`` is the index of the order in which storage lists names. ``calls``
    counts the images to embed; ``tokens`` is the sum over ``counted`` current records.
    """

    report: AuditReport
    cursor: Cursor = msgspec.field(default_factory=Cursor, name="place")
    step: int = 0
    order: int = 0
    calls: int = 0
    tokens: int = 0
    counted: int = 0


class AuditMessage(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue ``embedding-requests``: take the next step of this audit.

    An audit too large for a message is named instead, by its id and the number of its last step.
    """

    audit: Audit | Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\.[0-9]+$")]
