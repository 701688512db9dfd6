"""Which blobs the index is made of: ``<folder>/index/manifest.json``, and the logs and segments that it lists.

The manifest is only ever replaced by one that was made from it (``If-Match``). A log or segment exists before it is
listed, and a segment never changes. So whoever has read the manifest can read all that it lists, until a later manifest
lists something else in its place.
"""

import logging
import re
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from typing import NamedTuple

import msgspec

from shared.clock import milliseconds
from shared.log import Report
from shared.races import until_won
from shared.search.entries import DamagedEntries, Entry, decode, whole
from shared.storage.blobs import IF_MISSING, JsonBlobs, Properties, if_match
from shared.storage.rest import FULL, Effort, conflict_if_changed
from shared.storage.space import Space

SCHEMA = 1
# What is read of a log at once.
_PIECE = 8 * 2**20
# How logs and segments are named: by the time at which they were made.
_OURS = re.compile(r"(?:logs|segments)/([0-9]{13}-[0-9a-f]{12})")


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A log that entries are appended to; those before the byte ``start`` are in segments."""

    id: str
    start: int = msgspec.field(name="from", default=0)


class ListedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment: of how many images it says something, its length in bytes, and the length of its vectors."""

    id: str
    rows: int
    bytes: int
    dimensions: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the index in ``folder`` is made of. Writers append to the last log; the others wait to be emptied."""

    schema: int = SCHEMA
    folder: str
    logs: tuple[Log, ...] = ()
    segments: tuple[ListedSegment, ...] = ()

    @property
    def newest(self) -> str | None:
        """The log that writers append to, ``None`` if there is none yet."""
        return self.logs[-1].id if self.logs else None

    def find_log(self, name: str) -> Log | None:
        """The log of this name, if it is listed."""
        return next((log for log in self.logs if log.id == name), None)


class Version(NamedTuple):
    """A manifest and its ETag, which is empty if storage has none."""

    manifest: Manifest
    etag: str


class LogMissing(Exception):
    """There is no such log: by now its entries are in a segment that a later manifest lists."""


class DamagedSegment(Exception):
    """A segment is missing or not as it was written. The message says which one, and what is wrong."""


class IndexBlobs:
    """The blobs of the index of this app's images. Safe to call from many threads and processes.

    Raises :class:`~shared.errors.StorageError` where storage fails. A manifest that cannot be read counts as an empty
    one, and the next change replaces it: the records are the truth, and an audit makes the index again from them.
    """

    def __init__(self, space: Space, blobs: JsonBlobs) -> None:
        self._space = space
        self._blobs = blobs
        self._found_in: str | None = None
        self._reported = ""
        self._lock = threading.Lock()

    def read(self) -> Version:
        """The manifest as it is now."""
        found = self.read_newer("")
        if found is None:
            raise AssertionError("No manifest has an empty ETag.")
        return found

    def read_newer(self, known: str, *, effort: Effort = FULL) -> Version | None:
        """The manifest, or ``None`` if its ETag is still ``known``."""
        folder = self._folder()
        found = self._blobs.read_newer(_manifest(folder), known, effort=effort)
        if found is None:
            return Version(Manifest(folder=folder), "")
        self._found_in = folder
        content, etag = found
        return None if content is None else Version(self._decoded(content, etag, folder), etag)

    def change(self, change: Callable[[Manifest], Manifest]) -> Manifest:
        """Apply a change to the manifest as it is at that moment; returns what it is afterwards.

        ``change`` is called anew for each race that is lost. What it returns unchanged is not written.
        """
        folder = self._space.folder()

        def attempt() -> Manifest:
            before, etag = self.read()
            after = change(before)
            if after != before:
                condition = if_match(etag) if etag else IF_MISSING
                with conflict_if_changed("manifest.json"):
                    self._blobs.write(_manifest(folder), after, condition=condition, indented=True)
            return after

        return until_won(attempt)

    def next_log(self, full: str | None) -> str:
        """The log to append to instead of ``full``: a new one, unless somebody has made one already."""
        made = ""

        def change(before: Manifest) -> Manifest:
            nonlocal made
            if before.newest not in {None, full}:
                return before
            made = made or self._make_log()
            return msgspec.structs.replace(before, logs=(*before.logs, Log(id=made)))

        after = self.change(change)
        if made and after.find_log(made) is None:
            self._blobs.delete_if_present(self._log(made))
        return after.newest or made

    def append(self, log: str, content: bytes) -> int:
        """Append to a log; returns how long it is then."""
        return self._blobs.append(self._log(log), content)

    def log_properties(self, log: str) -> Properties | None:
        """A log's ETag and size, ``None`` if there is no such log."""
        return self._blobs.properties(self._log(log))

    def entries(self, log: str, start: int, *, effort: Effort = FULL) -> Generator[tuple[list[Entry], int]]:
        """What a log holds from the byte ``start`` on, in pieces, each with the byte that it ends before.

        Raises :class:`LogMissing`, and :class:`~shared.search.entries.DamagedEntries` for a log that others wrote to.
        """
        end = start
        while True:
            content = self._blobs.read_range(self._log(log), end, _PIECE, effort=effort)
            if content is None:
                raise LogMissing(log)
            # Blocks are appended as a whole, so only a piece that is not the last may end within an entry.
            is_last = len(content) < _PIECE
            length = len(content) if is_last else whole(content)
            if not length and not is_last:
                raise DamagedEntries(f"The entry at byte {end:,} has no end.")
            if length:
                end += length
                yield decode(content[:length]), end
            if is_last:
                return

    def delete_log(self, log: str, etag: str) -> None:
        """Delete a log unless somebody has appended to it since; then raises :class:`~shared.errors.Conflict`."""
        with conflict_if_changed(log):
            self._blobs.delete(self._log(log), condition=if_match(etag))

    def write_segment(self, parts: Iterable[bytes], *, dimensions: int) -> ListedSegment:
        """Store a segment, which no manifest lists yet."""
        from shared.search.segment import HEADER_BYTES, extent

        name, start, size = _new_name(), b"", 0

        def measured() -> Generator[bytes]:
            nonlocal start, size
            for part in parts:
                size += len(part)
                if len(start) < HEADER_BYTES:
                    start += part
                yield part

        self._blobs.write_parts(self._segment(name), measured())
        rows, gone, _ = extent(start)
        return ListedSegment(id=name, rows=rows + gone, bytes=size, dimensions=dimensions)

    def read_segment(self, listed: ListedSegment, start: int, size: int, *, effort: Effort = FULL) -> bytes:
        """Bytes of a segment, fewer at its end; raises :class:`DamagedSegment` if they are not there."""
        content = self._blobs.read_range(self._segment(listed.id), start, size, effort=effort)
        if content is None:
            raise DamagedSegment(f"The segment {listed.id} is missing.")
        if len(content) != min(size, listed.bytes - start):
            raise DamagedSegment(f"The segment {listed.id} is not as long as it was written.")
        return content

    def dimensions(self, manifest: Manifest, entries: Sequence[Entry]) -> int:
        """The length of the vectors of the space; 0 if nothing says it, so that there are none."""
        known = self._space.dimensions() or next((one.dimensions for one in manifest.segments), 0)
        return known or next((len(entry.vector) // 2 for entry in entries if entry.vector), 0)

    def check_dimensions(self, listed: ListedSegment) -> None:
        """Raise :class:`DamagedSegment` for vectors that cannot be compared with those of the space."""
        dimensions = self._space.dimensions()
        if dimensions not in {None, listed.dimensions}:
            message = (
                f"The segment {listed.id} has vectors of {listed.dimensions} numbers, and the space of {dimensions}."
            )
            raise DamagedSegment(message)

    def states(self, listed: ListedSegment) -> Generator[tuple[str, int, bool]]:
        """What a segment says of each image: its name, the ``seq`` of that, and whether the image is gone.

        Reads no vectors. Raises :class:`DamagedSegment`.
        """
        from shared.search import segment

        self.check_dimensions(listed)
        try:
            start = self.read_segment(listed, 0, min(segment.HEADER_BYTES, listed.bytes))
            start = self.read_segment(listed, 0, segment.extent(start).states)
            for name, seq, is_gone in segment.states(start):
                yield name.decode(), seq, is_gone
        except segment.DamagedSegment as error:
            raise DamagedSegment(f"The segment {listed.id} is damaged. {error}") from error

    def drop_segment(self, listed: ListedSegment, why: str) -> None:
        """Take a damaged segment out of the manifest, if it is still listed. An audit brings back what it held."""
        before = self.read().manifest
        if listed not in before.segments:
            return
        Report(outcome="error", message=f"{why} The next audit mends the index.").log("index", logging.ERROR)
        self.change(
            lambda now: msgspec.structs.replace(now, segments=tuple(one for one in now.segments if one != listed))
        )

    def remove_segment(self, listed: ListedSegment) -> None:
        """Remove a segment that no manifest has ever listed."""
        self._blobs.delete_if_present(self._segment(listed.id))

    def remove_unlisted(self, older_than: int) -> int:
        """Remove what was made before that moment (in milliseconds) and no manifest lists; returns how many blobs."""
        folder = f"{self._space.folder()}/index/"
        found: dict[str, int] = {}
        with closing(self._blobs.pages(folder, "", "", "")) as pages:
            for page in pages:
                found |= {blob.name: made_at(ours[1]) for blob in page.blobs if (ours := _OURS.fullmatch(blob.name))}
        # Read after the listing: what was made so long ago is in it by now, or never will be.
        manifest = self.read().manifest
        listed = {f"logs/{log.id}" for log in manifest.logs} | {f"segments/{one.id}" for one in manifest.segments}
        unlisted = [name for name, made_at in found.items() if made_at < older_than and name not in listed]
        for name in unlisted:
            self._blobs.delete_if_present(folder + name)
        return len(unlisted)

    def _folder(self) -> str:
        """Where the index is. Another app may still claim the space before this one, until there is an index."""
        return self._found_in or self._space.find_folder()

    def _decoded(self, content: bytes, etag: str, folder: str) -> Manifest:
        try:
            manifest = msgspec.json.decode(content, type=Manifest)
            problem = f"it is of schema {manifest.schema} and of the folder {manifest.folder}"
            if manifest.schema == SCHEMA and manifest.folder == folder:
                return manifest
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problem = str(error)
        with self._lock:
            is_new, self._reported = self._reported != etag, etag
        if is_new:
            message = (
                f"{_manifest(folder)} is not as the app writes it ({problem}): call reconcile, which makes it anew."
            )
            Report(outcome="error", message=message).log("index", logging.ERROR)
        return Manifest(folder=folder)

    def _make_log(self) -> str:
        name = _new_name()
        self._blobs.create_log(self._log(name))
        return name

    def _log(self, name: str) -> str:
        return f"{self._folder()}/index/logs/{name}"

    def _segment(self, name: str) -> str:
        return f"{self._folder()}/index/segments/{name}"


def made_at(name: str) -> int:
    """When the log or segment of this name was made, in milliseconds since 1970."""
    return int(name.partition("-")[0])


def _manifest(folder: str) -> str:
    return f"{folder}/index/manifest.json"


def _new_name() -> str:
    return f"{milliseconds():013d}-{uuid.uuid4().hex[:12]}"
