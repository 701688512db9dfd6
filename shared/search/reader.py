"""What a searching process holds of the index, as new as the records are.

The first search reads all of it. Later ones read, at most every two seconds, the manifest if it has changed, what was
appended to the logs since, and segments that are new. A thread of its own reads, so that nobody waits for longer than a
caller should, and what one search has started serves all.
"""

import logging
import mmap
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shared.clock import now
from shared.errors import IndexUnavailable, StorageError
from shared.log import Report
from shared.search.entries import DamagedEntries, Entry, comparable
from shared.search.manifest import (
    DamagedSegment,
    IndexBlobs,
    ListedSegment,
    Log,
    LogMissing,
    Manifest,
    Version,
)
from shared.storage.rest import BRIEF

if TYPE_CHECKING:
    from shared.search.index import Index
    from shared.search.segment import Segment

# What was read so long ago is read again for the next search.
_FRESH_SECONDS = 2.0
# A search waits so long for an index that this process has never read, and so long for news of one that it has.
_FIRST_WAIT, _WAIT = 20.0, 3.0
# If there is no news by then, a search is answered from what is held, unless it is older than this.
_STALE_SECONDS = 60.0
_RETRY_AFTER, _RETRY_AFTER_TOO_LARGE = 5.0, 300.0
# A segment is read in ranges of this size, so many at a time.
_RANGE, _PARALLEL = 8 * 2**20, 4
# What the temp directory keeps free for others.
_LEFT_FREE = 64 * 2**20
# The share of an instance's memory that may hold what the temp directory has no room for; and the same for what is only
# lent, beside the uploads that the instance may serve.
_MEMORY_SHARE, _LENT_SHARE = 0.5, 0.25
# The share of a segment in a file that is in memory all the same: the bits, and 28 bytes a row.
_RESIDENT_SHARE = 0.12
# What a segment has of an image besides its vector and its bits: 32 bytes of numbers, its name and facts. An estimate.
_BESIDES_VECTOR = 200
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class _Superseded(Exception):
    """Something that the manifest lists is gone, and there is a newer manifest."""

    def __init__(self, version: Version) -> None:
        super().__init__()
        self.version = version


@dataclass(frozen=True)
class _Held:
    """A segment, and how many bytes of it are in memory and in a file that is mapped."""

    segment: "Segment"
    in_memory: int
    in_file: int


@dataclass
class _Tail:
    """What was read of a log, in pieces: each from one byte to another."""

    pieces: list[tuple[int, int, list[Entry]]] = field(default_factory=list)
    damaged: bool = False

    def after(self, start: int) -> "_Tail":
        """The same without what is in segments by now."""
        return _Tail([piece for piece in self.pieces if piece[1] > start], self.damaged)

    def end(self, start: int) -> int:
        """Where to go on reading: not before ``start``."""
        return self.pieces[-1][1] if self.pieces else start

    def size(self) -> int:
        """How many bytes of the log these are, about as many as the entries take in memory."""
        return sum(end - start for start, end, _ in self.pieces)

    def entries(self) -> list[Entry]:
        """All entries."""
        return [entry for _, _, entries in self.pieces for entry in entries]


