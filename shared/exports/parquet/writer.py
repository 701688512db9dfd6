"""Parquet files, written as streams: one group of rows after the other, and a footer that says where each is.

No library that writes Parquet fits into the deployed package beside what is there (docs/design.md). This one writes
what an export needs and no more: texts, whole numbers, moments, maps of texts, and vectors. Values are plain; texts are
compressed with gzip, which every reader has, and vectors not at all, since they have nothing to compress.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
from isal import isal_zlib

from shared.exports.parquet import arrow_schema
from shared.exports.parquet.thrift import Field, binaries, binary, flag, i32, i32s, i64, nested, structs, varint
from shared.exports.parquet.thrift import struct as thrift

_MAGIC: Final = b"PAR1"
# Numbers of parquet.thrift. Types, and how often a value comes:
_INT32, _INT64, _FLOAT, _BYTE_ARRAY, _FIXED_BYTES = 1, 2, 4, 6, 7
_REQUIRED, _OPTIONAL, _REPEATED = 0, 1, 2
# Kinds of texts, maps, lists and moments as old readers know them, and as new ones do:
_UTF8, _MAP, _LIST, _TIMESTAMP_MILLIS = 0, 1, 3, 9
_IS_STRING, _IS_MAP, _IS_LIST, _IS_TIMESTAMP, _IS_FLOAT16 = 1, 2, 3, 8, 15
_PLAIN, _RLE = 0, 3
_UNCOMPRESSED, _GZIP = 0, 2
# A page of vectors has about so many bytes.
_PAGE: Final = 1 << 20
_GZIP_WINDOW: Final = 31
# Beyond this many bytes a smallest or largest value is not worth its place in the footer.
_MAX_STATISTIC: Final = 1024
# The names of the parts of maps and lists, as the format's specification has them.
_ENTRIES, _KEY, _VALUE, _ITEMS, _ELEMENT = "key_value", "key", "value", "list", "element"


@dataclass(frozen=True)
class _Leaf:
    """A column as it is stored: where it is in the schema, the type of its values, and what it takes in a group."""

    path: tuple[str, ...]
    type: int
    codec: int = _GZIP


@dataclass(frozen=True)
class _Page:
    """A piece of a leaf: how many values, missing ones included, and the bytes before compression."""

    values: int
    content: bytes
    smallest: bytes | None = None
    largest: bytes | None = None


type _Pages = list[tuple[_Leaf, list[_Page]]]


@dataclass(frozen=True)
class Texts:
    """A column of texts, in which some may be missing (``None``) if it is ``optional``."""

    name: str
    optional: bool = False

    def schema(self) -> list[bytes]:
        """Its part of the schema."""
        return [_text(self.name, _OPTIONAL if self.optional else _REQUIRED)]

    def arrow(self) -> arrow_schema.Table:
        """The same for Arrow."""
        return arrow_schema.text(self.name, nullable=self.optional)

    def pages(self, values: Sequence[str | None]) -> _Pages:
        """What a group with these values has."""
        there = [value.encode() for value in values if value is not None]
        levels = _levels([value is not None for value in values]) if self.optional else b""
        page = _Page(len(values), levels + _plain(there), min(there, default=None), max(there, default=None))
        return [(_Leaf((self.name,), _BYTE_ARRAY), [page])]


@dataclass(frozen=True)
class Int32s:
    """A column of whole numbers of 32 bits."""

    name: str

    def schema(self) -> list[bytes]:
        """Its part of the schema."""
        return [_element(self.name, _REQUIRED, i32(1, _INT32))]

    def arrow(self) -> arrow_schema.Table:
        """The same for Arrow."""
        return arrow_schema.int32(self.name)

    def pages(self, values: Sequence[int]) -> _Pages:
        """What a group with these values has."""
        return [(_Leaf((self.name,), _INT32), [_numbers(np.array(values, "<i4"))])]


@dataclass(frozen=True)
class Moments:
    """A column of moments, in milliseconds."""

    name: str

    def schema(self) -> list[bytes]:
        """Its part of the schema."""
        moment = nested(_IS_TIMESTAMP, flag(1, value=True), nested(2, nested(1)))
        return [_element(self.name, _REQUIRED, i32(1, _INT64), i32(6, _TIMESTAMP_MILLIS), nested(10, moment))]

    def arrow(self) -> arrow_schema.Table:
        """The same for Arrow."""
        return arrow_schema.utc_milliseconds(self.name)

    def pages(self, values: Sequence[datetime]) -> _Pages:
        """What a group with these values has."""
        numbers = np.array([round(value.timestamp() * 1000) for value in values], "<i8")
        return [(_Leaf((self.name,), _INT64), [_numbers(numbers)])]


@dataclass(frozen=True)
class Maps:
    """A column of maps from texts to texts."""

    name: str

    def schema(self) -> list[bytes]:
        """Its part of the schema."""
        group = _group(self.name, _REQUIRED, 1, i32(6, _MAP), nested(10, nested(_IS_MAP)))
        return [group, _group(_ENTRIES, _REPEATED, 2), _text(_KEY, _REQUIRED), _text(_VALUE, _REQUIRED)]

    def arrow(self) -> arrow_schema.Table:
        """The same for Arrow."""
        return arrow_schema.map_of_texts(self.name, _ENTRIES, _KEY, _VALUE)

    def pages(self, values: Sequence[Mapping[str, str]]) -> _Pages:
        """What a group with these values has. A map without entries is one place that nothing is at."""
        is_later = [number > 0 for value in values for number in range(max(1, len(value)))]
        is_there = [there for value in values for there in ([True] * len(value) or [False])]
        levels = _levels(is_later) + _levels(is_there)
        found: _Pages = []
        for part, texts in (
            (_KEY, [key for value in values for key in value]),
            (_VALUE, [text for value in values for text in value.values()]),
        ):
            page = _Page(len(is_there), levels + _plain([text.encode() for text in texts]))
            found.append((_Leaf((self.name, _ENTRIES, part), _BYTE_ARRAY), [page]))
        return found


@dataclass(frozen=True)
class Vectors:
    """A column of vectors of ``dimensions`` numbers, in float32 or, with ``half``, in float16."""

    name: str
    dimensions: int
    half: bool = False

    def schema(self) -> list[bytes]:
        """Its part of the schema."""
        number = (i32(1, _FIXED_BYTES), i32(2, 2)) if self.half else (i32(1, _FLOAT),)
        kind = (nested(10, nested(_IS_FLOAT16)),) if self.half else ()
        group = _group(self.name, _REQUIRED, 1, i32(6, _LIST), nested(10, nested(_IS_LIST)))
        return [group, _group(_ITEMS, _REPEATED, 1), _element(_ELEMENT, _REQUIRED, *number, later=kind)]

    def arrow(self) -> arrow_schema.Table:
        """The same for Arrow."""
        return arrow_schema.vectors(self.name, _ELEMENT, self.dimensions, half=self.half)

    def pages(self, values: "np.ndarray[tuple[int, int], np.dtype[np.floating]]") -> _Pages:
        """What a group with these rows has."""
        rows = max(1, _PAGE // (self.dimensions * (2 if self.half else 4)))
        pages = [self._page(values[first : first + rows]) for first in range(0, len(values), rows)]
        leaf = _Leaf((self.name, _ITEMS, _ELEMENT), _FIXED_BYTES if self.half else _FLOAT, _UNCOMPRESSED)
        return [(leaf, pages)]

    def _page(self, rows: "np.ndarray[tuple[int, int], np.dtype[np.floating]]") -> _Page:
        # The first number of each row begins a list, and all others go on with it.
        more = _run(self.dimensions - 1, 1) if self.dimensions > 1 else b""
        begins = (_run(1, 0) + more) * len(rows)
        levels = _sized(begins) + _sized(_run(rows.size, 1))
        return _Page(rows.size, levels + rows.astype("<f2" if self.half else "<f4").tobytes())


type Column = Texts | Int32s | Moments | Maps | Vectors


@dataclass
class Writer:
    """Makes the bytes of one file, in the order in which they come; ``rows`` and ``size`` (bytes) count them.

    Rows come in the order of the first column.
    """

    columns: Sequence[Column]
    created_by: str
    rows: int = 0
    size: int = 0
    _groups: list[bytes] = field(default_factory=list)

    def group(self, values: Sequence[Any]) -> Iterator[bytes]:
        """The bytes of a group of rows: the values of each column."""
        if not self._groups:
            yield self._count(_MAGIC)
        chunks, plain_size, start = [], 0, self.size
        for column, given in zip(self.columns, values, strict=True):
            for leaf, pages in column.pages(given):
                first, plain = self.size, 0
                for page in pages:
                    head, content = _stored(leaf, page)
                    plain += len(head) + len(page.content)
                    yield self._count(head)
                    yield self._count(content)
                chunks.append(_chunk(leaf, pages, first, plain, self.size - first))
                plain_size += plain
        rows = len(values[0])
        in_order = thrift(i32(1, 0), flag(2, value=False), flag(3, value=False))
        self._groups.append(
            thrift(
                structs(1, chunks),
                i64(2, plain_size),
                i64(3, rows),
                structs(4, [in_order]),
                i64(5, start),
                i64(6, self.size - start),
            )
        )
        self.rows += rows

    def end(self) -> Iterator[bytes]:
        """The bytes after the last group."""
        if not self._groups:
            yield self._count(_MAGIC)
        elements = [part for column in self.columns for part in column.schema()]
        schema = arrow_schema.encoded([column.arrow() for column in self.columns])
        leaves = sum(len(column.pages(_NONE[type(column)])) for column in self.columns)
        footer = thrift(
            i32(1, 2),
            structs(2, [thrift(binary(4, b"schema"), i32(5, len(self.columns))), *elements]),
            i64(3, self.rows),
            structs(4, self._groups),
            structs(5, [thrift(binary(1, b"ARROW:schema"), binary(2, schema))]),
            binary(6, self.created_by.encode()),
            # The smallest and largest values are by the order of their types.
            structs(7, [thrift(nested(1))] * leaves),
        )
        yield self._count(footer + struct.pack("<I", len(footer)) + _MAGIC)

    def _count(self, content: bytes) -> bytes:
        self.size += len(content)
        return content


_NONE: Final[dict[type, Any]] = {Texts: [], Int32s: [], Moments: [], Maps: [], Vectors: np.empty((0, 1))}


def _stored(leaf: _Leaf, page: _Page) -> tuple[bytes, bytes]:
    """A page's header and content as they are written."""
    content = page.content
    if leaf.codec == _GZIP:
        compressor = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP_WINDOW)
        content = compressor.compress(content) + compressor.flush()
    data = nested(5, i32(1, page.values), i32(2, _PLAIN), i32(3, _RLE), i32(4, _RLE))
    return thrift(i32(1, 0), i32(2, len(page.content)), i32(3, len(content)), data), content


