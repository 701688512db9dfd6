"""Which images have no embedding and why, from their failure records."""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from typing import Annotated

import msgspec
import pybase64

from shared.errors import FailureCode, QueryError, StorageError
from shared.storage.listing import LISTABLE, Listed, Page
from shared.uploads.record_store import RecordStore
from shared.uploads.records import FailureRecord

_MOST = 100
# Listings that one request reads, of 5,000 failures each: if few of them have the code, the page is short.
_MAX_LISTINGS = 4
_READERS = 8


class FailuresRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Only failures of this ``code``, of images whose names begin with ``prefix``; ``top`` of them at most.

    ``after`` is the ``next`` of the page before.
    """

    code: FailureCode | None = None
    prefix: Annotated[str, msgspec.Meta(max_length=900, pattern=LISTABLE)] = ""
    top: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = _MOST
    after: str | None = None


class FailuresAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of failures, as storage lists them. ``next`` is the ``after`` of the following page, ``null`` on the last.

    A page may be short, or empty, and not the last.
    """

    failures: list[FailureRecord]
    next: str | None


class _Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ends: in the listing that begins at this marker, behind this key."""

    marker: str
    key: str


class Failures:
    """Lists failures. Safe to call from many threads."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records

    def find(self, request: FailuresRequest) -> FailuresAnswer:
        """The failures that a request asks for: one listing at least, and a small read for each of them.

        Raises :class:`~shared.errors.QueryError`, ``ModelError`` if the space cannot be read, and ``StorageError``.
        """
        keys, place = self._keys(request)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="failures") as threads:
            found = list(threads.map(self._records.failure_at, keys))
        failures = [one for one in found if one is not None and one.name.startswith(request.prefix)]
        return FailuresAnswer(failures=failures, next=None if place is None else _token(place))

    def _keys(self, request: FailuresRequest) -> tuple[list[str], _Place | None]:
        """The keys of a page, and where it ends; ``None`` at the end of all."""
        start = _Place("", "") if request.after is None else _read_place(request.after)
        keys: list[str] = []
        with closing(self._pages(request, start)) as pages:
            for number, page in enumerate(pages, start=1):
                last = start.key if page.marker == start.marker else ""
                for blob in _behind(page.blobs, last):
                    if request.code in {None, blob.metadata.get("code")}:
                        if len(keys) == request.top:
                            return keys, _Place(page.marker, last)
                        keys.append(blob.name)
                    last = blob.name
                if number == _MAX_LISTINGS and page.next_marker:
                    return keys, _Place(page.next_marker, "")
        return keys, None

    def _pages(self, request: FailuresRequest, start: _Place) -> Generator[Page]:
        try:
            yield from self._records.list_failures(request.prefix, start.marker)
        except StorageError as error:
            if start.marker and error.status == HTTPStatus.BAD_REQUEST:
                raise _no_token() from error
            raise


def _behind(blobs: Sequence[Listed], key: str) -> Sequence[Listed]:
    """What follows this key; if its record is gone by now, what is larger."""
    keys = [blob.name for blob in blobs]
    if not key:
        return blobs
    if key in keys:
        return blobs[keys.index(key) + 1 :]
    return [blob for blob in blobs if blob.name > key]


def _token(place: _Place) -> str:
    return pybase64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def _read_place(token: str) -> _Place:
    try:
        return msgspec.msgpack.decode(pybase64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=_Place)
    except (ValueError, RecursionError) as error:
        raise _no_token() from error


def _no_token() -> QueryError:
    return QueryError("invalid_request", "This is not the next of any answer.", target="after")