class Reader:
    """Holds the index of this app's images. Safe to call from many threads."""

    def __init__(self, blobs: IndexBlobs, *, memory_share: float = _MEMORY_SHARE) -> None:
        self._blobs = blobs
        self._memory_share = memory_share
        self._lock = threading.Lock()
        self._reading: Future[Index] | None = None
        self._index: Index | None = None
        self._read_at = 0.0
        self._as_of: datetime | None = None
        # Used by the reading thread alone.
        self._version: Version | None = None
        self._held: dict[str, _Held] = {}
        self._left_out: set[str] = set()
        self._tails: dict[str, _Tail] = {}
        self._dimensions = 0
        self._latest: Index | None = None

    @property
    def as_of(self) -> datetime | None:
        """When what :meth:`current` returns was last compared with storage; ``None`` before that."""
        return self._as_of

    def start(self) -> None:
        """Read what is new, if :meth:`current` would, without waiting for it."""
        with self._lock:
            if self._index is None or time.monotonic() - self._read_at >= _FRESH_SECONDS:
                self._begin()

    def current(self) -> "Index":
        """The index as it was two seconds ago or later; older, by a minute at most, while storage does not answer.

        One without images may be of vectors of any length. Raises :class:`~shared.errors.IndexUnavailable` while it is
        read for the first time and if it cannot be held, and ``StorageError`` where storage fails.
        """
        with self._lock:
            held, age = self._index, time.monotonic() - self._read_at
            if held is not None and age < _FRESH_SECONDS:
                return held
            reading = self._begin()
        error: Exception
        try:
            return reading.result(_FIRST_WAIT if held is None else _WAIT)
        except TimeoutError:
            message = "The index of search is being read for the first time on this instance: ask again in a moment."
            error = IndexUnavailable("index_loading", message, retry_after=_RETRY_AFTER)
        except (StorageError, IndexUnavailable) as failed:
            error = failed
        if held is not None and age < _STALE_SECONDS:
            return held
        raise error

    def lend(self) -> "Index":
        """The same for a use that comes once a day, however long it takes to read.

        A process that has not searched forgets it again. Raises :class:`~shared.errors.IndexUnavailable` if a quarter
        of the instance's memory cannot hold it, and ``StorageError`` where storage fails.
        """
        if self._index is not None:
            return self.current()
        return Reader(self._blobs, memory_share=_LENT_SHARE)._news()

    def room_for_images(self, manifest: Manifest) -> int | None:
        """How many images this instance can hold the index of, if they are as large as those of this one.

        ``None`` as long as nothing says how long their vectors are.
        """
        rows = sum(one.rows for one in manifest.segments)
        dimensions = self._blobs.dimensions(manifest, [])
        if not rows and not dimensions:
            return None
        size = sum(one.bytes for one in manifest.segments) / rows if rows else 2.25 * dimensions + _BESIDES_VECTOR
        on_disk = _free_on_disk() + sum(held.in_file for held in list(self._held.values()))
        return round(_most_bytes(self._memory_share * _memory(), on_disk) / size)

    def _begin(self) -> "Future[Index]":
        """The read that is under way, or a new one. Only under the lock."""
        if self._reading is None or self._reading.done():
            self._reading = Future()
            threading.Thread(target=self._read, args=(self._reading,), name="search index", daemon=True).start()
        return self._reading

    def _read(self, reading: "Future[Index]") -> None:
        started_at, as_of = time.monotonic(), now()
        try:
            index = self._news()
        except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
            reading.set_exception(error)
            return
        with self._lock:
            self._index, self._read_at, self._as_of = index, started_at, as_of
        reading.set_result(index)

    def _news(self) -> "Index":
        """Read what is new since the last time."""
        held = self._version
        version = self._blobs.read_newer(held.etag if held else "", effort=BRIEF) or held
        while True:
            if version is None:
                raise AssertionError("There is no manifest that has an empty ETag.")
            try:
                return self._follow(version)
            except _Superseded as superseded:
                version = superseded.version

    def _follow(self, version: Version) -> "Index":
        """Read what this manifest lists and is not held; what it no longer lists is no longer held."""
        from shared.search.index import Index

        manifest = version.manifest
        if version != self._version:
            self._load_segments(version)
        tails = {log.id: self._tails.get(log.id, _Tail()).after(log.start) for log in manifest.logs}
        news: list[Entry] = []
        for log in manifest.logs:
            news += self._read_log(log, tails[log.id], version)
            self._check_room(manifest, sum(tail.size() for tail in tails.values()))
        entries = [entry for tail in tails.values() for entry in tail.entries()]
        dimensions = self._blobs.dimensions(manifest, entries)
        if self._latest is not None and (version, dimensions) == (self._version, self._dimensions):
            index, entries = self._latest, news
        else:
            segments = [held.segment for held in self._listed(manifest)]
            alike = [segment for segment in segments if segment.dimensions == dimensions]
            index = Index(alike, dimensions=dimensions or 1)
        index.add([comparable(entry, dimensions) for entry in entries])
        self._held = {one.id: self._held[one.id] for one in manifest.segments if one.id in self._held}
        self._version, self._tails, self._dimensions, self._latest = version, tails, dimensions, index
        return index

    def _listed(self, manifest: Manifest) -> list[_Held]:
        """What is held of the segments that a manifest lists."""
        return [self._held[one.id] for one in manifest.segments if one.id in self._held]

    def _read_log(self, log: Log, tail: _Tail, version: Version) -> list[Entry]:
        """What was appended to a log since its ``tail`` was read, which gets it."""
        news: list[Entry] = []
        if tail.damaged:
            return news
        try:
            for entries, end in self._blobs.entries(log.id, tail.end(log.start), effort=BRIEF):
                tail.pieces.append((tail.end(log.start), end, entries))
                news += entries
                self._check_room(version.manifest, tail.size())
        except LogMissing:
            # Then its entries are in a segment, which this manifest lists already or a newer one does.
            self._raise_if_superseded(version)
        except DamagedEntries as error:
            tail.damaged = True
            _log_error(f"The rest of the log {log.id} of the index is left out: {error} Call reconcile.")
        return news

    def _load_segments(self, version: Version) -> None:
        manifest = version.manifest
        self._check_room(manifest, 0)
        for listed in manifest.segments:
            if listed.id in self._held or listed.id in self._left_out:
                continue
            try:
                self._held[listed.id] = load(self._blobs, listed)
            except DamagedSegment as error:
                self._raise_if_superseded(version)
                self._left_out.add(listed.id)
                _log_error(f"{error} It is left out of searches until the next audit mends the index.")

    def _raise_if_superseded(self, version: Version) -> None:
        newer = self._blobs.read_newer(version.etag, effort=BRIEF)
        if newer is not None and newer != version:
            raise _Superseded(newer)

    def _check_room(self, manifest: Manifest, tail: int) -> None:
        """Raise :class:`~shared.errors.IndexUnavailable` if an instance cannot hold the index."""
        new = sum(one.bytes for one in manifest.segments if one.id not in {*self._held, *self._left_out})
        in_memory = sum(one.in_memory for one in self._listed(manifest)) + tail + _in_memory(new, _free_on_disk())
        room = round(_memory() * self._memory_share)
        if in_memory > room:
            message = (
                f"The index of search has {sum(one.bytes for one in manifest.segments) + tail:,} bytes, of which"
                f" {in_memory:,} must be in memory, and this instance has room for {room:,}: raise INSTANCE_MEMORY_MB,"
                " give each part of the images an app of its own, or search with Azure AI Search."
            )
            raise IndexUnavailable("index_too_large", message, retry_after=_RETRY_AFTER_TOO_LARGE)


