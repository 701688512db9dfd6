"""The wire format of the image- and text-embeddings API of Azure AI Foundry Models, as clients and servers speak it.

Shapes: the API's TypeSpec (``Azure/azure-rest-api-specs``, ``ai/ModelInference``). The error bodies that really
come back vary far more than the specification says, see :func:`read_error`.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from shared.records import EncodingFormat, InputType


class ImageInput(msgspec.Struct):
    """One image (a data URL or bare base64), alone or with a text that is embedded together with it."""

    image: str
    text: str | None = None


class EmbeddingsOptions(msgspec.Struct, kw_only=True):
    """What both routes take beside their input. ``extras`` are further fields, for the model alone to know."""

    model: str | None = None
    input_type: InputType = "query"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65536)] | None = None
    encoding_format: EncodingFormat = "float"
    extras: dict[str, Any] = {}


class ImageEmbeddingsRequest(EmbeddingsOptions, kw_only=True):
    """The body of ``POST /images/embeddings``."""

    input: list[ImageInput]


class TextEmbeddingsRequest(EmbeddingsOptions, kw_only=True):
    """The body of ``POST /embeddings``. The specification wants a list; a single string is taken as well."""

    input: list[str] | str


class Embedding(msgspec.Struct, kw_only=True):
    """One vector: floats, integers, or base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class Usage(msgspec.Struct, kw_only=True):
    """Tokens charged; ``None`` where the model did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class EmbeddingsAnswer(msgspec.Struct, kw_only=True):
    """The body of a 200, from either route. What a model sends beside these fields is ignored."""

    data: list[Embedding]
    model: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    id: str | None = None
    object: str = "list"


class ModelInfo(msgspec.Struct, kw_only=True):
    """The body of ``GET /info``."""

    model_name: str
    model_type: str
    model_provider_name: str


class ErrorBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an error says."""

    code: str
    message: str
    target: str | None = None
    details: "list[ErrorBody]" = []


class ErrorAnswer(msgspec.Struct, kw_only=True):
    """The body of every error."""

    error: ErrorBody


@dataclass(frozen=True)
class ServiceError:
    """What could be read from an error of the service: ``fields`` are the request fields it names as wrong."""

    code: str
    message: str
    fields: frozenset[str] = frozenset()


_MESSAGE_LIMIT = 1000
_NOT_ALLOWED = re.compile(r"[Ee]xtra (?:parameters|inputs) \[?([^\]]*)\]? are not")


def read_error(body: bytes) -> ServiceError:
    """Read whatever the service sent with a status other than 200; never raises.

    At least six shapes are in use: ``{"error": {…}}``, ``{"error": "…"}``, ``{"code", "message"}`` and
    ``{"statusCode", "message"}`` at the top, validation lists under ``detail``, JSON inside ``message``, and HTML
    or nothing from the proxies in front.
    """
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return ServiceError("", _shorten(body.decode("utf-8", "replace")))
    error = content.get("error", content)
    if not isinstance(error, dict):
        return ServiceError("", _shorten(str(error)), _fields(content.get("detail")))
    code = error.get("code") or error.get("statusCode") or error.get("status") or ""
    message = error.get("message") or error.get("detail") or error.get("status") or body.decode("utf-8", "replace")
    fields = _fields(error.get("detail")) | _fields(error.get("details")) | _fields(_inner(message))
    if listed := _NOT_ALLOWED.search(str(message)):
        fields |= set(re.findall(r"\w+", listed[1]))
    return ServiceError(str(code), _shorten(str(message)), fields)


def _inner(message: object) -> object:
    """The ``detail`` of an error that was packed as JSON text into another one's message."""
    try:
        inner = msgspec.json.decode(message) if isinstance(message, str) else None
    except (msgspec.DecodeError, RecursionError):
        return None
    return inner.get("detail") if isinstance(inner, dict) else None


def _fields(detail: object) -> frozenset[str]:
    """The fields named by ``{"loc": ["body", "dimensions"]}`` or a list of such."""
    items = detail if isinstance(detail, list) else [detail]
    locations = [item.get("loc") for item in items if isinstance(item, dict)]
    return frozenset(
        part
        for location in locations
        if isinstance(location, list)
        for part in location
        if isinstance(part, str) and part != "body"
    )


def _shorten(message: str) -> str:
    """The message on one line, no longer than a log line should be and without image data it may quote."""
    message = re.sub(r"data:image/[^\s\"']{0,40}[^\s\"']*", "data:image/…", " ".join(message.split()))
    return message if len(message) <= _MESSAGE_LIMIT else message[:_MESSAGE_LIMIT] + "…"
