"""Queries: check each, look it up, embed what is new, keep the answer."""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from shared.clock import now
from shared.errors import ModelError, ModelMisconfigured, PictureError, QueryError
from shared.log import Report
from shared.model.client import MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import ModelOptions
from shared.pictures.limits import PREPARATION, Limits
from shared.pictures.prepare import prepare
from shared.queries.cache import QueryCache
from shared.queries.records import QueryRecord, query_path
from shared.settings import Settings
from shared.storage.names import space

# As many as Cohere's models take in one call ("Embed" API reference); more is another job than a query.
MAX_QUERIES = 96

Cache = Literal["hit", "miss", "mixed"]


@dataclass(kw_only=True)
class QueryReport(Report):
    """What one request came to. ``status`` is that of our answer."""

    outcome: str = "answered"
    status: int = 200
    inputs: int = 0
    cache: Cache | None = None


@dataclass(frozen=True)
class Query:
    """What is to be embedded: an image, a text, or both fused. ``target`` names it in errors, such as ``input[0]``."""

    target: str
    image: bytes | None = field(default=None, repr=False)
    text: str | None = None


@dataclass(frozen=True)
class QueryOptions:
    """How queries are embedded. ``fresh`` asks the model even where the answer is known.

    ``chosen`` are the options that the caller has set: a model that does not support one is not our misconfiguration.
    """

    model: ModelOptions
    fresh: bool = False
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Answer:
    """The embedding of one query, whether it was known before, and the blob that holds it: ``None`` where none does."""

    record: QueryRecord
    known: bool
    path: str | None


@dataclass(frozen=True)
class _Ready:
    """A query that may be charged for: its key, and the PNG for the model unless the answer is known already."""

    query: Query
    key: str
    image_sha256: str | None
    png: bytes | None
    record: QueryRecord | None


