"""What is stored and queued: plain data, one Struct for each kind. The shapes are a contract with their readers."""

import hashlib
from datetime import UTC, datetime
from typing import Literal

import msgspec

from shared.errors import PictureCode, RefusalCode

InputType = Literal["text", "query", "document"]
EncodingFormat = Literal["float", "base64", "binary", "ubinary", "int8", "uint8"]
GivenUp = Literal["crashed", "gave_up"]
FailureCode = PictureCode | RefusalCode | GivenUp


class EmbeddingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The embedding of one image, flat, so that an Azure AI Search indexer takes it as it is.

    ``etag`` and ``bytes`` are the image's, ``width`` and ``height`` its pixels as stored, before anything was
    done to it. ``embedding`` holds ``dimensions`` floats. ``prompt_tokens`` and ``total_tokens`` are ``None``
    where the model did not say.
    """

    id: str
    container: str
    name: str
    url: str
    etag: str
    sha256: str
    bytes: int
    media_type: str
    width: int
    height: int
    text: str | None
    model: str
    input_type: InputType
    dimensions: int
    preparation: int
    prompt_tokens: int | None
    total_tokens: int | None
    embedded_at: datetime
    embedding: list[float]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of every image with these bytes and this text, kept under :func:`content_key`."""

    media_type: str
    width: int
    height: int
    prompt_tokens: int | None
    total_tokens: int | None
    embedding: list[float]


class FailureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Why an image has no embedding. ``status`` is the model's HTTP status where the model said no."""

    name: str
    etag: str
    code: FailureCode
    message: str
    status: int | None
    permanent: bool
    attempts: int
    first_seen: datetime
    last_seen: datetime


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue ``embedding-requests``: look at this image again.

    ``attempt`` counts the looks that came to nothing because the model could not be had, since ``first_seen``.
    """

    name: str
    attempt: int = 0
    first_seen: datetime | None = None


class DroppedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message on one of our queues that nobody could read. ``content`` is its beginning."""

    content: str
    reason: str
    seen_at: datetime


class QueryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The embedding of one query, kept under ``id``, a hash of all that decides it.

    ``image_sha256`` and ``text`` say what was asked; ``text`` is ``None`` where it was not to be kept. ``dimensions``
    is the length of ``embedding``, whose numbers are integers where ``encoding_format`` is one of those.
    """

    id: str
    image_sha256: str | None
    text: str | None
    model: str
    input_type: InputType
    encoding_format: EncodingFormat
    dimensions: int
    preparation: int | None
    prompt_tokens: int | None
    total_tokens: int | None
    embedded_at: datetime
    embedding: list[float]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What embedding all that was found wanting would take. ``total_tokens`` is ``None`` where no record says."""

    calls: int
    total_tokens: int | None


class AuditReport(msgspec.Struct, kw_only=True):
    """What an audit found, so far while ``finished_at`` is ``None``.

    Every image is one of ``current``, ``missing`` (nothing is recorded of it as it is now), ``stale`` (its record is of
    another ETag or preparation), ``failed`` (by code) and ``ignored`` (its name has a segment ``.`` or ``..``).
    ``orphaned`` are names with records whose image is gone. ``requested`` are the names that were put on the queue, or
    would have been but for ``dry_run``. ``contents`` are the vectors kept for images with the same bytes, and
    ``contents_removed`` those that no record has used for a day. ``reached`` is how far an unfinished audit has come.
    """

    started_at: datetime
    finished_at: datetime | None = None
    prefix: str = ""
    dry_run: bool = False
    retry_failures: bool | list[FailureCode] = False
    images: int = 0
    current: int = 0
    missing: int = 0
    stale: int = 0
    orphaned: int = 0
    ignored: int = 0
    failed: dict[str, int] = msgspec.field(default_factory=dict)
    requested: int = 0
    estimate: Estimate = Estimate(calls=0, total_tokens=0)
    contents: int = 0
    contents_removed: int = 0
    reached: str | None = None


class Place(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far an audit has come, so that it can go on in another process.

    ``done`` is the last key that was judged. ``images``, ``records``, ``failures`` and ``contents`` are storage's
    markers of the pages to go on with. ``listed`` is the last image taken from its page, ``held`` are images (name and
    ETag) that were, but whose turn comes after ``done``. ``judged`` says that only the contents are left.
    """

    done: str = ""
    images: str = ""
    listed: str = ""
    held: list[tuple[str, str]] = []
    records: str = ""
    failures: str = ""
    judged: bool = False
    contents: str = ""


class Audit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An audit under way.

    ``step`` counts the invocations it has taken. ``order`` is the order that storage has been found to list names in.
    ``calls`` is how many images would be embedded; ``tokens`` were counted in ``counted`` current records.
    """

    id: str
    report: AuditReport
    place: Place = msgspec.field(default_factory=Place)
    step: int = 0
    order: int = 0
    calls: int = 0
    tokens: int = 0
    counted: int = 0


class AuditMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message on the queue ``embedding-requests``: go on with this audit."""

    audit: Audit


def content_key(sha256: str, text: str | None, preparation: int) -> str:
    """A hash of all that decides the embedding of an image in its space."""
    return hashlib.sha256(msgspec.json.encode((sha256, text, preparation))).hexdigest()


def now() -> datetime:
    """The time to stamp a record with: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
