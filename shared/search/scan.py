"""The arithmetic of a search, in numpy: an estimate of every cosine from a bit a number, then the cosines of the best.

A stored vector counts in the estimate by the signs of its numbers, once the centre of all vectors is subtracted. A
query counts by its numbers, rounded to 15 steps. Such an estimate needs no more than ``and`` and counting bits, and it
is far closer than comparing signs with signs, above all for texts, whose vectors lie apart from those of pictures
(docs/design.md, "Search").

Every function releases the GIL while it computes, and :func:`in_parallel` gives the cores their shares.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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

# Longer vectors would overflow the distances, which are at most 7 for each number; models have 256 to 4,096.
MAX_DIMENSIONS: Final = 8192
_WORD: Final = 64
# A query's numbers are rounded to -7 … 7, so a magnitude has three bits. At 2.2 steps a standard deviation hardly any
# is cut off, and of the scales that were tried this one ranks best.
_PLANES: Final = 3
_LARGEST: Final = 2**_PLANES - 1
_STEPS: Final = 2.2
# Further away than any row: at most 7 * MAX_DIMENSIONS.
_NEVER: Final = np.uint16(65535)
# Rows at a time. 16 words of 4,096 rows are 512 KiB, so a block and its scratch stay in a core's cache of the second
# level; so do 256 vectors of 1,024 numbers as float32.
_BITS_BLOCK: Final = 8192
_VECTORS_BLOCK: Final = 256
# What shifts a float16 to the place of a float32's exponent makes it smaller by this factor.
_SHIFTED: Final = np.float32(2.0**112)
_SHIFT: Final = np.int32(13)
# All bits but the three between the sign and the exponent, where the shift leaves copies of the sign.
_WITHOUT_COPIES: Final = np.int32(~0x7000_0000)


@dataclass(frozen=True)
class Weights:
    """A query as the estimate uses it: ``planes[j]`` has the numbers whose rounded magnitude has bit ``j``."""

    signs: Words
    planes: tuple[Words, ...]
    # The sum of all magnitudes, and the length of a step.
    total: int
    step: float


def words(dimensions: int) -> int:
    """How many words hold a bit for each number."""
    return -(-dimensions // _WORD)


def signs(vectors: Floats) -> Words:
    """Which numbers are positive: ``[words][rows]`` for ``[rows][dimensions]``, padded with zeros."""
    rows, dimensions = vectors.shape
    packed = np.zeros((rows, words(dimensions) * _WORD // 8), np.uint8)
    packed[:, : -(-dimensions // 8)] = np.packbits(vectors > 0, axis=1, bitorder="little")
    return np.ascontiguousarray(packed.view("<u8").T)


def weights(query: Floats) -> Weights:
    """The query for :func:`distances`. Its length does not matter, unless it has none."""
    spread = float(np.sqrt(np.mean(np.square(query, dtype=np.float64))))
    magnitudes = np.minimum(np.rint(np.abs(query) * (_STEPS / spread)), _LARGEST).astype(np.uint8)
    planes = [signs((magnitudes >> bit & 1).astype(np.float32)[np.newaxis]) for bit in range(_PLANES)]
    # The length of a step with which the rounded query is closest to the query.
    exact = float(np.dot(magnitudes.astype(np.float64), np.abs(query)))
    squares = float(np.square(magnitudes, dtype=np.float64).sum())
    total = int(magnitudes.sum(dtype=np.int64))
    return Weights(signs(query[np.newaxis]), tuple(planes), total, exact / squares)


def distances(bits: Words, start: int, stop: int, query: Weights) -> NDArray[np.uint16]:
    """The sum of the query's magnitudes where its sign differs from the row's, for rows of ``bits`` (:func:`signs`)."""
    found = np.zeros(stop - start, np.uint16)
    size = min(_BITS_BLOCK, stop - start)
    differing, masked = np.empty((2, len(bits), size), np.uint64)
    counts, sums = np.empty((len(bits), size), np.uint8), np.empty(size, np.uint16)
    for first in range(start, stop, _BITS_BLOCK):
        n = min(_BITS_BLOCK, stop - first)
        block = found[first - start : first - start + n]
        np.bitwise_xor(bits[:, first : first + n], query.signs, out=differing[:, :n])
        for plane in reversed(query.planes):
            np.bitwise_and(differing[:, :n], plane, out=masked[:, :n])
            np.bitwise_count(masked[:, :n], out=counts[:, :n])
            np.add.reduce(counts[:, :n], axis=0, dtype=np.uint16, out=sums[:n])
            block += block
            block += sums[:n]
    return found


def nearest(found: NDArray[np.uint16], mask: Mask | None, count: int) -> Rows:
    """The positions of the ``count`` smallest distances within the mask, ascending; of equal ones the first."""
    if mask is not None:
        found[~mask] = _NEVER
    rows = smallest(found, count)
    return rows if mask is None else rows[found[rows] != _NEVER]


def smallest(numbers: NDArray[np.uint16] | Floats, count: int) -> Rows:
    """The positions of the ``count`` smallest numbers, ascending; of equal ones the first."""
    if count >= len(numbers):
        return np.arange(len(numbers))
    limit = np.partition(numbers, count - 1)[count - 1]
    rows = np.flatnonzero(numbers <= limit)
    equal = np.flatnonzero(numbers[rows] == limit)
    kept = np.ones(len(rows), np.bool_)
    kept[equal[len(equal) - (len(rows) - count) :]] = False
    return rows[kept]


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


def floats(vectors: Halves) -> Floats:
    """Vectors of float16 as float32."""
    moved = np.empty(vectors.shape, np.int32)
    _move(vectors, moved)
    as_floats = moved.view(np.float32)
    as_floats *= _SHIFTED
    return as_floats


def _move(vectors: Halves, out: NDArray[np.int32]) -> None:
    out[...] = vectors.view(np.int16)
    np.left_shift(out, _SHIFT, out=out)
    np.bitwise_and(out, _WITHOUT_COPIES, out=out)


def in_parallel[T](tasks: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all tasks, computed on as many threads as there are cores. Tasks must not call this again."""
    if len(tasks) <= 1 or cores() == 1:
        return [task() for task in tasks]
    return [running.result() for running in [_threads().submit(task) for task in tasks]]


@cache
def cores() -> int:
    """The cores that this process may use."""
    return os.process_cpu_count() or 1


@cache
def _threads() -> ThreadPoolExecutor:
    """One pool for all searches of a process: more threads than cores would only take turns."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="search")
