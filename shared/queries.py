"""One query: check it, look it up, embed it where it is new, keep the answer."""

import hashlib
import logging
import struct
from dataclasses import dataclass
from typing import Literal

import msgspec
import pybase64
from azure.core.exceptions import AzureError

from shared.errors import PictureError, QueryError
from shared.foundry import Foundry
from shared.log import Report
from shared.pictures import PREPARATION, Limits, prepare
from shared.records import QueryRecord, now
from shared.settings import Settings
from shared.store import Store, query_path, space
from shared.wire import (
    Embedding,
    EmbeddingsAnswer,
    EmbeddingsOptions,
    EncodingFormat,
    ImageEmbeddingsRequest,
    ImageInput,
    TextEmbeddingsRequest,
    Usage,
)

# As many as Cohere's models take in one call ("Embed" API reference); more is another job than a query.
MOST_INPUTS = 96

Cache = Literal["hit", "miss", "mixed"]


@dataclass(kw_only=True)
class QueryReport(Report):
    """What one request came to. ``status`` is that of our answer."""

    outcome: str = "answered"
    status: int = 200
    inputs: int = 0
    cache: Cache | None = None


@dataclass(frozen=True)
class Answered:
    """The answer to a request. ``cache`` says where it came from, ``records`` the blobs that hold it."""

    answer: EmbeddingsAnswer
    cache: Cache
    records: list[str]


@dataclass(frozen=True)
class _Question:
    """One input, checked: an image, a text or both. ``key`` is a hash of all that decides its embedding."""

    key: str
    target: str
    image: bytes | None
    image_sha256: str | None
    text: str | None


