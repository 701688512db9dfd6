"""What the OpenAPI document is made of: operations, parameters, answers and schemas."""

from typing import Any, get_args

import msgspec

from shared.queries.queries import Cache
from shared.triggers.http import ErrorAnswer

type Json = dict[str, Any]

HEADERS: Json = {
    "x-embedding-cache": {
        "description": "Whether the answers came from the cache.",
        "required": True,
        "schema": {"enum": list(get_args(Cache))},
    },
    "x-embedding-record": {
        "description": "The blobs that hold the embeddings, separated by `, `. Missing if none are kept.",
        "schema": {"type": "string"},
    },
    "etag": {
        "description": "The version of what is returned.",
        "required": True,
        "schema": {"type": "string"},
    },
    "x-ms-error-code": {
        "description": "The `code` of the error.",
        "required": True,
        "schema": {"type": "string"},
    },
    "retry-after": {
        "description": "Seconds to wait before a retry.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}
EXTRA_PARAMETERS: Json = {
    "name": "extra-parameters",
    "in": "header",
    "description": "What to do with fields that the API does not have: reject, ignore, or send them to the model.",
    "schema": {"enum": ["error", "drop", "pass-through"], "default": "error"},
}
FRESH: Json = {
    "name": "cache-control",
    "in": "header",
    "description": "`no-cache` calls the model even if the answer is cached.",
    "schema": {"type": "string"},
}


def in_query(fields: Json) -> list[Json]:
    """Fields of the JSON body, for a body that is an image. A query string has no null."""
    description = "If the body is an image or a form; otherwise it is a field of the JSON body."
    return [
        {"name": name, "in": "query", "description": description, "schema": schema} for name, schema in fields.items()
    ]


def image_form(fields: Json) -> Json:
    """A form with an image. The name of the file's field does not matter."""
    image = {"type": "string", "format": "binary", "description": "The image, as a file."}
    return {"schema": {"type": "object", "properties": {"image": image, **fields}, "required": ["image"]}}


def without_null(schema: Json) -> Json:
    """The schema of a field of JSON where there is no null."""
    if "anyOf" not in schema:
        return schema
    some = [one for one in schema["anyOf"] if one != {"type": "null"}]
    return dict(some[0]) if len(some) == 1 else {"anyOf": some}


def operation(name: str, summary: str, answers: dict[int, Json]) -> Json:
    """An operation that needs a key, with the answers that the host adds, none of which has a body."""
    unavailable = answers[503]["description"] if 503 in answers else ""
    all_answers = {
        404: {"description": "No such route or method. No body."},
        **answers,
        503: error(f"{unavailable} `bad_settings`: the message names each setting to fix.".strip(), "retry-after"),
        401: {"description": "The key is missing or wrong. No body."},
        500: {"description": "An unexpected error in the app, which is in its log. No body."},
    }
    responses = {str(status): all_answers[status] for status in sorted(all_answers)}
    return {"operationId": name, "summary": summary, "responses": responses}


def answer(description: str, shape: type[msgspec.Struct], *headers: str) -> Json:
    """An answer in JSON, with headers of :data:`HEADERS`."""
    return with_headers({"description": description, "content": json_of(shape)}, *headers)


def with_headers(made: Json, *headers: str) -> Json:
    """The answer with headers of :data:`HEADERS`."""
    if not headers:
        return made
    return {**made, "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers}}


def with_optional(header: str, made: Json) -> Json:
    """The answer, in which this header may be missing."""
    return {**made, "headers": {**made["headers"], header: {**HEADERS[header], "required": False}}}


def error(description: str, *headers: str) -> Json:
    """An error of the app."""
    return answer(description, ErrorAnswer, "x-ms-error-code", *headers)


def too_large(description: str) -> Json:
    """The error for a body that is too large."""
    return also_from_host(f"{description} The host rejects much larger requests, without a body.")


def also_from_host(description: str) -> Json:
    """An error of the app; or one of the host, which has no code and no body."""
    return with_optional("x-ms-error-code", error(description))


def json_of(shape: type[msgspec.Struct], example: object = None) -> Json:
    """Content in JSON."""
    content: Json = {"schema": {"$ref": f"#/components/schemas/{shape.__name__}"}}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def shapes_of(*shapes: type[msgspec.Struct]) -> Json:
    """The schemas of these types and of all types they contain, by name."""
    _, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    return components