def _chunk(leaf: _Leaf, pages: Sequence[_Page], start: int, plain: int, size: int) -> bytes:
    """What the footer says of a leaf in a group."""
    smallest = min((page.smallest for page in pages if page.smallest is not None), default=None)
    largest = max((page.largest for page in pages if page.largest is not None), default=None)
    known: list[Field] = []
    if smallest is not None and largest is not None and max(len(smallest), len(largest)) <= _MAX_STATISTIC:
        known = [nested(12, binary(5, largest), binary(6, smallest))]
    about = nested(
        3,
        i32(1, leaf.type),
        i32s(2, [_PLAIN, _RLE]),
        binaries(3, [part.encode() for part in leaf.path]),
        i32(4, leaf.codec),
        i64(5, sum(page.values for page in pages)),
        i64(6, plain),
        i64(7, size),
        i64(9, start),
        *known,
    )
    return thrift(i64(2, start), about)


def _element(name: str, repetition: int, *before: Field, later: Sequence[Field] = ()) -> bytes:
    """A leaf of the schema; its fields come in the order of their numbers."""
    fields = sorted([*before, i32(3, repetition), binary(4, name.encode()), *later], key=lambda one: one[0])
    return thrift(*fields)


def _group(name: str, repetition: int, children: int, *later: Field) -> bytes:
    return _element(name, repetition, i32(5, children), later=later)


def _text(name: str, repetition: int) -> bytes:
    kinds = (i32(6, _UTF8), nested(10, nested(_IS_STRING)))
    return _element(name, repetition, i32(1, _BYTE_ARRAY), later=kinds)


def _levels(bits: Sequence[bool]) -> bytes:
    """Levels that are 0 or 1, eight in a byte."""
    groups = -(-len(bits) // 8)
    return _sized(varint(groups << 1 | 1) + np.packbits(np.array(bits, np.bool_), bitorder="little").tobytes())


def _run(count: int, level: int) -> bytes:
    """The same level so many times."""
    return varint(count << 1) + bytes([level])


def _sized(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def _plain(values: Sequence[bytes]) -> bytes:
    return b"".join([part for value in values for part in (struct.pack("<I", len(value)), value)])


def _numbers(values: "np.ndarray[tuple[int], np.dtype[np.integer]]") -> _Page:
    least, most = (values.min(), values.max()) if len(values) else (None, None)
    return _Page(
        len(values),
        values.tobytes(),
        None if least is None else least.tobytes(),
        None if most is None else most.tobytes(),
    )
