"""A search: embed what is searched for, unless it is a vector, and find the stored images that are nearest to it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import pybase64

from shared.errors import ModelMisconfigured, QueryError
from shared.model.foundry import Usage
from shared.queries.formats.foundry_api import usage_of
from shared.queries.formats.search_api import Asked, SearchAnswer, SearchedIndex, SearchResult
from shared.queries.queries import Answer, Queries, QueryOptions, QueryReport
from shared.search.reader import Reader
from shared.storage.images import Images

if TYPE_CHECKING:
    from shared.search.index import Index
    from shared.search.ranking import Hit


@dataclass(kw_only=True)
class SearchReport(QueryReport):
    """The result of one search. ``kind`` says what was searched for, ``scanned`` how many images the index has."""

    kind: str | None = None
    scanned: int | None = None
    results: int | None = None


@dataclass(frozen=True)
class Found:
    """A page of results, and the answer of the model or the cache, ``None`` where neither was asked."""

    answer: SearchAnswer
    embedded: Answer | None


class _Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ends: at this score and name, after so many results. ``question`` is a hash of what was asked."""

    question: bytes
    seen: Annotated[int, msgspec.Meta(ge=1)]
    score: float
    name: str


class Search:
    """Finds images. Safe to call from many threads."""

    def __init__(self, space: str, images: Images, queries: Queries, reader: Reader) -> None:
        self._space = space
        self._images = images
        self._queries = queries
        self._reader = reader

    def find(self, asked: Asked, options: QueryOptions, report: SearchReport) -> Found:
        """The images that a request asks for, best first.

        Raises :class:`~shared.errors.QueryError` for a wrong request, and if there is no image to be ``like``;
        :class:`~shared.errors.ModelError` if the model returns no embedding;
        :class:`~shared.errors.IndexUnavailable` and ``StorageError`` as :meth:`Reader.current` does.
        """
        report.kind = asked.kind
        question = _question(self._space, asked)
        place = None if asked.request.after is None else _read_place(asked.request.after, question)
        # It reads what is new while the model embeds.
        self._reader.start()
        embedded = self._embed(asked, options, report)
        with report.step("index"):
            index = self._reader.current()
        report.scanned = len(index)
        with report.step("scan"):
            hits = _hits(index, _vector(index, asked, embedded), asked, place)
        shown = hits[: asked.request.top]
        report.results = len(shown)
        answer = SearchAnswer(
            space=self._space,
            results=[self._result(hit) for hit in shown],
            next=_next(question, shown, place) if len(hits) > len(shown) else None,
            usage=Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
            if embedded is None
            else usage_of([embedded]),
            index=SearchedIndex(images=len(index), as_of=self._reader.as_of),
        )
        return Found(answer, embedded)

    def _embed(self, asked: Asked, options: QueryOptions, report: SearchReport) -> Answer | None:
        if asked.query is None:
            return None
        [answer] = self._queries.answer([asked.query], options, report)
        return answer

    def _result(self, hit: "Hit") -> SearchResult:
        return SearchResult(
            name=hit.name,
            score=hit.score,
            url=self._images.url_of(hit.name),
            media_type=hit.facts.media_type,
            width=hit.facts.width,
            height=hit.facts.height,
            text=hit.facts.text,
            metadata=hit.facts.metadata,
            embedded_at=hit.facts.embedded_at,
        )


def _vector(index: "Index", asked: Asked, embedded: Answer | None) -> Sequence[float]:
    request = asked.request
    if embedded is not None:
        return embedded.record.embedding
    if request.vector is not None:
        return request.vector
    vector = index.vector_of(request.like or "")
    if vector is None:
        message = (
            f"No image {(request.like or '')[:1024]} can be found: there is none of that name, it is not embedded yet,"
            " or it could not be."
        )
        raise QueryError("unknown_image", message, status=404, target="like")
    return vector


def _hits(index: "Index", vector: Sequence[float], asked: Asked, place: _Place | None) -> "list[Hit]":
    """The page that is asked for, and one more hit if there is another page."""
    if not len(index):
        return []
    request = asked.request
    try:
        return index.search(
            vector,
            top=request.top + 1,
            prefix=request.prefix,
            min_score=request.min_score,
            since=request.since,
            without=request.like,
            after=None if place is None else (place.score, place.name),
            before=0 if place is None else place.seen,
        )
    except ValueError as error:
        if asked.query is None:
            raise QueryError("invalid_request", f"{error} Send one of that model.", target="vector") from error
        message = f"The model's vector cannot be compared with those of the images. {error}"
        raise ModelMisconfigured(message) from error


def _question(space: str, asked: Asked) -> bytes:
    """A hash of everything that decides which results there are and in which order."""
    request, query = asked.request, asked.query
    image = query.image if query is not None and isinstance(query.image, bytes) else b""
    parts = (
        space,
        hashlib.sha256(image).hexdigest(),
        query.text if query is not None else None,
        request.vector,
        request.like,
        request.prefix,
        request.min_score,
        request.since,
    )
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).digest()


def _next(question: bytes, shown: "Sequence[Hit]", before: _Place | None) -> str:
    seen = len(shown) + (before.seen if before else 0)
    place = _Place(question, seen, shown[-1].score, shown[-1].name)
    return pybase64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def _read_place(token: str, question: bytes) -> _Place:
    """Where the page before ended; raises :class:`QueryError` for a token that does not say so."""
    try:
        content = pybase64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        place = msgspec.msgpack.decode(content, type=_Place)
    except (ValueError, RecursionError) as error:
        raise QueryError("invalid_request", "This is not the next of any answer.", target="after") from error
    if not math.isfinite(place.score) or place.question != question:
        message = "This is the next of another search. Ask for the first page: leave out after."
        raise QueryError("invalid_request", message, target="after")
    return place
