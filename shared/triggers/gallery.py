"""The HTTP routes behind the gallery: its page, thumbnails, the newest images, failures, and records by name."""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus

import azure.functions as func
import msgspec

from shared.errors import Busy, IndexUnavailable, ModelError, QueryError, StorageError
from shared.gallery import page
from shared.gallery.failures import Failures, FailuresRequest
from shared.gallery.newest import Newest, NewestRequest
from shared.gallery.stored import RecordRequest, StoredRecords
from shared.gallery.thumbnails import ThumbnailRequest, Thumbnails
from shared.parsing import convert_strings
from shared.triggers.http import error_response, failure_response, json_response, search_off, storage_unavailable

# Kept by the caller alone, and used again only after asking: a key may be revoked, and an image replaced or deleted.
_PRIVATE = {"cache-control": "private, no-cache"}
_ETAG = re.compile(r'"([^"]*)"')


def file(request: func.HttpRequest, name: str) -> func.HttpResponse:
    """A file of the page, to anyone: it holds no data."""
    found = page.files().get(name)
    if found is None:
        return error_response(404, "not_found", "The gallery has no such file.")
    headers = {**page.HEADERS, "etag": f'"{found.etag}"'}
    if _knows(request)(found.etag):
        return func.HttpResponse(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    body = found.plain
    if "gzip" in request.headers.get("accept-encoding", "").lower():
        body, headers["content-encoding"] = found.compressed, "gzip"
    return func.HttpResponse(body, headers=headers, mimetype=found.media_type)


def thumbnail(request: func.HttpRequest, thumbnails: Thumbnails) -> func.HttpResponse:
    """A small JPEG of an image."""

    def answer() -> func.HttpResponse:
        is_known = _knows(request) if "if-none-match" in request.headers else None
        made = thumbnails.make(_name(request), _fields(request, ThumbnailRequest), is_known)
        headers = {**_PRIVATE, "etag": f'"{made.etag}"', "x-content-type-options": "nosniff"}
        if made.jpeg is None:
            return func.HttpResponse(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return func.HttpResponse(made.jpeg, headers=headers, mimetype="image/jpeg")

    return _answered(answer)


def stored_record(request: func.HttpRequest, records: StoredRecords) -> func.HttpResponse:
    """An image's record, with or without its vector."""

    def answer() -> func.HttpResponse:
        found = records.find(_name(request), _fields(request, RecordRequest), _knows(request))
        headers = {**_PRIVATE, "etag": f'"{found.etag}"'}
        if found.fields is None:
            return func.HttpResponse(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return json_response(found.fields, headers=headers)

    return _answered(answer)


def newest_images(request: func.HttpRequest, newest: Newest | None) -> func.HttpResponse:
    """The images that were embedded last."""

    def answer() -> func.HttpResponse:
        if newest is None:
            raise search_off()
        return json_response(newest.find(_fields(request, NewestRequest)))

    return _answered(answer)


def failures(request: func.HttpRequest, use: Failures) -> func.HttpResponse:
    """The images that have no embedding, and why."""
    return _answered(lambda: json_response(use.find(_fields(request, FailuresRequest))))


def _answered(answer: Callable[[], func.HttpResponse]) -> func.HttpResponse:
    """The response, which is an error in the API's shape if ``answer`` raises."""
    try:
        return answer()
    except (QueryError, ModelError, IndexUnavailable, Busy) as error:
        return failure_response(error)
    except StorageError as error:
        return storage_unavailable(error)


def _name(request: func.HttpRequest) -> str:
    """The name of an image, behind the route or in the query string.

    Behind the route, servers on the way may change it: a slash may stay encoded, two of them become one.
    """
    if name := request.params.get("name"):
        return str(name)
    return re.sub("%2f", "/", request.route_params.get("name") or "", flags=re.IGNORECASE)


def _fields[Shape: msgspec.Struct](request: func.HttpRequest, shape: type[Shape]) -> Shape:
    """What the query string says; it may have other parameters as well."""
    parameters: Mapping[str, str] = request.params
    given = {name: parameters[name] for name in shape.__struct_fields__ if name in parameters}
    return convert_strings(given, shape)


def _knows(request: func.HttpRequest) -> Callable[[str], bool]:
    """Whether the caller has the version with an ETag, by ``If-None-Match``."""
    known: str = request.headers.get("if-none-match", "")
    etags = set(_ETAG.findall(known))
    return lambda etag: etag in etags or known.strip() == "*"
