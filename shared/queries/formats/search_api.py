"""Searches as callers ask for them: what a request says, and the shape of its answer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import msgspec

from shared.errors import QueryError
from shared.model.foundry import Usage
from shared.parsing import convert, convert_strings
from shared.queries.formats.bodies import ImageBody, read_body
from shared.queries.formats.data_urls import decode_image
from shared.queries.queries import Query

MAX_RESULTS = 100


class SearchRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is searched for, an ``image``, a ``text``, both, a ``vector`` or images ``like`` a stored one; and filters.

    ``prefix`` is how names begin, ``min_score`` the lowest score, ``since`` the time from which on images were
    embedded. ``after`` is the ``next`` of the page before.
    """

    image: str | None = None
    text: str | None = None
    vector: list[float] | None = None
    like: str | None = None
    top: Annotated[int, msgspec.Meta(ge=1, le=MAX_RESULTS)] = 10
    prefix: str = ""
    min_score: float | None = None
    since: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    after: str | None = None


class SearchResult(msgspec.Struct, kw_only=True):
    """An image that was found. ``score`` is the cosine of its vector with the query; the rest is as in its record.

    ``metadata`` is ``null`` where keys and values have over 1,024 bytes: the record has it.
    """

    name: str
    score: float
    url: str
    media_type: str
    width: int
    height: int
    text: str | None
    metadata: dict[str, str] | None
    embedded_at: datetime


class SearchedIndex(msgspec.Struct, kw_only=True):
    """How many images could have been found, and when the index was last compared with storage."""

    images: int
    as_of: datetime | None


class SearchAnswer(msgspec.Struct, kw_only=True):
    """A page of results, best first. ``next`` is the ``after`` of the following page, ``null`` on the last one."""

    space: str
    results: list[SearchResult]
    next: str | None
    usage: Usage
    index: SearchedIndex


@dataclass(frozen=True)
class Asked:
    """A request that was read. ``query`` is what the model embeds, ``None`` for a ``vector`` or ``like``."""

    request: SearchRequest
    query: Query | None

    @property
    def kind(self) -> str:
        """What is searched for, in a word, for the log."""
        if self.query is None:
            return "like" if self.request.vector is None else "vector"
        kinds = [kind for kind, there in (("image", self.query.image), ("text", self.query.text)) if there]
        return "+".join(kinds)


def read_search(body: bytes, content_type: str, parameters: Mapping[str, str]) -> Asked:
    """Read a search: JSON, or the image itself or a form with it, and the rest in the query string or the form.

    Raises :class:`~shared.errors.QueryError`.
    """
    content = read_body(body, content_type, parameters)
    if isinstance(content, ImageBody):
        fields = {name: value for name, value in content.fields.items() if name in _FIELDS}
        request = convert_strings(fields, SearchRequest)
        _check_alone(request, content.name)
        return Asked(request, Query(content.name, content.image, content.text()))
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if value is not None}
    return _read_json(convert(content, SearchRequest))


# All but the image, which is the body.
_FIELDS = set(SearchRequest.__struct_fields__) - {"image"}


def _read_json(request: SearchRequest) -> Asked:
    text = (request.text or "").strip() or None
    if request.image:
        _check_alone(request, "image")
        return Asked(request, Query("image", decode_image(request.image, "image"), text))
    if text is not None:
        _check_alone(request, "text")
        return Asked(request, Query("text", text=text))
    if request.vector is not None:
        if request.like is not None:
            raise _two("vector", "like")
        _check_vector(request.vector)
    elif request.like is None:
        empty = next((name for name in ("image", "text") if getattr(request, name) is not None), None)
        message = "There is nothing to search for: send an image, a text, both, a vector, or like with a stored name."
        raise QueryError("invalid_request", message, target=empty)
    return Asked(request, None)


def _check_alone(request: SearchRequest, name: str) -> None:
    for other in ("vector", "like"):
        if getattr(request, other) is not None:
            raise _two(name, other)


def _two(one: str, other: str) -> QueryError:
    message = f"The request has both {one} and {other}; only an image and a text can be searched for together."
    return QueryError("invalid_request", message, target=other)


def _check_vector(vector: list[float]) -> None:
    length = math.hypot(*vector)
    if not math.isfinite(length):
        raise QueryError("invalid_request", "The vector's numbers are too large.", target="vector")
    if not length:
        raise QueryError("invalid_request", "The vector has no direction: it has no number but 0.", target="vector")
