"""Queries: validate each, look it up in the cache, embed what is new, store the answer."""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from shared.clock import now
from shared.errors import (
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelUnavailable,
    PictureError,
    QueryError,
    StorageError,
    WrongSpace,
)
from shared.log import Report
from shared.model.client import MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import Input, ModelAnswer, ModelOptions
from shared.pictures.limits import Limits, Prepared
from shared.pictures.prepare import prepare
from shared.queries.cache import Failure, Found, QueryCache, log_storage_error
from shared.queries.records import QueryRecord, query_path
from shared.settings import Settings
from shared.storage.memory_budget import MemoryBudget
from shared.storage.names import space_name
from shared.storage.space import Space

# The maximum of Cohere's own API in one call ("Embed" API reference).
MAX_QUERIES = 96
# The maximum of OpenAI's API ("Create embeddings"), which clients in its format count on.
MAX_TEXTS = 2048
# Of more than MAX_QUERIES texts so many are embedded at a time, by four calls: their vectors take 25 MB as Python's
# floats (65 kB for 2,048 numbers), and other requests get their turn at the pool in between.
_TEXTS_AT_ONCE = 4 * MAX_QUERIES
# What such requests may hold of answers in all. 2,048 vectors of 2,048 numbers take 180 MB in JSON, as its parts and as
# their whole, and 45 MB in base64.
_MAX_LONG_ANSWERS = 384 * 2**20
_BYTES_OF_VECTOR = {"float": 90_000, "base64": 22_000}

# The pictures of a request are prepared before any call, so that nothing is charged for a request with a wrong input.
# So many bytes of them are kept in the process.
_MAX_KEPT_BYTES = 128 * 2**20

# "20 MB" a request ("Embed API"), as base64, which takes a third more than the pictures.
_MAX_BATCH_BYTES = 14_000_000

Cache = Literal["hit", "miss", "mixed"]


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
    app's settings. ``model_name`` is the deployment that the caller named.
    """

    model: ModelOptions
    deadline: float
    fresh: bool = False
    chosen: frozenset[str] = frozenset()
    model_name: str | None = None


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

    Else the picture for the model, if there was room to keep it: ``None`` means that it is prepared again when its turn
    comes.
    """

    query: Query
    key: str
    image_sha256: str | None
    picture: Prepared | None
    record: QueryRecord | None


@dataclass(frozen=True)
class _Unexpected:
    """An error of the app itself."""

    error: Exception


