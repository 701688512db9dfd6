"""Exports: all records as a table, made step by step by messages of the queue, one export at a time.

First every name that has a record is listed, and sorted. Then the records are read in that order, and each step writes
a part. A part is a whole file or none, and counts once the state of the export says so: so a step that dies, or two
that do the same at once, leave at most a file that is in no manifest.
"""

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from itertools import batched, islice

import msgspec

from shared import __version__
from shared.clock import now
from shared.errors import Conflict, QueryError, StorageError, UnreadableBlob
from shared.exports import names
from shared.exports.names import Named
from shared.exports.report import Export, ExportMessage, ExportReport, ExportRequest, Manifest, Part, Run
from shared.exports.rows import Group, Rows
from shared.exports.store import ExportStore
from shared.log import Report
from shared.races import until_won
from shared.settings import Settings
from shared.storage.queues import Queues
from shared.storage.space import Space
from shared.uploads.record_store import RecordStore, seq_of

# One message works for so long, and then asks for another: well within functionTimeout (host.json, 300 s).
_STEP_SECONDS = 100.0
_PART_ROWS = 100_000
# The names of a run are sorted in memory, those of a part of what is gone written from there.
_RUN_NAMES = _GONE_NAMES = 100_000
# A record says when it was embedded, and is written up to an invocation's time later (host.json, 300 s). One that was
# listed too early has a time that is later than this.
_UNSEEN = timedelta(minutes=10)
# A step takes two minutes, and the message of one that died comes back after ten.
_PATIENCE = timedelta(minutes=15)
# Clocks differ.
_SOON = timedelta(minutes=5)
_MAX_DAMAGED_NAMES = 1000


