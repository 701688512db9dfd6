"""The images that were embedded last: what a gallery begins with, and how a new upload is seen to appear."""

from datetime import datetime
from typing import Annotated

import msgspec
import pybase64

from shared.errors import QueryError
from shared.queries.formats.search_api import MAX_RESULTS, SearchedIndex
from shared.search.reader import Reader
from shared.storage.images import Images


class NewestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How many images, of which ``prefix``, embedded ``since`` when; ``after`` is the ``next`` of the page before."""

    top: Annotated[int, msgspec.Meta(ge=1, le=MAX_RESULTS)] = 50
    prefix: str = ""
    since: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    after: str | None = None


class StoredImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that search finds, as its record describes it."""

    name: str
    url: str
    media_type: str
    width: int
    height: int
    text: str | None
    embedded_at: datetime


class NewestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of images, the newest first. ``next`` is the ``after`` of the following page, ``null`` on the last one."""

    space: str
    results: list[StoredImage]
    next: str | None
    index: SearchedIndex


class _Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ends: at an image that was embedded in this second."""

    second: Annotated[int, msgspec.Meta(ge=-(2**40), le=2**40)]
    name: str


class Newest:
    """Lists images by their age, from the index of search. Safe to call from many threads."""

    def __init__(self, space: str, images: Images, reader: Reader) -> None:
        self._space = space
        self._images = images
        self._reader = reader

    def find(self, request: NewestRequest) -> NewestAnswer:
        """The images that a request asks for. Costs two small requests to storage at most, and no listing.

        Raises :class:`~shared.errors.QueryError`, and what :meth:`Reader.current` raises.
        """
        place = None if request.after is None else _read_place(request.after)
        index = self._reader.current()
        found = index.newest(
            top=request.top + 1,
            prefix=request.prefix,
            since=request.since,
            after=None if place is None else (place.second, place.name),
        )
        shown = found[: request.top]
        return NewestAnswer(
            space=self._space,
            results=[
                StoredImage(
                    name=image.name,
                    url=self._images.url_of(image.name),
                    media_type=image.facts.media_type,
                    width=image.facts.width,
                    height=image.facts.height,
                    text=image.facts.text,
                    embedded_at=image.facts.embedded_at,
                )
                for image in shown
            ],
            next=_token(_Place(shown[-1].second, shown[-1].name)) if len(found) > len(shown) else None,
            index=SearchedIndex(images=len(index), as_of=self._reader.as_of),
        )


def _token(place: _Place) -> str:
    return pybase64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def _read_place(token: str) -> _Place:
    try:
        return msgspec.msgpack.decode(pybase64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=_Place)
    except (ValueError, RecursionError) as error:
        raise QueryError("invalid_request", "This is not the next of any answer.", target="after") from error
