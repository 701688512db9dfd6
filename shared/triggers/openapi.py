"""The OpenAPI 3.1 document of the app's routes, generated from the types that read requests and write answers."""

import functools
import json
import sys
from typing import get_args

from shared import __version__
from shared.audit.reconcile import ReconcileRequest
from shared.audit.report import AuditReport
from shared.errors import PictureCode, RefusalCode
from shared.exports.report import ExportReport, ExportRequest
from shared.model.foundry import EmbeddingsAnswer
from shared.operations.status import AppStatus
from shared.queries.azure_ai_search import MAX_RECORDS, WebApiAnswer, WebApiRequest, WebApiVector
from shared.queries.formats.foundry_api import (
    DeploymentList,
    EmbeddingsOptions,
    ImageEmbeddingsRequest,
    ModelInfo,
    TextEmbeddingsRequest,
)
from shared.queries.formats.search_api import SearchAnswer, SearchRequest
from shared.queries.queries import MAX_QUERIES, MAX_TEXTS
from shared.queries.records import QueryRecord
from shared.triggers import openapi_gallery
from shared.triggers.http import ErrorAnswer
from shared.triggers.openapi_parts import (
    CLIENT_REQUEST_ID,
    EXTRA_PARAMETERS,
    FRESH,
    HEADERS,
    IMAGE_BODIES,
    INPUT_TYPE,
    SECURITY_SCHEMES,
    Json,
    also_from_host,
    answer,
    answer_of,
    error,
    image_form,
    in_query,
    json_of,
    operation,
    shapes_of,
    too_large,
    with_optional,
    with_parameters,
    without_null,
)
from shared.uploads.records import FailureRecord

# 64 red pixels, so that the document's example works as it is.
_RED = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mP8z4AdMDEMKQkAzUEBD7t4NqoAAAAASUVORK5CYII="

_IMAGE = (
    "A data URL (`data:image/jpeg;base64,…`) or bare base64, in any format of the README. Line breaks, missing padding,"
    " the URL-safe alphabet and, in a data URL, percent-encoding are taken. Links are not followed."
)
_TEXTS = (
    "Texts, none of them blank; a data URL of an image is that image, and so is an object with an `image`. Up to"
    f" {MAX_TEXTS:,} if all are texts, else {MAX_QUERIES}. Token numbers are not taken."
)
_NOT_BLANK = r"\S"
_EXTRAS = "Other fields are rejected, unless the header `extra-parameters` is `drop` or `pass-through`."

_BAD_QUERY = ", ".join(f"`{code}`" for code in ("invalid_json", "invalid_request", "unknown_model"))
_BAD_PICTURE = ", ".join(f"`{code}`" for code in get_args(PictureCode) if not code.startswith("too_many"))
_UNREADABLE_SPACE = "`model_misconfigured`: a space's `space.json` cannot be read."
_REFUSED = ", ".join(f"`{code}`" for code in get_args(RefusalCode))


