"""Logs become segments, small segments larger ones, and segments lose what is obsolete, in steps by the queue.

There is no lease, so two may do the same at once: each prepares what it wants beside the index, and swaps it in by one
write of the manifest, which takes effect only if all that it replaces is still listed. Entries are merged by ``seq``
alone, and no record is read. A process that dies leaves at most a blob that no manifest lists, which an audit removes,
or a listed log that is gone, which the next step takes out.
"""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING, Literal

import msgspec

from shared.clock import milliseconds
from shared.errors import Conflict, StorageError
from shared.log import Report
from shared.search.entries import DamagedEntries, Entry, comparable
from shared.search.journal import LARGE_LOG
from shared.search.manifest import DamagedSegment, IndexBlobs, ListedSegment, Log, LogMissing, Manifest, made_at
from shared.search.reader import load
from shared.settings import Settings
from shared.storage.names import space_of
from shared.storage.queues import Message, Queues

if TYPE_CHECKING:
    from shared.search.scan import Mask
    from shared.search.segment import Segment
    from shared.search.upkeep.obsolete import Entries

# One message works for so long, and then asks for another: well within functionTimeout (host.json, 300 s).
_STEP_SECONDS = 60.0
# What is read of a log for one segment: 32 MiB are 15,000 images of 1,024 numbers.
_MAX_READ = 32 * 2**20
# The largest segment; of 1,024 numbers the bytes are reached first, by 58,000 images. A merge reads as many.
MAX_ROWS = 100_000
_MAX_BYTES = 128 * 2**20
# Segments of less than so many rows are of one size.
_SMALL = 1000
# An entry may be appended so long after its record was written: no invocation takes longer.
_LATE_MS = 3_600_000
# A segment is written anew without its obsolete entries if they are more than half of all, or if it is so old, and a
# log of that age is followed by another one. So what was deleted has left the index after about a month.
_OLD_MS = 14 * 24 * 3_600_000
_OBSOLETE_SHARE = 0.5
# So many segments of one size become one. A size is up to four times the one before.
_FANOUT = 4
# Somebody still appends to a log that is no longer the newest. By then everybody has seen the next.
_SECONDS_UNTIL_LEFT = 5
# By then another message, which this process works for, is done.
_SECONDS_UNTIL_FREE = 60


