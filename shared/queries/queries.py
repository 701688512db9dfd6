"""Queries: validate each, look it up in the cache, embed what is new, store the answer."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from shared.clock import now
from shared.errors import ModelError, ModelMisconfigured, ModelUnavailable, PictureError, QueryError, StorageError
from shared.log import Report
from shared.model.client import MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import ModelAnswer, ModelOptions
from shared.pictures.limits import PREPARATION, Limits
from shared.pictures.prepare import prepare
from shared.queries.cache import QueryCache, log_storage_error
from shared.queries.records import QueryRecord, query_path
from shared.settings import Settings
from shared.storage.memory_budget import MemoryBudget
from shared.storage.names import space_name
from shared.storage.space import Space

# The maximum of Cohere's own API in one call ("Embed" API reference).
MAX_QUERIES = 96

# The PNGs of a request are made before any call, so that nothing is charged for a request with a wrong input; so many
# bytes of them are kept in the process.
_MAX_KEPT_PNGS = 128 * 2**20

Cache = Literal["hit", "miss", "mixed"]
type Failure = QueryError | ModelError | StorageError


@dataclass(kw_only=True)
class QueryReport(Report):
    """The result of one request. ``status`` is the HTTP status that the app answers with."""

    outcome: str = "answered"
    status: int = 200
    inputs: int = 0
    cache: Cache | None = None


# Opens an image, and gives up at a time of time.monotonic.
type ImageSource = Callable[[float], AbstractContextManager[bytes]]


@dataclass(frozen=True)
class Query:
    """An image, a text, or both fused into one vector. ``target`` names it in errors, such as ``input[0]``.

    The image is its bytes, or what opens it: then its bytes are held only while they are worked on.
    """

    target: str
    image: bytes | ImageSource | None = field(default=None, repr=False)
    text: str | None = None

    def open_image(self, deadline: float) -> AbstractContextManager[bytes]:
        """The bytes of the image, for a block; raises what its source raises."""
        if callable(self.image):
            return self.image(deadline)
        return nullcontext(self.image or b"")


@dataclass(frozen=True)
class QueryOptions:
    """How queries are embedded, and by when they are answered (``time.monotonic``). ``fresh`` bypasses the cache.

    ``chosen`` names the options that the caller set: if the model does not support one, the caller is at fault, not the
    app's settings.
    """

    model: ModelOptions
    deadline: float
    fresh: bool = False
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Answer:
    """The embedding of one query. ``cached``: it cost no model call. ``path``: its blob, ``None`` if none is kept."""

    record: QueryRecord
    cached: bool
    path: str | None


type Outcome = Answer | Failure


@dataclass(frozen=True)
class _ValidQuery:
    """A query that passed all checks: its key, and the cached record if there is one.

    Else the PNG for the model, if there was room to keep it: ``None`` means that it is made again when its turn comes.
    """

    query: Query
    key: str
    image_sha256: str | None
    png: bytes | None
    record: QueryRecord | None


@dataclass(frozen=True)
class _Unexpected:
    """An error of the app itself."""

    error: Exception


class Queries:
    """Answers queries. Safe to call from many threads."""

    def __init__(self, settings: Settings, space: Space, cache: QueryCache, model: ModelClient) -> None:
        self._settings = settings
        self._space = space
        self._cache = cache
        self._model = model
        self._limits = Limits.of(settings)
        self._kept_pngs = MemoryBudget(_MAX_KEPT_PNGS)
        # Threads start as they are needed; the model client has an in-flight limit of its own.
        self._pool = ThreadPoolExecutor(settings.foundry_concurrency, thread_name_prefix="queries")

    def answer(self, queries: Sequence[Query], options: QueryOptions, report: QueryReport) -> list[Answer]:
        """Embed all queries; returns their answers in the same order.

        Raises :class:`~shared.errors.QueryError` if any query cannot be embedded, before any call to the model, and
        :class:`~shared.errors.ModelError` if the model returns no embedding for one of them. What it returned for the
        others stays in the cache.
        """
        with self._validated(queries, options, report) as validated:
            wrong = [one for one in validated if isinstance(one, QueryError)]
            if wrong:
                raise QueryError.of_all(wrong)
            valid = [one for one in validated if isinstance(one, _ValidQuery)]
            for one in validated:
                if not isinstance(one, _ValidQuery):
                    raise one
            answers: list[Answer] = []
            for answer in self._embed_all(valid, options, report, stop_at_error=True):
                if not isinstance(answer, Answer):
                    raise answer
                answers.append(answer)
            return answers

    def answer_each(self, queries: Sequence[Query], options: QueryOptions, report: QueryReport) -> list[Outcome]:
        """Embed each query by itself; returns an answer or an error for each, in the same order.

        Raises :class:`~shared.errors.QueryError` only for a wrong number of queries.
        """
        with self._validated(queries, options, report) as validated:
            valid = [one for one in validated if isinstance(one, _ValidQuery)]
            answers = iter(self._embed_all(valid, options, report, stop_at_error=False) if valid else [])
            return [next(answers) if isinstance(one, _ValidQuery) else one for one in validated]

    def close(self) -> None:
        """Release the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _validated(
        self, queries: Sequence[Query], options: QueryOptions, report: QueryReport
    ) -> Iterator[list[_ValidQuery | Failure]]:
        """Each query with what it needs, for the block; or what is wrong with it."""
        if not 1 <= len(queries) <= MAX_QUERIES:
            message = f"The request has {len(queries)} inputs; send 1 to {MAX_QUERIES}."
            raise QueryError("invalid_request", message, target="input", status=413 if queries else 400)

        def validate(query: Query) -> _ValidQuery | Failure | _Unexpected:
            try:
                return self._validate(query, options)
            except (QueryError, ModelError, StorageError) as error:
                return error
            except Exception as error:  # noqa: BLE001 - raised below, once nobody else can reserve anything
                return _Unexpected(error)

        with report.step("prepare"):
            validated = self._map(validate, queries)
        try:
            for one in validated:
                if isinstance(one, _Unexpected):
                    raise one.error
            yield [one for one in validated if not isinstance(one, _Unexpected)]
        finally:
            for one in validated:
                if isinstance(one, _ValidQuery) and one.png is not None:
                    self._kept_pngs.release(len(one.png))

    def _embed_all(
        self, queries: list[_ValidQuery], options: QueryOptions, report: QueryReport, *, stop_at_error: bool
    ) -> list[Outcome]:
        """An answer or an error for each query. After an error with ``stop_at_error``, the rest get the same error."""
        # A query that a request repeats is embedded once.
        distinct = list({query.key: query for query in queries}.values())
        errors: list[Failure] = []

        def embed(query: _ValidQuery) -> Outcome:
            if stop_at_error and errors:
                return errors[0]
            outcome = self._embed(query, options)
            if not isinstance(outcome, Answer):
                errors.append(outcome)
            return outcome

        with report.step("embed"):
            outcomes = self._map(embed, distinct)
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        report.inputs += len(queries)
        report.cache = cache_use(answers)
        report.total_tokens = sum(answer.record.total_tokens or 0 for answer in answers if not answer.cached)
        by_key = dict(zip([query.key for query in distinct], outcomes, strict=True))
        return [by_key[query.key] for query in queries]

    def _map[Item, Result](self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Do the work for all items, in parallel if there are several."""
        return [work(items[0])] if len(items) == 1 else list(self._pool.map(work, items))

    def _validate(self, query: Query, options: QueryOptions) -> _ValidQuery:
        """Check the query and look it up, then prepare its image if a model call is due; raises ``QueryError``."""
        self._check_time(options.deadline)
        if query.image is None:
            _check_text(query.text or "", query.target)
            key = self._key(None, query.text, options.model)
            return _ValidQuery(query, key, None, None, self._find(key, options))
        with query.open_image(options.deadline) as image:
            if len(image) > self._settings.image_max_bytes:
                most = f"IMAGE_MAX_BYTES allows {self._settings.image_max_bytes:,}"
                message = f"The image has {len(image):,} bytes; {most}."
                raise QueryError("too_many_bytes", message, status=413, target=query.target)
            image_sha256 = hashlib.sha256(image).hexdigest()
            key = self._key(image_sha256, query.text, options.model)
            record = self._find(key, options)
            png = None
            if record is None:
                self._check_time(options.deadline)
                png = self._prepare(image, query.target)
        if png is not None and not self._kept_pngs.try_reserve(len(png)):
            png = None
        return _ValidQuery(query, key, image_sha256, png, record)

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            message = (
                f"The time of the request (FOUNDRY_TIMEOUT, {self._settings.foundry_timeout} s) was over before this"
                " input's turn. Send fewer inputs at once; as a skill, make the skill's batchSize smaller."
            )
            raise ModelUnavailable(message, status=504)

    def _find(self, key: str, options: QueryOptions) -> QueryRecord | None:
        return None if options.fresh else self._cache.find(self._space_name(options), key)

    def _key(self, image_sha256: str | None, text: str | None, options: ModelOptions) -> str:
        """A hash of everything that decides the embedding."""
        parts = (
            self._settings.foundry_model,
            options.dimensions,
            options.input_type,
            options.requested_encoding,
            sorted(options.extras.items()),
            None if image_sha256 is None else PREPARATION,
            image_sha256,
            text,
        )
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()

    def _prepare_again(self, valid: _ValidQuery, deadline: float) -> bytes:
        query = valid.query
        with query.open_image(deadline) as image:
            if hashlib.sha256(image).hexdigest() != valid.image_sha256:
                # The vector of these bytes would be stored as that of the bytes before.
                message = "The blob was overwritten during the request; send it again."
                raise QueryError("image_not_readable", message, target=query.target)
            return self._prepare(image, query.target)

    def _prepare(self, image: bytes, target: str) -> bytes:
        try:
            return prepare(image, self._limits).png
        except PictureError as error:
            status = 413 if error.code == "too_many_pixels" else 400
            raise QueryError(error.code, str(error), status=status, target=target) from error

    def _embed(self, valid: _ValidQuery, options: QueryOptions) -> Outcome:
        space = self._space_name(options)
        path = query_path(space, valid.key) if self._settings.query_records != "off" else None
        if valid.record is not None:
            return Answer(valid.record, cached=True, path=path)
        try:
            self._check_time(options.deadline)
            record, cached = self._cache.single_flight(
                space,
                valid.key,
                lambda: self._call_model(valid, options),
                deadline=options.deadline,
                fresh=options.fresh,
            )
        except ModelMisconfigured as error:
            if unsupported := error.fields & options.chosen:
                message = f"The model does not support this option. {error}"
                return QueryError("parameter_not_supported", message, status=422, target=min(unsupported))
            return error
        except (ModelError, QueryError, StorageError) as error:
            return error
        return Answer(record, cached=cached, path=path)

    def _call_model(self, valid: _ValidQuery, query_options: QueryOptions) -> QueryRecord:
        query, options = valid.query, query_options.model
        schedule = Schedule(time.monotonic() + MAX_TOTAL_WAIT, query_options.deadline, urgent=True)
        if query.image is None:
            answer = self._model.embed_text(query.text or "", options, schedule)
        else:
            png = valid.png or self._prepare_again(valid, schedule.deadline)
            answer = self._model.embed_image(png, query.text, options, schedule)
        self._compare(answer, options)
        return QueryRecord(
            id=valid.key,
            image_sha256=valid.image_sha256,
            text=query.text if self._settings.query_records == "full" else None,
            model=self._settings.foundry_model,
            input_type=options.input_type,
            encoding_format=options.requested_encoding,
            dimensions=len(answer.embedding),
            preparation=None if query.image is None else PREPARATION,
            prompt_tokens=answer.prompt_tokens,
            total_tokens=answer.total_tokens,
            embedded_at=now(),
            embedding=answer.embedding,
        )

    def _compare(self, answer: ModelAnswer, options: ModelOptions) -> None:
        """Raise ``WrongSpace`` for a vector that must not be compared with those of the images."""
        plain = options.encoding_format in {"float", "base64"}
        same_length = plain and options.dimensions == self._settings.embedding_dimensions
        try:
            self._space.compare(answer.model, len(answer.embedding) if same_length else None)
        except StorageError as error:
            log_storage_error("compare", self._space.name, error)

    def _space_name(self, options: QueryOptions) -> str:
        return space_name(self._settings.foundry_model, options.model.dimensions)


def cache_use(answers: Sequence[Answer]) -> Cache | None:
    """Whether all, some or none of the answers came from the cache; ``None`` if there are no answers."""
    if not answers:
        return None
    hits = sum(answer.cached for answer in answers)
    return "hit" if hits == len(answers) else "mixed" if hits else "miss"


def _check_text(text: str, target: str) -> None:
    if not text.strip():
        raise QueryError("invalid_request", "The text is empty.", target=target)
    if text.lstrip()[:11].lower() == "data:image/":
        # The model would embed the base64 as words, and return a useless vector.
        raise QueryError(
            "invalid_request", "The text is the data URL of an image; POST it to images/embeddings.", target=target
        )
