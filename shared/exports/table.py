"""The table: which columns it has, and the values of a group of records in each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shared.exports.parquet.writer import Column, Int32s, Maps, Moments, Texts, Vectors
from shared.uploads.records import EmbeddingRecord

if TYPE_CHECKING:
    import numpy as np

# What a group of rows takes in memory at most, and how many it has at most. Readers take one group at a time, too.
_GROUP_BYTES, _GROUP_ROWS = 32 * 2**20, 16_384


def columns(dimensions: int, *, half: bool) -> list[Column]:
    """The columns of an export, the name first."""
    return [
        *(Texts(name) for name in ("name", "id", "url", "etag", "sha256", "media_type")),
        Int32s("width"),
        Int32s("height"),
        Texts("text", optional=True),
        Maps("metadata"),
        Moments("embedded_at"),
        Texts("model"),
        Vectors("embedding", dimensions, half),
    ]


def names_alone() -> list[Column]:
    """The column of names that are gone."""
    return [Texts("name")]


def values(
    records: Sequence[EmbeddingRecord], vectors: "np.ndarray[tuple[int, int], np.dtype[np.floating]]"
) -> list[Any]:
    """What each column has of these records, whose ``vectors`` are given beside them."""
    fields = ("name", "id", "url", "etag", "sha256", "media_type", "width", "height", "text", "metadata", "embedded_at")
    return [*([getattr(record, field) for record in records] for field in (*fields, "model")), vectors]


def group_rows(dimensions: int) -> int:
    """How many rows a group has."""
    return max(1, min(_GROUP_ROWS, _GROUP_BYTES // (4 * dimensions)))
