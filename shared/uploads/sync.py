"""One image: make its stored record match it, whatever happened to it and however often that is reported."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import get_args

import msgspec

from shared.clock import milliseconds, now
from shared.errors import (
    BlobHeld,
    Conflict,
    FailureCode,
    ForeignRecord,
    GivenUpCode,
    ModelMisconfigured,
    ModelRefused,
    ModelUnavailable,
    NotSent,
    Paused,
    PictureCode,
    PictureError,
    RefusalCode,
    WrongSpace,
)
from shared.log import Report
from shared.model.client import MAX_TOTAL_WAIT, Schedule
from shared.races import back_off
from shared.settings import Settings
from shared.storage.images import Image, Images
from shared.storage.names import image_names, is_addressable
from shared.uploads.embed import Embedder
from shared.uploads.record_store import RecordState, RecordStore
from shared.uploads.records import EmbeddingRecord, FailureRecord
from shared.uploads.report import ImageReport
from shared.uploads.requests import EmbeddingRequest, RequestQueue
from shared.uploads.waiting.quota import Quota

_EXPECTED = {"embedded", "copied", "deferred", "unchanged", "removed"}

# The failures whose cause is the image: only another image, or an operator, can change that.
_PERMANENT = {*get_args(PictureCode), *get_args(RefusalCode)}

# After so many attempts, or so long, the queue stops retrying: the image gets a failure record, and the next audit asks
# for another attempt.
_MAX_ATTEMPTS = 30
_MAX_AGE = timedelta(hours=24)

# All waiting and trying of one sync ends after so many seconds: well within functionTimeout (host.json, 300 s), after
# which the platform restarts the process with everything in it.
_MAX_TIME = 150.0

# Each change of the image or its record during the sync uses up a round.
_MAX_ROUNDS = 20
_GONE = ""
_ALARM_INTERVAL = 60.0


@dataclass
class _Turn:
    """The syncs of one image in this process: one runs, the others wait for the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: int = 0


