"""The index of one space in one process: which images are nearest to a query, with everything it was told so far.

It has no I/O. What is old comes as segments, what is new as entries, which it holds in a tail until the tail is long
enough for a segment of its own, in memory.

A search works on a snapshot, which never changes, so it needs no lock and any number of them run at once.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.search.entries import Entry, Facts
from shared.search.scan import (
    Floats,
    Mask,
    Rows,
    Weights,
    cores,
    distances,
    dots,
    floats,
    in_parallel,
    nearest,
    smallest,
    weights,
)
from shared.search.segment import Newest, Place, Segment, build, name_hash

# Up to so many rows every cosine is computed: that takes no longer than estimates and the candidates' cosines would.
EXACT_ROWS: Final = 12_000
# So many of the best estimates have their cosines computed, and one more for each so many rows. docs/design.md has the
# recall that it gives.
_CANDIDATES: Final = 5_000
_ROWS_PER_CANDIDATE: Final = 250
# So many results come from candidates. Whoever pages on gets the rest from the cosines of all rows.
_DEPTH: Final = 1_000
# The tail is scanned in full, so it is turned into a segment before that takes longer than a millisecond.
_TAIL: Final = 4_096
# More than a cosine in float32 differs from the same in Python's floats: 1,024 products of rounded numbers, added up in
# 16 lanes, differ by less than 64 * 2**-24.
_ERROR: Final = 1e-5
# Rows of one task, so that threads finish at about the same time.
_TASK_ROWS: Final = 65_536
_TASK_CANDIDATES: Final = 2_048


class Hit(NamedTuple):
    """An image that was found. ``score`` is its cosine with the query."""

    name: str
    score: float
    facts: Facts


class Stored(NamedTuple):
    """An image of the index, and the second since 1970 in which it was embedded."""

    name: str
    second: int
    facts: Facts


@dataclass(frozen=True)
class _Part:
    """A segment, and which of its rows count: all others have a newer entry elsewhere."""

    segment: Segment
    live: Mask
    count: int

    @classmethod
    def of(cls, segment: Segment, live: Mask) -> "_Part":
        return cls(segment, live, int(np.count_nonzero(live)))


@dataclass(frozen=True)
class _Tail:
    """Rows that no segment has. Lists and arrays grow behind what this snapshot sees of them."""

    rows: int
    live: Mask
    vectors: Floats
    times: NDArray[np.int64]
    entries: list[Entry]


@dataclass(frozen=True)
class _Snapshot:
    parts: tuple[_Part, ...]
    tail: _Tail

    def __len__(self) -> int:
        return sum(part.count for part in self.parts) + int(np.count_nonzero(self.tail.live))


@dataclass(frozen=True)
class _Found:
    """Rows of one part (of the tail for ``None``) with their cosines in float32."""

    part: _Part | None
    rows: Rows
    scores: Floats


@dataclass(frozen=True)
class _Query:
    """A query, of length 1, and which rows it asks for."""

    vector: tuple[float, ...]
    floats: Floats
    prefix: bytes
    min_score: float
    since: float
    without: str | None


def candidates_of(images: int) -> int | None:
    """Of how many out of so many images a search computes the cosine; ``None`` if of all."""
    return None if images <= EXACT_ROWS else _CANDIDATES + images // _ROWS_PER_CANDIDATE


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
        snapshot = self._snapshot
        matching = _matching(snapshot, query.prefix, query.since)
        count = sum(rows.total() for rows in matching)
        if count <= EXACT_ROWS:
            return _hits(_best(_exact(snapshot, matching, query), snapshot, query, top, after))
        return _hits(_page(snapshot, matching, count, query, top, after, before))

    def newest(
        self, *, top: int, prefix: str = "", since: datetime | None = None, after: tuple[int, str] | None = None
    ) -> list[Stored]:
        """The ``top`` images embedded last, those of the same second by name; filtered as by :meth:`search`.

        The next page is what comes ``after`` the second and the name of the last of them.
        """
        start = -math.inf if since is None else since.timestamp()
        return _newest(_matching(self._snapshot, _bytes_of(prefix), start), self._snapshot, top, after)

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
        parts = tuple(_Part.of(segment, live) for segment, live in zip(segments, self._newest.live, strict=True))
        self._snapshot = _Snapshot(parts, _Tail(0, np.empty(0, np.bool_), self._vectors, self._times, []))

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
        tail = _Tail(rows, live, self._vectors[:rows], self._times[:rows], old.tail.entries)
        self._snapshot = _Snapshot(self._without(covered), tail)

    def _without(self, covered: list[Place]) -> tuple[_Part, ...]:
        parts = list(self._snapshot.parts)
        for number in {place.segment for place in covered}:
            live = parts[number].live.copy()
            live[[place.row for place in covered if place.segment == number]] = False
            parts[number] = _Part.of(parts[number].segment, live)
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
    ) -> _Query:
        numbers = [float(number) for number in vector]
        length = math.hypot(*numbers)
        if len(numbers) != self._dimensions:
            raise ValueError(f"The query has {len(numbers):,} dimensions, the index {self._dimensions:,}.")
        if not (length > 0 and math.isfinite(length)):
            raise ValueError("The query has no length.")
        unit = tuple(number / length for number in numbers)
        return _Query(
            unit,
            np.array(unit, np.float32),
            _bytes_of(prefix),
            -math.inf if min_score is None else min_score,
            -math.inf if since is None else since.timestamp(),
            without,
        )


class _Matching(NamedTuple):
    """The rows of a part (of the tail for ``None``) in a range, of which a mask leaves some (all for ``None``)."""

    part: _Part | None
    rows: range
    mask: Mask | None

    def selected(self) -> Rows:
        """Their numbers, one by one."""
        rows = np.arange(self.rows.start, self.rows.stop)
        return rows if self.mask is None else rows[self.mask]

    def total(self) -> int:
        """How many they are."""
        return len(self.rows) if self.mask is None else int(np.count_nonzero(self.mask))

    def cut(self, size: int) -> "Iterator[_Matching]":
        """Pieces of at most ``size`` rows."""
        for first in range(0, len(self.rows), size):
            mask = None if self.mask is None else self.mask[first : first + size]
            yield _Matching(self.part, self.rows[first : first + size], mask)


class _Winner(NamedTuple):
    """A row with its exact score, in an order of which the smallest is the best."""

    minus_score: float
    name: str
    # ``None`` as long as they are in the segment.
    facts: Facts | None
    part: _Part | None
    row: int


def _hits(winners: list[_Winner]) -> list[Hit]:
    hits = []
    for winner in winners:
        facts = winner.facts if winner.part is None else winner.part.segment.facts(winner.row)
        if facts is not None:
            hits.append(Hit(winner.name, -winner.minus_score, facts))
    return hits


def _seconds(facts: Facts) -> int:
    return int(facts.embedded_at.timestamp())


def _bytes_of(prefix: str) -> bytes:
    # No name has surrogates, so a prefix that ends in half of a character finds nothing.
    return prefix.encode("utf-8", "surrogatepass")


def _matching(snapshot: _Snapshot, prefix: bytes, since: float) -> list[_Matching]:
    """The rows that may be found, by name, age and state."""
    found = []
    for part in snapshot.parts:
        start, stop = part.segment.starting(prefix)
        mask = None if part.count == len(part.segment) else part.live[start:stop]
        if since > -math.inf:
            young = part.segment.times[start:stop] >= since
            mask = young if mask is None else young & mask
        if stop > start:
            found.append(_Matching(part, range(start, stop), mask))
    tail = snapshot.tail
    mask = tail.live & (tail.times >= since)
    if prefix:
        start_of_name = prefix.decode("utf-8", "surrogatepass")
        mask &= np.array([entry.name.startswith(start_of_name) for entry in tail.entries[: tail.rows]], np.bool_)
    found.append(_Matching(None, range(tail.rows), mask))
    return found


def _newest(matching: list[_Matching], snapshot: _Snapshot, top: int, after: tuple[int, str] | None) -> list[Stored]:
    """The rows with the largest times; names are read only of those that may be among them."""
    rows = [one.selected() for one in matching]
    times = [
        (snapshot.tail.times if one.part is None else one.part.segment.times)[numbers]
        for one, numbers in zip(matching, rows, strict=True)
    ]
    every = np.concatenate(times)
    if after is not None:
        every = every[every < after[0]]
    least = np.partition(every, -top)[-top] if len(every) > top else -math.inf
    found: list[tuple[int, str, _Part | None, int]] = []
    for one, numbers, seconds in zip(matching, rows, times, strict=True):
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


def _name(snapshot: _Snapshot, part: _Part | None, row: int) -> str:
    return snapshot.tail.entries[row].name if part is None else part.segment.name(row).decode()


def _facts(snapshot: _Snapshot, part: _Part | None, row: int) -> Facts | None:
    return snapshot.tail.entries[row].facts if part is None else part.segment.facts(row)


def _exact(snapshot: _Snapshot, matching: list[_Matching], query: _Query) -> list[_Found]:
    """The cosines of all these rows."""
    return _cosines(snapshot, [(rows.part, rows.selected()) for rows in matching], query, _TASK_ROWS // 8)


def _candidates(snapshot: _Snapshot, matching: list[_Matching], count: int, query: _Query) -> list[_Found]:
    """The cosines of the rows with the best estimates. Which these are does not depend on the page."""
    limit = candidates_of(count) or count
    weighted = weights(query.floats)
    size = min(_TASK_ROWS, -(-count // cores()))
    pieces = [(rows.part, piece) for rows in matching if rows.part is not None for piece in rows.cut(size)]
    best = in_parallel([partial(_estimated, part.segment, piece, weighted, query, limit) for part, piece in pieces])
    estimates = np.concatenate([np.empty(0, np.float32), *(found for _, found in best)])
    kept = np.zeros(len(estimates), np.bool_)
    kept[smallest(-estimates, limit)] = True
    ends = np.cumsum([len(rows) for rows, _ in best])
    # The tail has no estimates: all of it is a candidate.
    chosen: list[tuple[_Part | None, Rows]] = [(None, rows.selected()) for rows in matching if rows.part is None]
    for (part, _), (numbers, _), here in zip(pieces, best, np.split(kept, ends)[: len(best)], strict=True):
        chosen.append((part, numbers[here]))
    return _cosines(snapshot, chosen, query, _TASK_CANDIDATES)


def _estimated(segment: Segment, piece: _Matching, weighted: Weights, query: _Query, limit: int) -> tuple[Rows, Floats]:
    """The best rows by their estimated cosines, with these. They are comparable between segments."""
    found = distances(segment.bits, piece.rows.start, piece.rows.stop, weighted)
    best = nearest(found, piece.mask, limit)
    # The cosine with the centre, and that with what the signs say of the rest.
    base = float(np.dot(segment.centre, query.floats))
    step = segment.spread * weighted.step
    estimates = base + step * (weighted.total - 2 * found[best].astype(np.float32))
    return best + piece.rows.start, estimates.astype(np.float32)


def _cosines(snapshot: _Snapshot, chosen: list[tuple[_Part | None, Rows]], query: _Query, size: int) -> list[_Found]:
    tasks = [
        partial(_cosines_of, snapshot, part, rows[first : first + size], query)
        for part, rows in chosen
        for first in range(0, len(rows), size)
    ]
    return in_parallel(tasks)


def _cosines_of(snapshot: _Snapshot, part: _Part | None, rows: Rows, query: _Query) -> _Found:
    if part is None:
        return _Found(None, rows, np.vecdot(snapshot.tail.vectors[rows], query.floats))
    return _Found(part, rows, dots(part.segment.vectors, rows, query.floats) * part.segment.scales[rows])


def _page(
    snapshot: _Snapshot,
    matching: list[_Matching],
    count: int,
    query: _Query,
    top: int,
    after: tuple[float, str] | None,
    before: int,
) -> list[_Winner]:
    """A page of many rows: of the first hits from candidates, behind those from everything that is not among them.

    An image that the candidates lacked comes late then, but it comes.
    """
    candidates = _candidates(snapshot, matching, count, query)
    page: list[_Winner] = []
    if before < _DEPTH:
        page = _best(candidates, snapshot, query, min(top, _DEPTH - before), after)
        if len(page) == top or before + len(page) < _DEPTH:
            return page
    shown = _best(candidates, snapshot, query, _DEPTH, None)
    rest = _leave_out(_exact(snapshot, matching, query), shown)
    return page + _best(rest, snapshot, query, top - len(page), after if before > _DEPTH else None)


def _leave_out(found: list[_Found], shown: list[_Winner]) -> list[_Found]:
    rest = []
    for one in found:
        known = [winner.row for winner in shown if winner.part is one.part]
        kept = ~np.isin(one.rows, known)
        rest.append(_Found(one.part, one.rows[kept], one.scores[kept]))
    return rest


def _best(
    found: list[_Found], snapshot: _Snapshot, query: _Query, top: int, after: tuple[float, str] | None
) -> list[_Winner]:
    """The best rows by their exact scores.

    Scores in float32 say which rows may be among them; those get exact ones until there are enough.
    """
    scores = np.concatenate([one.scores for one in found]) if found else np.empty(0, np.float32)
    most = math.inf if after is None else after[0] + _ERROR
    possible = np.flatnonzero((scores <= most) & (scores >= query.min_score - _ERROR))
    scores = scores[possible]
    exact = _Exact(found, possible, snapshot, query, after)
    wanted = top + (query.without is not None)
    while wanted < len(scores):
        # Whatever is below the bound by two errors is worse than all above it, in exact scores as well.
        bound = float(np.partition(scores, -wanted)[-wanted]) - _ERROR
        winners = exact.winners(np.flatnonzero(scores >= bound - _ERROR))
        certain = [winner for winner in winners if -winner.minus_score >= bound]
        if len(certain) >= top:
            return certain[:top]
        wanted *= 2
    return exact.winners(np.arange(len(scores)))[:top]


@dataclass
class _Exact:
    """Exact scores of rows that were found: equal vectors have equal ones, wherever they are."""

    found: list[_Found]
    possible: Rows
    snapshot: _Snapshot
    query: _Query
    after: tuple[float, str] | None
    known: dict[bytes, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.starts = np.cumsum([0, *(len(one.rows) for one in self.found)])

    def winners(self, positions: Rows) -> list[_Winner]:
        """Those of the possible rows that are asked for, best first."""
        winners = [self._winner(int(self.possible[position])) for position in positions]
        limit = (-math.inf, "") if self.after is None else (-self.after[0], self.after[1])
        return sorted(
            winner
            for winner in winners
            if winner[:2] > limit and -winner.minus_score >= self.query.min_score and winner.name != self.query.without
        )

    def _winner(self, position: int) -> _Winner:
        number = int(np.searchsorted(self.starts, position, side="right")) - 1
        one = self.found[number]
        row = int(one.rows[position - self.starts[number]])
        if one.part is None:
            entry = self.snapshot.tail.entries[row]
            return _Winner(-self._score(entry.vector), entry.name, entry.facts, None, row)
        segment = one.part.segment
        return _Winner(-self._score(segment.vectors[row].tobytes()), segment.name(row).decode(), None, one.part, row)

    def _score(self, vector: bytes) -> float:
        score = self.known.get(vector)
        if score is None:
            score = self.known[vector] = _cosine(self.query.vector, vector)
        return score


def _cosine(unit: tuple[float, ...], vector: bytes) -> float:
    """The cosine of a vector of length 1 and one in float16, as exact as Python's floats."""
    numbers = _numbers(vector)
    length = math.sqrt(math.sumprod(numbers, numbers))
    return max(-1.0, min(1.0, math.sumprod(unit, numbers) / length)) if length else 0.0


def _numbers(vector: bytes) -> list[float]:
    numbers: list[float] = np.frombuffer(vector, "<f2").tolist()
    return numbers