class CompactionRequest(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue ``embedding-requests``: compact the index of search.

    With ``clean`` segments also lose their obsolete entries.
    """

    index: Literal["compact"]
    clean: bool = False


@dataclass(kw_only=True)
class _CompactionLine(Report):
    """What came of one message, logged as the event ``index``."""


class Compaction:
    """Compacts the index of this app's images. Safe to call from many threads and processes."""

    def __init__(self, settings: Settings, index: IndexBlobs, queues: Queues) -> None:
        self._request = CompactionRequest(
            index="compact", container=settings.images_container, space=space_of(settings)
        )
        self._index = index
        self._queues = queues
        self._running = threading.Lock()

    def ask(self, *, clean: bool = False, in_seconds: int = 0) -> None:
        """Have :meth:`run` called, by whoever takes the message."""
        self._queues.send(msgspec.structs.replace(self._request, clean=clean), hidden_seconds=in_seconds)

    def ask_if_due(self, *, clean: bool = False) -> None:
        """The same, if there is something to compact or, with ``clean``, if something may be obsolete."""
        manifest = self._index.read().manifest
        if (clean and (manifest.segments or _is_old(manifest.newest))) or self._is_due(manifest):
            self.ask(clean=clean)

    def run(self, *, clean: bool = False) -> None:
        """Compact for as long as one message may take, and ask for another if there is more to do.

        With ``clean`` segments also lose their obsolete entries. Raises ``StorageError`` where storage fails: what is
        done by then stays done.
        """
        # What another thread is doing would be lost to it here, too.
        if not self._running.acquire(blocking=False):
            if clean:
                self.ask(clean=True, in_seconds=_SECONDS_UNTIL_FREE)
            return
        report = _CompactionLine(outcome="cleaned" if clean else "compacted")
        try:
            with report.step("total"):
                self._work(time.monotonic() + _STEP_SECONDS, clean=clean)
        except Exception as error:
            report.outcome, report.message = "error", f"{type(error).__name__}: {error}"
            raise
        finally:
            self._running.release()
            report.log("index", logging.ERROR if report.outcome == "error" else logging.INFO)

    def _work(self, deadline: float, *, clean: bool) -> None:
        in_use: set[str] = set()
        entries = self._entries() if clean else None
        while self._take_step(in_use) or (entries is not None and self._clean(entries)):
            if time.monotonic() > deadline:
                self.ask(clean=clean)
                return
        if in_use:
            self.ask(in_seconds=_SECONDS_UNTIL_LEFT)

    def _take_step(self, in_use: set[str]) -> bool:
        """Do one thing; returns whether there was one. Logs that others still append to are added to ``in_use``."""
        manifest = self._index.read().manifest
        if self._is_long(manifest.newest):
            self._index.next_log(manifest.newest)
            return True
        if log := next((log for log in manifest.logs[:-1] if log.id not in in_use), None):
            try:
                self._empty(log, manifest)
            except Conflict:
                in_use.add(log.id)
            return True
        if group := mergeable(manifest.segments):
            self._merge(group)
            return True
        return False

    def _is_due(self, manifest: Manifest) -> bool:
        return bool(len(manifest.logs) > 1 or mergeable(manifest.segments) or self._is_long(manifest.newest))

    def _is_long(self, log: str | None) -> bool:
        found = self._index.log_properties(log) if log else None
        return found is not None and found.size >= LARGE_LOG

    def _empty(self, log: Log, manifest: Manifest) -> None:
        """Move the next entries of a log into a segment, or remove the log if it has no more.

        Raises ``Conflict`` if somebody appended to it between the look and the removal.
        """
        found = self._index.log_properties(log.id)
        if found is not None and found.size > log.start:
            self._move(log, found.size, manifest)
            return
        if found is not None:
            # This seals it: whoever still wants to append to it finds it gone, and appends to the newest.
            self._index.delete_log(log.id, found.etag)
        self._index.change(
            lambda now: msgspec.structs.replace(now, logs=tuple(one for one in now.logs if one.id != log.id))
        )

    def _move(self, log: Log, size: int, manifest: Manifest) -> None:
        entries, end = self._read(log, size)
        dimensions = self._index.dimensions(manifest, entries)
        # Without any vector, nothing that is gone covers anything.
        made = [self._write(rows, dimensions) for rows in batched(entries, MAX_ROWS, strict=False) if dimensions]
        moved = msgspec.structs.replace(log, start=end)

        def swap(now: Manifest) -> Manifest:
            if log not in now.logs:
                # Somebody else was faster; or this was written, and the answer lost.
                return now
            logs = tuple(moved if one == log else one for one in now.logs)
            return msgspec.structs.replace(now, logs=logs, segments=(*now.segments, *made))

        self._remove_unless_listed(made, self._index.change(swap))

    def _read(self, log: Log, size: int) -> tuple[list[Entry], int]:
        """Of the next entries in a log the last ones of each name, and the byte that they end before."""
        latest: dict[str, Entry] = {}
        end = log.start
        try:
            for entries, end in self._index.entries(log.id, log.start):
                for entry in entries:
                    if entry.name not in latest or latest[entry.name].seq <= entry.seq:
                        latest[entry.name] = entry
                if end - log.start >= _MAX_READ:
                    break
        except DamagedEntries as error:
            # What comes before it is moved first.
            if end == log.start:
                message = f"The rest of the log {log.id} of the index is left out: {error} Call reconcile."
                Report(outcome="error", message=message).log("index", logging.ERROR)
                return [], size
        except LogMissing:
            pass
        return list(latest.values()), end

    def _write(self, entries: Sequence[Entry], dimensions: int) -> ListedSegment:
        from shared.search import segment

        parts = segment.build([comparable(entry, dimensions) for entry in entries], dimensions=dimensions)
        return self._index.write_segment(parts, dimensions=dimensions)

    def _merge(self, group: Sequence[ListedSegment]) -> None:
        from shared.search import segment

        opened = [self._load(listed) for listed in group]
        there = [one for one in opened if one is not None]
        if len(there) == len(group):
            self._replace(group, [self._index.write_segment(segment.merge(there), dimensions=group[0].dimensions)])

    def _clean(self, entries: "Entries") -> bool:
        """Let one segment lose its obsolete entries, or do one thing before that; returns whether there was one."""
        manifest = self._index.read().manifest
        if _is_old(manifest.newest):
            # Also since what is gone is forgotten only when no log is older.
            self._index.next_log(manifest.newest)
            return True
        for listed in manifest.segments:
            try:
                entries.read(listed)
            except DamagedSegment as error:
                self._index.drop_segment(listed, str(error))
                return True
        first_log = min((made_at(log.id) for log in manifest.logs), default=0)
        masks = entries.obsolete(manifest.segments, gone_before=first_log - _LATE_MS)
        for listed, obsolete in zip(manifest.segments, masks, strict=True):
            count = int(obsolete.sum())
            if count > _OBSOLETE_SHARE * len(obsolete) or (count and _is_old(listed.id)):
                self._reduce(listed, ~obsolete)
                return True
        return False

    def _reduce(self, listed: ListedSegment, kept: "Mask") -> None:
        from shared.search import segment

        if not kept.any():
            self._replace([listed], [])
        elif (opened := self._load(listed)) is not None:
            reduced = segment.reduced(opened, kept)
            self._replace([listed], [self._index.write_segment(reduced, dimensions=listed.dimensions)])

    def _replace(self, old: Sequence[ListedSegment], made: Sequence[ListedSegment]) -> None:
        """List what was made in place of these segments, if all of them are still listed."""

        def swap(now: Manifest) -> Manifest:
            if not set(old) <= set(now.segments):
                return now
            return msgspec.structs.replace(now, segments=(*(one for one in now.segments if one not in old), *made))

        self._remove_unless_listed(made, self._index.change(swap))

    def _load(self, listed: ListedSegment) -> "Segment | None":
        """A segment; one that is damaged is no longer listed from then on."""
        try:
            return load(self._index, listed).segment
        except DamagedSegment as error:
            self._index.drop_segment(listed, str(error))
            return None

    def _entries(self) -> "Entries":
        from shared.search.upkeep.obsolete import Entries

        return Entries(self._index)

    def _remove_unless_listed(self, made: Sequence[ListedSegment], manifest: Manifest) -> None:
        """Remove what lost the race, if it is not listed after all."""
        for segment in made:
            if segment not in manifest.segments:
                with suppress(StorageError):
                    self._index.remove_segment(segment)


def _is_old(name: str | None) -> bool:
    """Whether the log or segment of this name was made long ago."""
    return name is not None and made_at(name) < milliseconds() - _OLD_MS


def mergeable(segments: Sequence[ListedSegment]) -> list[ListedSegment]:
    """Segments of one size that are to become one, the smallest first; none if there are few of each size."""
    sizes: dict[tuple[int, int], list[ListedSegment]] = {}
    for segment in sorted(segments, key=lambda one: one.rows):
        sizes.setdefault((_size(segment.rows), segment.dimensions), []).append(segment)
    for alike in sizes.values():
        if len(alike) >= _FANOUT:
            for count in range(_FANOUT, 1, -1):
                group = alike[:count]
                if sum(one.rows for one in group) <= MAX_ROWS and sum(one.bytes for one in group) <= _MAX_BYTES:
                    return group
    return []


def _size(rows: int) -> int:
    """0 for less than 1,000 rows, and one more for each four times as many."""
    size = 0
    while rows >= _SMALL * _FANOUT**size:
        size += 1
    return size
