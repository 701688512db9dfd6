"""Records, read for the rows of a table: many at once, in the order in which their names come."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from shared.errors import UnreadableBlob
from shared.uploads.record_store import RecordStore
from shared.uploads.records import EmbeddingRecord

if TYPE_CHECKING:
    import numpy as np

    type Vector = np.ndarray[tuple[int], np.dtype[np.float32]]

# Storage answers in a few milliseconds, of which this process works for a fraction of one.
_THREADS = 16
# Of a width or height, which the table has in four bytes.
_MAX_INT32 = 2**31 - 1


class Group(NamedTuple):
    """Records without their vectors, the vectors, and the names of records that could not be read."""

    records: list[EmbeddingRecord]
    vectors: "np.ndarray[tuple[int, int], np.dtype[np.float32]]"
    damaged: list[str]


class Rows:
    """Reads records. Raises ``StorageError`` where storage fails."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records

    def read(self, names: Sequence[str], dimensions: int | None) -> Group:
        """The records of these images, without those that are gone by now.

        A vector of another length than ``dimensions`` is damaged; if that is not known, of another than the first.
        """
        import numpy as np

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="export") as threads:
            found = list(threads.map(self._load, names))
        records, vectors, damaged = [], [], []
        for name, one in zip(names, found, strict=True):
            if one is None:
                continue
            record, vector = one
            if record is None or len(vector) != (dimensions or len(vector)):
                damaged.append(name)
                continue
            dimensions = len(vector)
            records.append(record)
            vectors.append(vector)
        rows = np.stack(vectors) if vectors else np.empty((0, dimensions or 1), np.float32)
        return Group(records, rows, damaged)

    def _load(self, name: str) -> "tuple[EmbeddingRecord | None, Vector] | None":
        """A record and its vector, no record if it is damaged; ``None`` if it is gone."""
        import numpy as np

        nothing = np.empty(0, np.float32)
        try:
            record = self._records.load_record(name)
        except UnreadableBlob:
            return None, nothing
        if record is None:
            return None
        with np.errstate(over="ignore"):
            vector = np.array(record.embedding, np.float32)
        if record.name != name or not len(vector) or not np.isfinite(vector).all() or not _fits(record):
            return None, nothing
        # The list takes eight times as much, and a group has thousands.
        return msgspec.structs.replace(record, embedding=[]), vector


def _fits(record: EmbeddingRecord) -> bool:
    """Whether the table can hold this record's size."""
    return 0 <= record.width <= _MAX_INT32 and 0 <= record.height <= _MAX_INT32
