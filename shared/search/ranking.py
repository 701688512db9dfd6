"""Which images are nearest to a query: estimates of all, closer ones of the best, exact cosines of the best of those.

Everything here works on a snapshot, which never changes. What it finds depends neither on the number of cores nor on
how busy they are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.search.entries import Entry, Facts
from shared.search.scan import (
    FINE,
    Floats,
    Mask,
    Rows,
    Weights,
    cores,
    cosines,
    dots,
    in_parallel,
    largest,
    products,
    weights,
)
from shared.search.segment import Segment

# Up to so many rows every cosine is computed: that takes no longer than estimates and the candidates' cosines would.
EXACT_ROWS: Final = 4_000
# So many of the best estimates are made closer, and one more for each so many rows. docs/design.md has the recall that
# these numbers give.
_SHORTLIST: Final = 8_000
_ROWS_PER_SHORTLISTED: Final = 200
# So many of the best of those have their cosines computed, and one more for each so many rows.
_CANDIDATES: Final = 1_000
_ROWS_PER_CANDIDATE: Final = 500
# So many results come from candidates. Whoever pages on gets the rest from the cosines of all rows.
_DEPTH: Final = 1_000
# More than a cosine in float32 differs from the same in float64: 1,024 products of rounded numbers, added up in 16
# lanes, differ by less than 64 * 2**-24.
_ERROR: Final = 1e-5
# Rows of one task, so that threads finish at about the same time.
_TASK_ROWS: Final = 16_384
_TASK_SHORTLIST: Final = 8_192
_TASK_COSINES: Final = 1_024
# Rows whose exact cosines are computed at a time: 2 MiB of 1,024 numbers.
_BLOCK: Final = 256


def candidates_of(images: int) -> int | None:
    """Of how many out of so many images a search computes the cosine; ``None`` if of all."""
    return None if images <= EXACT_ROWS else _CANDIDATES + images // _ROWS_PER_CANDIDATE


class Hit(NamedTuple):
    """An image that was found. ``score`` is its cosine with the query."""

    name: str
    score: float
    facts: Facts


@dataclass(frozen=True)
class Part:
    """A segment, and which of its rows count: all others have a newer entry elsewhere."""

    segment: Segment
    live: Mask
    count: int

    @classmethod
    def of(cls, segment: Segment, live: Mask) -> "Part":
        """The same with the number of rows that count."""
        return cls(segment, live, int(np.count_nonzero(live)))


@dataclass(frozen=True)
class Tail:
    """Rows that no segment has. Lists and arrays grow behind what this snapshot sees of them."""

    rows: int
    live: Mask
    vectors: Floats
    times: NDArray[np.int64]
    entries: list[Entry]


@dataclass(frozen=True)
class Snapshot:
    """An index as it is at one moment."""

    parts: tuple[Part, ...]
    tail: Tail

    def __len__(self) -> int:
        return sum(part.count for part in self.parts) + int(np.count_nonzero(self.tail.live))


@dataclass(frozen=True)
class Query:
    """A query, of length 1, and which rows it asks for: see :meth:`shared.search.index.Index.search`."""

    unit: NDArray[np.float64]
    floats: Floats
    prefix: bytes
    min_score: float
    since: float
    without: str | None


def page(snapshot: Snapshot, query: Query, top: int, after: tuple[float, str] | None, before: int) -> list[Hit]:
    """The next ``top`` hits ``after`` a score and a name, if so many hits came ``before``."""
    found = matching(snapshot, query.prefix, query.since)
    count = sum(rows.total() for rows in found)
    if count <= EXACT_ROWS:
        return _hits(_best(_exact(snapshot, found, query), snapshot, query, top, after))
    return _hits(_page(snapshot, found, count, query, top, after, before))


class Matching(NamedTuple):
    """The rows of a part (of the tail for ``None``) in a range, of which a mask leaves some (all for ``None``)."""

    part: Part | None
    rows: range
    mask: Mask | None

    def selected(self) -> Rows:
        """Their numbers, one by one."""
        rows = np.arange(self.rows.start, self.rows.stop)
        return rows if self.mask is None else rows[self.mask]

    def total(self) -> int:
        """How many they are."""
        return len(self.rows) if self.mask is None else int(np.count_nonzero(self.mask))


def matching(snapshot: Snapshot, prefix: bytes, since: float) -> list[Matching]:
    """The rows that may be found, by name, age and state."""
    found = []
    for part in snapshot.parts:
        start, stop = part.segment.starting(prefix)
        mask = None if part.count == len(part.segment) else part.live[start:stop]
        if since > -math.inf:
            young = part.segment.times[start:stop] >= since
            mask = young if mask is None else young & mask
        if stop > start:
            found.append(Matching(part, range(start, stop), mask))
    tail = snapshot.tail
    mask = tail.live & (tail.times >= since)
    if prefix:
        start_of_name = prefix.decode("utf-8", "surrogatepass")
        mask &= np.array([entry.name.startswith(start_of_name) for entry in tail.entries[: tail.rows]], np.bool_)
    found.append(Matching(None, range(tail.rows), mask))
    return found


def _page(
    snapshot: Snapshot,
    matching: list[Matching],
    count: int,
    query: Query,
    top: int,
    after: tuple[float, str] | None,
    before: int,
) -> "list[_Winner]":
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


@dataclass(frozen=True)
class _Piece:
    """The matching rows of a segment, those of the first piece before those of the second …: its own begin ``at``."""

    part: Part
    rows: range
    mask: Mask | None
    at: int
    # The query for this segment, and its product with the centre, which all estimates have in common.
    weights: Weights
    base: np.float32

    @classmethod
    def of(cls, matching: Matching, part: Part, at: int, query: Query) -> "_Piece":
        segment = part.segment
        base = np.vecdot(segment.centre, query.floats)
        return cls(part, matching.rows, matching.mask, at, weights(query.floats * segment.spreads), base)

    def estimate(self, estimates: Floats, share: slice) -> None:
        """Fill in the estimates of a share of its rows; those of all segments are comparable."""
        here = estimates[self.at : self.at + len(self.rows)][share]
        rows = self.rows[share]
        here[:] = products(self.part.segment.signs, rows.start, rows.stop, self.weights)
        here += self.base
        if self.mask is not None:
            here[~self.mask[share]] = -np.inf

    def numbers(self, positions: Rows) -> Rows:
        """The numbers in the segment of rows at these positions among those of all pieces."""
        return positions + (self.rows.start - self.at)

    def estimate_closer(self, estimates: Floats, positions: Rows, closer: Floats) -> None:
        """Fill in closer estimates of rows at these positions."""
        rests = np.ascontiguousarray(self.part.segment.rests.take(self.numbers(positions), axis=0).T)
        closer[:] = products(rests, 0, len(positions), self.weights)
        closer += 2 * (estimates[positions] - self.base)
        closer *= FINE
        closer += self.base


def _candidates(snapshot: Snapshot, matching: list[Matching], count: int, query: Query) -> "list[_Found]":
    """The cosines of the rows with the best estimates. Which these are does not depend on the page."""
    pieces: list[_Piece] = []
    total = 0
    for rows in matching:
        if rows.part is not None:
            pieces.append(_Piece.of(rows, rows.part, total, query))
            total += len(rows.rows)
    estimates = np.empty(total, np.float32)
    in_parallel(
        [partial(piece.estimate, estimates, here) for piece in pieces for here in _shares(len(piece.rows), _TASK_ROWS)]
    )
    shortlist = largest(estimates, _SHORTLIST + count // _ROWS_PER_SHORTLISTED)
    closer = np.empty(len(shortlist), np.float32)
    in_parallel(
        [
            partial(piece.estimate_closer, estimates, shortlist[start:stop][here], closer[start:stop][here])
            for piece, start, stop in _split(pieces, shortlist)
            for here in _shares(stop - start, _TASK_SHORTLIST)
        ]
    )
    best = shortlist[largest(closer, candidates_of(count) or count)]
    chosen = [(piece.part, piece.numbers(best[start:stop])) for piece, start, stop in _split(pieces, best)]
    # The tail has no estimates: all of it is chosen.
    return _cosines(snapshot, [*chosen, *((None, rows.selected()) for rows in matching if rows.part is None)], query)


def _split(pieces: list[_Piece], positions: Rows) -> Iterator[tuple[_Piece, int, int]]:
    """Each piece with where its positions begin and end, among positions of all pieces that ascend."""
    starts = [*np.searchsorted(positions, [piece.at for piece in pieces]).tolist(), len(positions)]
    for number, piece in enumerate(pieces):
        if starts[number + 1] > starts[number]:
            yield piece, starts[number], starts[number + 1]


def _shares(count: int, size: int) -> Iterator[slice]:
    """Equal shares of at most ``size``, as many for each core; none is empty."""
    shares = -(-count // size)
    shares = min(count, shares + -shares % cores())
    for number in range(shares):
        yield slice(number * count // shares, (number + 1) * count // shares)


@dataclass(frozen=True)
class _Found:
    """Rows of one part (of the tail for ``None``) with their cosines in float32."""

    part: Part | None
    rows: Rows
    scores: Floats


def _exact(snapshot: Snapshot, matching: list[Matching], query: Query) -> list[_Found]:
    """The cosines of all these rows."""
    return _cosines(snapshot, [(rows.part, rows.selected()) for rows in matching], query)


def _cosines(snapshot: Snapshot, chosen: Sequence[tuple[Part | None, Rows]], query: Query) -> list[_Found]:
    found = [_Found(part, rows, np.empty(len(rows), np.float32)) for part, rows in chosen if len(rows)]
    in_parallel(
        [
            partial(_fill_in, snapshot, one.part, one.rows[here], one.scores[here], query)
            for one in found
            for here in _shares(len(one.rows), _TASK_COSINES)
        ]
    )
    return found


def _fill_in(snapshot: Snapshot, part: Part | None, rows: Rows, scores: Floats, query: Query) -> None:
    if part is None:
        # Those in between as well: computing them is faster than copying all others.
        first, last = rows[0], rows[-1] + 1
        scores[:] = np.vecdot(snapshot.tail.vectors[first:last], query.floats)[rows - first]
    else:
        np.multiply(dots(part.segment.vectors, rows, query.floats), part.segment.scales[rows], out=scores)


def _leave_out(found: list[_Found], shown: "list[_Winner]") -> list[_Found]:
    rest = []
    for one in found:
        known = [winner.row for winner in shown if winner.part is one.part]
        kept = ~np.isin(one.rows, known)
        rest.append(_Found(one.part, one.rows[kept], one.scores[kept]))
    return rest


class _Winner(NamedTuple):
    """A row with its exact score, in an order of which the smallest is the best."""

    minus_score: float
    name: str
    # ``None`` as long as they are in the segment.
    facts: Facts | None
    part: Part | None
    row: int


def _best(
    found: list[_Found], snapshot: Snapshot, query: Query, top: int, after: tuple[float, str] | None
) -> list[_Winner]:
    """The best rows by their exact scores.

    Scores in float32 say which rows may be among them; those get exact ones until there are enough.
    """
    scores = np.concatenate([np.empty(0, np.float32), *(one.scores for one in found)])
    most = math.inf if after is None else after[0] + _ERROR
    possible = np.flatnonzero((scores <= most) & (scores >= query.min_score - _ERROR))
    scores = scores[possible]
    wanted = top + (query.without is not None)
    while wanted < len(scores):
        # Whatever is below the bound by two errors is worse than all above it, in exact scores as well.
        bound = float(np.partition(scores, -wanted)[-wanted]) - _ERROR
        winners = _winners(found, possible[scores >= bound - _ERROR], snapshot, query, after)
        certain = [winner for winner in winners if -winner.minus_score >= bound]
        if len(certain) >= top:
            return certain[:top]
        wanted *= 2
    return _winners(found, possible, snapshot, query, after)[:top]


def _winners(
    found: list[_Found], positions: Rows, snapshot: Snapshot, query: Query, after: tuple[float, str] | None
) -> list[_Winner]:
    """The rows at these positions among all that were found, best first, as far as they may be shown."""
    limit = (-math.inf, "") if after is None else (-after[0], after[1])
    ends = np.cumsum([len(one.rows) for one in found])
    winners: list[_Winner] = []
    for one, end, here in zip(found, ends, np.split(positions, np.searchsorted(positions, ends)), strict=False):
        rows = one.rows[here - (end - len(one.rows))]
        for first in range(0, len(rows), _BLOCK):
            winners += _scored(one.part, rows[first : first + _BLOCK], snapshot, query)
    return sorted(
        winner
        for winner in winners
        if winner[:2] > limit and -winner.minus_score >= query.min_score and winner.name != query.without
    )


def _scored(part: Part | None, rows: Rows, snapshot: Snapshot, query: Query) -> Iterator[_Winner]:
    numbers = rows.tolist()
    if part is None:
        entries = [snapshot.tail.entries[row] for row in numbers]
        vectors = np.frombuffer(b"".join(entry.vector for entry in entries), "<u2").reshape(len(entries), -1)
        for row, entry, score in zip(numbers, entries, cosines(vectors, query.unit).tolist(), strict=True):
            yield _Winner(-score, entry.name, entry.facts, None, row)
    else:
        for row, score in zip(numbers, cosines(part.segment.vectors[rows], query.unit).tolist(), strict=True):
            yield _Winner(-score, part.segment.name(row).decode(), None, part, row)


def _hits(winners: list[_Winner]) -> list[Hit]:
    hits = []
    for winner in winners:
        facts = winner.facts if winner.part is None else winner.part.segment.facts(winner.row)
        if facts is not None:
            hits.append(Hit(winner.name, -winner.minus_score, facts))
    return hits
