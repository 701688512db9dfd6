"""The Arrow schema of a table, as the footer of a Parquet file holds it under ``ARROW:schema``.

Parquet knows lists of any length alone. From this, readers that know Arrow learn that all vectors are of one length.
It is one message of Arrow's IPC format, a flatbuffer; see Schema.fbs and Message.fbs of Apache Arrow.
"""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Numbers of the union Type in Schema.fbs.
_INT, _FLOATING_POINT, _UTF8, _TIMESTAMP, _STRUCT, _FIXED_SIZE_LIST, _MAP = 2, 3, 5, 10, 13, 16, 17
_HALF, _SINGLE, _MILLISECOND = 0, 1, 1
# MessageHeader.Schema, MetadataVersion.V5.
_SCHEMA, _V5 = 1, 4
_CONTINUES: Final = b"\xff\xff\xff\xff"


@dataclass(frozen=True)
class Table:
    """A column's description, or another table of a flatbuffer: the values of its slots, ``None`` for one left out.

    A number comes with its format for ``struct``; all else is another part, which is referred to.
    """

    slots: "Sequence[tuple[str, int] | _Part | None]"


type _Part = Table | str | list[Table]


def text(name: str, *, nullable: bool = False) -> Table:
    """A column of texts."""
    return _field(name, _UTF8, Table([]), nullable=nullable)


def int32(name: str) -> Table:
    """A column of whole numbers."""
    return _field(name, _INT, Table([("i", 32), ("?", 1)]))


def utc_milliseconds(name: str) -> Table:
    """A column of moments."""
    return _field(name, _TIMESTAMP, Table([("h", _MILLISECOND), "UTC"]))


def map_of_texts(name: str, entries: str, key: str, value: str) -> Table:
    """A column of maps from texts to texts, with the names of their parts."""
    inner = _field(entries, _STRUCT, Table([]), children=[text(key), text(value)])
    return _field(name, _MAP, Table([]), children=[inner])


def vectors(name: str, element: str, dimensions: int, *, half: bool) -> Table:
    """A column of vectors of one length, in float16 or float32."""
    number = _field(element, _FLOATING_POINT, Table([("h", _HALF if half else _SINGLE)]))
    return _field(name, _FIXED_SIZE_LIST, Table([("i", dimensions)]), children=[number])


def encoded(fields: Sequence[Table]) -> bytes:
    """The schema of these columns, in base64."""
    content = _flatbuffer(Table([("h", _V5), ("B", _SCHEMA), Table([None, list(fields)])]))
    content += bytes(-len(content) % 8)
    return base64.b64encode(_CONTINUES + struct.pack("<i", len(content)) + content)


def _field(name: str, kind: int, type_: Table, *, nullable: bool = False, children: Sequence[Table] = ()) -> Table:
    return Table([name, ("?", nullable), ("B", kind), type_, None, list(children)])


def _flatbuffer(root: Table) -> bytes:
    """Every part comes behind what refers to it, at a multiple of four."""
    buffer = bytearray(4)
    waiting: list[tuple[int, _Part]] = [(0, root)]
    for place, part in waiting:
        buffer += bytes(-len(buffer) % 4)
        if isinstance(part, str):
            start = len(buffer)
            data = part.encode()
            buffer += struct.pack("<I", len(data)) + data + b"\0"
        elif isinstance(part, list):
            start = len(buffer)
            buffer += struct.pack("<I", len(part)) + bytes(4 * len(part))
            waiting += [(start + 4 + 4 * number, item) for number, item in enumerate(part)]
        else:
            start = _add_table(buffer, part, waiting)
        struct.pack_into("<I", buffer, place, start - place)
    return bytes(buffer)


def _add_table(buffer: bytearray, table: Table, waiting: list[tuple[int, _Part]]) -> int:
    """Add a table, with the list of where its slots are before it; returns where it begins."""
    ends = len(buffer) + 4 + 2 * len(table.slots)
    start = ends + -ends % 4
    content, offsets = bytearray(4), []
    for slot in table.slots:
        if slot is None:
            offsets.append(0)
            continue
        form = slot[0] if isinstance(slot, tuple) else "I"
        content += bytes(-len(content) % struct.calcsize(form))
        offsets.append(len(content))
        if isinstance(slot, tuple):
            content += struct.pack(f"<{form}", slot[1])
        else:
            waiting.append((start + len(content), slot))
            content += bytes(4)
    listed = struct.pack(f"<{2 + len(offsets)}H", 4 + 2 * len(offsets), len(content), *offsets)
    struct.pack_into("<i", content, 0, start - len(buffer))
    buffer += listed.ljust(start - len(buffer), b"\0") + content
    return start
