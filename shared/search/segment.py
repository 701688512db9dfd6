"""A segment: an immutable file with the vectors of many images, in the order of their names.

    header     sizes; everything below follows from them
    centre     float32 [dimensions], subtracted before the bits are taken
    spreads    float32 [dimensions], how far numbers lie from the centre on average
    seqs       uint64 [rows]
    hashes     uint64 [rows], of the names
    times      int64 [rows], ``embedded_at`` in seconds since 1970
    scales     float32 [rows], one over the length of the vector: float16 rounds it away from 1
    name_ends  uint32 [rows]
    names      UTF-8, one after another
    gone_…     seqs, hashes, name_ends and names of images that are gone
    signs      uint64 [words][rows], on which side of the centre a number lies
    rests      uint64 [rows][words], and on which side of what is usual there (:mod:`shared.search.scan`)
    fact_ends  uint64 [rows]
    facts      msgpack, one after another
    vectors    float16 [rows][dimensions]

Numbers are little-endian. Each part is padded with zeros and ends with the CRC-32 of itself and its padding at a
multiple of 64 bytes, so parts are aligned and can be written and read as streams. What the estimates of cosines need
comes first, what only the best rows need comes last.
"""

import hashlib
import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, Self

import msgspec
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from shared.search.entries import Entry, Facts
from shared.search.scan import MAX_DIMENSIONS, Floats, Halves, Mask, Rows, Words, floats, rests, signs, words

_MAGIC: Final = b"images\x00\x02"
# Dimensions, rows, gone, bytes of names, of the names of what is gone, and of facts.
_HEADER: Final = struct.Struct("<8sIIIIIQ")
_CHECKSUM: Final = struct.Struct("<I")
_ALIGNMENT: Final = 64
# Vectors that are turned into float32 at a time: 16 MiB of 1,024 numbers.
_BLOCK: Final = 4096
# So many vectors tell the centre and the spreads as well as all of them.
_SAMPLE: Final = 16_384
# Bytes that are checked at a time. While they are, a few megabytes of a file need to be in memory, not all of it.
_CHECKED: Final = 1 << 22
# What fits their ends.
_MOST_NAMES: Final = 2**32 - 1
# In no UTF-8, and after every byte of it.
_AFTER_ALL: Final = b"\xff"

type _Times = NDArray[np.int64]


class DamagedSegment(ValueError):
    """A file is not a whole segment as :func:`build` writes it, or one of vectors of another length."""


