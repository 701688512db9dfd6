"""The OpenAPI 3.1 document of the app's routes, generated from the types that read requests and write answers."""

import functools
from typing import Any, get_args

import msgspec

from shared import __version__
from shared.audit.reconcile import ReconcileRequest
from shared.audit.report import AuditReport
from shared.errors import PictureCode, RefusalCode
from shared.model.foundry import EmbeddingsAnswer
from shared.operations.status import AppStatus
from shared.queries.azure_ai_search import MAX_RECORDS, WebApiAnswer, WebApiRequest, WebApiVector
from shared.queries.foundry_api import EmbeddingsOptions, ImageEmbeddingsRequest, ModelInfo, TextEmbeddingsRequest
from shared.queries.queries import MAX_QUERIES, Cache
from shared.triggers.http import ErrorAnswer

type _Json = dict[str, Any]

# 64 red pixels, so that the document's example works as it is.
_RED = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mP8z4AdMDEMKQkAzUEBD7t4NqoAAAAASUVORK5CYII="

_IMAGE = (
    "A data URL (`data:image/jpeg;base64,…`) or bare base64, in any format of the README. Line breaks, missing padding,"
    " the URL-safe alphabet and, in a data URL, percent-encoding are taken. Links are not followed."
)
_EXTRAS = "Other fields are rejected, unless the header `extra-parameters` is `drop` or `pass-through`."

_BAD_QUERY = ", ".join(f"`{code}`" for code in ("invalid_json", "invalid_request", "unknown_model"))
_BAD_PICTURE = ", ".join(f"`{code}`" for code in get_args(PictureCode) if not code.startswith("too_many"))
_UNREADABLE_SPACE = "`model_misconfigured`: a space's `space.json` cannot be read."
_REFUSED = ", ".join(f"`{code}`" for code in get_args(RefusalCode))


