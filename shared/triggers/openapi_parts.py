"""What the OpenAPI document is made of: operations, parameters, answers and schemas."""

from typing import Any, get_args

import msgspec

from shared.model.wire_format import InputType
from shared.queries.queries import Cache
from shared.triggers.http import ErrorAnswer

type Json = dict[str, Any]

HEADERS: Json = {
    "x-ms-request-id": {
        "description": "The id of this request. The app's log line has it.",
        "required": True,
        "schema": {"type": "string"},
    },
    "x-ms-client-request-id": {
        "description": "The header of this name of the request: its first 128 characters of letters, digits and"
        " `._:/+=-`. Missing if there were none.",
        "schema": {"type": "string", "maxLength": 128},
    },
    "x-embedding-cache": {
        "description": "Whether the answers came from the cache.",
        "required": True,
        "schema": {"type": "string", "enum": list(get_args(Cache))},
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
    "schema": {"type": "string", "enum": ["error", "drop", "pass-through"], "default": "error"},
}
FRESH: Json = {
    "name": "cache-control",
    "in": "header",
    "description": "`no-cache` calls the model even if the answer is cached.",
    "schema": {"type": "string"},
}
INPUT_TYPE: Json = {
    "name": "input_type",
    "in": "query",
    "description": "If the body has no such field: for clients that cannot send it.",
    "schema": {"type": "string", "enum": list(get_args(InputType)), "default": "query"},
}
CLIENT_REQUEST_ID: Json = {
    "name": "x-ms-client-request-id",
    "in": "header",
    "description": "An id of the caller's own, which the answer and the app's log line repeat.",
    "schema": {"type": "string"},
}
# Every answer of the app, and none of the host, names the request.
_IDS = ("x-ms-request-id", "x-ms-client-request-id")
SECURITY_SCHEMES: Json = {
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "x-functions-key",
        "description": "A function key of the app.",
    },
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "code",
        "description": "The same key in the URL, for callers that can set no header. URLs are kept in logs, histories"
        " and proxies, and so is a key in one.",
    },
    "entra": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of Entra for `api://<app name>`, where the operator has switched on App Service"
        " authentication. It is checked before the app sees the request, and comes on top of the key.",
    },
}


def in_query(fields: Json) -> list[Json]:
    """Fields of the JSON body, for a body that is an image. A query string has no null."""
    description = "If the body is an image or a form; otherwise it is a field of the JSON body."
    return [
        INPUT_TYPE | {"schema": schema}
        if name == INPUT_TYPE["name"]
        else {"name": name, "in": "query", "description": description, "schema": schema}
        for name, schema in fields.items()
    ]


# A body that is a file. OpenAPI 3.1 needs no schema of one, but generators of clients do.
FILE: Json = {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODIES: Json = {"image/*": FILE, "application/octet-stream": FILE}


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
    if 413 in answers:
        answers = {**answers, 415: _unsupported(answers)}
    all_answers = {
        404: {"description": "No such route or method. No body."},
        **answers,
        503: error(f"{unavailable} `bad_settings`: the message names each setting to fix.".strip(), "retry-after"),
        401: {"description": "The key is missing or wrong. No body."},
        500: {"description": "An unexpected error in the app, which is in its log. No body."},
    }
    responses = {str(status): all_answers[status] for status in sorted(all_answers)}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [CLIENT_REQUEST_ID],
        "responses": responses,
    }


def with_parameters(made: Json, *parameters: Json) -> Json:
    """The operation, with more parameters."""
    return {**made, "parameters": [*made["parameters"], *parameters]}


def answer(description: str, shape: type[msgspec.Struct], *headers: str) -> Json:
    """An answer in JSON, with headers of :data:`HEADERS`."""
    return with_headers({"description": description, "content": json_of(shape)}, *headers)


def with_headers(made: Json, *headers: str) -> Json:
    """The answer with headers of :data:`HEADERS`, and those that every answer of the app has."""
    return {**made, "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in (*_IDS, *headers)}}


def answer_of(description: str, schema: Json) -> Json:
    """An answer in JSON of this schema."""
    return with_headers({"description": description, "content": {"application/json": {"schema": schema}}})


def with_optional(made: Json, *headers: str) -> Json:
    """The answer, in which these headers may be missing."""
    optional = {name: {**HEADERS[name], "required": False} for name in headers}
    return {**made, "headers": {**made["headers"], **optional}}


def error(description: str, *headers: str) -> Json:
    """An error of the app."""
    return answer(description, ErrorAnswer, "x-ms-error-code", *headers)


def too_large(description: str) -> Json:
    """The error for a body that is too large."""
    limit = "A body may have 20 MiB, which is 15 MiB of images in base64."
    return also_from_host(f"{description} {limit} The host rejects much larger requests, without a body.")


def also_from_host(description: str) -> Json:
    """An error of the app; or one of the host, which has no code and no body."""
    return with_optional(error(description), "x-ms-error-code", "x-ms-request-id")


def _unsupported(answers: dict[int, Json]) -> Json:
    """The error of every route that reads a body, beside what it may mean on some."""
    of_the_model = f" Or: {answers[415]['description']}" if 415 in answers else ""
    return error(f"`unsupported_media_type`: the body is nothing that the route takes.{of_the_model}")


def json_of(shape: type[msgspec.Struct], example: object = None) -> Json:
    """Content in JSON."""
    content: Json = {"schema": {"$ref": f"#/components/schemas/{shape.__name__}"}}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def shapes_of(*shapes: type[msgspec.Struct]) -> Json:
    """The schemas of these types and of all types they contain, by name."""
    _, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    _name_types(components)
    return components


def _name_types(schema: object) -> None:
    """Say of every choice of strings that it is one: generators of clients make a class of it, and else of nothing."""
    if isinstance(schema, dict):
        if "enum" in schema and all(isinstance(one, str) for one in schema["enum"]):
            schema.setdefault("type", "string")
        schema = list(schema.values())
    for part in schema if isinstance(schema, list) else ():
        _name_types(part)