class Queries:
    """Answers queries. Safe to call from many threads."""

    def __init__(
        self, settings: Settings, space: Space, cache: QueryCache, model: ModelClient, query_model: ModelClient
    ) -> None:
        self._settings = settings
        self._space = space
        self._cache = cache
        self._model = model
        self._query_model = query_model
        # The one for queries speaks the same format.
        self._limits = Limits.of(settings)
        self._kept_pictures = MemoryBudget(_MAX_KEPT_BYTES)
        self._long_answers = MemoryBudget(_MAX_LONG_ANSWERS)
        # Threads start as they are needed; the model client has an in-flight limit of its own.
        self._pool = ThreadPoolExecutor(settings.foundry_concurrency, thread_name_prefix="queries")

    def answer(self, queries: Sequence[Query], options: QueryOptions, report: QueryReport) -> list[Answer]:
        """Embed all queries; returns their answers in the same order.

        Raises :class:`~shared.errors.QueryError` if any query cannot be embedded, before any call to the model, and
        :class:`~shared.errors.ModelError` if the model returns no embedding for one of them. What it returned for the
        others stays in the cache.
        """
        _check_number(queries)
        return self._answer(queries, options, report)

    def answer_in_turns(
        self, queries: Sequence[Query], options: QueryOptions, report: QueryReport
    ) -> Iterator[list[Answer]]:
        """As :meth:`answer`, but for up to :data:`MAX_TEXTS` texts: the answers in order, some at a time.

        Whoever encodes them as they come holds the vectors of no more than these.
        """
        if len(queries) <= MAX_QUERIES:
            yield self.answer(queries, options, report)
            return
        _check_number(queries, MAX_TEXTS if all(query.image is None for query in queries) else MAX_QUERIES)
        wrong = [error for query in queries if (error := _wrong_text(query))]
        if wrong:
            raise QueryError.of_all(wrong)
        size = len(queries) * _BYTES_OF_VECTOR.get(options.model.encoding_format, _BYTES_OF_VECTOR["base64"])
        try:
            with self._long_answers.reserve(size, deadline=options.deadline):
                for some in itertools.batched(queries, _TEXTS_AT_ONCE, strict=False):
                    yield self._answer(some, options, report)
        except TimeoutError as error:
            message = (
                "The time of the request (FOUNDRY_TIMEOUT) was over before there was room in memory for so long an"
                " answer. Send fewer texts at once, or ask for the encoding_format base64."
            )
            raise ModelUnavailable(message, status=504) from error

    def _answer(self, queries: Sequence[Query], options: QueryOptions, report: QueryReport) -> list[Answer]:
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
        _check_number(queries)
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
                if isinstance(one, _ValidQuery) and one.picture is not None:
                    self._kept_pictures.release(len(one.picture.file))

    def _embed_all(
        self, queries: list[_ValidQuery], options: QueryOptions, report: QueryReport, *, stop_at_error: bool
    ) -> list[Outcome]:
        """An answer or an error for each query. After an error with ``stop_at_error``, the rest get the same error."""
        # A query that a request repeats is embedded once.
        distinct = {query.key: query for query in queries}
        errors: list[Failure] = []

        def embed(batch: list[_ValidQuery]) -> Found:
            if stop_at_error and errors:
                return {query.key: (errors[0], True) for query in batch}
            found = self._embed(batch, options)
            errors.extend(outcome for outcome, _ in found.values() if not isinstance(outcome, QueryRecord))
            return found

        found: Found = {key: (query.record, True) for key, query in distinct.items() if query.record is not None}
        with report.step("embed"):
            for some in self._map(
                embed, self._batches([one for one in distinct.values() if one.record is None], options)
            ):
                found |= some
            made = [outcome for outcome, cached in found.values() if isinstance(outcome, QueryRecord) and not cached]
            self._map(lambda record: self._cache.store(self._space_name(options), record), made)
        outcomes = [self._outcome(*found[query.key], options) for query in queries]
        answers = {outcome.record.id: outcome for outcome in outcomes if isinstance(outcome, Answer)}.values()
        report.inputs += len(queries)
        report.cache = _together(report.cache, cache_use(list(answers)))
        spent = sum(answer.record.total_tokens or 0 for answer in answers if not answer.cached)
        report.total_tokens = (report.total_tokens or 0) + spent
        return outcomes

    def _batches(self, queries: list[_ValidQuery], options: QueryOptions) -> list[list[_ValidQuery]]:
        """The queries by the calls that embed them: as many texts or images in one as the model takes."""
        batches: list[list[_ValidQuery]] = []
        for has_image in (False, True):
            most, size = self._model_for(options).max_inputs(has_image=has_image), 0
            batch: list[_ValidQuery] = []
            for query in queries:
                if (query.query.image is not None) != has_image:
                    continue
                # An image that is prepared only when its turn comes takes part in no batch: its size is not known.
                added = 0 if not has_image else _MAX_BATCH_BYTES if query.picture is None else len(query.picture.file)
                if batch and (len(batch) == most or size + added > _MAX_BATCH_BYTES):
                    batches.append(batch)
                    batch, size = [], 0
                batch.append(query)
                size += added
            if batch:
                batches.append(batch)
        return batches

    def _map[Item, Result](self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Do the work for all items, in parallel if there are several."""
        return [work(item) for item in items] if len(items) <= 1 else list(self._pool.map(work, items))

    def _validate(self, query: Query, options: QueryOptions) -> _ValidQuery:
        """Check the query and look it up, then prepare its image if a model call is due; raises ``QueryError``."""
        self._check_time(options.deadline)
        if query.image is None:
            if error := _wrong_text(query):
                raise error
            key = self._key(None, query.text, options)
            return _ValidQuery(query, key, None, None, self._find(key, options))
        with query.open_image(options.deadline) as image:
            if len(image) > self._settings.image_max_bytes:
                most = f"IMAGE_MAX_BYTES allows {self._settings.image_max_bytes:,}"
                message = f"The image has {len(image):,} bytes; {most}."
                raise QueryError("too_many_bytes", message, status=413, target=query.target)
            image_sha256 = hashlib.sha256(image).hexdigest()
            key = self._key(image_sha256, query.text, options)
            record = self._find(key, options)
            picture = None
            if record is None:
                self._check_time(options.deadline)
                picture = self._prepare(image, query.target)
        if picture is not None and not self._kept_pictures.try_reserve(len(picture.file)):
            picture = None
        return _ValidQuery(query, key, image_sha256, picture, record)

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            message = (
                f"The time of the request (FOUNDRY_TIMEOUT, {self._settings.foundry_timeout} s) was over before this"
                " input's turn. Send fewer inputs at once; as a skill, make the skill's batchSize smaller."
            )
            raise ModelUnavailable(message, status=504)

    def _find(self, key: str, options: QueryOptions) -> QueryRecord | None:
        return None if options.fresh else self._cache.find(self._space_name(options), key)

    def _key(self, image_sha256: str | None, text: str | None, query_options: QueryOptions) -> str:
        """A hash of everything that decides the embedding."""
        options = query_options.model
        parts = (
            self._model_for(query_options).model,
            options.dimensions,
            options.input_type,
            options.requested_encoding,
            sorted(options.extras.items()),
            None if image_sha256 is None else self._limits.preparation,
            image_sha256,
            text,
        )
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()

    def _prepare_again(self, valid: _ValidQuery, deadline: float) -> Prepared:
        query = valid.query
        with query.open_image(deadline) as image:
            if hashlib.sha256(image).hexdigest() != valid.image_sha256:
                # The vector of these bytes would be stored as that of the bytes before.
                message = "The blob was overwritten during the request; send it again."
                raise QueryError("image_not_readable", message, target=query.target)
            return self._prepare(image, query.target)

    def _prepare(self, image: bytes, target: str) -> Prepared:
        try:
            return prepare(image, self._limits)
        except PictureError as error:
            status = 413 if error.code == "too_many_pixels" else 400
            raise QueryError(error.code, str(error), status=status, target=target) from error

    def _embed(self, batch: list[_ValidQuery], options: QueryOptions) -> Found:
        """By key the answer or the error of each query of a batch, and whether it cost no call of this request."""
        by_key = {query.key: query for query in batch}
        try:
            self._check_time(options.deadline)
            found = self._cache.single_flight(
                self._space_name(options),
                list(by_key),
                lambda keys: self._call_model([by_key[key] for key in keys], options),
                deadline=options.deadline,
                fresh=options.fresh,
            )
        except ModelUnavailable as error:
            return dict.fromkeys(by_key, (error, False))
        for key, (outcome, cached) in found.items():
            if isinstance(outcome, ModelRefused):
                target = by_key[key].query.target
                found[key] = QueryError(outcome.code, str(outcome), status=outcome.status or 400, target=target), cached
        return found

    def _outcome(self, found: QueryRecord | Failure, cached: bool, options: QueryOptions) -> Outcome:
        if isinstance(found, QueryRecord):
            kept = self._settings.query_records != "off"
            return Answer(found, cached, query_path(self._space_name(options), found.id) if kept else None)
        if isinstance(found, ModelMisconfigured) and (unsupported := found.fields & options.chosen):
            message = f"The model does not support this option. {found}"
            return QueryError("parameter_not_supported", message, status=422, target=min(unsupported))
        return found

    def _call_model(self, batch: list[_ValidQuery], query_options: QueryOptions) -> list[QueryRecord | Failure]:
        options = query_options.model
        schedule = Schedule(time.monotonic() + MAX_TOTAL_WAIT, query_options.deadline, urgent=True)
        try:
            inputs = [self._input(valid, schedule.deadline) for valid in batch]
        except (QueryError, ModelError, StorageError) as error:
            return [error] * len(batch)
        answers = self._model_for(query_options).embed_all(inputs, options, schedule)
        return [self._record(valid, answer, query_options) for valid, answer in zip(batch, answers, strict=True)]

    def _input(self, valid: _ValidQuery, deadline: float) -> Input:
        if valid.query.image is None:
            return Input(text=valid.query.text or "")
        picture = valid.picture or self._prepare_again(valid, deadline)
        return Input(picture.file, valid.query.text, picture.file_type)

    def _record(
        self, valid: _ValidQuery, answer: ModelAnswer | ModelError, query_options: QueryOptions
    ) -> QueryRecord | Failure:
        if isinstance(answer, ModelError):
            return answer
        options = query_options.model
        try:
            self._compare(answer, query_options)
        except WrongSpace as error:
            return error
        return QueryRecord(
            id=valid.key,
            image_sha256=valid.image_sha256,
            text=valid.query.text if self._settings.query_records == "full" else None,
            model=self._model_for(query_options).model,
            input_type=options.input_type,
            encoding_format=options.requested_encoding,
            dimensions=len(answer.embedding),
            preparation=None if valid.query.image is None else self._limits.preparation,
            prompt_tokens=answer.prompt_tokens,
            total_tokens=answer.total_tokens,
            embedded_at=now(),
            embedding=answer.embedding,
        )

    def _model_for(self, options: QueryOptions) -> ModelClient:
        """The model that the caller named; else the one for queries, or for what is compared with queries."""
        by_type = self._query_model if options.model.input_type == "query" else self._model
        named = (one for one in (self._model, self._query_model) if one.model == options.model_name)
        return next(named, by_type)

    def _compare(self, answer: ModelAnswer, options: QueryOptions) -> None:
        """Raise ``WrongSpace`` for a vector that must not be compared with those of the images."""
        plain = options.model.encoding_format in {"float", "base64"}
        same_length = plain and options.model.dimensions == self._settings.embedding_dimensions
        # Another model in the same space goes by a name of its own.
        name = answer.model if self._model_for(options).model == self._settings.foundry_model else None
        try:
            self._space.compare(name, len(answer.embedding) if same_length else None)
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


def _together(before: Cache | None, now_: Cache | None) -> Cache | None:
    return now_ if before in (None, now_) else before if now_ is None else "mixed"


def _check_number(queries: Sequence[Query], most: int = MAX_QUERIES) -> None:
    if not 1 <= len(queries) <= most:
        of_texts = f" ({MAX_TEXTS:,} if all are texts)" if most < MAX_TEXTS else ""
        message = f"The request has {len(queries):,} inputs; send 1 to {most:,}{of_texts}."
        raise QueryError("invalid_request", message, target="input", status=413 if queries else 400)


def _wrong_text(query: Query) -> QueryError | None:
    """What is wrong with a query that has no image."""
    text = query.text or ""
    if not text.strip():
        return QueryError("invalid_request", "The text is empty.", target=query.target)
    if is_image_url(text):
        # The model would embed the base64 as words, and return a useless vector.
        message = "The text is the data URL of an image; send it as an image."
        return QueryError("invalid_request", message, target=query.target)
    return None


def is_image_url(text: str) -> bool:
    """Whether a text is the data URL of an image."""
    return text.lstrip()[:11].lower() == "data:image/"