class Queries:
    """Answers queries in the API's own shape. Safe to call from many threads."""

    def __init__(self, settings: Settings, store: Store, foundry: Foundry) -> None:
        self._settings = settings
        self._store = store
        self._foundry = foundry
        self._limits = Limits.of(settings)

    def images(self, request: ImageEmbeddingsRequest, report: QueryReport) -> Answered:
        """Embed images, alone or each fused with a text, in order.

        Raises :class:`~shared.errors.QueryError` for a request that cannot be answered, before anything is
        charged, and :class:`~shared.errors.ModelError` where the model gives no answer.
        """
        self._check(request, len(request.input))
        inputs = [self._image(request, index, item) for index, item in enumerate(request.input)]
        return self._answer(request, inputs, report)

    def texts(self, request: TextEmbeddingsRequest, report: QueryReport) -> Answered:
        """Embed texts, in order. Raises as :meth:`images` does."""
        texts = [request.input] if isinstance(request.input, str) else request.input
        self._check(request, len(texts))
        inputs = [self._text(request, index, text) for index, text in enumerate(texts)]
        return self._answer(request, inputs, report)

    def _check(self, request: EmbeddingsOptions, inputs: int) -> None:
        deployed = self._settings.foundry_model
        if request.model not in (None, deployed):
            raise QueryError(
                "unknown_model", f"Unknown model: {request.model}. This app serves {deployed}.", target="model"
            )
        if not 1 <= inputs <= MOST_INPUTS:
            raise QueryError(
                "invalid_request", f"{inputs} inputs were sent; 1 to {MOST_INPUTS} can be answered.", target="input"
            )

    def _image(self, request: EmbeddingsOptions, index: int, item: ImageInput) -> _Question:
        target = f"input[{index}].image"
        image = _decode_image(item.image, target)
        if len(image) > self._settings.image_max_bytes:
            most = f"IMAGE_MAX_BYTES allows {self._settings.image_max_bytes:,}"
            raise QueryError(
                "too_many_bytes", f"The image has {len(image):,} bytes; {most}.", status=413, target=target
            )
        text = (item.text or "").strip() or None
        return self._question(request, target, image, text)

    def _text(self, request: EmbeddingsOptions, index: int, text: str) -> _Question:
        target = f"input[{index}]"
        if not text.strip():
            raise QueryError("invalid_request", "The text is empty.", target=target)
        if text.lstrip().startswith("data:image/"):
            # The model would embed the base64 as words: a vector, and a useless one.
            raise QueryError("invalid_request", "This is an image; POST it to images/embeddings.", target=target)
        return self._question(request, target, None, text)

    def _question(self, request: EmbeddingsOptions, target: str, image: bytes | None, text: str | None) -> _Question:
        image_sha256 = None if image is None else hashlib.sha256(image).hexdigest()
        decides = (
            self._settings.foundry_model,
            self._dimensions(request),
            request.input_type,
            None if image is None else PREPARATION,
            image_sha256,
            text,
        )
        key = hashlib.sha256(msgspec.json.encode(decides)).hexdigest()
        return _Question(key, target, image, image_sha256, text)

    def _dimensions(self, request: EmbeddingsOptions) -> int | None:
        return request.dimensions or self._settings.embedding_dimensions

    def _answer(self, request: EmbeddingsOptions, questions: list[_Question], report: QueryReport) -> Answered:
        """Answer from storage what is there, then prepare all the rest, and only then ask the model."""
        kept = self._settings.query_records != "off"
        folder = space(self._settings.foundry_model, self._dimensions(request))
        with report.step("look"):
            found = {q.key: record for q in questions if kept and (record := self._look_up(folder, q.key))}
        new = {q.key: q for q in questions if q.key not in found}
        with report.step("prepare"):
            pngs = {key: self._prepare(question) for key, question in new.items()}
        with report.step("embed"):
            made = {key: self._embed(request, question, pngs[key]) for key, question in new.items()}
        if kept:
            with report.step("write"):
                for record in made.values():
                    self._keep(folder, record)
        answers = [(found | made)[question.key] for question in questions]
        usage = Usage(
            prompt_tokens=sum(record.prompt_tokens or 0 for record in made.values()),
            completion_tokens=0,
            total_tokens=sum(record.total_tokens or 0 for record in made.values()),
        )
        report.inputs = len(questions)
        report.cache = "miss" if not found else "mixed" if new else "hit"
        report.total_tokens = usage.total_tokens
        data = [
            Embedding(index=index, embedding=_encode(record.embedding, request.encoding_format))
            for index, record in enumerate(answers)
        ]
        answer = EmbeddingsAnswer(id=questions[0].key, model=self._settings.foundry_model, data=data, usage=usage)
        return Answered(
            answer, report.cache, [query_path(folder, question.key) for question in questions] if kept else []
        )

    def _prepare(self, question: _Question) -> bytes | None:
        if question.image is None:
            return None
        try:
            return prepare(question.image, self._limits).png
        except PictureError as error:
            status = 413 if error.code == "too_many_pixels" else 400
            raise QueryError(error.code, str(error), status=status, target=question.target) from error

    def _embed(self, request: EmbeddingsOptions, question: _Question, png: bytes | None) -> QueryRecord:
        dimensions = self._dimensions(request)
        if png is not None:
            answer = self._foundry.embed_image(png, question.text, request.input_type, dimensions)
        else:
            answer = self._foundry.embed_text(question.text or "", request.input_type, dimensions)
        return QueryRecord(
            id=question.key,
            image_sha256=question.image_sha256,
            text=question.text if self._settings.query_records == "full" else None,
            model=self._settings.foundry_model,
            input_type=request.input_type,
            dimensions=len(answer.embedding),
            preparation=None if png is None else PREPARATION,
            prompt_tokens=answer.prompt_tokens,
            total_tokens=answer.total_tokens,
            embedded_at=now(),
            embedding=answer.embedding,
        )

    def _look_up(self, folder: str, key: str) -> QueryRecord | None:
        """The kept answer, if there is one that can be read: a cache is never the reason for an error."""
        try:
            return self._store.find_query(folder, key)
        except (AzureError, msgspec.DecodeError) as error:
            _log_storage_error("read", folder, key, error)
            return None

    def _keep(self, folder: str, record: QueryRecord) -> None:
        try:
            self._store.write_query(folder, record)
        except AzureError as error:
            _log_storage_error("write", folder, record.id, error)


def _log_storage_error(action: str, folder: str, key: str, error: Exception) -> None:
    message = f"{action} {query_path(folder, key)}: {type(error).__name__}: {error}"[:1000]
    Report(outcome="error", message=message).log("query_record", logging.ERROR)


def _decode_image(image: str, target: str) -> bytes:
    """The bytes of a data URL or of bare base64."""
    if image.startswith(("http://", "https://")):
        raise QueryError(
            "invalid_request", "Send the image itself as a data URL; links are not followed.", target=target
        )
    if image.startswith("data:"):
        head, comma, image = image.partition(",")
        if not comma or not head.endswith(";base64"):
            raise QueryError(
                "invalid_request", "The data URL must be like data:image/png;base64,<data>.", target=target
            )
    try:
        data = pybase64.b64decode(image, validate=True)
    except ValueError as error:
        raise QueryError("invalid_request", f"The image is not valid base64: {error}.", target=target) from error
    if not data:
        raise QueryError("empty", "The image has no bytes.", target=target)
    return data


def _encode(embedding: list[float], encoding: EncodingFormat) -> list[float] | str:
    """The vector as the request wants it: base64 is of little-endian float32."""
    if encoding == "float":
        return embedding
    return pybase64.b64encode(struct.pack(f"<{len(embedding)}f", *embedding)).decode()
