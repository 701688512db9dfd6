"""The arithmetic of a search, in numpy: estimates of cosines from one and from two bits a number, and exact cosines.

A stored vector, less the centre of all vectors, has two bits for each number. Its *sign* says on which side of the
centre the number lies, its *rest* on which side of where numbers of that sign are on average. So a number is about
``spread * sign``, and more exactly ``spread * FINE * (2 * sign + rest)``, where the bits count as 1 and -1.

A query counts by its numbers, each times the spread of the stored ones, rounded to 7 steps. So an estimate takes no
more than ``xor``, ``and`` and counting bits, and yet it is far closer than comparing signs with signs, above all for
texts, whose vectors lie apart from those of pictures (docs/design.md, "Search").

Every function releases the GIL while it computes. A search has a core to itself (:func:`on_a_core`), and
:func:`in_parallel` gives it those that no other search has.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float32]
type Halves = NDArray[np.uint16]
type Words = NDArray[np.uint64]
type Rows = NDArray[np.intp]
type Mask = NDArray[np.bool_]

# Longer vectors would overflow the distances, which are at most 3 for each number; models have 256 to 4,096.
MAX_DIMENSIONS: Final = 8192
# Of numbers with a Gaussian distribution: four levels, -3, -1, 1 and 3 times this share of the mean magnitude, are as
# close to all numbers as four can be (Max, "Quantizing for minimum distortion", 1960: 0.4979 standard deviations).
FINE: Final = np.float32(0.624)
_WORD: Final = 64
# A query's numbers are rounded to -3 … 3. Of the scales that were tried, 1.2 steps a standard deviation rank best. With
# seven magnitudes instead of three an estimate is hardly better, and takes half as long again.
_LARGEST: Final = 3
_STEPS: Final = 1.2
# Rows at a time. With less than 8,192 numpy copies the query's words instead of repeating them, which takes as long as
# all the rest; many more would leave the caches.
_BITS_BLOCK: Final = 16_384
# 256 vectors of 1,024 numbers as float32 stay in a core's cache of the second level.
_VECTORS_BLOCK: Final = 256
# What shifts a float16 to the place of a float32's exponent makes it smaller by this factor.
_SHIFTED: Final = np.float32(2.0**112)
_SHIFT: Final = np.int32(13)
# All bits but the three between the sign and the exponent, where the shift leaves copies of the sign.
_WITHOUT_COPIES: Final = np.int32(~0x7000_0000)
# A query's numbers are split after so many binary digits, and cut off after so many more: see :func:`cosines`.
_UPPER: Final = 2.0**26
_LOWER: Final = 2.0**50


@dataclass(frozen=True)
class Weights:
    """A query as the estimates use it: its signs, and which numbers have rounded magnitudes of 1 or 3, and 2 or 3."""

    signs: Words
    ones: Words
    twos: Words
    # The sum of all magnitudes, and the length of a step.
    total: int
    step: float


def words(dimensions: int) -> int:
    """How many words hold a bit for each number."""
    return -(-dimensions // _WORD)


def signs(vectors: Floats) -> Words:
    """Which numbers are positive: ``[words][rows]`` for ``[rows][dimensions]``, padded with zeros."""
    return np.ascontiguousarray(_packed(vectors > 0).T)


def rests(vectors: Floats, spreads: Floats) -> Words:
    """Which numbers are larger than is usual for their signs: ``[rows][words]``, padded with zeros."""
    usual = 2 * FINE * spreads
    return _packed(vectors > np.where(vectors > 0, usual, -usual))


def weights(query: Floats) -> Weights:
    """The query for :func:`distances`. Its length does not matter; one without length is as near to all."""
    magnitudes = np.abs(query)
    length = float(np.sqrt(np.vecdot(query, query)))
    steps = np.minimum(np.rint(magnitudes * (_STEPS * len(query) ** 0.5 / length if length else 0)), _LARGEST)
    whole = steps.astype(np.uint8)
    signs, ones, twos = _packed(np.stack([query > 0, (whole & 1) > 0, whole > 1]))[:, :, np.newaxis]
    # The length of a step with which the rounded query is closest to the query.
    squares = float(np.vecdot(steps, steps))
    step = float(np.vecdot(steps, magnitudes)) / squares if squares else 0.0
    return Weights(signs, ones, twos, int(steps.sum()), step)


def distances(bits: Words, start: int, stop: int, query: Weights) -> NDArray[np.uint16]:
    """The sum of the query's magnitudes where its sign differs from the bit, for rows of ``[words][rows]``."""
    found = np.empty(stop - start, np.uint16)
    size = min(_BITS_BLOCK, stop - start)
    all_differing, all_masked = np.empty((2, len(bits), size), np.uint64)
    all_sums, all_counts = np.empty((2, len(bits), size), np.uint8)
    for first in range(start, stop, _BITS_BLOCK):
        n = min(_BITS_BLOCK, stop - first)
        differing, masked = all_differing[:, :n], all_masked[:, :n]
        # At most 3 for each bit of a word, which fits 8 bits.
        sums, counts = all_sums[:, :n], all_counts[:, :n]
        np.bitwise_xor(bits[:, first : first + n], query.signs, out=differing)
        np.bitwise_and(differing, query.twos, out=masked)
        np.bitwise_count(masked, out=sums)
        sums += sums
        np.bitwise_and(differing, query.ones, out=masked)
        sums += np.bitwise_count(masked, out=counts)
        np.add.reduce(sums, axis=0, dtype=np.uint16, out=found[first - start : first - start + n])
    return found