@functools.cache
def document() -> Json:
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
        "security": [{"header": []}, {"query": []}, {"header": [], "entra": []}],
        "paths": {
            "/models/images/embeddings": {"post": _image_embeddings()},
            "/models/embeddings": {"post": _text_embeddings()},
            "/models": {"get": _models("models")},
            # OpenAI's clients ask below the address that they are given, which ends in /models.
            "/models/models": {"get": _models("openai_models")},
            "/models/info": {"get": _model_info()},
            "/search": {"post": _search()},
            **openapi_gallery.paths(),
            "/skill": {"post": _skill()},
            "/vectorizer": {"post": _vectorizer()},
            "/reconcile": {"post": _reconcile()},
            "/export": {"post": _export()},
            "/status": {"get": _status()},
            "/health": {"get": _health()},
            "/openapi.json": {"get": _openapi_document()},
        },
        "components": {
            "schemas": {**_requests(), **_answers(), **_records()},
            "headers": HEADERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def text() -> str:
    """The document as ``docs/openapi.json`` has it."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


# Routes


def _image_embeddings() -> Json:
    options = shapes_of(EmbeddingsOptions)["EmbeddingsOptions"]["properties"]
    beside_an_image = {
        "text": {"type": "string"},
        **{name: without_null(schema) for name, schema in options.items() if name not in {"extras", "user"}},
    }
    made = operation("image_embeddings", "Embed images, each with or without a text", _embeddings())
    return {
        **with_parameters(made, EXTRA_PARAMETERS, FRESH, *in_query(beside_an_image)),
        "requestBody": {
            "description": "JSON in the API's shape; or one image, with its text and the options in the query string;"
            " or a form with one file, and the rest in its fields or in the query string.",
            "required": True,
            "content": {
                **json_of(
                    ImageEmbeddingsRequest,
                    example={"input": [{"image": f"data:image/png;base64,{_RED}", "text": "a red square"}]},
                ),
                **IMAGE_BODIES,
                "multipart/form-data": image_form(beside_an_image),
            },
        },
    }


def _text_embeddings() -> Json:
    made = operation("text_embeddings", "Embed texts into the space of the images", _embeddings())
    return {
        **with_parameters(made, EXTRA_PARAMETERS, FRESH, INPUT_TYPE),
        "requestBody": {
            "required": True,
            "content": json_of(TextEmbeddingsRequest, example={"input": ["a red bicycle", "a blue door"]}),
        },
    }


def _models(name: str) -> Json:
    listed = answer("The deployments, as OpenAI's API lists models. The first is that of queries.", DeploymentList)
    return operation(name, "List the deployments that a request may name", {200: listed})


def _model_info() -> Json:
    return operation("model_info", "Describe the model", {200: answer("The model.", ModelInfo)})


def _search() -> Json:
    """The errors of the routes that embed, without those about options, of which it has none."""
    answers = {
        **_embeddings(),
        200: with_optional(
            answer(
                "The images, best first: those with equal scores by name. `usage` counts only a call made to the model."
                " The headers are there if an image or a text was searched for.",
                SearchAnswer,
                "x-embedding-cache",
                "x-embedding-record",
            ),
            "x-embedding-cache",
        ),
        400: error(
            f"`target` is the field at fault: `invalid_json`, `invalid_request`, {_BAD_PICTURE}; or the model's"
            f" {_REFUSED}."
        ),
        404: also_from_host(
            "`unknown_image`: there is no image to be `like`. `search_off`: the app keeps no index. Without a body: no"
            " such route or method."
        ),
        413: too_large("`request_too_large`, `too_many_bytes`, `too_many_pixels`."),
        422: error(f"The model's {_REFUSED}."),
        503: error(
            "`model_unavailable`, `storage_unavailable`; `index_loading`: this instance is reading the index for the"
            " first time; `index_too_large`: it has not enough memory for it.",
            "retry-after",
        ),
    }
    fields = shapes_of(SearchRequest)["SearchRequest"]["properties"]
    names = ("text", "top", "prefix", "min_score", "since", "after")
    beside_an_image = {name: without_null(fields[name]) for name in names}
    made = operation("search", "Find the images nearest to an image, a text, a vector or a stored image", answers)
    return {
        **with_parameters(made, FRESH, *in_query(beside_an_image)),
        "requestBody": {
            "description": "JSON; or one image, with the rest in the query string; or a form with one file, and the"
            " rest in its fields or in the query string.",
            "required": True,
            "content": {
                **json_of(SearchRequest, example={"text": "a red bicycle", "top": 3}),
                **IMAGE_BODIES,
                "multipart/form-data": image_form(beside_an_image),
            },
        },
    }


def _skill() -> Json:
    """Most errors belong to single records, in an answer with status 200."""
    answers = {
        200: answer("A result for each record, in order. A record that cannot be embedded has errors.", WebApiAnswer),
        400: error("`invalid_json`, `invalid_request`."),
        413: too_large("`request_too_large`."),
        429: error("`too_many_requests`: no record was embedded.", "retry-after"),
        502: error("`model_misconfigured`: a setting or a role must be fixed."),
        503: error("`model_unavailable`, `storage_unavailable`: no record was embedded.", "retry-after"),
    }
    return {
        **operation("skill", "Custom skill of Azure AI Search: embed documents for an indexer", answers),
        "requestBody": {"required": True, "content": json_of(WebApiRequest, example=_search_example("an old barn"))},
    }


def _vectorizer() -> Json:
    """The errors of the routes that embed, without those about options, of which it has none."""
    answers = {
        **_embeddings(),
        200: answer("The result of the one record.", WebApiAnswer),
        400: error(
            f"`invalid_json`, `invalid_request`, `image_not_readable`, {_BAD_PICTURE}; or the model's {_REFUSED}."
        ),
        413: too_large("`request_too_large`, `too_many_bytes`, `too_many_pixels`."),
        422: error(f"The model's {_REFUSED}."),
        503: error("`model_unavailable`, `storage_unavailable`.", "retry-after"),
    }
    return {
        **operation("vectorizer", "Custom vectorizer of Azure AI Search: embed a query for an index", answers),
        "requestBody": {"required": True, "content": json_of(WebApiRequest, example=_search_example("red barns"))},
    }


def _search_example(text: str) -> Json:
    return {"values": [{"recordId": "0", "data": {"text": text}}]}


def _reconcile() -> Json:
    answers = {
        200: answer("The audit is finished.", AuditReport),
        202: answer("The audit continues in the background. This is what it has found so far.", AuditReport),
        400: error("`invalid_json`, `invalid_request`."),
        413: too_large("`request_too_large`."),
        502: error(_UNREADABLE_SPACE),
        503: error("`storage_unavailable`.", "retry-after"),
    }
    summary = "Compare all images with their records, and queue those that need a sync"
    return {
        **operation("reconcile", summary, answers),
        "requestBody": {"required": False, "content": json_of(ReconcileRequest, example={"dry_run": True})},
    }


def _export() -> Json:
    answers = {
        202: answer("The export is made in the background. This is how far it is.", ExportReport),
        400: error("`invalid_json`, `invalid_request`."),
        409: error("`export_running`: another export runs. One is made at a time."),
        413: too_large("`request_too_large`."),
        502: error(_UNREADABLE_SPACE),
        503: error("`storage_unavailable`.", "retry-after"),
    }
    return {
        **operation("export", "Write all records, or those since some time, as a table in Parquet", answers),
        "requestBody": {"required": False, "content": json_of(ExportRequest, example={"prefix": "trip/"})},
    }


def _status() -> Json:
    answers = {
        200: answer("The state of the app.", AppStatus),
        502: error(_UNREADABLE_SPACE),
        503: error("`storage_unavailable`.", "retry-after"),
    }
    return operation("status", "Report progress and failures", answers)


def _health() -> Json:
    properties = {"status": {"type": "string", "const": "ok"}, "dimensions": {"type": ["integer", "null"]}}
    healthy = {"type": "object", "properties": properties, "required": ["status"]}
    return {
        "operationId": "health",
        "summary": "Say whether the app works, and if not, what to fix",
        "security": [],
        "parameters": [CLIENT_REQUEST_ID],
        "responses": {
            "200": answer_of("The app works.", healthy),
            "503": error(
                "`bad_settings`: the message names each setting to fix; the other routes say the same. Or a problem of"
                " the deployment: `no_identity`, `missing_container`, `missing_queue`, `missing_role`, `unreachable`,"
                " `storage_unavailable`, `model_misconfigured`, `other_model`, `other_dimensions`, `unreadable_space`;"
                " `details` lists every problem. Problems are cached for 15 seconds, and success for five minutes."
            ),
        },
    }


def _openapi_document() -> Json:
    itself = answer_of("This document.", {"type": "object"})
    return operation("openapi_document", "Describe these routes in OpenAPI 3.1", {200: itself})


# Parameters and request bodies


def _requests() -> Json:
    """The schemas of request bodies, with the limits that ``Queries`` and ``AzureAISearch`` check."""
    shapes = shapes_of(
        ImageEmbeddingsRequest, TextEmbeddingsRequest, ReconcileRequest, ExportRequest, WebApiRequest, SearchRequest
    )
    for name, most in (("ImageEmbeddingsRequest", MAX_QUERIES), ("TextEmbeddingsRequest", MAX_TEXTS)):
        shape = shapes[name]
        fields = shape["properties"]
        del fields["extras"]
        shape["description"] += f" {_EXTRAS}"
        shape["additionalProperties"] = False
        _allow_null(fields, "input_type", "encoding_format")
        [several] = [one for one in (fields["input"], *fields["input"].get("anyOf", [])) if one.get("type") == "array"]
        several.update(minItems=1, maxItems=most)
    texts = shapes["TextEmbeddingsRequest"]["properties"]["input"]
    texts["description"] = _TEXTS
    [of_several] = [one["items"] for one in texts["anyOf"] if one.get("type") == "array"]
    for one in (*texts["anyOf"], *of_several["anyOf"]):
        if one.get("type") == "string":
            one["pattern"] = _NOT_BLANK
    for name in ("ImageInput", "TextOrImage"):
        shapes[name]["additionalProperties"] = False
        shapes[name]["properties"]["image"]["description"] = _IMAGE
    shapes["WebApiRequest"]["properties"]["values"]["maxItems"] = MAX_RECORDS
    search = shapes["SearchRequest"]["properties"]
    _allow_null(search, "top", "prefix")
    search["image"]["description"] = _IMAGE
    return shapes


def _allow_null(fields: Json, *names: str) -> None:
    """Null stands for the default, here too."""
    for name in names:
        fields[name] = {"anyOf": [fields[name], {"type": "null"}]}


# Answers


def _answers() -> Json:
    """The schemas of answers. Except in errors, ``WebApiVector`` and records, every field is always present."""
    ours = (
        EmbeddingsAnswer,
        DeploymentList,
        ModelInfo,
        AuditReport,
        ExportReport,
        AppStatus,
        WebApiAnswer,
        SearchAnswer,
    )
    shapes = shapes_of(*ours, *openapi_gallery.SHAPES)
    for shape in shapes.values():
        shape["required"] = list(shape["properties"])
    return {**shapes, **shapes_of(ErrorAnswer, WebApiVector), **openapi_gallery.record_shape()}


def _records() -> Json:
    """The schemas of what is stored, for those who read the container instead of a route."""
    return shapes_of(FailureRecord, QueryRecord)


def _embeddings() -> dict[int, Json]:
    """The answers of the two routes that embed."""
    return {
        200: answer(
            "The embeddings, in the order of the inputs. `usage` counts only the calls made to the model.",
            EmbeddingsAnswer,
            "x-embedding-cache",
            "x-embedding-record",
        ),
        400: error(f"`target` is the field at fault: {_BAD_QUERY}, {_BAD_PICTURE}; or the model's {_REFUSED}."),
        413: too_large(
            f"`request_too_large`, `too_many_bytes`, `too_many_pixels`, over {MAX_QUERIES} inputs, or"
            f" {MAX_TEXTS:,} texts."
        ),
        415: error(f"The model's {_REFUSED}."),
        422: error(f"`parameter_not_supported` by the model; or the model's {_REFUSED}."),
        429: error("`too_many_requests`.", "retry-after"),
        502: error("`model_failed`; or `model_misconfigured`: a setting or a role must be fixed."),
        503: error("`model_unavailable`.", "retry-after"),
        504: error("`model_timeout`."),
    }


if __name__ == "__main__":
    sys.stdout.write(text())
