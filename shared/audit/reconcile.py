"""Audits: compare all images with their records, and queue a sync of each image that needs one."""

import logging
import time
import uuid
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from shared.audit.expired_queries import ExpiredQueries
from shared.audit.merge import ORDERS, Found, Merge, OutOfOrder
from shared.audit.report import Audit, AuditMessage, AuditReport, Cursor, Estimate
from shared.audit.report_store import ReportStore
from shared.audit.used_contents import UsedContents
from shared.audit.workers import Workers
from shared.clock import now
from shared.errors import FailureCode
from shared.log import Report
from shared.pictures.limits import PREPARATION
from shared.settings import Settings
from shared.storage.images import Images
from shared.storage.names import is_addressable, space_of
from shared.storage.queues import Queues
from shared.uploads.record_store import RecordStore
from shared.uploads.requests import RequestQueue

# Well below Azure's limit for HTTP responses (230 s) and that for an invocation (5 minutes, host.json).
_STEP_SECONDS = 100.0
# After so many crashes on an image, audits retry it only if an operator asks for it.
_MAX_CRASHES = 3
# A vector found unused is kept until the following night's audit: its image may come back under another name.
_KEEP_UNUSED = timedelta(hours=20)
# Listings are XML, which cannot hold the characters excluded here, encoded or not.
_LISTABLE = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]*$"


class ReconcileRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to audit: images whose names start with ``prefix``. With ``dry_run`` they are only counted.

    ``retry_failures`` lists the codes of failures to retry, or is true for all of them.
    """

    prefix: Annotated[str, msgspec.Meta(max_length=900, pattern=_LISTABLE)] = ""
    dry_run: bool = False
    retry_failures: bool | list[FailureCode] = False


@dataclass(kw_only=True)
class _AuditLine(Report):
    """The result of an audit so far, logged after each step. ``failed`` counts images; ``ms`` covers this step only."""

    steps: int
    prefix: str
    dry_run: bool
    images: int
    current: int
    missing: int
    stale: int
    orphaned: int
    failed: int
    requested: int
    contents_removed: int
    failures: dict[str, int] = field(default_factory=dict)


class Reconcile:
    """Audits the images container. Any number of audits may run at once: each only asks for syncs, which may repeat."""

    def __init__(
        self,
        settings: Settings,
        images: Images,
        records: RecordStore,
        reports: ReportStore,
        expired_queries: ExpiredQueries,
        queues: Queues,
    ) -> None:
        self._space = space_of(settings)
        self._images = images
        self._records = records
        self._reports = reports
        self._expired_queries = expired_queries
        self._queues = queues
        self._requests = RequestQueue(queues)

    def start(self, request: ReconcileRequest) -> AuditReport:
        """Audit for as long as one invocation may take; further steps go through the queue.

        Returns the report so far, whose ``finished_at`` is ``None`` if further steps follow. Raises ``StorageError``
        where storage fails.
        """
        report = AuditReport(
            started_at=now(),
            prefix=request.prefix,
            dry_run=request.dry_run,
            retry_failures=request.retry_failures,
        )
        audit = Audit(id=uuid.uuid4().hex, report=report)
        self.resume(audit)
        return audit.report

    def resume(self, audit: Audit) -> None:
        """Take the next step of an audit, and queue another if there is more to do.

        Raises ``StorageError`` where storage fails: then the step may be taken again.
        """
        audit.step += 1
        start = time.monotonic()
        finished = self._take_step(audit, start + _STEP_SECONDS)
        report = audit.report
        tokens = round(audit.calls * audit.tokens / audit.counted) if audit.counted else None
        report.estimate = Estimate(calls=audit.calls, total_tokens=tokens if audit.calls else 0)
        if finished:
            report.finished_at, report.reached = now(), None
            self._reports.write("latest", report)
            self._reports.remove_running()
        else:
            report.reached = audit.cursor.done
            self._reports.write("running", report)
            self._queues.send(AuditMessage(audit=audit))
        self._log(audit, "finished" if finished else "goes_on", time.monotonic() - start)

    def abandoned(self, audit: Audit) -> None:
        """Log that the platform gave up on a running audit, and remove its report."""
        self._reports.remove_running()
        self._log(audit, "error")

    def _take_step(self, audit: Audit, deadline: float) -> bool:
        """Compare, then sweep, until the deadline; returns whether the audit is finished."""
        sweeps = not audit.report.dry_run and not audit.report.prefix
        used = self._used_contents(audit) if sweeps else None
        with Workers() as workers:
            while not audit.cursor.judged:
                try:
                    self._compare(audit, used, workers, deadline)
                except OutOfOrder as error:
                    _restart(audit, error)
                    used = UsedContents() if sweeps else None
                    continue
                if not audit.cursor.judged:
                    if used is not None:
                        self._reports.write_filter(audit.id, bytes(used.bits))
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
        bits = self._reports.find_filter(audit.id)
        return None if bits is None else UsedContents(bytearray(bits))

    def _compare(self, audit: Audit, used: UsedContents | None, workers: Workers, deadline: float) -> None:
        prefix, cursor = audit.report.prefix, audit.cursor
        with ExitStack() as listings:
            images = listings.enter_context(closing(self._images.pages(prefix, cursor.images)))
            records = listings.enter_context(closing(self._records.list_records(prefix, cursor.records)))
            failures = listings.enter_context(closing(self._records.list_failures(prefix, cursor.failures)))
            merge = Merge(images, records, failures, cursor=cursor, order=audit.order, space=self._space)
            for found in merge.until(deadline):
                if used is not None and found.record is not None:
                    used.add(found.record.metadata.get("content", ""))
                if classify(found, audit):
                    self._request_sync(found, audit, workers)

    def _request_sync(self, found: Found, audit: Audit, workers: Workers) -> None:
        audit.report.requested += 1
        if audit.report.dry_run:
            return
        name = found.image[0] if found.image else self._records.name_of(found.key(self._space))
        if name is not None:
            workers.submit(self._requests.put, name)

    def _sweep(self, audit: Audit, used: UsedContents, workers: Workers, deadline: float) -> bool:
        """Mark contents that no record uses, and remove those marked the day before; returns whether it finished."""
        report = audit.report
        started_at = report.started_at
        with closing(self._records.list_contents(audit.cursor.contents)) as pages:
            for page in pages:
                audit.cursor.contents = page.marker
                if time.monotonic() > deadline:
                    self._reports.write_filter(audit.id, bytes(used.bits))
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
        self._reports.remove_filter(audit.id)
        return True

    def _log(self, audit: Audit, outcome: str, seconds: float = 0) -> None:
        report = audit.report
        line = _AuditLine(
            outcome=outcome,
            message="The platform gave up on the audit: call reconcile again." if outcome == "error" else None,
            ms={"total": round(seconds * 1000)},
            steps=audit.step,
            prefix=report.prefix,
            dry_run=report.dry_run,
            images=report.images,
            current=report.current,
            missing=report.missing,
            stale=report.stale,
            orphaned=report.orphaned,
            failed=sum(report.failed.values()),
            requested=report.requested,
            contents_removed=report.contents_removed,
            failures=report.failed,
        )
        line.log("audit", logging.ERROR if outcome == "error" else logging.INFO)


def classify(found: Found, audit: Audit) -> bool:
    """Count one name in the audit's report; returns whether its image needs a sync."""
    image, record, failure = found
    report = audit.report
    if image is None:
        report.orphaned += 1
        return True
    name, etag = image
    report.images += 1
    if record is not None and _is_for(record.metadata, etag):
        report.current += 1
        report.text_refused += "text_refused" in record.metadata
        audit.counted += 1
        audit.tokens += int(record.metadata.get("tokens", 0))
        return failure is not None
    if failure is not None and _is_for(failure.metadata, etag):
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


def _is_for(metadata: dict[str, str], etag: str) -> bool:
    return metadata.get("etag") == etag and metadata.get("preparation") == str(PREPARATION)


def _should_retry(code: str, metadata: dict[str, str], requested: bool | list[FailureCode]) -> bool:
    """Whether to retry a failed image: the operator requested it, or the image may not be at fault."""
    if requested is True or (requested and code in requested):
        return True
    return code == "gave_up" or (code == "crashed" and int(metadata.get("attempts", 0)) < _MAX_CRASHES)


def _restart(audit: Audit, error: OutOfOrder) -> None:
    """Start the audit over, assuming the next of the orders in which storage may list names."""
    if audit.order + 1 == len(ORDERS):
        raise RuntimeError(f"Storage lists names in an order that this app does not know, at {error}.") from error
    before = audit.report
    audit.order += 1
    audit.cursor = Cursor()
    audit.calls = audit.tokens = audit.counted = 0
    audit.report = AuditReport(
        started_at=before.started_at,
        prefix=before.prefix,
        dry_run=before.dry_run,
        retry_failures=before.retry_failures,
    )
