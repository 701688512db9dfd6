"""The part of the OpenAPI document on the routes behind the gallery."""

from typing import get_args

import msgspec

from shared.errors import PictureCode
from shared.gallery import page
from shared.gallery.failures import FailuresAnswer, FailuresRequest
from shared.gallery.newest import NewestAnswer, NewestRequest
from shared.gallery.stored import RecordRequest
from shared.gallery.thumbnails import ThumbnailRequest
from shared.triggers.openapi_parts import (
    CLIENT_REQUEST_ID,
    FILE,
    Json,
    also_from_host,
    answer,
    error,
    operation,
    shapes_of,
    with_headers,
    with_parameters,
    without_null,
)
from shared.uploads.records import EmbeddingRecord

# Every field is always present, but for those of records.
SHAPES: tuple[type[msgspec.Struct], ...] = (FailuresAnswer, NewestAnswer)
_CODES = ", ".join(f"`{code}`" for code in get_args(PictureCode))
_UNKNOWN = "`unknown_image`: there is none of that name. Without a body: no such route or method."
_BAD_REQUEST = error("`invalid_request`: `target` is the parameter at fault.")
_UNREADABLE_SPACE = error("`model_misconfigured`: the space's `space.json` cannot be read.")
_KNOWN: Json = {"description": "The caller has this version, as `if-none-match` says. No body."}
_NAME: list[Json] = [
    {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "The image's name, slashes and all; what URLs give a meaning is percent-encoded.",
        "schema": {"type": "string"},
        "example": "trip/beach.jpg",
    },
    {
        "name": "name",
        "in": "query",
        "description": "The same, where the path cannot carry it: a name with a backslash, an encoded slash or two"
        " slashes in a row. Nothing need stand behind the route then.",
        "schema": {"type": "string"},
    },
]
_IF_NONE_MATCH: Json = {
    "name": "if-none-match",
    "in": "header",
    "description": "ETags that the caller has.",
    "schema": {"type": "string"},
}


def paths() -> Json:
    """The routes."""
    return {
        "/images": {"get": _newest_images()},
        "/failures": {"get": _failures()},
        "/records/{name}": {"get": _stored_record()},
        "/thumbnails/{name}": {"get": _thumbnail()},
        "/gallery": {"get": _public("gallery", "The page of the gallery, for browsers", "text/html")},
        "/gallery/{file}": {"get": _gallery_file()},
    }


def record_shape() -> Json:
    """The schema of a record; a reader does without what older records lack, and may do without the vector."""
    shapes = shapes_of(EmbeddingRecord)
    shape = shapes["EmbeddingRecord"]
    shape["required"] = [name for name in shape["required"] if name != "embedding"]
    return shapes


def _newest_images() -> Json:
    answers = {
        200: answer("The images, the newest first: those of the same second by name.", NewestAnswer),
        400: _BAD_REQUEST,
        404: also_from_host("`search_off`: the app keeps no index. Without a body: no such route or method."),
        503: error(
            "`storage_unavailable`; `index_loading`: this instance is reading the index for the first time;"
            " `index_too_large`: it has not enough memory for it.",
            "retry-after",
        ),
    }
    return with_parameters(
        operation("newest_images", "List the images that were embedded last", answers), *_parameters(NewestRequest)
    )


def _failures() -> Json:
    answers = {
        200: answer("The failures.", FailuresAnswer),
        400: _BAD_REQUEST,
        502: _UNREADABLE_SPACE,
        503: error("`storage_unavailable`.", "retry-after"),
    }
    return with_parameters(
        operation("failures", "List the images that have no embedding, and why", answers), *_parameters(FailuresRequest)
    )


def _stored_record() -> Json:
    answers = {
        200: answer("The record.", EmbeddingRecord, "etag"),
        304: with_headers(_KNOWN, "etag"),
        400: _BAD_REQUEST,
        404: also_from_host(f"The code of the image's failure; `waiting`: it has no record yet; {_UNKNOWN}"),
        502: _UNREADABLE_SPACE,
        503: error("`storage_unavailable`.", "retry-after"),
    }
    return with_parameters(
        operation("stored_record", "Return the record of an image, or say why it has none", answers),
        *_NAME,
        *_parameters(RecordRequest),
        _IF_NONE_MATCH,
    )


def _thumbnail() -> Json:
    jpeg: Json = {"description": "A JPEG, upright and without metadata.", "content": {"image/jpeg": FILE}}
    answers = {
        200: with_headers(jpeg, "etag"),
        304: with_headers(_KNOWN, "etag"),
        400: _BAD_REQUEST,
        404: also_from_host(_UNKNOWN),
        422: error(
            f"The blob is no picture that can be shown: {', '.join(f'`{one}`' for one in get_args(PictureCode))}."
        ),
        503: error("`busy`: the app has too many pictures in hand; `storage_unavailable`.", "retry-after"),
    }
    return with_parameters(
        operation("thumbnail", "Return a small JPEG of an image", answers),
        *_NAME,
        *_parameters(ThumbnailRequest),
        _IF_NONE_MATCH,
    )


def _gallery_file() -> Json:
    file = {
        "name": "file",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": sorted(page.files())},
        "example": page.INDEX,
    }
    made = _public("gallery_file", "A file of that page", "*/*")
    made["parameters"].append(file)
    made["responses"]["404"] = also_from_host("`not_found`: there is no such file.")
    return made


def _public(name: str, summary: str, media_type: str) -> Json:
    """A route that answers anyone, with a file that holds no data."""
    file: Json = {"description": "The file.", "content": {media_type: FILE}}
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "parameters": [CLIENT_REQUEST_ID, _IF_NONE_MATCH],
        "responses": {"200": with_headers(file, "etag"), "304": with_headers(_KNOWN, "etag")},
    }


def _parameters(shape: type[msgspec.Struct]) -> list[Json]:
    """The fields of a request as parameters of the query string, which has no null."""
    fields = shapes_of(shape)[shape.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": without_null(schema)} for name, schema in fields.items()]