def name_hash(name: bytes) -> int:
    """The hash of a name in UTF-8, as segments hold it."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


class _Layout(NamedTuple):
    """How many bytes each part has, in the order in which they come, without padding and checksum."""

    centre: int
    spreads: int
    seqs: int
    hashes: int
    times: int
    scales: int
    name_ends: int
    names: int
    gone_seqs: int
    gone_hashes: int
    gone_name_ends: int
    gone_names: int
    signs: int
    rests: int
    fact_ends: int
    facts: int
    vectors: int

    @classmethod
    def of(cls, dimensions: int, rows: int, gone: int, names: int, gone_names: int, facts: int) -> Self:
        return cls(
            centre=4 * dimensions,
            spreads=4 * dimensions,
            seqs=8 * rows,
            hashes=8 * rows,
            times=8 * rows,
            scales=4 * rows,
            name_ends=4 * rows,
            names=names,
            gone_seqs=8 * gone,
            gone_hashes=8 * gone,
            gone_name_ends=4 * gone,
            gone_names=gone_names,
            signs=8 * words(dimensions) * rows,
            rests=8 * words(dimensions) * rows,
            fact_ends=8 * rows,
            facts=facts,
            vectors=2 * dimensions * rows,
        )


# Names and seqs come before the signs, so they can be read alone.
_BEFORE_SIGNS: Final = _Layout._fields.index("signs")


class Segment:
    """A segment that is open. Nothing of it ever changes, so threads may share it.

    Of a segment in a file (``mmap``) the parts that every search goes through are copied into memory: the bits and 32
    bytes a row. Names, facts and vectors stay in the file, and in memory as far as the system has room.
    """

    dimensions: int
    centre: Floats
    spreads: Floats
    seqs: Words
    hashes: Words
    times: _Times
    scales: Floats
    gone_seqs: Words
    gone_hashes: Words
    signs: Words
    rests: Words
    vectors: Halves

    @classmethod
    def open(cls, buffer: bytes | bytearray | memoryview | mmap.mmap, *, dimensions: int) -> Self:
        """Check and open the bytes of a whole segment, of vectors of this length; raises :class:`DamagedSegment`.

        It reads everything once. The buffer must stay as it is for as long as the segment is used.
        """
        view = memoryview(buffer).toreadonly()
        header, data = _header(view)
        if header.dimensions != dimensions:
            raise DamagedSegment(f"The segment has vectors of {header.dimensions:,} numbers, not {dimensions:,}.")
        layout = header.layout
        whole = data + sum(map(_padded, layout))
        if len(view) != whole:
            raise DamagedSegment(f"The segment has {len(view):,} bytes instead of {whole:,}.")
        parts, ends = {}, {}
        for name, size in zip(layout._fields, layout, strict=True):
            parts[name], data = _part(view, data, size, name)
            ends[name] = data
        file = view.obj
        segment = cls(dimensions, parts, copied=isinstance(file, mmap.mmap))
        if isinstance(file, mmap.mmap):
            # From now on rows are read one here, one there, and what the system reads ahead would push others out.
            file.madvise(mmap.MADV_RANDOM)
            # Of what was copied one copy is enough: these two are nearly all of it.
            for name in ("signs", "rests"):
                _release(file, ends[name] - _padded(len(parts[name])), ends[name])
        return segment

    def __init__(self, dimensions: int, parts: dict[str, memoryview], *, copied: bool) -> None:
        def array[T: np.generic](part: str, dtype: type[T]) -> NDArray[T]:
            found = np.frombuffer(parts[part], np.dtype(dtype).newbyteorder("<"))
            return np.array(found) if copied else found

        self.dimensions = dimensions
        self.centre = array("centre", np.float32)
        self.spreads = array("spreads", np.float32)
        self.seqs = array("seqs", np.uint64)
        self.hashes = array("hashes", np.uint64)
        self.times = array("times", np.int64)
        self.scales = array("scales", np.float32)
        self.gone_seqs = array("gone_seqs", np.uint64)
        self.gone_hashes = array("gone_hashes", np.uint64)
        self.signs = array("signs", np.uint64).reshape(words(dimensions), len(self.seqs))
        self.rests = array("rests", np.uint64).reshape(len(self.seqs), words(dimensions))
        self.vectors = np.frombuffer(parts["vectors"], "<u2").reshape(len(self.seqs), dimensions)
        self._names = _Texts(parts["names"], array("name_ends", np.uint32))
        self._gone_names = _Texts(parts["gone_names"], array("gone_name_ends", np.uint32))
        self._facts = _Texts(parts["facts"], np.frombuffer(parts["fact_ends"], "<u8"))

    def __len__(self) -> int:
        return len(self.seqs)

    def name(self, row: int) -> bytes:
        """A row's name, in UTF-8."""
        return self._names[row]

    def gone_name(self, row: int) -> bytes:
        """The name of an image that is gone, in UTF-8."""
        return self._gone_names[row]

    def facts(self, row: int) -> Facts:
        """What a result says of a row."""
        return msgspec.msgpack.decode(self._facts[row], type=Facts)

    def raw_facts(self, row: int) -> bytes:
        """The same, as it is stored."""
        return self._facts[row]

    def starting(self, prefix: bytes) -> tuple[int, int]:
        """The rows whose names begin with these bytes: from the first number up to the second, without it."""
        return (0, len(self)) if not prefix else (self._first(prefix), self._first(prefix + _AFTER_ALL))

    @cached_property
    def resident_bytes(self) -> int:
        """The bytes of the parts that are always in memory, where the segment is in a file."""
        floats = self.centre.nbytes + self.spreads.nbytes + self.scales.nbytes
        numbers = (self.seqs, self.hashes, self.gone_seqs, self.gone_hashes, self.signs, self.rests)
        ends = self._names.ends.nbytes + self._gone_names.ends.nbytes
        return floats + self.times.nbytes + sum(array.nbytes for array in numbers) + ends

    def _first(self, name: bytes) -> int:
        """The first row whose name is not before this one."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._names[middle] < name:
                low = middle + 1
            else:
                high = middle
        return low


class Extent(NamedTuple):
    """How many images a segment finds and how many are gone there; and how many bytes at its start say which."""

    rows: int
    gone: int
    states: int


def extent(start: bytes) -> Extent:
    """What the first :data:`HEADER_BYTES` of a segment say, or more of them; raises :class:`DamagedSegment`."""
    header, data = _header(memoryview(start))
    return Extent(header.rows, header.gone, data + sum(map(_padded, header.layout[:_BEFORE_SIGNS])))


def states(start: bytes) -> Iterator[tuple[bytes, int, bool]]:
    """Of each image the name in UTF-8, the seq of what the segment says of it, and whether it is gone.

    ``start`` has the bytes that :func:`extent` counts. Raises :class:`DamagedSegment`.
    """
    view = memoryview(start)
    header, data = _header(view)
    parts = {}
    for name, size in zip(_Layout._fields[:_BEFORE_SIGNS], header.layout, strict=False):
        parts[name], data = _part(view, data, size, name)
    for kind in ("", "gone_"):
        names = _Texts(parts[f"{kind}names"], np.frombuffer(parts[f"{kind}name_ends"], "<u4"))
        seqs = np.frombuffer(parts[f"{kind}seqs"], "<u8").tolist()
        yield from ((names[row], seq, bool(kind)) for row, seq in enumerate(seqs))


class _Header(NamedTuple):
    """What the header says."""

    dimensions: int
    rows: int
    gone: int
    layout: _Layout


def _header(view: memoryview) -> tuple[_Header, int]:
    """The header, and where the parts begin; raises :class:`DamagedSegment`."""
    header, data = _part(view, 0, _HEADER.size, "header")
    magic, dimensions, rows, gone, names, gone_names, facts = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise DamagedSegment("The segment's header is not one of this version.")
    return _Header(dimensions, rows, gone, _Layout.of(dimensions, rows, gone, names, gone_names, facts)), data


@dataclass(frozen=True)
class _Texts:
    """Strings of bytes, one after another."""

    data: memoryview
    ends: NDArray[np.unsignedinteger]

    def __getitem__(self, row: int) -> bytes:
        return bytes(self.data[int(self.ends[row - 1]) if row else 0 : int(self.ends[row])])


def build(entries: Sequence[Entry], *, dimensions: int, centre: Floats | None = None) -> Iterator[bytes]:
    """The parts of the segment of these entries, in any order; written one after another they are the segment.

    ``centre`` is about the mean of the vectors, and that is taken where none is given. Raises ``ValueError`` if a name
    comes twice, or a vector has another length.
    """
    by_name = {entry.name.encode(): entry for entry in entries}
    if len(by_name) < len(entries):
        raise ValueError("A segment can have only one entry for each name.")
    ordered = sorted(by_name)
    there = [(name, by_name[name], facts) for name in ordered if (facts := by_name[name].facts) is not None]
    gone = [(name, by_name[name]) for name in ordered if by_name[name].facts is None]
    for _, entry, _ in there:
        if len(entry.vector) != 2 * dimensions:
            raise ValueError(
                f"The vector of {entry.name} has {len(entry.vector):,} bytes instead of {2 * dimensions:,}."
            )
    packed = [msgspec.msgpack.encode(facts) for _, _, facts in there]
    source = _Source(
        dimensions,
        names=[name for name, _, _ in there],
        seqs=np.array([entry.seq for _, entry, _ in there], np.uint64),
        times=np.array([int(facts.embedded_at.timestamp()) for _, _, facts in there], np.int64),
        fact_sizes=list(map(len, packed)),
        facts=packed.__getitem__,
        vectors=lambda rows: np.frombuffer(b"".join(there[row][1].vector for row in rows), "<u2").reshape(
            len(rows), dimensions
        ),
        gone_names=[name for name, _ in gone],
        gone_seqs=np.array([entry.seq for _, entry in gone], np.uint64),
    )
    return _written(source, centre)


def merge(segments: Sequence[Segment]) -> Iterator[bytes]:
    """The parts of one segment for several, at least one: of each name what has the largest seq.

    Beyond what the segments need, memory holds the names and the signs of the result and some numbers for each row, but
    only a block of its vectors.
    """
    newest = Newest(segments)
    return _written(_selected(segments, newest.live, newest.gone), None)


def reduced(segment: Segment, kept: Mask) -> Iterator[bytes]:
    """The parts of the same segment with some of its entries alone: the mask has its rows, then what is gone there."""
    return _written(_selected([segment], [kept[: len(segment)]], [kept[len(segment) :]]), None)


def _selected(segments: Sequence[Segment], live: Sequence[Mask], gone: Sequence[Mask]) -> "_Source":
    """These rows of several segments, and these of the images that are gone there: no name may come twice."""
    order = sorted((segment.name(row), number, row) for number, segment, row in _rows(segments, live))
    number = np.array([number for _, number, _ in order], np.intp)
    row = np.array([row for _, _, row in order], np.intp)

    def gathered[T: np.generic](arrays: Sequence[NDArray[T]], rows: Rows) -> NDArray[T]:
        found = np.empty((len(rows), *arrays[0].shape[1:]), arrays[0].dtype)
        for index, array in enumerate(arrays):
            here = np.flatnonzero(number[rows] == index)
            found[here] = array[row[rows[here]]]
        return found

    everything = np.arange(len(order))
    left = sorted(
        (segment.gone_name(at), int(segment.gone_seqs[at]))
        for segment, mask in zip(segments, gone, strict=True)
        for at in np.flatnonzero(mask).tolist()
    )
    return _Source(
        segments[0].dimensions,
        names=[name for name, _, _ in order],
        seqs=gathered([segment.seqs for segment in segments], everything),
        times=gathered([segment.times for segment in segments], everything),
        fact_sizes=[len(segments[index].raw_facts(at)) for _, index, at in order],
        facts=lambda position: segments[order[position][1]].raw_facts(order[position][2]),
        vectors=lambda rows: gathered([segment.vectors for segment in segments], np.asarray(rows, np.intp)),
        gone_names=[name for name, _ in left],
        gone_seqs=np.array([seq for _, seq in left], np.uint64),
    )


def _rows(segments: Sequence[Segment], masks: Sequence[Mask]) -> Iterator[tuple[int, Segment, int]]:
    for number, (segment, mask) in enumerate(zip(segments, masks, strict=True)):
        for row in np.flatnonzero(mask).tolist():
            yield number, segment, row


class Place(NamedTuple):
    """Where something newest is: the segment, and the row there, among those that are gone or among the others."""

    segment: int
    row: int
    gone: bool
    seq: int


class Newest:
    """Of each name in several segments the row with the largest seq; of equal ones that of the last segment.

    ``live[s][r]`` says that row ``r`` of segment ``s`` is such a row, ``gone[s][r]`` the same of what is gone there.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self.live: list[Mask] = [np.ones(len(segment), np.bool_) for segment in segments]
        self.gone: list[Mask] = [np.ones(len(segment.gone_seqs), np.bool_) for segment in segments]
        # Rows of the first segment, what is gone there, rows of the second …
        parts = [hashes for segment in segments for hashes in (segment.hashes, segment.gone_hashes)]
        self._starts = np.cumsum([0, *map(len, parts)])
        hashes = np.concatenate(parts) if parts else np.empty(0, np.uint64)
        # Of equal hashes in the order of the segments.
        self._order = np.argsort(hashes, kind="stable").astype(np.uint32)
        self._hashes = hashes[self._order]
        self._keep_newest()

    def find(self, names: Sequence[bytes]) -> list[Place | None]:
        """Where the newest row of each of these names is; ``None`` if there is none."""
        hashes = np.array([name_hash(name) for name in names], np.uint64)
        starts = np.searchsorted(self._hashes, hashes, side="left").tolist()
        stops = np.searchsorted(self._hashes, hashes, side="right").tolist()
        return [
            next((place for at in range(start, stop) if (place := self._newest_at(at, name)) is not None), None)
            for name, start, stop in zip(names, starts, stops, strict=True)
        ]

    @property
    def resident_bytes(self) -> int:
        """The bytes that this needs by itself."""
        return self._hashes.nbytes + self._order.nbytes + sum(mask.nbytes for mask in (*self.live, *self.gone))

    def _newest_at(self, at: int, name: bytes) -> Place | None:
        place = self._place(int(self._order[at]))
        return place if self._counts(place)[place.row] and self._name(place) == name else None

    def _keep_newest(self) -> None:
        """Only rows with equal hashes are looked at one by one; nearly all of those have equal names."""
        same = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        newest: dict[bytes, Place] = {}
        for at in np.union1d(same, same + 1).tolist():
            place = self._place(int(self._order[at]))
            name = self._name(place)
            known = newest.get(name)
            older: Place | None = place
            if known is None or place.seq >= known.seq:
                newest[name], older = place, known
            if older is not None:
                self._counts(older)[older.row] = False

    def _place(self, position: int) -> Place:
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        segment, row, gone = part // 2, position - int(self._starts[part]), part % 2 == 1
        seqs = self._segments[segment].gone_seqs if gone else self._segments[segment].seqs
        return Place(segment, row, gone, int(seqs[row]))

    def _counts(self, place: Place) -> Mask:
        return (self.gone if place.gone else self.live)[place.segment]

    def _name(self, place: Place) -> bytes:
        segment = self._segments[place.segment]
        return segment.gone_name(place.row) if place.gone else segment.name(place.row)


