"""Audits: compare all images with their records, and queue a sync of each image that needs one."""

import logging
import time
import uuid
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, get_args

import msgspec

from shared.audit.expired_queries import ExpiredQueries
from shared.audit.index.check import IndexCheck, IndexComparison
from shared.audit.merge import ORDERS, Found, Merge, OutOfOrder
from shared.audit.report import Audit, AuditMessage, AuditReport, Cursor, Estimate
from shared.audit.report_store import ReportStore
from shared.audit.running import RunningAudit
from shared.audit.used_contents import UsedContents
from shared.audit.workers import Workers
from shared.clock import now
from shared.errors import FailureCode, HeldCode
from shared.log import Report
from shared.pictures.limits import Limits
from shared.settings import Settings
from shared.storage.images import Images
from shared.storage.listing import LISTABLE
from shared.storage.names import image_names, is_addressable, space_of
from shared.storage.queues import Queues
from shared.uploads.record_store import RecordStore
from shared.uploads.requests import EmbeddingRequest, RequestQueue

# Well below Azure's limit for HTTP responses (230 s) and that for an invocation (5 minutes, host.json).
_STEP_SECONDS = 100.0
# Failures that the next audit retries: they end with their cause, and no image can bring that about.
_NEXT_TIME = {"gave_up", *get_args(HeldCode)}
# After so many crashes on an image, audits retry it only if an operator asks for it.
_MAX_CRASHES = 3
# A vector found unused is kept until the following night's audit: its image may come back under another name.
_KEEP_UNUSED = timedelta(hours=20)
# After so long, what an audit stored for its next step is no longer read by any.
_KEEP_LEFTOVERS = timedelta(days=7)


class ReconcileRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to audit: images whose names start with ``prefix``. With ``dry_run`` they are only counted.

    ``retry_failures`` lists the codes of failures to retry, or is true for all of them. ``refresh`` embeds the images
    whose records are outdated again.
    """

    prefix: Annotated[str, msgspec.Meta(max_length=900, pattern=LISTABLE)] = ""
    dry_run: bool = False
    retry_failures: bool | list[FailureCode] = False
    refresh: bool = False


@dataclass(kw_only=True)
class _AuditLine(Report):
    """The result of an audit so far, logged after each step and by each call that finds it running.

    ``failed`` counts images; ``ms`` covers this step only.
    """

    steps: int | None
    prefix: str
    dry_run: bool
    images: int
    current: int
    outdated: int
    missing: int
    stale: int
    orphaned: int
    failed: int
    requested: int
    contents_removed: int
    failures: dict[str, int] = field(default_factory=dict)
    progressed_at: datetime | None = None


class Reconcile:
    """Audits the images container.

    Of the audits of everything one runs at a time: see :class:`~shared.audit.running.RunningAudit`. Others may run next
    to it: each only asks for syncs, which may repeat.
    """

    def __init__(
        self,
        settings: Settings,
        images: Images,
        records: RecordStore,
        reports: ReportStore,
        expired_queries: ExpiredQueries,
        index_check: IndexCheck | None,
        queues: Queues,
        requests: RequestQueue,
    ) -> None:
        self._container, self._space = settings.images_container, space_of(settings)
        self._is_image = image_names(settings)
        self._preparation = Limits.of(settings).preparation
        self._images = images
        self._records = records
        self._reports = reports
        self._running = RunningAudit(reports, queues)
        self._expired_queries = expired_queries
        self._index_check = index_check
        self._queues = queues
        self._requests = requests

    def start(self, request: ReconcileRequest) -> AuditReport:
        """Audit for as long as one invocation may take; further steps go through the queue.

        Returns the report so far, whose ``finished_at`` is ``None`` if further steps follow. That is the report of the
        running audit if there is one that does the same. Raises ``StorageError`` where storage fails.
        """
        report = AuditReport(
            id=uuid.uuid4().hex,
            started_at=now(),
            prefix=request.prefix,
            dry_run=request.dry_run,
            retry_failures=request.retry_failures,
            refresh=request.refresh,
        )
        if report.is_full and (running := self._running.begin(report)) is not report:
            self._log(running, "skipped")
            return running
        audit = Audit(report=report)
        try:
            self._advance(audit)
        except Exception:
            # The caller's next attempt must not find it running.
            self._running.end(report)
            self._reports.clear(report.id)
            raise
        return audit.report

    def resume(self, step: Audit | str) -> None:
        """Take the next step of an audit, and queue another if there is more to do.

        An audit of everything ends here if another has taken its place. Raises ``StorageError`` where storage fails:
        then the step may be taken again.
        """
        audit = self._read(step)
        if audit is None:
            return
        if not audit.report.is_full or self._running.holds(audit.report):
            self._advance(audit)
        else:
            self._reports.clear(audit.report.id)

    def abandoned(self, step: Audit | str) -> None:
        """End an audit that the platform gave up on, and log that."""
        audit = self._read(step)
        if audit is None:
            return
        if self._running.end(audit.report) or not audit.report.is_full:
            self._log(audit.report, "error", audit.step)
        self._reports.clear(audit.report.id)

    def _read(self, step: Audit | str) -> Audit | None:
        """The audit that a message holds or names; ``None`` if it has ended, which removes what it has stored."""
        return self._reports.find_step(step) if isinstance(step, str) else step

    def _advance(self, audit: Audit) -> None:
        audit.step += 1
        report, requested = audit.report, audit.report.requested
        start = time.monotonic()
        finished = self._take_step(audit, start + _STEP_SECONDS)
        if report.requested > requested and not report.dry_run:
            self._requests.ask()
        tokens = round(audit.calls * audit.tokens / audit.counted) if audit.counted else None
        report.estimate = Estimate(calls=audit.calls, total_tokens=tokens if audit.calls else 0)
        report.progressed_at, report.waiting = now(), self._queues.pending()
        if finished:
            report.finished_at, report.reached = report.progressed_at, None
            self._reports.write_latest(report)
            self._running.end(report)
            self._reports.clear(report.id)
            if report.is_full:
                self._reports.clear_older(report.finished_at - _KEEP_LEFTOVERS)
        else:
            report.reached = audit.cursor.done
            if not self._running.advance(report) and report.is_full:
                self._reports.clear(report.id)
                return
            message = AuditMessage(audit=audit, container=self._container, space=self._space)
            if not self._queues.fits(message):
                message = msgspec.structs.replace(message, audit=self._reports.write_step(audit))
            self._queues.send(message)
        self._log(report, "finished" if finished else "goes_on", audit.step, time.monotonic() - start)

    def _take_step(self, audit: Audit, deadline: float) -> bool:
        """Compare, then sweep, until the deadline; returns whether the audit is finished."""
        check = self._index_check
        comparison = None if check is None or audit.cursor.mended else check.begin(audit)
        finished = self._compare_and_sweep(audit, comparison, deadline)
        if comparison is not None:
            comparison.count()
        if check is not None and comparison is not None and not finished:
            check.save(audit, comparison)
        if check is not None and finished and audit.report.is_full:
            check.end(audit)
        return finished

    def _compare_and_sweep(self, audit: Audit, index: IndexComparison | None, deadline: float) -> bool:
        sweeps = audit.report.is_full
        # Contents are shared by the apps of a space, and only this app's records are compared.
        collects = sweeps and not self._records.is_shared()
        used = self._used_contents(audit) if collects else None
        with Workers() as workers:
            while not audit.cursor.judged:
                try:
                    self._compare(audit, used, index, workers, deadline)
                except OutOfOrder as error:
                    _restart(audit, error)
                    used = UsedContents() if collects else None
                    if index is not None:
                        index.restart()
                    continue
                if not audit.cursor.judged:
                    if used is not None:
                        self._reports.write_filter(audit.report.id, bytes(used.bits))
                    return False
            if index is not None:
                audit.cursor.mended = index.correct_extra(workers, deadline)
                if not audit.cursor.mended:
                    return False
            if used is not None and not audit.cursor.swept:
                audit.cursor.swept = self._sweep(audit, used, workers, deadline)
                if not audit.cursor.swept:
                    return False
            return not sweeps or self._expired_queries.remove(audit, workers, deadline)

    def _used_contents(self, audit: Audit) -> UsedContents | None:
        """The contents used according to earlier steps; ``None`` if that is lost, so that nothing may be removed."""
        if audit.step == 1:
            return UsedContents()
        bits = self._reports.find_filter(audit.report.id)
        return None if bits is None else UsedContents(bytearray(bits))

    def _compare(
        self,
        audit: Audit,
        used: UsedContents | None,
        index: IndexComparison | None,
        workers: Workers,
        deadline: float,
    ) -> None:
        prefix, cursor = audit.report.prefix, audit.cursor
        with ExitStack() as listings:
            images = listings.enter_context(closing(self._images.pages(prefix, cursor.images)))
            records = listings.enter_context(closing(self._records.list_records(prefix, cursor.records)))
            failures = listings.enter_context(closing(self._records.list_failures(prefix, cursor.failures)))
            merge = Merge(images, records, failures, cursor=cursor, order=audit.order, folder=self._records.folder())
            for found in merge.until(deadline):
                if used is not None and found.record is not None:
                    used.add(found.record.metadata.get("content", ""))
                if index is not None and found.record is not None:
                    index.see(found.record, workers)
                if found.image is not None and not self._is_image(found.image[0]):
                    audit.report.excluded += 1
                    if found.record is None and found.failure is None:
                        continue
                    found = found._replace(image=None)
                if classify(found, audit, self._preparation):
                    self._request_sync(found, audit, workers)
        if index is not None:
            index.compare_young(workers)

    def _request_sync(self, found: Found, audit: Audit, workers: Workers) -> None:
        audit.report.requested += 1
        if audit.report.dry_run:
            return
        name = found.image[0] if found.image else self._records.name_of(found.key(self._records.folder()))
        if name is not None:
            request = EmbeddingRequest(name=name, refresh=audit.report.refresh, origin="backlog")
            workers.submit(self._requests.leave, request)

    def _sweep(self, audit: Audit, used: UsedContents, workers: Workers, deadline: float) -> bool:
        """Mark contents that no record uses, and remove those marked the day before; returns whether it finished."""
        report = audit.report
        started_at = report.started_at
        with closing(self._records.list_contents(audit.cursor.contents)) as pages:
            for number, page in enumerate(pages):
                audit.cursor.contents = page.marker
                # One page at least, so that every step gets on.
                if number and time.monotonic() > deadline:
                    self._reports.write_filter(audit.report.id, bytes(used.bits))
                    return False
                for content in page.blobs:
                    unused_since = content.metadata.get("unused_since")
                    if content.name in used:
                        report.contents += 1
                        if unused_since:
                            workers.submit(self._records.mark_content, content.name, content.etag, None)
                    elif unused_since is None:
                        report.contents += 1
                        workers.submit(
                            self._records.mark_content, content.name, content.etag, report.started_at.isoformat()
                        )
                    elif started_at - datetime.fromisoformat(unused_since) > _KEEP_UNUSED:
                        report.contents_removed += 1
                        workers.submit(self._records.remove_content, content.name, content.etag)
                    else:
                        report.contents += 1
        return True

    def _log(self, report: AuditReport, outcome: str, steps: int | None = None, seconds: float = 0) -> None:
        line = _AuditLine(
            outcome=outcome,
            message="The platform gave up on the audit: call reconcile again." if outcome == "error" else None,
            ms={"total": round(seconds * 1000)},
            steps=steps,
            prefix=report.prefix,
            dry_run=report.dry_run,
            images=report.images,
            current=report.current,
            outdated=report.outdated,
            missing=report.missing,
            stale=report.stale,
            orphaned=report.orphaned,
            failed=sum(report.failed.values()),
            requested=report.requested,
            contents_removed=report.contents_removed,
            failures=report.failed,
            progressed_at=report.progressed_at,
        )
        line.log("audit", logging.ERROR if outcome == "error" else logging.INFO)


def classify(found: Found, audit: Audit, preparation: int) -> bool:
    """Count one name in the audit's report; returns whether its image needs a sync.

    ``preparation`` is the one by which records are made now.
    """
    image, record, failure = found
    report = audit.report
    if image is None:
        report.orphaned += 1
        return True
    name, etag = image
    report.images += 1
    if record is not None and record.metadata.get("etag") == etag:
        outdated = record.metadata.get("preparation") != str(preparation)
        report.current += not outdated
        report.outdated += outdated
        report.text_refused += "text_refused" in record.metadata
        audit.counted += 1
        audit.tokens += int(record.metadata.get("tokens", 0))
        refreshed = outdated and report.refresh
        audit.calls += refreshed
        return refreshed or failure is not None
    if failure is not None and _is_current_failure(failure.metadata, etag, preparation):
        code = failure.metadata.get("code", "")
        report.failed[code] = report.failed.get(code, 0) + 1
        retry = _should_retry(code, failure.metadata, report.retry_failures)
        audit.calls += retry
        return retry or record is not None
    if not is_addressable(name):
        report.ignored += 1
        return False
    if record is not None:
        report.stale += 1
    else:
        report.missing += 1
    audit.calls += 1
    return True


def _is_current_failure(metadata: dict[str, str], etag: str, preparation: int) -> bool:
    return metadata.get("etag") == etag and metadata.get("preparation") == str(preparation)


def _should_retry(code: str, metadata: dict[str, str], requested: bool | list[FailureCode]) -> bool:
    """Whether to retry a failed image: the operator requested it, or the image may not be at fault."""
    if requested is True or (requested and code in requested):
        return True
    return code in _NEXT_TIME or (code == "crashed" and int(metadata.get("attempts", 0)) < _MAX_CRASHES)


def _restart(audit: Audit, error: OutOfOrder) -> None:
    """Start the audit over, assuming the next of the orders in which storage may list names."""
    if audit.order + 1 == len(ORDERS):
        raise RuntimeError(f"Storage lists names in an order that this app does not know, at {error}.") from error
    before = audit.report
    audit.order += 1
    audit.cursor = Cursor()
    audit.calls = audit.tokens = audit.counted = 0
    audit.report = AuditReport(
        id=before.id,
        started_at=before.started_at,
        prefix=before.prefix,
        dry_run=before.dry_run,
        retry_failures=before.retry_failures,
        refresh=before.refresh,
    )
