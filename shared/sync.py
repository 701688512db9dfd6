"""One image: make its stored record match it, whatever happened and however often we are told to look."""

import hashlib
import logging
from dataclasses import dataclass
from typing import Literal

from shared.errors import Conflict, ModelRefused, PictureError
from shared.foundry import Foundry
from shared.log import Report
from shared.pictures import PREPARATION, Limits, prepare
from shared.records import EmbeddingRecord, FailureRecord, now
from shared.settings import Settings
from shared.store import Image, RecordState, Store

Outcome = Literal["embedded", "failed", "unchanged", "removed", "ignored", "error"]

_FINE = {"embedded", "unchanged", "removed"}

# A round is lost only to somebody else's write of the same record, so each one means that somebody got on.
_ROUNDS = 20
_GONE = ""
_MESSAGE_LIMIT = 1000


@dataclass(kw_only=True)
class ImageReport(Report):
    """What one look at an image came to. ``prepared`` is the size of the PNG that the model got."""

    name: str
    outcome: Outcome = "unchanged"
    bytes: int | None = None
    prepared: dict[str, int] | None = None


class Sync:
    """Keeps records true to their images. Safe to call from many threads and processes, for the same image too."""

    def __init__(self, settings: Settings, store: Store, foundry: Foundry) -> None:
        self._settings = settings
        self._store = store
        self._foundry = foundry
        self._limits = Limits.of(settings)

    def uploaded(self, container: str, name: str) -> None:
        """Look at the image that an event names. The host compares neither container nor path, so this does."""
        if container == self._settings.images_container:
            self(name)
        else:
            report = ImageReport(name=name, outcome="ignored", message=f"The container {container} is not watched.")
            report.log("image", logging.WARNING)

    def __call__(self, name: str) -> ImageReport:
        """Make what is stored about the image ``name`` match the image as it is now.

        Afterwards there is a current embedding record, or a failure record that says why not, or neither because
        the image is gone. Raises :class:`~shared.errors.ModelMisconfigured`,
        :class:`~shared.errors.ModelUnavailable` or ``AzureError`` where that cannot be had now: another look is due.
        """
        report = ImageReport(name=name)
        try:
            with report.step("total"):
                if _is_addressable(name):
                    self._settle(name, report)
                else:
                    report.outcome, report.message = "ignored", "HTTP takes '.' and '..' in a name for other folders."
        except Exception as error:
            report.outcome, report.message = "error", f"{type(error).__name__}: {error}"[:_MESSAGE_LIMIT]
            raise
        finally:
            report.log("image", logging.INFO if report.outcome in _FINE else logging.WARNING)
        return report

    def _settle(self, name: str, report: ImageReport) -> None:
        """Look and act until a look finds nothing left to do.

        The look that follows every write is what makes this safe: whoever overwrites or deletes the image while
        its record is being made is seen either here or by the event of that change, whichever comes later.
        """
        made: EmbeddingRecord | FailureRecord | None = None
        settled: str | None = None
        failure_written = False
        with report.step("look"):
            found = self._store.find_record(name)
        for _ in range(_ROUNDS):
            with report.step("look"):
                image = self._store.find_image(name)
            version = image.etag if image else _GONE
            if version == settled:
                return
            try:
                if image is None:
                    self._remove(name, found, report)
                    found = None
                elif _is_current(found, image):
                    report.outcome = "unchanged"
                    if not failure_written:
                        return
                    self._store.remove_failure(name)
                    failure_written = False
                else:
                    if made is None or made.etag != version:
                        made = self._make(image, report)
                    found = self._write(made, found, report)
                    failure_written = isinstance(made, FailureRecord)
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
                report.outcome = "embedded"
                return found
            self._store.write_failure(made)
            if found is not None:
                self._store.remove_record(made.name, found)
            report.outcome, report.code, report.message = "failed", made.code, made.message
            return None

    def _make(self, image: Image, report: ImageReport) -> EmbeddingRecord | FailureRecord:
        """Embed this version of the image, or find out why that can never be."""
        report.bytes = image.size
        try:
            return self._embed(image, report)
        except (PictureError, ModelRefused) as error:
            before = self._store.find_failure(image.name)
            same = before if before is not None and before.etag == image.etag else None
            return FailureRecord(
                name=image.name,
                etag=image.etag,
                code=error.code,
                message=str(error),
                status=error.status if isinstance(error, ModelRefused) else None,
                permanent=True,
                attempts=same.attempts + 1 if same else 1,
                first_seen=same.first_seen if same else now(),
                last_seen=now(),
            )

    def _embed(self, image: Image, report: ImageReport) -> EmbeddingRecord:
        if image.size == 0:
            raise PictureError("empty", "The blob has no bytes.")
        if image.size > self._settings.image_max_bytes:
            raise PictureError(
                "too_many_bytes",
                f"The blob has {image.size:,} bytes; IMAGE_MAX_BYTES allows {self._settings.image_max_bytes:,}.",
            )
        with report.step("download"):
            data = self._store.download(image)
        with report.step("prepare"):
            sha256 = hashlib.sha256(data).hexdigest()
            picture = prepare(data, self._limits)
        report.prepared = {"width": picture.width, "height": picture.height, "bytes": len(picture.png)}
        text = image.text(self._settings.text_metadata) if self._settings.text_metadata else None
        with report.step("embed"):
            answer = self._foundry.embed_image(picture.png, text, "document", self._settings.embedding_dimensions)
        report.total_tokens = (report.total_tokens or 0) + (answer.total_tokens or 0)
        container = self._settings.images_container
        return EmbeddingRecord(
            id=hashlib.sha256(f"{container}/{image.name}".encode()).hexdigest(),
            container=container,
            name=image.name,
            url=image.url,
            etag=image.etag,
            sha256=sha256,
            bytes=image.size,
            media_type=picture.media_type,
            width=picture.original_width,
            height=picture.original_height,
            text=text,
            model=self._settings.foundry_model,
            input_type="document",
            dimensions=len(answer.embedding),
            preparation=PREPARATION,
            prompt_tokens=answer.prompt_tokens,
            total_tokens=answer.total_tokens,
            embedded_at=now(),
            embedding=answer.embedding,
        )


def _is_addressable(name: str) -> bool:
    """Whether a URL can name the image: a client or proxy on the way resolves ``a/../b`` to ``b``, another image."""
    return not {".", ".."} & set(name.split("/"))


def _is_current(found: RecordState | None, image: Image) -> bool:
    return found is not None and (found.image_etag, found.preparation) == (image.etag, str(PREPARATION))