@functools.cache
def document() -> _Json:
    """The document, generated once."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image embeddings",
            "version": __version__,
            "description": "Embeds images and texts into one space, in the wire format of Azure AI Foundry Models, and"
            " reports on the embeddings of the images in storage.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api"}],
        "security": [{"header": []}, {"query": []}],
        "paths": {
            "/models/images/embeddings": {"post": _image_embeddings()},
            "/models/embeddings": {"post": _text_embeddings()},
            "/models/info": {"get": _model_info()},
            "/skill": {"post": _skill()},
            "/vectorizer": {"post": _vectorizer()},
            "/reconcile": {"post": _reconcile()},
            "/status": {"get": _status()},
            "/health": {"get": _health()},
            "/openapi.json": {"get": _openapi_document()},
        },
        "components": {
            "schemas": {**_requests(), **_answers()},
            "headers": _HEADERS,
            "securitySchemes": {
                "header": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "query": {"type": "apiKey", "in": "query", "name": "code"},
            },
        },
    }


# Routes


def _image_embeddings() -> _Json:
    text = {
        "name": "text",
        "in": "query",
        "description": "If the body is an image or a form: the text to embed together with the image.",
        "schema": {"type": "string"},
    }
    return {
        **_operation("image_embeddings", "Embed images, each with or without a text", _embeddings()),
        "parameters": [*_REQUEST_HEADERS, text, *_options_in_query()],
        "requestBody": {
            "description": "JSON in the API's shape; or one image, with its text and the options in the query string;"
            " or a form with one file, and the rest in its fields or in the query string.",
            "required": True,
            "content": {
                **_json(
                    ImageEmbeddingsRequest,
                    example={"input": [{"image": f"data:image/png;base64,{_RED}", "text": "a red square"}]},
                ),
                "image/*": {},
                "application/octet-stream": {},
                "multipart/form-data": _image_form(),
            },
        },
    }


def _text_embeddings() -> _Json:
    return {
        **_operation("text_embeddings", "Embed texts into the space of the images", _embeddings()),
        "parameters": _REQUEST_HEADERS,
        "requestBody": {
            "required": True,
            "content": _json(TextEmbeddingsRequest, example={"input": ["a red bicycle", "a blue door"]}),
        },
    }


def _model_info() -> _Json:
    return _operation("model_info", "Describe the model", {200: _answer("The model.", ModelInfo)})


def _skill() -> _Json:
    """Most errors belong to single records, in an answer with status 200."""
    answers = {
        200: _answer("A result for each record, in order. A record that cannot be embedded has errors.", WebApiAnswer),
        400: _error("`invalid_json`, `invalid_request`."),
        413: _too_large("`request_too_large`."),
        429: _error("`too_many_requests`: no record was embedded.", "retry-after"),
        502: _error("`model_misconfigured`: a setting or a role must be fixed."),
        503: _error("`model_unavailable`, `storage_unavailable`: no record was embedded.", "retry-after"),
    }
    return {
        **_operation("skill", "Custom skill of Azure AI Search: embed documents for an indexer", answers),
        "requestBody": {"required": True, "content": _json(WebApiRequest, example=_search_example("an old barn"))},
    }


def _vectorizer() -> _Json:
    """The errors of the routes that embed, without those about options, of which it has none."""
    answers = {
        **_embeddings(),
        200: _answer("The result of the one record.", WebApiAnswer),
        400: _error(
            f"`invalid_json`, `invalid_request`, `image_not_readable`, {_BAD_PICTURE}; or the model's {_REFUSED}."
        ),
        413: _too_large("`request_too_large`, `too_many_bytes`, `too_many_pixels`."),
        422: _error(f"The model's {_REFUSED}."),
        503: _error("`model_unavailable`, `storage_unavailable`.", "retry-after"),
    }
    return {
        **_operation("vectorizer", "Custom vectorizer of Azure AI Search: embed a query for an index", answers),
        "requestBody": {"required": True, "content": _json(WebApiRequest, example=_search_example("red barns"))},
    }


def _search_example(text: str) -> _Json:
    return {"values": [{"recordId": "0", "data": {"text": text}}]}


def _reconcile() -> _Json:
    answers = {
        200: _answer("The audit is finished.", AuditReport),
        202: _answer("The audit continues in the background. This is what it has found so far.", AuditReport),
        400: _error("`invalid_json`, `invalid_request`."),
        413: _too_large("`request_too_large`."),
        502: _error(_UNREADABLE_SPACE),
        503: _error("`storage_unavailable`.", "retry-after"),
    }
    summary = "Compare all images with their records, and queue those that need a sync"
    return {
        **_operation("reconcile", summary, answers),
        "requestBody": {"required": False, "content": _json(ReconcileRequest, example={"dry_run": True})},
    }


def _status() -> _Json:
    answers = {
        200: _answer("The state of the app.", AppStatus),
        502: _error(_UNREADABLE_SPACE),
        503: _error("`storage_unavailable`.", "retry-after"),
    }
    return _operation("status", "Report progress and failures", answers)


def _health() -> _Json:
    properties = {"status": {"const": "ok"}, "dimensions": {"type": ["integer", "null"]}}
    healthy = {"type": "object", "properties": properties, "required": ["status"]}
    return {
        "operationId": "health",
        "summary": "Say whether the app works, and if not, what to fix",
        "security": [],
        "responses": {
            "200": {"description": "The app works.", "content": {"application/json": {"schema": healthy}}},
            "503": _error(
                "`bad_settings`: the message names each setting to fix; the other routes say the same. Or a problem of"
                " the deployment: `no_identity`, `missing_container`, `missing_queue`, `missing_role`, `unreachable`,"
                " `storage_unavailable`, `model_misconfigured`, `other_model`, `other_dimensions`, `unreadable_space`;"
                " `details` lists every problem. Problems are cached for 15 seconds, and success for five minutes."
            ),
        },
    }


def _openapi_document() -> _Json:
    itself = {"description": "This document.", "content": {"application/json": {"schema": {"type": "object"}}}}
    return _operation("openapi_document", "Describe these routes in OpenAPI 3.1", {200: itself})


def _operation(name: str, summary: str, answers: dict[int, _Json]) -> _Json:
    """An operation that needs a key, with the answers that the host adds, none of which has a body."""
    unavailable = answers[503]["description"] if 503 in answers else ""
    all_answers = {
        **answers,
        503: _error(f"{unavailable} `bad_settings`: the message names each setting to fix.".strip(), "retry-after"),
        401: {"description": "The key is missing or wrong. No body."},
        404: {"description": "No such route or method. No body."},
        500: {"description": "An unexpected error in the app, which is in its log. No body."},
    }
    responses = {str(status): all_answers[status] for status in sorted(all_answers)}
    return {"operationId": name, "summary": summary, "responses": responses}


# Parameters and request bodies


_REQUEST_HEADERS: list[_Json] = [
    {
        "name": "extra-parameters",
        "in": "header",
        "description": "What to do with fields that the API does not have: reject, ignore, or send them to the model.",
        "schema": {"enum": ["error", "drop", "pass-through"], "default": "error"},
    },
    {
        "name": "cache-control",
        "in": "header",
        "description": "`no-cache` calls the model even if the answer is cached.",
        "schema": {"type": "string"},
    },
]


def _options_in_query() -> list[_Json]:
    """The options of the JSON body, for a body that is an image. A query string has no null."""
    return [
        {
            "name": name,
            "in": "query",
            "description": "If the body is an image or a form; otherwise it is a field of the JSON body.",
            "schema": schema,
        }
        for name, schema in _options_as_text().items()
    ]


def _image_form() -> _Json:
    """A form with an image. The name of the file's field does not matter."""
    image = {"type": "string", "format": "binary", "description": "The image, as a file."}
    fields = {"image": image, "text": {"type": "string"}, **_options_as_text()}
    return {"schema": {"type": "object", "properties": fields, "required": ["image"]}}


