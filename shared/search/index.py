"""The index of one space in one process: which images are nearest to a query, with everything it was told so far.

It has no I/O. What is old comes as segments, what is new as entries, which it holds in a tail until the tail is long
enough for a segment of its own, in memory.

A search works on a snapshot, which never changes, so it needs no lock and any number of them run at once.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.search.entries import Entry, Facts
from shared.search.ranking import Hit, Matching, Part, Query, Snapshot, Tail, matching, page
from shared.search.scan import Floats, floats, on_a_core
from shared.search.segment import Newest, Place, Segment, build, name_hash

# All of the tail is a candidate, so it is turned into a segment before that takes longer than a millisecond.
_TAIL: Final = 4_096


class Stored(NamedTuple):
    """An image of the index, and the second since 1970 in which it was embedded."""

    name: str
    second: int
    facts: Facts


class Index:
    """Searches the vectors of one space. ``add`` may be called while others search."""

    def __init__(self, segments: Iterable[Segment] = (), *, dimensions: int) -> None:
        self._dimensions = dimensions
        self._lock = threading.Lock()
        self._start(list(segments))

    def __len__(self) -> int:
        """The images that can be found."""
        return len(self._snapshot)

    @property
    def resident_bytes(self) -> int:
        """The bytes that stay in memory, without what segments leave in their files and without the tail's facts."""
        with self._lock:
            parts = sum(part.segment.resident_bytes for part in self._snapshot.parts)
            return parts + self._newest.resident_bytes + self._vectors.nbytes + self._times.nbytes

    def add(self, entries: Iterable[Entry]) -> None:
        """Take in changes, in the order in which they were written; those that are older than what is known do nothing.

        Raises ``ValueError`` for a vector of another length, and then takes in none.
        """
        entries = list(entries)
        for entry in entries:
            if entry.facts is not None and len(entry.vector) != 2 * self._dimensions:
                raise ValueError(f"The vector of {entry.name} does not have {self._dimensions:,} numbers.")
        with self._lock:
            # Of the names that the tail does not know the segments may have newer entries.
            unknown = list({entry.name: None for entry in entries if entry.name not in self._latest})
            found = self._newest.find([name.encode() for name in unknown])
            places = {name: place for name, place in zip(unknown, found, strict=True) if place is not None}
            taken = {}
            for entry in entries:
                latest = self._latest.get(entry.name)
                place = places.get(entry.name)
                if entry.seq >= (latest.seq if latest else place.seq if place else 0):
                    self._latest[entry.name] = taken[entry.name] = entry
            covered = [place for name, place in places.items() if name in taken and not place.gone]
            self._take_in(list(taken.values()), covered)
            if self._snapshot.tail.rows > _TAIL or len(self._latest) > _TAIL:
                self._fold()

    def search(
        self,
        vector: Sequence[float],
        *,
        top: int,
        prefix: str = "",
        min_score: float | None = None,
        since: datetime | None = None,
        without: str | None = None,
        after: tuple[float, str] | None = None,
        before: int = 0,
    ) -> list[Hit]:
        """The ``top`` images nearest to a vector of any length, best first, those with equal scores by name.

        Only images whose names begin with ``prefix``, whose score is at least ``min_score`` and which were embedded at
        ``since`` or later, and not the one named ``without``. The next page is what comes ``after`` the score and name
        of the last hit, if so many hits came ``before`` on all pages so far: as long as the index does not change, the
        pages have each image once. Fewer hits than ``top`` mean that there are no more.

        Raises ``ValueError`` for a vector without length or of another number of dimensions.
        """
        query = self._query(vector, prefix, min_score, since, without)
        with on_a_core():
            return page(self._snapshot, query, top, after, before)

    def newest(
        self, *, top: int, prefix: str = "", since: datetime | None = None, after: tuple[int, str] | None = None
    ) -> list[Stored]:
        """The ``top`` images embedded last, those of the same second by name; filtered as by :meth:`search`.

        The next page is what comes ``after`` the second and the name of the last of them.
        """
        snapshot = self._snapshot
        return _newest(matching(snapshot, _bytes_of(prefix), _start_of(since)), snapshot, top, after)

    def vector_of(self, name: str) -> list[float] | None:
        """The vector of an image, about of length 1; ``None`` if there is no such image."""
        with self._lock:
            if (entry := self._latest.get(name)) is not None:
                return None if entry.facts is None else _numbers(entry.vector)
            [place] = self._newest.find([name.encode("utf-8", "surrogatepass")])
            if place is None or place.gone:
                return None
            return _numbers(self._segments[place.segment].vectors[place.row].tobytes())

    def names(self) -> Iterator[str]:
        """The names of all images that can be found, in no particular order."""
        snapshot = self._snapshot
        for part in snapshot.parts:
            for row in np.flatnonzero(part.live).tolist():
                yield part.segment.name(row).decode()
        for row in np.flatnonzero(snapshot.tail.live).tolist():
            yield snapshot.tail.entries[row].name

    def vectors(self) -> Iterator[Floats]:
        """The vectors of all images that can be found, of length 1, some thousands at a time."""
        snapshot = self._snapshot
        for part in snapshot.parts:
            for first in range(0, len(part.segment), _TAIL):
                rows = slice(first, first + _TAIL)
                live = part.live[rows]
                found = floats(part.segment.vectors[rows][live])
                found *= part.segment.scales[rows][live, np.newaxis]
                yield found
        yield snapshot.tail.vectors[snapshot.tail.live]

    def states(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The hashes (:func:`name_hash`) of all images that can be found, ascending, and the seq of each."""
        snapshot = self._snapshot
        tail = [snapshot.tail.entries[row] for row in np.flatnonzero(snapshot.tail.live).tolist()]
        hashes = [part.segment.hashes[part.live] for part in snapshot.parts]
        seqs = [part.segment.seqs[part.live] for part in snapshot.parts]
        hashes.append(np.array([name_hash(entry.name.encode()) for entry in tail], np.uint64))
        seqs.append(np.array([entry.seq for entry in tail], np.uint64))
        all_hashes = np.concatenate(hashes)
        order = np.argsort(all_hashes, kind="stable")
        return all_hashes[order], np.concatenate(seqs)[order]

    def _start(self, segments: list[Segment]) -> None:
        for segment in segments:
            if segment.dimensions != self._dimensions:
                raise ValueError(f"A segment has {segment.dimensions:,} dimensions, the index {self._dimensions:,}.")
        self._segments = segments
        self._newest = Newest(segments)
        # The newest entry of each name that the tail has one of, of images that are gone as well.
        self._latest: dict[str, Entry] = {}
        self._row_of: dict[str, int] = {}
        self._vectors = np.empty((0, self._dimensions), np.float32)
        self._times = np.empty(0, np.int64)
        parts = tuple(Part.of(segment, live) for segment, live in zip(segments, self._newest.live, strict=True))
        self._snapshot = Snapshot(parts, Tail(0, np.empty(0, np.bool_), self._vectors, self._times, []))

    def _take_in(self, entries: list[Entry], covered: list[Place]) -> None:
        """Make a new snapshot in which these entries count, and not the rows of segments that they cover."""
        old = self._snapshot
        there = [entry for entry in entries if entry.facts is not None]
        rows = old.tail.rows + len(there)
        self._make_room(rows)
        if there:
            vectors = floats(np.frombuffer(b"".join(entry.vector for entry in there), "<u2").reshape(len(there), -1))
            lengths = np.sqrt(np.vecdot(vectors, vectors))
            np.divide(vectors, lengths[:, np.newaxis], out=vectors, where=lengths[:, np.newaxis] > 0)
            self._vectors[old.tail.rows : rows] = vectors
            self._times[old.tail.rows : rows] = [_seconds(entry.facts) for entry in there if entry.facts is not None]
        live = np.concatenate([old.tail.live, np.ones(len(there), np.bool_)])
        for entry in entries:
            if (row := self._row_of.pop(entry.name, None)) is not None:
                live[row] = False
        self._row_of.update((entry.name, old.tail.rows + at) for at, entry in enumerate(there))
        old.tail.entries.extend(there)
        tail = Tail(rows, live, self._vectors[:rows], self._times[:rows], old.tail.entries)
        self._snapshot = Snapshot(self._without(covered), tail)

    def _without(self, covered: list[Place]) -> tuple[Part, ...]:
        parts = list(self._snapshot.parts)
        for number in {place.segment for place in covered}:
            live = parts[number].live.copy()
            live[[place.row for place in covered if place.segment == number]] = False
            parts[number] = Part.of(parts[number].segment, live)
        return tuple(parts)

    def _make_room(self, rows: int) -> None:
        """Larger arrays where these are full. Snapshots keep the old ones, of which nothing is ever overwritten."""
        if rows <= len(self._vectors):
            return
        size = max(2 * len(self._vectors), rows, 64)
        vectors, times = np.empty((size, self._dimensions), np.float32), np.empty(size, np.int64)
        vectors[: len(self._vectors)], times[: len(self._times)] = self._vectors, self._times
        self._vectors, self._times = vectors, times

    def _fold(self) -> None:
        """Turn the tail into a segment."""
        parts = build(list(self._latest.values()), dimensions=self._dimensions)
        self._start([*self._segments, Segment.open(b"".join(parts), dimensions=self._dimensions)])

    def _query(
        self,
        vector: Sequence[float],
        prefix: str,
        min_score: float | None,
        since: datetime | None,
        without: str | None,
    ) -> Query:
        numbers = np.array(vector, np.float64)
        length = math.hypot(*numbers.tolist())
        if len(numbers) != self._dimensions:
            raise ValueError(f"The query has {len(numbers):,} dimensions, the index {self._dimensions:,}.")
        if not (length > 0 and math.isfinite(length)):
            raise ValueError("The query has no length.")
        unit = numbers / length
        return Query(
            unit,
            unit.astype(np.float32),
            _bytes_of(prefix),
            -math.inf if min_score is None else min_score,
            _start_of(since),
            without,
        )


def _seconds(facts: Facts) -> int:
    return int(facts.embedded_at.timestamp())


def _numbers(vector: bytes) -> list[float]:
    numbers: list[float] = np.frombuffer(vector, "<f2").tolist()
    return numbers


def _bytes_of(prefix: str) -> bytes:
    # No name has surrogates, so a prefix that ends in half of a character finds nothing.
    return prefix.encode("utf-8", "surrogatepass")


def _start_of(since: datetime | None) -> float:
    return -math.inf if since is None else since.timestamp()


def _newest(found_rows: list[Matching], snapshot: Snapshot, top: int, after: tuple[int, str] | None) -> list[Stored]:
    """The rows with the largest times; names are read only of those that may be among them."""
    rows = [one.selected() for one in found_rows]
    times = [
        (snapshot.tail.times if one.part is None else one.part.segment.times)[numbers]
        for one, numbers in zip(found_rows, rows, strict=True)
    ]
    every = np.concatenate(times)
    if after is not None:
        every = every[every < after[0]]
    least = np.partition(every, -top)[-top] if len(every) > top else -math.inf
    found: list[tuple[int, str, Part | None, int]] = []
    for one, numbers, seconds in zip(found_rows, rows, times, strict=True):
        there = seconds >= least
        if after is not None:
            there &= seconds <= after[0]
        for row, second in zip(numbers[there].tolist(), seconds[there].tolist(), strict=True):
            found.append((-second, _name(snapshot, one.part, row), one.part, row))
    if after is not None:
        found = [one for one in found if one[:2] > (-after[0], after[1])]
    found.sort(key=lambda one: one[:2])
    return [
        Stored(name, -minus_second, facts)
        for minus_second, name, part, row in found[:top]
        if (facts := _facts(snapshot, part, row)) is not None
    ]


def _name(snapshot: Snapshot, part: Part | None, row: int) -> str:
    return snapshot.tail.entries[row].name if part is None else part.segment.name(row).decode()


def _facts(snapshot: Snapshot, part: Part | None, row: int) -> Facts | None:
    return snapshot.tail.entries[row].facts if part is None else part.segment.facts(row)
