"""One image: make its stored record match it, whatever happened and however often we are told to look."""

import hashlib
import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, get_args

from shared.errors import Conflict, ModelBusy, ModelMisconfigured, ModelRefused, ModelUnavailable, PictureError
from shared.foundry import LONGEST_WAITS, Foundry, ModelOptions
from shared.log import Report
from shared.preparation import PREPARATION, Limits, Prepared, prepare
from shared.queues import Queues
from shared.records import (
    Content,
    EmbeddingRecord,
    EmbeddingRequest,
    FailureCode,
    FailureRecord,
    GivenUp,
    content_key,
    now,
)
from shared.rest import LARGE
from shared.settings import Settings
from shared.store import Image, RecordState, Store, is_addressable

Outcome = Literal["embedded", "copied", "failed", "deferred", "unchanged", "removed", "ignored", "error"]

_FINE = {"embedded", "copied", "deferred", "unchanged", "removed"}

# When the model has not been to be had for so long, somebody has to look into it, and to ask for another try.
_MOST_ATTEMPTS = 30
_LONGEST = timedelta(hours=24)

# While the model wants to be left alone, what comes from the queue waits for so long with its message in hand: the
# rest of the queue then stays where it is, instead of being taken and put back over and over.
_PATIENCE = 60.0

# A round is lost only to somebody else's write of the same record, so each one means that somebody got on.
_ROUNDS = 20
_GONE = ""
# Answers that storage would not take yet stay in the process: the platform's next attempt finds them.
_MOST_UNSTORED = 100
# Files that come in parts (shared.rest), in memory at once: 200 MB of them by default.
_MOST_LARGE = 2
_MESSAGE_LIMIT = 1000
_ALARM_EVERY = 60.0


@dataclass(kw_only=True)
class ImageReport(Report):
    """What one look at an image came to. ``prepared`` is the size of the PNG that the model got."""

    name: str
    outcome: Outcome = "unchanged"
    bytes: int | None = None
    prepared: dict[str, int] | None = None
    attempt: int | None = None
    retry_in: int | None = None


