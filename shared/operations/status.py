"""The state of the app: queue lengths, failures, and what the last audit found."""

from contextlib import closing
from datetime import UTC, datetime

import msgspec

from shared import __version__
from shared.audit.report import AuditReport
from shared.audit.report_store import ReportStore
from shared.audit.running import is_over
from shared.operations.dead_letters import DeadLetterCounts, DeadLetters
from shared.search.manifest import IndexBlobs
from shared.search.reader import Reader
from shared.settings import Settings
from shared.storage.blobs import JsonBlobs
from shared.storage.names import space_of
from shared.storage.queues import Queues
from shared.uploads.record_store import RecordStore
from shared.uploads.waiting.quota import Quota


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


class QuotaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the app knows of the model's quota.

    ``spent_until`` is in the past where it is not spent. ``calls_a_second`` is what it takes, as far as was found out;
    ``dispatching`` says whether what waits for it is being worked off. ``paused`` says why nothing is embedded, where
    that is because of ``daily_token_limit``; ``tokens_today`` (UTC) are counted where there is one.
    """

    spent_until: datetime | None
    calls_a_second: float | None
    dispatching: bool
    daily_token_limit: int | None
    tokens_today: int | None
    paused: str | None


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
    quota: QuotaStatus
    failures: Failures
    index: IndexStatus | None
    last_audit: AuditReport | None
    running_audit: AuditReport | None
    spaces: list[SpaceStatus]


class Status:
    """Reads the state of the app from storage."""

    def __init__(
        self,
        settings: Settings,
        blobs: JsonBlobs,
        records: RecordStore,
        reports: ReportStore,
        index: IndexBlobs | None,
        reader: Reader | None,
        queues: Queues,
        dead_letters: DeadLetters,
        quota: Quota,
    ) -> None:
        self._model = settings.foundry_model
        self._space = space_of(settings)
        self._images_url = f"{settings.blob_service_uri}/{settings.images_container}"
        self._blobs = blobs
        self._records = records
        self._reports = reports
        self._index = index
        self._reader = reader
        self._queues = queues
        self._dead_letters = dead_letters
        self._quota = quota

    def read(self) -> AppStatus:
        """The current state of the app, read anew: a request or two for each queue, space and kind of record.

        Raises ``StorageError`` where storage fails.
        """
        queues = self._queues.lengths()
        running = self._reports.find(self._space, "running")
        pending = (self._queues.requests, self._queues.waiting, self._queues.backlog)
        if running is not None and is_over(running, sum(queues[queue] or 0 for queue in pending)):
            running = None
        return AppStatus(
            version=__version__,
            model=self._model,
            space=self._space,
            images_url=self._images_url,
            queues=queues,
            dead_letters=self._dead_letters.count(),
            quota=self._read_quota(),
            failures=self._failures(),
            index=self._read_index(),
            last_audit=self._reports.find(self._space, "latest"),
            running_audit=running,
            spaces=[self._read_space(space) for space in self._blobs.folders()],
        )

    def _read_quota(self) -> QuotaStatus:
        state, limit = self._quota.state(), self._quota.daily_limit
        paused = self._quota.paused(state)
        return QuotaStatus(
            spent_until=datetime.fromtimestamp(round(state.spent_until), UTC) if state.spent_until else None,
            calls_a_second=round(state.rate, 2) if state.rate else None,
            dispatching=state.is_dispatched,
            daily_token_limit=limit,
            tokens_today=self._quota.tokens_today(state) if limit else None,
            paused=None if paused is None else str(paused),
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