class Sync:
    """Keeps records true to their images. Safe to call from many threads and processes, for the same image too."""

    def __init__(
        self,
        settings: Settings,
        images: Images,
        records: RecordStore,
        embedder: Embedder,
        requests: RequestQueue,
        quota: Quota,
    ) -> None:
        self._is_image = image_names(settings)
        self._images = images
        self._records = records
        self._embedder = embedder
        self._requests = requests
        self._quota = quota
        self._last_alarm = -math.inf
        self._turns: dict[str, _Turn] = {}
        self._turns_lock = threading.Lock()

    def upload(self, name: str) -> ImageReport:
        """Sync an image that was just uploaded: see :meth:`request`. What ``IMAGE_NAMES`` excludes is ignored."""
        if not self._is_image(name):
            report = ImageReport(name=name, outcome="ignored", message="Its name matches no pattern of IMAGE_NAMES.")
            report.log("image", logging.INFO)
            return report
        return self.request(EmbeddingRequest(name=name))

    def request(self, request: EmbeddingRequest) -> ImageReport:
        """Make what is stored about the image match the image as it is now.

        Afterwards there is a current embedding record, or a failure record that says why not, or neither because the
        image is gone; or the request waits on a queue, because the quota is spent, the model is unavailable, something
        holds the record as it is, or others keep changing it. Raises ``StorageError`` where storage fails: then another
        sync is due.
        """
        exhausted = request.attempt >= _MAX_ATTEMPTS or now() - (request.first_seen or now()) >= _MAX_AGE
        report = ImageReport(name=request.name, attempt=request.attempt or None)
        schedule = Schedule.of(MAX_TOTAL_WAIT, _MAX_TIME)
        # What a dispatcher has sent is not to wait behind what the dispatcher sends next.
        why_wait = partial(self._quota.why_wait, behind_others=request.origin is None)
        with self._logged(report):
            try:
                with self._single_flight(request.name, schedule.deadline):
                    giving_up: GivenUpCode | None = "gave_up" if exhausted else None
                    self._converge(request.name, report, giving_up, schedule, why_wait, refresh=request.refresh)
            except (ModelMisconfigured, ModelUnavailable, BlobHeld, Conflict) as error:
                self._defer(request, error, report)
        return report

    def crashed(self, name: str) -> ImageReport:
        """Record that the platform gave up on the image, unless it is embedded or gone by now."""
        report = ImageReport(name=name)
        # Without single flight: the sync that crashed may never end.
        with self._logged(report):
            self._converge(name, report, "crashed", Schedule.of(0, _MAX_TIME), lambda: None)
        return report

    @contextmanager
    def _single_flight(self, name: str, deadline: float) -> Iterator[None]:
        """One sync of an image at a time: two events at the same moment would otherwise both pay for the model.

        Raises ``NotSent`` if the other sync is not done by ``deadline``.
        """
        with self._turns_lock:
            turn = self._turns.setdefault(name, _Turn())
            turn.waiting += 1
        try:
            if not turn.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise NotSent("Another sync of this image takes very long.", status=503)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            with self._turns_lock:
                turn.waiting -= 1
                if not turn.waiting:
                    del self._turns[name]

    @contextmanager
    def _logged(self, report: ImageReport) -> Iterator[None]:
        try:
            with report.step("total"):
                yield
        except ForeignRecord as error:
            report.outcome, report.message = "ignored", str(error)
        except Exception as error:
            report.outcome, report.message = "error", f"{type(error).__name__}: {error}"
            raise
        finally:
            report.log("image", logging.INFO if report.outcome in _EXPECTED else logging.WARNING)

    def _defer(
        self,
        request: EmbeddingRequest,
        error: ModelMisconfigured | ModelUnavailable | BlobHeld | Conflict,
        report: ImageReport,
    ) -> None:
        """Leave the image on a queue for later: nothing is recorded, nothing is lost."""
        retry_after = error.retry_after if isinstance(error, ModelUnavailable) else None
        report.outcome, report.message, report.code = "deferred", str(error), _deferral(error)
        if _is_no_attempt(error):
            self._requests.park(request)
            report.retry_in = None if retry_after is None else round(retry_after)
        else:
            first_seen = request.first_seen or now()
            later = msgspec.structs.replace(request, attempt=request.attempt + 1, first_seen=first_seen)
            report.retry_in = round(self._requests.put_later(later, retry_after))
        if isinstance(error, ModelMisconfigured) and time.monotonic() - self._last_alarm > _ALARM_INTERVAL:
            # Every image fails for the same reason, so one line a minute is enough.
            self._last_alarm = time.monotonic()
            Report(outcome="error", message=report.message).log("model_misconfigured", logging.ERROR)

    def _converge(
        self,
        name: str,
        report: ImageReport,
        giving_up: GivenUpCode | None,
        schedule: Schedule,
        why_wait: Callable[[], NotSent | None],
        *,
        refresh: bool = False,
    ) -> None:
        """Compare image and record, and act, until a comparison finds nothing left to do.

        The comparison after every write is what makes this safe: an overwrite or deletion while the record is being
        made is seen either by that comparison or by the event of the change, whichever comes later.

        A record of this version of the image is left alone, also if it is of another preparation: a new release of the
        app does not pay for every image again unasked. ``refresh`` asks for it. What ``IMAGE_NAMES`` excludes counts as
        gone. What must be embedded and has to wait (``why_wait``) is not downloaded.
        """
        if not is_addressable(name):
            report.outcome, report.message = "ignored", "A URL cannot carry a name with '.' or '..' as a segment."
            return
        made: EmbeddingRecord | FailureRecord | None = None
        settled: str | None = None
        losses = 0
        looked_at = milliseconds()
        with report.step("look"):
            found = self._records.find_record(name)
        for _ in range(_MAX_ROUNDS):
            # An image without a record will most likely be embedded: one request checks and downloads it.
            wanted = found is None and made is None and settled is None and giving_up != "crashed" and not why_wait()
            with report.step("download" if wanted else "look"):
                image = self._images.find(name, with_content=wanted) if self._is_image(name) else None
            version = image.etag if image else _GONE
            if version == settled:
                return
            # What an earlier round came to no longer holds.
            report.code = report.message = None
            try:
                if image is None:
                    self._remove(name, found, looked_at, report)
                    found = None
                elif self._is_current(found, image, refresh=refresh):
                    # Our own write, if the response to it was lost.
                    report.outcome = "embedded" if report.prepared else "unchanged"
                    # These two may have been left out by a process that died after it had written the record.
                    self._records.tell_again(name, found, looked_at)
                    self._records.remove_failure(name)
                else:
                    if made is None or made.etag != version:
                        made = self._make(image, report, giving_up, schedule, why_wait)
                    found = self._write(made, found, looked_at, report)
                settled = version
            except BlobHeld as error:
                if giving_up is None:
                    raise
                self._give_up(image, error, report)
                settled = version
            except Conflict:
                settled, losses = None, losses + 1
            finally:
                if image is not None:
                    image.forget()
            if settled is None:
                with report.step("look"):
                    back_off(losses)
                    looked_at = milliseconds()
                    found = self._records.find_record(name)
        raise Conflict(f"Other writers changed {name} or its record {losses} times during its sync.")

    def _remove(self, name: str, found: RecordState | None, looked_at: int, report: ImageReport) -> None:
        with report.step("write"):
            self._remove_record(name, found, looked_at)
            self._records.remove_failure(name)
        report.outcome = "removed"

    def _is_current(self, found: RecordState | None, image: Image, *, refresh: bool) -> bool:
        if found is None or found.image_etag != image.etag:
            return False
        return not refresh or found.preparation == str(self._embedder.preparation)

    def _remove_record(self, name: str, found: RecordState | None, looked_at: int) -> None:
        if found is not None:
            self._records.remove_record(name, found)
        else:
            # Whoever has removed it may have died right after that.
            self._records.tell_again(name, None, looked_at)

    def _write(
        self, made: EmbeddingRecord | FailureRecord, found: RecordState | None, looked_at: int, report: ImageReport
    ) -> RecordState | None:
        """Store the new record; of an embedding record and a failure record only one remains."""
        with report.step("write"):
            if isinstance(made, EmbeddingRecord):
                found = self._records.write_record(made, found)
                self._records.remove_failure(made.name)
                report.outcome = "embedded" if report.prepared else "copied"
                return found
            if found is not None and found.image_etag == made.etag and not made.permanent:
                # Only the refresh failed: the outdated embedding of this very image is better than none.
                report.outcome, report.message = "unchanged", made.message
                return found
            self._records.write_failure(made, self._embedder.preparation)
            # Another sync may have embedded the image meanwhile: then the failure must not stay.
            if self._records.find_record(made.name) != found:
                raise Conflict(made.name)
            self._remove_record(made.name, found, looked_at)
            report.outcome, report.code, report.message = "failed", made.code, made.message
            return None

    def _make(
        self,
        image: Image,
        report: ImageReport,
        giving_up: GivenUpCode | None,
        schedule: Schedule,
        why_wait: Callable[[], NotSent | None],
    ) -> EmbeddingRecord | FailureRecord:
        """Embed this version of the image, or say why not: it is impossible, or retries have ended."""
        report.bytes = image.size
        if giving_up == "crashed":
            return self._failure(image, "crashed", "The platform gave up on it after several attempts.", None)
        if reason := why_wait():
            raise reason
        try:
            return self._embedder.embed(image, report, schedule)
        except PictureError as error:
            return self._failure(image, error.code, str(error), None)
        except ModelRefused as error:
            return self._failure(image, error.code, str(error), error.status)
        except (ModelMisconfigured, ModelUnavailable) as error:
            # Not even after the last attempt is an image to blame for these.
            if giving_up is None or _is_no_attempt(error) or isinstance(error, WrongSpace):
                raise
            return self._failure(image, giving_up, str(error), error.status)

    def _give_up(self, image: Image | None, error: BlobHeld, report: ImageReport) -> None:
        """Record what holds the image's record; of an image that is gone, the next audit finds the record orphaned."""
        report.outcome, report.code, report.message = "failed", error.reason, str(error)
        if image is not None:
            # Whatever holds one record may hold the other.
            with suppress(BlobHeld):
                failure = self._failure(image, error.reason, str(error), error.status)
                self._records.write_failure(failure, self._embedder.preparation)

    def _failure(self, image: Image, code: FailureCode, message: str, status: int | None) -> FailureRecord:
        before = self._records.find_failure(image.name)
        same = before if before is not None and before.etag == image.etag else None
        return FailureRecord(
            name=image.name,
            etag=image.etag,
            code=code,
            message=message,
            status=status,
            permanent=code in _PERMANENT,
            # By code: an image that the model was not there for has not crashed anything.
            attempts=same.attempts + 1 if same and same.code == code else 1,
            first_seen=same.first_seen if same else now(),
            last_seen=now(),
        )


def _is_no_attempt(error: Exception) -> bool:
    """Whether the model has not tried the image: the call was not sent, or not taken since the quota is spent."""
    return isinstance(error, NotSent) or _deferral(error) == "quota_spent"


def _deferral(error: Exception) -> str | None:
    """A code for what put a sync off; ``None`` for lost races."""
    match error:
        case BlobHeld():
            return error.reason
        case Paused():
            return "paused"
        case ModelUnavailable(status=HTTPStatus.TOO_MANY_REQUESTS):
            return "quota_spent"
        case ModelUnavailable():
            return "model_unavailable"
        case ModelMisconfigured():
            return "model_misconfigured"
        case _:
            return None