@dataclass
class _Looking:
    """Those in this process that look at an image, or wait for their turn to."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    number: int = 0


class Sync:
    """Keeps records true to their images. Safe to call from many threads and processes, for the same image too."""

    def __init__(self, settings: Settings, store: Store, foundry: Foundry, queues: Queues) -> None:
        self._settings = settings
        self._store = store
        self._foundry = foundry
        self._queues = queues
        self._limits = Limits.of(settings)
        self._alarmed = -math.inf
        self._unstored: dict[str, Content] = {}
        self._large = threading.BoundedSemaphore(_MOST_LARGE)
        self._looking: dict[str, _Looking] = {}
        self._looking_changes = threading.Lock()

    def __call__(self, name: str) -> ImageReport:
        """Make what is stored about the image ``name`` match the image as it is now: see :meth:`again`."""
        return self._look(EmbeddingRequest(name=name), LONGEST_WAITS)

    def again(self, request: EmbeddingRequest) -> ImageReport:
        """Make what is stored about the image match the image as it is now.

        Afterwards there is a current embedding record, or a failure record that says why not, or neither because
        the image is gone; or the model could not be had, and the request is on the queue for later. Raises
        ``StorageError`` where storage fails: another look is due.
        """
        return self._look(request, _PATIENCE)

    def crashed(self, name: str) -> ImageReport:
        """Record that the platform gave up on the image, unless it has been embedded, or is gone, by now."""
        report = ImageReport(name=name)
        # Without waiting for a look that may never end.
        with self._logged(report):
            self._settle(name, report, "crashed", 0)
        return report

    def _look(self, request: EmbeddingRequest, patience: float) -> ImageReport:
        tired = request.attempt >= _MOST_ATTEMPTS or now() - (request.first_seen or now()) >= _LONGEST
        report = ImageReport(name=request.name, attempt=request.attempt or None)
        with self._logged(report), self._alone(request.name):
            try:
                self._settle(request.name, report, "gave_up" if tired else None, patience)
            except (ModelMisconfigured, ModelUnavailable) as error:
                self._defer(request, error, report)
        return report

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One look at an image at a time: an event that comes twice at once would be paid for twice."""
        with self._looking_changes:
            looking = self._looking.setdefault(name, _Looking())
            looking.number += 1
        try:
            with looking.turn:
                yield
        finally:
            with self._looking_changes:
                looking.number -= 1
                if not looking.number:
                    del self._looking[name]

    @contextmanager
    def _logged(self, report: ImageReport) -> Iterator[None]:
        try:
            with report.step("total"):
                yield
        except Exception as error:
            report.outcome, report.message = "error", f"{type(error).__name__}: {error}"[:_MESSAGE_LIMIT]
            raise
        finally:
            report.log("image", logging.INFO if report.outcome in _FINE else logging.WARNING)

    def _defer(
        self, request: EmbeddingRequest, error: ModelMisconfigured | ModelUnavailable, report: ImageReport
    ) -> None:
        """Put the image on the queue for later: nothing is recorded, nothing is lost."""
        asked = error.retry_after if isinstance(error, ModelUnavailable) else None
        later = request
        if not isinstance(error, ModelBusy):
            first_seen = request.first_seen or now()
            later = EmbeddingRequest(name=request.name, attempt=request.attempt + 1, first_seen=first_seen)
        report.outcome, report.message = "deferred", str(error)[:_MESSAGE_LIMIT]
        report.retry_in = round(self._queues.put_later(later, asked))
        if isinstance(error, ModelMisconfigured) and time.monotonic() - self._alarmed > _ALARM_EVERY:
            # Every image fails alike, so one line a minute says it all.
            self._alarmed = time.monotonic()
            Report(outcome="error", message=report.message).log("model_misconfigured", logging.ERROR)

    def _settle(self, name: str, report: ImageReport, giving_up: GivenUp | None, patience: float) -> None:
        """Look and act until a look finds nothing left to do.

        The look that follows every write is what makes this safe: whoever overwrites or deletes the image while
        its record is being made is seen either here or by the event of that change, whichever comes later.
        """
        if not is_addressable(name):
            report.outcome, report.message = "ignored", "HTTP takes '.' and '..' in a name for other folders."
            return
        made: EmbeddingRecord | FailureRecord | None = None
        settled: str | None = None
        with report.step("look"):
            found = self._store.find_record(name)
        for _ in range(_ROUNDS):
            # One without a record is most likely to be embedded: look and download are one request then.
            wanted = found is None and made is None and settled is None and giving_up != "crashed"
            with report.step("download" if wanted else "look"):
                image = self._store.find_image(name, with_content=wanted)
            version = image.etag if image else _GONE
            if version == settled:
                return
            try:
                if image is None:
                    self._remove(name, found, report)
                    found = None
                elif _is_current(found, image):
                    # Ours, if the answer to its writing was lost on the way.
                    report.outcome = "embedded" if report.prepared else "unchanged"
                    # One may have outlived a crash between the record's writing and its own removal.
                    self._store.remove_failure(name)
                else:
                    if made is None or made.etag != version:
                        made = self._make(image, report, giving_up, patience)
                    found = self._write(made, found, report)
                settled = version
            except Conflict:
                settled = None
                with report.step("look"):
                    found = self._store.find_record(name)
        raise Conflict(f"{name} was written by others {_ROUNDS} times while it was looked at")

    def _remove(self, name: str, found: RecordState | None, report: ImageReport) -> None:
        with report.step("write"):
            if found is not None:
                self._store.remove_record(name, found)
            self._store.remove_failure(name)
        report.outcome = "removed"

    def _write(
        self, made: EmbeddingRecord | FailureRecord, found: RecordState | None, report: ImageReport
    ) -> RecordState | None:
        """Store what was made; of the embedding record and the failure record only one remains."""
        with report.step("write"):
            if isinstance(made, EmbeddingRecord):
                found = self._store.write_record(made, found)
                self._store.remove_failure(made.name)
                report.outcome = "embedded" if report.prepared else "copied"
                return found
            self._store.write_failure(made, PREPARATION)
            if found is not None:
                self._store.remove_record(made.name, found)
            report.outcome, report.code, report.message = "failed", made.code, made.message
            return None

    def _make(
        self, image: Image, report: ImageReport, giving_up: GivenUp | None, patience: float
    ) -> EmbeddingRecord | FailureRecord:
        """Embed this version of the image, or say why not: because that can never be, or is not tried any more."""
        report.bytes = image.size
        if giving_up == "crashed":
            return self._failure(image, "crashed", "The platform gave up on it after several attempts.", None)
        try:
            return self._embed(image, report, patience)
        except PictureError as error:
            return self._failure(image, error.code, str(error), None)
        except ModelRefused as error:
            return self._failure(image, error.code, str(error), error.status)
        except (ModelMisconfigured, ModelUnavailable) as error:
            if giving_up is None or isinstance(error, ModelBusy):
                raise
            return self._failure(image, giving_up, str(error), error.status)

    def _failure(self, image: Image, code: FailureCode, message: str, status: int | None) -> FailureRecord:
        before = self._store.find_failure(image.name)
        same = before if before is not None and before.etag == image.etag else None
        return FailureRecord(
            name=image.name,
            etag=image.etag,
            code=code,
            message=message,
            status=status,
            permanent=code not in get_args(GivenUp),
            attempts=same.attempts + 1 if same else 1,
            first_seen=same.first_seen if same else now(),
            last_seen=now(),
        )

    def _embed(self, image: Image, report: ImageReport, patience: float) -> EmbeddingRecord:
        if image.size == 0:
            raise PictureError("empty", "The blob has no bytes.")
        if image.size > self._settings.image_max_bytes:
            raise PictureError(
                "too_many_bytes",
                f"The blob has {image.size:,} bytes; IMAGE_MAX_BYTES allows {self._settings.image_max_bytes:,}.",
            )
        text = image.text(self._settings.text_metadata) if self._settings.text_metadata else None
        # While the model is asked, only the prepared picture is in memory. Of the largest files few are taken at once.
        with self._large if image.size > LARGE else nullcontext():
            with report.step("download"):
                data = self._store.download(image)
            sha256 = hashlib.sha256(data).hexdigest()
            key = content_key(sha256, text, PREPARATION)
            with report.step("look"):
                known = self._unstored.get(key) or self._store.find_content(key)
            ready = known or self._prepare(data, report, patience)
            del data
        content = ready if isinstance(ready, Content) else self._ask(ready, text, report, patience)
        if known is None:
            self._unstored[key] = content
            if len(self._unstored) > _MOST_UNSTORED:
                self._unstored.pop(next(iter(self._unstored)), None)
        if key in self._unstored:
            with report.step("write"):
                self._store.write_content(key, content)
            self._unstored.pop(key, None)
        container = self._settings.images_container
        return EmbeddingRecord(
            id=hashlib.sha256(f"{container}/{image.name}".encode()).hexdigest(),
            container=container,
            name=image.name,
            url=image.url,
            etag=image.etag,
            sha256=sha256,
            bytes=image.size,
            media_type=content.media_type,
            width=content.width,
            height=content.height,
            text=text,
            model=self._settings.foundry_model,
            input_type="document",
            dimensions=len(content.embedding),
            preparation=PREPARATION,
            prompt_tokens=content.prompt_tokens,
            total_tokens=content.total_tokens,
            embedded_at=now(),
            embedding=content.embedding,
        )

    def _prepare(self, data: bytes, report: ImageReport, patience: float) -> Prepared:
        """Make ready for the model what is new to this space; raises :class:`ModelBusy` where that is in vain."""
        self._foundry.check(patience)
        with report.step("prepare"):
            picture = prepare(data, self._limits)
        report.prepared = {"width": picture.width, "height": picture.height, "bytes": len(picture.png)}
        return picture

    def _ask(self, picture: Prepared, text: str | None, report: ImageReport, patience: float) -> Content:
        """Ask the model, which is paid for."""
        with report.step("embed"):
            options = ModelOptions("document", self._settings.embedding_dimensions)
            answer = self._foundry.embed_image(picture.png, text, options, patience=patience)
        report.total_tokens = (report.total_tokens or 0) + (answer.total_tokens or 0)
        return Content(
            media_type=picture.media_type,
            width=picture.original_width,
            height=picture.original_height,
            prompt_tokens=answer.prompt_tokens,
            total_tokens=answer.total_tokens,
            embedding=answer.embedding,
        )


def _is_current(found: RecordState | None, image: Image) -> bool:
    return found is not None and (found.image_etag, found.preparation) == (image.etag, str(PREPARATION))