class Queries:
    """Answers queries. Safe to call from many threads."""

    def __init__(self, settings: Settings, cache: QueryCache, model: ModelClient) -> None:
        self._settings = settings
        self._cache = cache
        self._model = model
        self._limits = Limits.of(settings)
        # Threads are made as they are needed; how many calls are in flight is up to the model client.
        self._pool = ThreadPoolExecutor(settings.foundry_concurrency, thread_name_prefix="queries")

    def answer(self, queries: Sequence[Query], options: QueryOptions, report: QueryReport) -> list[Answer]:
        """Embed all queries, in order, or none.

        Raises :class:`~shared.errors.QueryError` for queries that cannot be embedded, before anything is charged, and
        :class:`~shared.errors.ModelError` where the model gives no answer; answers that came before that are kept.
        """
        self._check_number(queries)
        with report.step("prepare"):
            ready = self._each(lambda query: self._make_ready(query, options), queries)
        refused = [one for one in ready if isinstance(one, QueryError)]
        if refused:
            raise QueryError.of_all(refused)
        answers: list[Answer] = []
        for answer in self._embed_all([one for one in ready if isinstance(one, _Ready)], options, report, or_none=True):
            if not isinstance(answer, Answer):
                raise answer
            answers.append(answer)
        return answers

    def answer_each(
        self, queries: Sequence[Query], options: QueryOptions, report: QueryReport
    ) -> list[Answer | QueryError | ModelError]:
        """Embed each query that can be; the others' places hold what went wrong with them."""
        self._check_number(queries)
        with report.step("prepare"):
            ready = self._each(lambda query: self._make_ready(query, options), queries)
        good = [one for one in ready if isinstance(one, _Ready)]
        answers = iter(self._embed_all(good, options, report, or_none=False) if good else [])
        return [next(answers) if isinstance(one, _Ready) else one for one in ready]

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check_number(self, queries: Sequence[Query]) -> None:
        if not 1 <= len(queries) <= MAX_QUERIES:
            message = f"{len(queries)} inputs were sent; 1 to {MAX_QUERIES} can be answered."
            raise QueryError("invalid_request", message, target="input", status=413 if queries else 400)

    def _each[Item, Result](self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Do the work for all items, side by side where there are several."""
        return [work(items[0])] if len(items) == 1 else list(self._pool.map(work, items))

    def _embed_all(
        self, ready: list[_Ready], options: QueryOptions, report: QueryReport, *, or_none: bool
    ) -> list[Answer | ModelError | QueryError]:
        deadline = time.monotonic() + self._settings.foundry_timeout
        # The same query twice in a request is one question.
        distinct = list({one.key: one for one in ready}.values())
        errors: list[ModelError | QueryError] = []

        def embed(one: _Ready) -> Answer | ModelError | QueryError:
            if or_none and errors:
                return errors[0]
            answer = self._embed(one, options, deadline)
            if not isinstance(answer, Answer):
                errors.append(answer)
            return answer

        with report.step("embed"):
            made = self._each(embed, distinct)
        answers = dict(zip([one.key for one in distinct], made, strict=True))
        known = [answer.known for answer in made if isinstance(answer, Answer)]
        report.inputs += len(ready)
        report.cache = None if not known else "hit" if all(known) else "mixed" if any(known) else "miss"
        report.total_tokens = sum(
            answer.record.total_tokens or 0 for answer in made if isinstance(answer, Answer) and not answer.known
        )
        return [answers[one.key] for one in ready]

    def _make_ready(self, query: Query, options: QueryOptions) -> _Ready | QueryError:
        try:
            return self._ready(query, options)
        except QueryError as error:
            return error

    def _ready(self, query: Query, options: QueryOptions) -> _Ready:
        image, text = query.image, query.text
        if image is None:
            _check_text(text or "", query.target)
        elif len(image) > self._settings.image_max_bytes:
            most = f"IMAGE_MAX_BYTES allows {self._settings.image_max_bytes:,}"
            message = f"The image has {len(image):,} bytes; {most}."
            raise QueryError("too_many_bytes", message, status=413, target=query.target)
        image_sha256 = None if image is None else hashlib.sha256(image).hexdigest()
        key = self._key(image_sha256, text, options.model)
        record = None if options.fresh else self._cache.find(self._folder(options), key)
        png = None if image is None or record is not None else self._prepare(image, query.target)
        return _Ready(query, key, image_sha256, png, record)

    def _key(self, image_sha256: str | None, text: str | None, options: ModelOptions) -> str:
        decides = (
            self._settings.foundry_model,
            options.dimensions,
            options.input_type,
            options.requested_encoding,
            sorted(options.extras.items()),
            None if image_sha256 is None else PREPARATION,
            image_sha256,
            text,
        )
        return hashlib.sha256(msgspec.json.encode(decides)).hexdigest()

    def _prepare(self, image: bytes, target: str) -> bytes:
        try:
            return prepare(image, self._limits).png
        except PictureError as error:
            status = 413 if error.code == "too_many_pixels" else 400
            raise QueryError(error.code, str(error), status=status, target=target) from error

    def _embed(self, ready: _Ready, options: QueryOptions, deadline: float) -> Answer | ModelError | QueryError:
        folder = self._folder(options)
        path = query_path(folder, ready.key) if self._settings.query_records != "off" else None
        if ready.record is not None:
            return Answer(ready.record, known=True, path=path)
        try:
            record, known = self._cache.single_flight(
                folder, ready.key, lambda: self._ask(ready, options.model, deadline), fresh=options.fresh
            )
        except ModelMisconfigured as error:
            if unsupported := error.fields & options.chosen:
                message = f"The model does not support this. {error}"
                return QueryError("parameter_not_supported", message, status=422, target=min(unsupported))
            return error
        except ModelError as error:
            return error
        return Answer(record, known=known, path=path)

    def _ask(self, ready: _Ready, options: ModelOptions, deadline: float) -> QueryRecord:
        query = ready.query
        schedule = Schedule(time.monotonic() + MAX_TOTAL_WAIT, deadline, urgent=True)
        if ready.png is not None:
            answer = self._model.embed_image(ready.png, query.text, options, schedule)
        else:
            answer = self._model.embed_text(query.text or "", options, schedule)
        return QueryRecord(
            id=ready.key,
            image_sha256=ready.image_sha256,
            text=query.text if self._settings.query_records == "full" else None,
            model=self._settings.foundry_model,
            input_type=options.input_type,
            encoding_format=options.requested_encoding,
            dimensions=len(answer.embedding),
            preparation=None if ready.png is None else PREPARATION,
            prompt_tokens=answer.prompt_tokens,
            total_tokens=answer.total_tokens,
            embedded_at=now(),
            embedding=answer.embedding,
        )

    def _folder(self, options: QueryOptions) -> str:
        return space(self._settings.foundry_model, options.model.dimensions)


def _check_text(text: str, target: str) -> None:
    if not text.strip():
        raise QueryError("invalid_request", "The text is empty.", target=target)
    if text.lstrip()[:11].lower() == "data:image/":
        # The model would embed the base64 as words: a vector, and a useless one.
        raise QueryError("invalid_request", "This is an image; POST it to images/embeddings.", target=target)