class Exports:
    """Makes exports. Safe to call from many threads and processes. Raises ``StorageError`` where storage fails."""

    def __init__(
        self, settings: Settings, space: Space, records: RecordStore, store: ExportStore, queues: Queues
    ) -> None:
        self._container = settings.images_container
        self._space = space
        self._records = records
        self._rows = Rows(records)
        self._store = store
        self._queues = queues

    def start(self, request: ExportRequest) -> ExportReport:
        """Begin an export; returns its report, or that of the one that runs if it does the same.

        Raises :class:`~shared.errors.QueryError` if another one runs, and for a ``since`` in the future.
        """
        if request.since is not None and request.since > now() + _SOON:
            message = f"since is {request.since.isoformat()}, which is in the future: nothing was embedded since."
            raise QueryError("invalid_request", message, target="since")

        def attempt() -> tuple[ExportReport, ExportReport | None]:
            """The export that runs now, and the one that it takes the place of."""
            try:
                running, version = self._store.find_running() or (None, None)
            except UnreadableBlob:
                # Nobody can go on with it.
                self._store.discard_running()
                running = version = None
            if running is not None and not _is_dead(running):
                return running.report, None
            made = self._new(request)
            self._store.write_running(Export(report=made, dimensions=self._space.dimensions()), replaces=version)
            return made, None if running is None else running.report

        report, dead = until_won(attempt)
        if not report.answers(request):
            message = (
                f"Another export runs, {report.id}, begun at {report.started_at.isoformat()}: one is made at a time."
                " GET /api/status says how far it is."
            )
            raise QueryError("export_running", message, status=409)
        if dead is not None:
            self._store.remove_unlisted(dead.id, [], [])
        if not report.listed:
            # If another message is under way, one of both finds nothing to do.
            self._send(report.id)
        return report

    def resume(self, export: str) -> None:
        """Go on with an export, for as long as one message may take. Does nothing if another one runs by now."""
        deadline = time.monotonic() + _STEP_SECONDS
        with suppress(Conflict):
            # Whoever was faster has a message of its own.
            while (claimed := self._claim(export)) is not None:
                state, version = claimed
                if self._is_made(state):
                    self._finish(state, version)
                    return
                self._take_unit(state, version, deadline)
                if time.monotonic() > deadline:
                    self._send(export)
                    _log(state.report, "goes_on")
                    return

    def abandoned(self, export: str) -> None:
        """End an export that the platform gave up on, and log that."""
        found = self._find_running()
        if found is None or found[0].report.id != export:
            return
        with suppress(Conflict):
            self._store.remove_running(found[1])
            self._store.remove_unlisted(export, [], [])
            message = f"The platform gave up on the export {export}: call export again."
            Report(outcome="error", message=message).log("export", logging.ERROR)

    def find(self) -> tuple[ExportReport | None, ExportReport | None]:
        """The report of the export that was finished last and that of the one that runs, if there are any."""
        running = self._find_running()
        alive = None if running is None or _is_dead(running[0]) else running[0].report
        return self._store.find_latest(), alive

    def _find_running(self) -> tuple[Export, str] | None:
        try:
            return self._store.find_running()
        except UnreadableBlob:
            return None

    def _new(self, request: ExportRequest) -> ExportReport:
        started_at, export = now(), uuid.uuid4().hex
        return ExportReport(
            id=export,
            folder=self._store.folder(export),
            started_at=started_at,
            progressed_at=started_at,
            as_of=started_at - _UNSEEN,
            since=request.since,
            prefix=request.prefix,
            float16=request.float16,
            base=self._base(request),
        )

    def _base(self, request: ExportRequest) -> str | None:
        """The newest export that is not newer than ``since`` and has all names of the prefix, or ``None``."""
        if request.since is None:
            return None
        fits = [
            (one.as_of, one.id)
            for one in self._store.finished()
            if one.as_of <= request.since and request.prefix.startswith(one.prefix)
        ]
        return max(fits)[1] if fits else None

    def _claim(self, export: str) -> tuple[Export, str] | None:
        """Take the state for the next unit of work, so that whoever works on the last one cannot store it any more."""
        found = self._find_running()
        if found is None or found[0].report.id != export:
            return None
        state, version = found
        if state.begun:
            # It may be written yet, by somebody who is slow.
            state.next_part += 1
        state.begun = state.listed
        return state, self._store.write_running(state, replaces=version)

    def _is_made(self, state: Export) -> bool:
        return state.read and state.is_compared

    def _take_unit(self, state: Export, version: str, deadline: float) -> None:
        """Do one thing and store the state; raises ``Conflict``, and takes it back, if somebody else took the state."""
        state.begun = False
        before = msgspec.json.encode(state)
        try:
            part = self._write_next(state, deadline)
        except Exception:
            # What this one began to write is not written any more.
            with suppress(Conflict, StorageError):
                self._store.write_running(msgspec.json.decode(before, type=Export), replaces=version)
            raise
        if part is not None:
            state.next_part += 1
        state.report.progressed_at = now()
        try:
            self._store.write_running(state, replaces=version)
        except Conflict:
            if part is not None:
                self._store.remove_part(state.report.id, part.name)
            raise

    def _write_next(self, state: Export, deadline: float) -> Part | None:
        """List names, or write a part of rows or of names that are gone, if there is anything in it."""
        if not state.listed:
            self._list(state, deadline)
            return None
        return self._write_gone(state, deadline) if state.read else self._write_part(state, deadline)

    def _list(self, state: Export, deadline: float) -> None:
        """List names with a record, from the marker on, and store them in runs."""
        report = state.report
        since = None if report.since is None else report.since.timestamp() * 1000
        found: list[Named] = []
        with closing(self._records.list_records(report.prefix, state.marker)) as pages:
            for page in pages:
                for blob in page.blobs:
                    name = self._records.name_of(blob.name)
                    if name is not None:
                        found.append((name, since is None or seq_of(blob) >= since))
                state.marker, state.listed = page.next_marker, not page.next_marker
                if len(found) >= _RUN_NAMES or state.listed or time.monotonic() > deadline:
                    self._write_run(state, found)
                    found = []
                    if time.monotonic() > deadline:
                        break
        if state.listed:
            self._store.write_names(report.id, state.runs)
            state.is_compared = report.base is None

    def _write_run(self, state: Export, found: list[Named]) -> None:
        if found:
            found.sort()
            # A name of its own, since somebody else may do the same at once.
            run = Run(name=uuid.uuid4().hex, rows=len(found), first=found[0][0], last=found[-1][0])
            self._store.write_run(state.report.id, run.name, names.packed(found))
            state.runs.append(run)
            state.report.listed += len(found)

    def _write_part(self, state: Export, deadline: float) -> Part | None:
        """Write the next part, if there are rows for one."""
        from shared.exports import table
        from shared.exports.parquet.writer import Writer

        groups = self._groups(state, deadline)
        first = next(groups, None)
        if first is None or state.dimensions is None:
            return None
        report = state.report
        writer = Writer(table.columns(state.dimensions, half=report.float16), _CREATED_BY)
        begin, end = first.records[0].name, first.records[-1].name

        def content() -> Iterator[bytes]:
            nonlocal first, end
            while first is not None:
                yield from writer.group(table.values(first.records, first.vectors))
                end = first.records[-1].name
                # Only one group at a time is in memory.
                first = None
                first = next(groups, None)
            yield from writer.end()

        name = f"part-{state.next_part:05}.parquet"
        self._store.write_part(report.id, name, content())
        part = Part(name=name, rows=writer.rows, bytes=writer.size, first=begin, last=end)
        state.parts.append(part)
        report.rows += part.rows
        report.bytes += part.bytes
        report.parts = len(state.parts)
        return part

    def _groups(self, state: Export, deadline: float) -> Iterator[Group]:
        """The next rows in groups that have some: as many as a part has, or as there is time for."""
        from shared.exports.table import group_rows

        report = state.report
        wanted = (name for name, is_wanted in self._names(report.id, state.runs, state.done) if is_wanted)
        rows = 0
        while rows < _PART_ROWS and not state.read:
            size = min(group_rows(state.dimensions or 1024), _PART_ROWS - rows)
            asked = list(islice(wanted, size))
            if asked:
                group = self._read(state, asked)
                state.done = asked[-1]
                rows += len(group.records)
                if group.records:
                    yield group
            state.read = len(asked) < size
            if time.monotonic() > deadline:
                return

    def _read(self, state: Export, asked: Sequence[str]) -> Group:
        """The records of these names, without those that are older than what is asked for: a listing tells less."""
        group = self._rows.read(asked, state.dimensions)
        state.report.damaged += len(group.damaged)
        state.damaged_names += group.damaged[: _MAX_DAMAGED_NAMES - len(state.damaged_names)]
        if group.records:
            state.dimensions = state.dimensions or group.vectors.shape[1]
            state.model = state.model or group.records[0].model
        since = state.report.since
        young = [since is None or record.embedded_at >= since for record in group.records]
        if all(young):
            return group
        records = [record for record, is_young in zip(group.records, young, strict=True) if is_young]
        return Group(records, group.vectors[young], group.damaged)

    def _write_gone(self, state: Export, deadline: float) -> Part | None:
        """Write the next names that the export before this one had and that have no record now, if there are some."""
        from shared.exports import table
        from shared.exports.parquet.writer import Writer

        report = state.report
        before = self._store.find_names(report.base or "")
        if before is None:
            # Somebody has deleted it meanwhile.
            report.base, report.gone, state.is_compared = None, None, True
            state.gone_parts = []
            return None
        old = (name for name, _ in self._names(report.base or "", before, state.compared))
        new = (name for name, _ in self._names(report.id, state.runs, state.compared))
        gone: list[str] = []
        state.is_compared = True
        for pairs in batched(names.missing(old, new), 1000, strict=False):
            gone += [name for name, is_missing in pairs if is_missing and name.startswith(report.prefix)]
            state.compared = pairs[-1][0]
            if len(gone) >= _GONE_NAMES or time.monotonic() > deadline:
                state.is_compared = False
                break
        report.gone = (report.gone or 0) + len(gone)
        if not gone:
            return None
        writer = Writer(table.names_alone(), _CREATED_BY)
        content = [*writer.group([gone]), *writer.end()]
        name = f"gone-{state.next_part:05}.parquet"
        self._store.write_part(report.id, name, content)
        part = Part(name=name, rows=writer.rows, bytes=writer.size, first=gone[0], last=gone[-1])
        state.gone_parts.append(part)
        return part

    def _names(self, export: str, runs: Sequence[Run], after: str) -> Iterator[Named]:
        return names.merged(runs, lambda run: self._store.read_run(export, run), after)

    def _finish(self, state: Export, version: str) -> None:
        report = state.report
        report.finished_at = report.progressed_at = now()
        manifest = Manifest(
            id=report.id,
            space=self._space.name,
            container=self._container,
            model=state.model,
            dimensions=state.dimensions,
            started_at=report.started_at,
            finished_at=report.finished_at,
            as_of=report.as_of,
            since=report.since,
            prefix=report.prefix,
            float16=report.float16,
            base=report.base,
            rows=report.rows,
            bytes=report.bytes,
            parts=state.parts,
            gone=report.gone,
            gone_parts=state.gone_parts,
            damaged=report.damaged,
            damaged_names=state.damaged_names,
        )
        self._store.write_manifest(manifest)
        self._store.write_latest(report)
        self._store.remove_unlisted(report.id, [*state.parts, *state.gone_parts], state.runs)
        self._store.remove_running(version)
        _log(report, "finished")

    def _send(self, export: str) -> None:
        self._queues.send(ExportMessage(export=export, container=self._container, space=self._space.name))


_CREATED_BY = f"image-embeddings {__version__}"


def _is_dead(running: Export) -> bool:
    """Whether nobody goes on with an export any more."""
    return now() - running.report.progressed_at > _PATIENCE


def _log(report: ExportReport, outcome: str) -> None:
    message = f"{report.rows:,} rows in {report.parts:,} parts, {report.damaged:,} records damaged."
    Report(outcome=outcome, message=message).log("export", logging.INFO)
