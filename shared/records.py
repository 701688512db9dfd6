"""What is stored: plain data, one Struct for each kind of blob. The shapes are a contract with their readers."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

from shared.errors import PictureCode, RefusalCode

InputType = Literal["text", "query", "document"]
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

    ``image_sha256`` and ``text`` say what was asked; ``text`` is ``None`` where it was not to be kept.
    """

    id: str
    image_sha256: str | None
    text: str | None
    model: str
    input_type: InputType
    dimensions: int
    preparation: int | None
    prompt_tokens: int | None
    total_tokens: int | None
    embedded_at: datetime
    embedding: list[float]


def now() -> datetime:
    """The time to stamp a record with: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