def products(bits: Words, start: int, stop: int, query: Weights) -> Floats:
    """The products of the query with bits that count as 1 and -1, for rows of ``[words][rows]``."""
    found = distances(bits, start, stop, query).astype(np.float32)
    found *= np.float32(-2 * query.step)
    found += np.float32(query.total * query.step)
    return found


def largest(numbers: Floats, count: int) -> Rows:
    """The positions of the ``count`` largest numbers, ascending; of equal ones the first. Infinity is left out."""
    if count < len(numbers):
        limit = np.partition(numbers, len(numbers) - count)[len(numbers) - count]
        rows = np.flatnonzero(numbers >= limit)
        equal = np.flatnonzero(numbers[rows] == limit)
        kept = np.ones(len(rows), np.bool_)
        kept[equal[len(equal) - (len(rows) - count) :]] = False
        rows = rows[kept]
    else:
        rows = np.arange(len(numbers))
    return rows[numbers[rows] > -np.inf]


def dots(vectors: Halves, rows: Rows, query: Floats) -> Floats:
    """The products of a query with some rows of float16, in float32.

    numpy turns float16 into float32 number by number: 7 ms for 4,000 rows of 1,024. Moving the bits to their places
    takes a fifth of that. A moved number is too small by one factor, and the query makes up for it. Subnormal numbers
    are moved correctly as well.
    """
    found = np.empty(len(rows), np.float32)
    large = query * _SHIFTED
    size = min(_VECTORS_BLOCK, len(rows))
    gathered, moved = np.empty((size, vectors.shape[1]), np.uint16), np.empty((size, vectors.shape[1]), np.int32)
    for first in range(0, len(rows), _VECTORS_BLOCK):
        n = min(_VECTORS_BLOCK, len(rows) - first)
        # All rows exist; "clip" alone writes to where it is told to without a copy in between.
        vectors.take(rows[first : first + n], axis=0, out=gathered[:n], mode="clip")
        _move(gathered[:n], moved[:n])
        # Not matmul: BLAS would start threads of its own for it, in each of ours.
        np.vecdot(moved[:n].view(np.float32), large, out=found[first : first + n])
    return found


def cosines(vectors: Halves, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cosines of a query of length 1 with vectors of about length 1, as exact as float64 is.

    They are the same on every machine and for equal vectors, in whatever order processors add. For no product and no
    sum is ever rounded: float16 has 24 binary digits behind the point, and each part of the query so few that all of
    them fit the 53 digits of a float64.
    """
    numbers = vectors.view(np.float16).astype(np.float64)
    upper = np.rint(unit * _UPPER) / _UPPER
    lower = np.rint((unit - upper) * _LOWER) / _LOWER
    found: NDArray[np.float64] = np.vecdot(numbers, upper) + np.vecdot(numbers, lower)
    lengths = np.sqrt(np.vecdot(numbers, numbers))
    np.divide(found, lengths, out=found, where=lengths > 0)
    np.clip(found, -1, 1, out=found)
    return found


def floats(vectors: Halves) -> Floats:
    """Vectors of float16 as float32."""
    moved = np.empty(vectors.shape, np.int32)
    _move(vectors, moved)
    as_floats = moved.view(np.float32)
    as_floats *= _SHIFTED
    return as_floats


def _packed(bits: Mask) -> Words:
    rows, dimensions = bits.shape
    packed = np.zeros((rows, words(dimensions) * _WORD // 8), np.uint8)
    packed[:, : -(-dimensions // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8")


def _move(vectors: Halves, out: NDArray[np.int32]) -> None:
    out[...] = vectors.view(np.int16)
    np.left_shift(out, _SHIFT, out=out)
    np.bitwise_and(out, _WITHOUT_COPIES, out=out)


@contextmanager
def on_a_core() -> Iterator[None]:
    """Run the block once there is a core for it: more searches at once than cores would only take turns."""
    with _free():
        yield


def in_parallel(tasks: Sequence[Callable[[], None]]) -> None:
    """Run all tasks, on this core and on those that no search has. Must be called :func:`on_a_core`."""
    waiting = iter(tasks)

    def work() -> None:
        for task in waiting:
            task()

    helpers: list[Future[None]] = []
    while len(helpers) < min(cores(), len(tasks)) - 1 and _free().acquire(blocking=False):
        helpers.append(_threads().submit(work))
        helpers[-1].add_done_callback(lambda _: _free().release())
    try:
        work()
    finally:
        for helper in helpers:
            helper.result()


@cache
def cores() -> int:
    """The cores that this process may use."""
    return os.process_cpu_count() or 1


@cache
def _free() -> threading.Semaphore:
    """One for each core that no search has."""
    return threading.Semaphore(cores())


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="search")