def _options_as_text() -> _Json:
    """The schemas of the options where there is no null."""
    options = _shapes(EmbeddingsOptions)["EmbeddingsOptions"]["properties"]
    return {name: _without_null(schema) for name, schema in options.items() if name != "extras"}


def _without_null(schema: _Json) -> _Json:
    if "anyOf" not in schema:
        return schema
    [some] = [one for one in schema["anyOf"] if one != {"type": "null"}]
    return dict(some)


def _requests() -> _Json:
    """The schemas of request bodies, with the limits that ``Queries`` and ``AzureAISearch`` check."""
    shapes = _shapes(ImageEmbeddingsRequest, TextEmbeddingsRequest, ReconcileRequest, WebApiRequest)
    for name in ("ImageEmbeddingsRequest", "TextEmbeddingsRequest"):
        shape = shapes[name]
        fields = shape["properties"]
        del fields["extras"]
        shape["description"] += f" {_EXTRAS}"
        shape["additionalProperties"] = False
        for option in ("input_type", "encoding_format"):
            # Null stands for the default here too.
            fields[option] = {"anyOf": [fields[option], {"type": "null"}]}
        [several] = [one for one in (fields["input"], *fields["input"].get("anyOf", [])) if one.get("type") == "array"]
        several.update(minItems=1, maxItems=MAX_QUERIES)
    image = shapes["ImageInput"]
    image["additionalProperties"] = False
    image["properties"]["image"]["description"] = _IMAGE
    shapes["WebApiRequest"]["properties"]["values"]["maxItems"] = MAX_RECORDS
    return shapes


# Answers


_HEADERS: _Json = {
    "x-embedding-cache": {
        "description": "Whether the answers came from the cache.",
        "required": True,
        "schema": {"enum": list(get_args(Cache))},
    },
    "x-embedding-record": {
        "description": "The blobs that hold the embeddings, separated by `, `. Missing if none are kept.",
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


def _answers() -> _Json:
    """The schemas of answers. Except in ``ErrorAnswer`` and ``WebApiVector``, every field is always present."""
    shapes = _shapes(EmbeddingsAnswer, ModelInfo, AuditReport, AppStatus, WebApiAnswer)
    for shape in shapes.values():
        shape["required"] = list(shape["properties"])
    return {**shapes, **_shapes(ErrorAnswer, WebApiVector)}


def _embeddings() -> dict[int, _Json]:
    """The answers of the two routes that embed."""
    answer = _answer(
        "The embeddings, in the order of the inputs. `usage` counts only the calls made to the model.",
        EmbeddingsAnswer,
        "x-embedding-cache",
        "x-embedding-record",
    )
    return {
        200: answer,
        400: _error(f"`target` is the field at fault: {_BAD_QUERY}, {_BAD_PICTURE}; or the model's {_REFUSED}."),
        413: _too_large(f"`request_too_large`, `too_many_bytes`, `too_many_pixels`, over {MAX_QUERIES} inputs."),
        415: _error(f"The model's {_REFUSED}."),
        422: _error(f"`parameter_not_supported` by the model; or the model's {_REFUSED}."),
        429: _error("`too_many_requests`.", "retry-after"),
        502: _error("`model_failed`; or `model_misconfigured`: a setting or a role must be fixed."),
        503: _error("`model_unavailable`.", "retry-after"),
        504: _error("`model_timeout`."),
    }


def _answer(description: str, shape: type[msgspec.Struct], *headers: str) -> _Json:
    answer: _Json = {"description": description, "content": _json(shape)}
    if headers:
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return answer


def _error(description: str, *headers: str) -> _Json:
    return _answer(description, ErrorAnswer, "x-ms-error-code", *headers)


def _too_large(description: str) -> _Json:
    """An error of the app; or one of the host, which has no code and no body."""
    answer = _error(f"{description} The host rejects much larger requests, without a body.")
    answer["headers"]["x-ms-error-code"] = {**_HEADERS["x-ms-error-code"], "required": False}
    return answer


# Schemas


def _json(shape: type[msgspec.Struct], example: object = None) -> _Json:
    content: _Json = {"schema": {"$ref": f"#/components/schemas/{shape.__name__}"}}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def _shapes(*shapes: type[msgspec.Struct]) -> _Json:
    """The schemas of these types and of all types they contain, by name."""
    _, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    return components