def load(blobs: IndexBlobs, listed: ListedSegment) -> _Held:
    """A segment, checked; raises :class:`DamagedSegment`."""
    from shared.search import segment

    blobs.check_dimensions(listed)
    buffer, is_mapped = _room_for(listed.bytes)

    def read(start: int) -> None:
        content = blobs.read_segment(listed, start, min(_RANGE, listed.bytes - start))
        buffer[start : start + len(content)] = content

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="segment") as threads:
        list(threads.map(read, range(0, listed.bytes, _RANGE)))
    try:
        opened = segment.Segment.open(buffer, dimensions=listed.dimensions)
    except segment.DamagedSegment as error:
        raise DamagedSegment(f"The segment {listed.id} is damaged. {error}") from error
    return _Held(opened, opened.resident_bytes, listed.bytes) if is_mapped else _Held(opened, listed.bytes, 0)


def _room_for(size: int) -> tuple[mmap.mmap | bytearray, bool]:
    """Room for a segment, and whether it is mapped from a file, which nobody else sees: where the disk has room."""
    if size <= _free_on_disk():
        with suppress(OSError), tempfile.TemporaryFile() as file:
            # Not sparse: a disk that is full when a page is written would end the process.
            os.posix_fallocate(file.fileno(), 0, size)
            return mmap.mmap(file.fileno(), size), True
    return bytearray(size), False


def _in_memory(size: int, on_disk: int) -> int:
    """How many of so many bytes of segments are in memory, if the disk has room for so many."""
    mapped = min(size, on_disk)
    return size - mapped + round(mapped * _RESIDENT_SHARE)


def _most_bytes(memory: float, on_disk: int) -> float:
    """How many bytes of segments there may be until so many are in memory."""
    return min(memory / _RESIDENT_SHARE, memory + (1 - _RESIDENT_SHARE) * on_disk)


def _free_on_disk() -> int:
    try:
        return max(0, shutil.disk_usage(tempfile.gettempdir()).free - _LEFT_FREE)
    except OSError:
        return 0


def _memory() -> int:
    """The memory of this instance, in bytes."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(path.read_text()))
    return min(limits)


def _log_error(message: str) -> None:
    Report(outcome="error", message=message).log("index", logging.ERROR)
