"""How far the app is with its images, and when it will be done: from what is stored anyway, at no cost for an image.

What was embedded of late is read off the index of search, which each record is appended to: its logs and its youngest
segments, a few MiB at most.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from shared.clock import milliseconds
from shared.search.entries import DamagedEntries
from shared.search.manifest import DamagedSegment, IndexBlobs, LogMissing, Manifest, made_at

# The rate is that of so many milliseconds, or of fewer if more is not known.
_WINDOW_MS = 300_000
# Of less than this, chance makes the most.
_LEAST_MS = 10_000
# Larger segments are not read for it: each has its names and seqs at its start, 100 bytes or so an image.
_MAX_ROWS = 20_000


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the app is. All numbers are as good as their source: queues count approximately.

    ``images`` are those that the last audit found, or more if more are known of. ``embedded`` have a record, of late
    included; ``waiting`` are on the queues, ``failed`` have a failure record. ``per_minute`` is how many records were
    written a minute, over the last five; at that rate nothing waits any more at ``done_at``. Those three are ``None``
    where there is no index of search, ``done_at`` also where nothing waits or nothing gets on.
    """

    images: int
    embedded: int | None
    waiting: int
    failed: int
    per_minute: float | None
    done_at: datetime | None


def measure(index: IndexBlobs | None, audited: int | None, queues: Mapping[str, int | None], failed: int) -> Progress:
    """The progress now. ``audited`` is how many images an audit has found, ``failed`` how many have a failure record.

    Raises ``StorageError`` where storage fails.
    """
    waiting = sum(length or 0 for queue, length in queues.items() if "poison" not in queue)
    if index is None:
        return Progress(
            images=max(audited or 0, waiting + failed),
            embedded=None,
            waiting=waiting,
            failed=failed,
            per_minute=None,
            done_at=None,
        )
    manifest = index.read().manifest
    now = milliseconds()
    logged, seqs = _logged(index, manifest)
    embedded = sum(segment.rows for segment in manifest.segments) + logged
    # An image that was written again is there twice until its segments are merged.
    images = max(audited or 0, waiting + failed)
    embedded = min(embedded, images) if audited else embedded
    rate = _per_minute([*seqs, *_of_segments(index, manifest, now)], now)
    done_at = None
    if waiting and rate:
        done_at = datetime.fromtimestamp(time.time() + 60 * waiting / rate, UTC).replace(microsecond=0)
    return Progress(
        images=max(images, embedded),
        embedded=embedded,
        waiting=waiting,
        failed=failed,
        per_minute=None if rate is None else round(rate, 1),
        done_at=done_at,
    )


def _logged(index: IndexBlobs, manifest: Manifest) -> tuple[int, list[int]]:
    """How many images the logs have a record of, and when each was written."""
    latest: dict[str, tuple[int, bool]] = {}
    for log in manifest.logs:
        try:
            for entries, _ in index.entries(log.id, log.start):
                for entry in entries:
                    latest[entry.name] = max(latest.get(entry.name, (0, False)), (entry.seq, bool(entry.vector)))
        except (LogMissing, DamagedEntries):
            continue
    written = [seq for seq, is_there in latest.values() if is_there]
    return len(written), written


def _of_segments(index: IndexBlobs, manifest: Manifest, now: int) -> Iterator[int]:
    """When the records in the youngest segments were written."""
    for segment in manifest.segments:
        if made_at(segment.id) >= now - _WINDOW_MS and segment.rows <= _MAX_ROWS:
            try:
                yield from (seq for _, seq, is_gone in index.states(segment) if not is_gone)
            except DamagedSegment:
                continue


def _per_minute(seqs: list[int], now: int) -> float | None:
    """How many of these moments were in a minute, of late."""
    young = [seq for seq in seqs if now - _WINDOW_MS < seq <= now]
    if not young:
        return 0.0
    # What is older may be in a segment that is not read, or there was nothing before.
    span = _WINDOW_MS if any(seq <= now - _WINDOW_MS for seq in seqs) else now - min(young)
    return len(young) / max(span, _LEAST_MS) * timedelta(minutes=1).total_seconds() * 1000
