"""What is stored about an image: plain data, one Struct a kind. Readers outside this app depend on these shapes."""

import hashlib
from datetime import datetime

import msgspec

from shared.errors import FailureCode
from shared.model.wire_format import InputType
from shared.search.entries import Entry, Facts, packed

SCHEMA = 2
# A result of a search has an image's metadata if keys and values take no more bytes: a million times that is a GB.
_SMALL_METADATA = 1024


class EmbeddingRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The embedding of one image, flat, so that an Azure AI Search indexer can read it unchanged.

    ``etag`` and ``bytes`` are the image's, ``width`` and ``height`` its pixels as stored, before any preparation.
    ``text`` is what was embedded together with the image; ``text_refused`` is what should have been, where the model
    takes no text with a picture. ``model`` is the service's own name for the model, or the deployment's name if the
    service gave none. ``embedding`` holds ``dimensions`` floats. ``prompt_tokens`` and ``total_tokens`` are ``None`` if
    the model did not report them. ``schema`` is :data:`SCHEMA`; the defaults are those of older records, which have
    neither it nor ``deployment``, and whose ``model`` is the deployment's name. ``metadata`` is what the image's blob
    has of its own, by keys in lower case, as far as ``IMAGE_METADATA`` says.
    """

    id: str
    schema: int = 1
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
    deployment: str = ""
    input_type: InputType
    dimensions: int
    preparation: int
    prompt_tokens: int | None
    total_tokens: int | None
    embedded_at: datetime
    embedding: list[float]
    text_refused: str | None = None
    metadata: dict[str, str] = {}


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for every image with the same bytes and text, stored under :func:`content_key`.

    ``without_text`` says that the model refused the text, so the embedding is of the picture alone. ``model`` is the
    service's own name for the model, ``None`` if it gave none.
    """

    media_type: str
    width: int
    height: int
    prompt_tokens: int | None
    total_tokens: int | None
    embedding: list[float]
    without_text: bool = False
    model: str | None = None


class FailureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Why an image has no embedding. ``status`` is the model's HTTP status if the model rejected it.

    Older records have no ``schema``.
    """

    schema: int = 1
    name: str
    etag: str
    code: FailureCode
    message: str
    status: int | None
    permanent: bool
    attempts: int
    first_seen: datetime
    last_seen: datetime


class DroppedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A queue message that could not be read. ``content`` is how it starts."""

    content: str
    reason: str
    seen_at: datetime


def content_key(sha256: str, text: str | None, preparation: int) -> str:
    """A hash of everything that decides the embedding of an image within its space."""
    return hashlib.sha256(msgspec.json.encode((sha256, text, preparation))).hexdigest()


def entry_of(record: EmbeddingRecord, seq: int) -> Entry:
    """What the index is told of a record. One whose embedding has no direction is near to nothing, so it is gone."""
    try:
        vector = packed(record.embedding)
    except ValueError:
        return Entry(name=record.name, seq=seq)
    facts = Facts(
        etag=record.etag,
        media_type=record.media_type,
        width=record.width,
        height=record.height,
        embedded_at=record.embedded_at,
        text=record.text,
        metadata=record.metadata if _is_small(record.metadata) else None,
    )
    return Entry(name=record.name, seq=seq, facts=facts, vector=vector)


def _is_small(metadata: dict[str, str]) -> bool:
    return sum(len(key) + len(value.encode()) for key, value in metadata.items()) <= _SMALL_METADATA
