"""What is stored about a query. Readers outside this app depend on this shape."""

from datetime import datetime

import msgspec

from shared.model.wire_format import EncodingFormat, InputType


class QueryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The embedding of one query, stored under ``id``, a hash of everything that decides it.

    ``image_sha256`` and ``text`` are the query; ``text`` is ``None`` if the settings keep it out of storage.
    ``dimensions`` is the length of ``embedding``, whose numbers are integers if ``encoding_format`` is an integer
    encoding.
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


def query_path(space: str, key: str) -> str:
    """The blob name of a query's record, spread over 256 folders."""
    return f"{space}/queries/{key[:2]}/{key}.json"
