"""The state of the app: queue lengths, failures, and what the last audit found."""

from contextlib import closing
from datetime import datetime

import msgspec

from shared import __version__
from shared.audit.report import AuditReport
from shared.audit.report_store import ReportStore
from shared.audit.running import is_over
from shared.exports.export import Exports
from shared.exports.report import ExportReport
from shared.operations.dead_letters import DeadLetterCounts, DeadLetters
from shared.operations.progress import Progress, measure
from shared.search.manifest import IndexBlobs
from shared.search.reader import Reader
from shared.settings import Settings
from shared.storage.blobs import JsonBlobs
from shared.storage.names import space_of
from shared.storage.queues import Queues
from shared.uploads.record_store import RecordStore


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """Failure records by code. Only the first 5,000 are counted here: beyond that, ``complete`` is false."""

    total: int
    by_code: dict[str, int]
    complete: bool


class SpaceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A space and its last audit, or ``None`` if it had none yet.

    ``current`` of ``images`` had a current record, and ``outdated`` one of another preparation.
    """

    space: str
    in_use: bool
    images: int | None = None
    current: int | None = None
    outdated: int | None = None
    prefix: str | None = None
    audited_at: datetime | None = None


class IndexStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The index of search now: the ``rows`` of its ``segments``, and the bytes of the logs that come on top.

    A row is the state of an image at some time, so there may be several of one image. The reports of audits say how
    many images the index finds. An instance can hold the index of about ``room_for_images``: with more, searches are
    errors. It is ``None`` as long as nothing says how long the vectors are.
    """

    segments: int
    rows: int
    log_bytes: int
    room_for_images: int | None


class AppStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``/api/status``. The length of a queue that does not exist yet is ``None``.

    ``images_url`` is that of the images container. ``running_audit`` is also one that has finished, while much of what
    it requested may still wait.
    ``dead_letters`` are events that could not be delivered: those that the next watch takes, and those that only an
    operator can read. ``index`` is ``None`` where there is no search.
    """

    version: str
    model: str
    space: str
    images_url: str
    queues: dict[str, int | None]
    dead_letters: DeadLetterCounts
    failures: Failures
    index: IndexStatus | None
    progress: Progress
    last_audit: AuditReport | None
    running_audit: AuditReport | None
    last_export: ExportReport | None
    running_export: ExportReport | None
    spaces: list[SpaceStatus]


class Status:
    """Reads the state of the app from storage."""

    def __init__(
        self,
        settings: Settings,
        blobs: JsonBlobs,
        records: RecordStore,
        reports: ReportStore,
        exports: Exports,
        index: IndexBlobs | None,
        reader: Reader | None,
        queues: Queues,
        dead_letters: DeadLetters,
    ) -> None:
        self._model = settings.foundry_model
        self._space = space_of(settings)
        self._images_url = f"{settings.blob_service_uri}/{settings.images_container}"
        self._blobs = blobs
        self._records = records
        self._reports = reports
        self._exports = exports
        self._index = index
        self._reader = reader
        self._queues = queues
        self._dead_letters = dead_letters

    def read(self) -> AppStatus:
        """The current state of the app, read anew: a request or two for each queue, space and kind of record.

        Raises ``StorageError`` where storage fails.
        """
        queues = self._queues.lengths()
        running = self._reports.find(self._space, "running")
        if running is not None and is_over(running, queues[self._queues.requests] or 0):
            running = None
        last_export, running_export = self._exports.find()
        failures, last_audit = self._failures(), self._reports.find(self._space, "latest")
        audits = [report.images for report in (last_audit, running) if report is not None and not report.prefix]
        return AppStatus(
            version=__version__,
            model=self._model,
            space=self._space,
            images_url=self._images_url,
            queues=queues,
            dead_letters=self._dead_letters.count(),
            failures=failures,
            index=self._read_index(),
            progress=measure(self._index, max(audits, default=None), queues, failures.total),
            last_audit=last_audit,
            running_audit=running,
            last_export=last_export,
            running_export=running_export,
            spaces=[self._read_space(space) for space in self._blobs.folders()],
        )

    def _failures(self) -> Failures:
        by_code: dict[str, int] = {}
        with closing(self._records.list_failures("", "")) as pages:
            page = next(pages)
        for blob in page.blobs:
            code = blob.metadata.get("code", "")
            by_code[code] = by_code.get(code, 0) + 1
        return Failures(total=len(page.blobs), by_code=by_code, complete=not page.next_marker)

    def _read_index(self) -> IndexStatus | None:
        if self._index is None or self._reader is None:
            return None
        manifest = self._index.read().manifest
        ends = {log: self._index.log_properties(log.id) for log in manifest.logs}
        return IndexStatus(
            segments=len(manifest.segments),
            rows=sum(segment.rows for segment in manifest.segments),
            log_bytes=sum(end.size - log.start for log, end in ends.items() if end is not None),
            room_for_images=self._reader.room_for_images(manifest),
        )

    def _read_space(self, space: str) -> SpaceStatus:
        report = self._reports.find(space, "latest")
        in_use = space == self._space
        if report is None:
            return SpaceStatus(space=space, in_use=in_use)
        return SpaceStatus(
            space=space,
            in_use=in_use,
            images=report.images,
            current=report.current,
            outdated=report.outdated,
            prefix=report.prefix,
            audited_at=report.finished_at,
        )