@dataclass(frozen=True)
class _Source:
    """What a segment is written from, in the order of names. Facts and vectors are read when they are written."""

    dimensions: int
    names: Sequence[bytes]
    seqs: Words
    times: _Times
    fact_sizes: Sequence[int]
    facts: Callable[[int], bytes]
    vectors: Callable[[range], Halves]
    gone_names: Sequence[bytes]
    gone_seqs: Words

    def blocks(self) -> Iterator[range]:
        """All rows, as many at a time as may be in memory as float32."""
        for first in range(0, len(self.names), _BLOCK):
            yield range(first, min(first + _BLOCK, len(self.names)))

    def sample(self) -> Iterator[Floats]:
        """All vectors, or as many as tell what they have in common."""
        step = -(-len(self.names) // _SAMPLE)
        rows = range(0, len(self.names), step or 1)
        for first in range(0, len(rows), _BLOCK):
            yield floats(self.vectors(rows[first : first + _BLOCK]))


@dataclass(frozen=True)
class _Estimates:
    """What is computed from the vectors of a segment before they are written."""

    centre: Floats
    spreads: Floats
    signs: Words
    rests: Words
    scales: Floats


def _estimates(source: _Source, centre: Floats | None) -> _Estimates:
    dimensions, count = source.dimensions, len(source.names)
    if centre is None:
        centre = _mean(source.sample(), dimensions)
    spreads = _mean((np.abs(vectors - centre) for vectors in source.sample()), dimensions)
    made = _Estimates(
        centre,
        spreads,
        np.empty((words(dimensions), count), np.uint64),
        np.empty((count, words(dimensions)), np.uint64),
        np.empty(count, np.float32),
    )
    for rows in source.blocks():
        here = slice(rows.start, rows.stop)
        vectors = floats(source.vectors(rows))
        lengths = np.sqrt(np.vecdot(vectors, vectors))
        # A vector without length is like none.
        made.scales[here] = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        vectors -= centre
        made.signs[:, here] = signs(vectors)
        made.rests[here] = rests(vectors, spreads)
    return made


def _mean(blocks: Iterator[Floats], dimensions: int) -> Floats:
    total, count = np.zeros(dimensions, np.float64), 0
    for block in blocks:
        total += block.sum(axis=0, dtype=np.float64)
        count += len(block)
    return (total / max(count, 1)).astype(np.float32)


def _written(source: _Source, centre: Floats | None) -> Iterator[bytes]:
    """Checked at once, written as it is read."""
    if not 0 < source.dimensions <= MAX_DIMENSIONS:
        raise ValueError(f"Vectors of {source.dimensions:,} numbers are not supported, only up to {MAX_DIMENSIONS:,}.")
    if sum(map(len, source.names)) + sum(map(len, source.gone_names)) > _MOST_NAMES:
        raise ValueError("The names are too long for one segment: make several.")
    if centre is not None and centre.shape != (source.dimensions,):
        raise ValueError(f"The centre has {centre.size:,} numbers instead of {source.dimensions:,}.")
    return _parts(source, _estimates(source, centre))


def _parts(source: _Source, estimates: _Estimates) -> Iterator[bytes]:
    names, gone_names = list(accumulate(map(len, source.names))), list(accumulate(map(len, source.gone_names)))
    facts = list(accumulate(source.fact_sizes))
    sizes = [ends[-1] if ends else 0 for ends in (names, gone_names, facts)]
    rows, gone = len(source.names), len(source.gone_names)
    yield from _sealed([_HEADER.pack(_MAGIC, source.dimensions, rows, gone, *sizes)])
    yield from _sealed([_bytes(estimates.centre, "<f4")])
    yield from _sealed([_bytes(estimates.spreads, "<f4")])
    yield from _sealed([_bytes(source.seqs, "<u8")])
    yield from _sealed([_bytes(_hashes(source.names), "<u8")])
    yield from _sealed([_bytes(source.times, "<i8")])
    yield from _sealed([_bytes(estimates.scales, "<f4")])
    yield from _sealed([_bytes(np.array(names), "<u4")])
    yield from _sealed([b"".join(source.names)])
    yield from _sealed([_bytes(source.gone_seqs, "<u8")])
    yield from _sealed([_bytes(_hashes(source.gone_names), "<u8")])
    yield from _sealed([_bytes(np.array(gone_names), "<u4")])
    yield from _sealed([b"".join(source.gone_names)])
    yield from _sealed(_bytes(row, "<u8") for row in estimates.signs)
    yield from _sealed(_bytes(estimates.rests[rows.start : rows.stop], "<u8") for rows in source.blocks())
    yield from _sealed([_bytes(np.array(facts), "<u8")])
    yield from _sealed(b"".join(map(source.facts, rows)) for rows in source.blocks())
    yield from _sealed(_bytes(source.vectors(rows), "<u2") for rows in source.blocks())


def _hashes(names: Sequence[bytes]) -> Words:
    return np.array([name_hash(name) for name in names], np.uint64)


def _bytes(array: NDArray[np.generic], dtype: str) -> bytes:
    return array.astype(dtype, copy=False).tobytes()


def _padded(size: int) -> int:
    """The bytes of a part of this size with padding and checksum."""
    return -(-(size + _CHECKSUM.size) // _ALIGNMENT) * _ALIGNMENT


def _sealed(pieces: Sequence[bytes] | Iterator[bytes]) -> Iterator[bytes]:
    """A part, then its padding and checksum."""
    size = checksum = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        checksum = isal_zlib.crc32(piece, checksum)
    padding = bytes(_padded(size) - size - _CHECKSUM.size)
    yield padding + _CHECKSUM.pack(isal_zlib.crc32(padding, checksum))


def _release(file: mmap.mmap, start: int, end: int) -> None:
    """Give the pages between back to the system; whoever reads them again gets them from the file."""
    first, last = -(-start // mmap.PAGESIZE), end // mmap.PAGESIZE
    if last > first:
        file.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)


def _part(view: memoryview, start: int, size: int, name: str) -> tuple[memoryview, int]:
    """A part, and where the next one begins; raises :class:`DamagedSegment` if it is cut off or not as written."""
    end = start + _padded(size)
    if end > len(view):
        raise DamagedSegment(f"The segment ends in its {name}.")
    checksum = 0
    steps = [*range(start, end - _CHECKSUM.size, _CHECKED), end - _CHECKSUM.size]
    for first, last in pairwise(steps):
        checksum = isal_zlib.crc32(view[first:last], checksum)
    if (checksum,) != _CHECKSUM.unpack_from(view, end - _CHECKSUM.size):
        raise DamagedSegment(f"The segment's {name} is damaged: the checksum is wrong.")
    return view[start : start + size], end


# The bytes that say how many all others are.
HEADER_BYTES: Final = _padded(_HEADER.size)
