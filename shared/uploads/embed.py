"""One version of an image: downloaded, prepared, embedded, made into its record."""

import hashlib
from contextlib import ExitStack

from shared.clock import now
from shared.errors import ModelRefused, NotSent, PictureError
from shared.model.client import ModelClient, Schedule
from shared.model.wire_format import Input, ModelOptions
from shared.pictures.limits import Limits, Prepared
from shared.pictures.prepare import prepare
from shared.settings import Settings
from shared.storage.images import Image, Images
from shared.storage.space import Space
from shared.uploads.metadata import ImageMetadata
from shared.uploads.record_store import RecordStore
from shared.uploads.records import SCHEMA, Content, EmbeddingRecord, content_key
from shared.uploads.report import ImageReport

# Embeddings that storage did not take yet stay in the process, so that the platform's next attempt finds them.
_MAX_UNSTORED = 100


class Embedder:
    """Makes the record of an image. Safe to call from many threads."""

    def __init__(
        self, settings: Settings, space: Space, images: Images, records: RecordStore, model: ModelClient
    ) -> None:
        self._settings = settings
        self._space = space
        self._images = images
        self._records = records
        self._model = model
        self._limits = Limits.of(settings)
        self._metadata = ImageMetadata(settings)
        self._unstored: dict[str, Content] = {}

    @property
    def preparation(self) -> int:
        """The number of the preparation that it makes records with."""
        return self._limits.preparation

    def metadata_keys(self, image: Image) -> str:
        """Which keys of the image's metadata its record is to have, as a record's own metadata says it."""
        return self._metadata.mark(image.metadata)

    def embed(self, image: Image, report: ImageReport, schedule: Schedule) -> EmbeddingRecord:
        """The record of this version of the image, which nothing has stored yet.

        Bytes and text that this space knows already cost no model call. Raises
        :class:`~shared.errors.PictureError`, :class:`~shared.errors.ModelError`, ``StorageError``, and ``Conflict`` if
        the image has changed.
        """
        if image.size == 0:
            raise PictureError("empty", "The blob has no bytes.")
        if image.size > self._settings.image_max_bytes:
            raise PictureError(
                "too_many_bytes",
                f"The blob has {image.size:,} bytes; IMAGE_MAX_BYTES allows {self._settings.image_max_bytes:,}.",
            )
        text = image.text(self._settings.text_metadata) if self._settings.text_metadata else None
        # Only the prepared picture stays in memory during the model call.
        with ExitStack() as held:
            with report.step("download"):
                data = self._download(image, held, schedule)
            sha256 = hashlib.sha256(data).hexdigest()
            key = content_key(sha256, text, self.preparation)
            with report.step("look"):
                known = self._unstored.get(key) or self._records.find_content(key)
            ready = known or self._prepare(data, report, schedule)
            del data
        content = ready if isinstance(ready, Content) else self._call_model(ready, text, report, schedule)
        self._store(key, content, report, is_new=known is None)
        return self._record(image, sha256, text, content)

    def _download(self, image: Image, held: ExitStack, schedule: Schedule) -> bytes:
        try:
            return held.enter_context(self._images.download(image, deadline=schedule.deadline))
        except TimeoutError as error:
            # As for a call without a place: another try is due, and nothing is known of the image.
            raise NotSent(str(error), status=503) from error

    def _prepare(self, data: bytes, report: ImageReport, schedule: Schedule) -> Prepared:
        """Prepare a picture that is new to this space; raises what a model call is known to end in."""
        self._space.check()
        self._model.check(schedule)
        with report.step("prepare"):
            picture = prepare(data, self._limits)
        report.prepared = {"width": picture.width, "height": picture.height, "bytes": len(picture.file)}
        return picture

    def _call_model(self, picture: Prepared, text: str | None, report: ImageReport, schedule: Schedule) -> Content:
        options = ModelOptions("document", self._settings.embedding_dimensions)
        without_text = False
        with report.step("embed"):
            try:
                answer = self._model.embed(Input(picture.file, text, picture.file_type), options, schedule)
            except ModelRefused as error:
                if error.code != "text_not_supported":
                    raise
                # A picture with a caption is worth its embedding also where the model takes no captions.
                without_text = True
                answer = self._model.embed(Input(picture.file, None, picture.file_type), options, schedule)
        report.total_tokens = (report.total_tokens or 0) + (answer.total_tokens or 0)
        self._space.confirm(answer.model, len(answer.embedding))
        return Content(
            media_type=picture.media_type,
            width=picture.original_width,
            height=picture.original_height,
            prompt_tokens=answer.prompt_tokens,
            total_tokens=answer.total_tokens,
            embedding=answer.embedding,
            without_text=without_text,
            model=answer.model,
        )

    def _store(self, key: str, content: Content, report: ImageReport, *, is_new: bool) -> None:
        """Store what was paid for before anything else can fail; keep it in the process until storage has it."""
        if is_new:
            self._unstored[key] = content
            # A copy, the oldest first: other threads add and remove some meanwhile.
            for oldest in list(self._unstored)[:-_MAX_UNSTORED]:
                self._unstored.pop(oldest, None)
        if key in self._unstored:
            with report.step("write"):
                self._records.write_content(key, content)
            self._unstored.pop(key, None)

    def _record(self, image: Image, sha256: str, text: str | None, content: Content) -> EmbeddingRecord:
        container = self._settings.images_container
        return EmbeddingRecord(
            id=hashlib.sha256(f"{container}/{image.name}".encode()).hexdigest(),
            schema=SCHEMA,
            container=container,
            name=image.name,
            url=image.url,
            etag=image.etag,
            sha256=sha256,
            bytes=image.size,
            media_type=content.media_type,
            width=content.width,
            height=content.height,
            text=None if content.without_text else text,
            text_refused=text if content.without_text else None,
            metadata=self._metadata.of(image.metadata),
            model=content.model or self._settings.foundry_model,
            deployment=self._settings.foundry_model,
            input_type="document",
            dimensions=len(content.embedding),
            preparation=self.preparation,
            prompt_tokens=content.prompt_tokens,
            total_tokens=content.total_tokens,
            embedded_at=now(),
            embedding=content.embedding,
        )
