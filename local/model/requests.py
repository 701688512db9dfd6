"""Requests to the stand-in for the model: what its models can do, who may call it, what it refuses, in which words."""

import base64
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
import pybase64
from PIL import Image
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

AUDIENCES = ("https://cognitiveservices.azure.com", "https://ai.azure.com")
IMAGE_MAX_BYTES = 5_000_000
TEXTS_MAX = 96
# One that this service has never had stands for all that it has no longer.
RETIRED_API_VERSIONS = ("2020-01-01",)
TRUNCATE = ("NONE", "START", "END")


@dataclass(frozen=True)
class Model:
    """What one served model can do. The first of `lengths` is its default."""

    lengths: tuple[int, ...]
    images_max: int = 1
    pairs: bool = True
    input_types: tuple[str, ...] = ("text", "query", "document")
    formats: tuple[str, ...] = ("float", "base64")
    strict: bool = False
    """Whether it refuses fields that only other models know. The others ignore them."""


MODELS = {
    "Cohere-embed-v3-english": Model(lengths=(1024,)),
    "embed-v-4-0": Model(
        lengths=(1536, 256, 512, 1024),
        images_max=96,
        formats=("float", "base64", "int8", "uint8", "binary", "ubinary"),
    ),
    "plain-embed": Model(lengths=(512,), pairs=False, input_types=(), formats=("float",), strict=True),
}


class ImageInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item of `input` on the image route."""

    image: str
    text: str | msgspec.UnsetType = msgspec.UNSET


class Options(msgspec.Struct, frozen=True):
    """What both routes take besides `input`. A key is left out or has a value: null is refused."""

    model: str
    dimensions: int | msgspec.UnsetType = msgspec.UNSET
    input_type: str | msgspec.UnsetType = msgspec.UNSET
    encoding_format: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def length(self) -> int:
        """The length of the vectors that it wants."""
        return self.dimensions or MODELS[self.model].lengths[0]


class ImageRequest(Options, frozen=True, kw_only=True):
    """The body of `POST /models/images/embeddings`."""

    input: Annotated[list[ImageInput], msgspec.Meta(min_length=1)]


class TextRequest(Options, frozen=True, kw_only=True):
    """The body of `POST /models/embeddings`."""

    input: Annotated[list[str], msgspec.Meta(min_length=1, max_length=TEXTS_MAX)]


type EmbeddingsRequest = ImageRequest | TextRequest


class Refusal(Exception):
    """An answer that is not 200, in one of the service's shapes."""

    def __init__(self, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers or {}

    def response(self) -> Response:
        """Make the HTTP response; the error's code also goes into a header."""
        error = self.body.get("error", self.body)
        code = error.get("code") if isinstance(error, dict) else None
        more = {"x-ms-error-code": code} if code else {}
        return JSONResponse(self.body, self.status, {**self.headers, **more})


def authenticate(headers: Headers, api_key: str | None) -> str:
    """Return the `appid` of the caller. Without `api_key` the service takes tokens only and refuses any key."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if api_key is not None:
        if api_key in (headers.get("api-key"), bearer):
            return ""
        message = "Access denied due to invalid subscription key or wrong API endpoint."
        raise wrapped(401, "401", message)
    try:
        payload = bearer.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        valid = claims["aud"].removesuffix("/") in AUDIENCES and claims["exp"] > time.time()
    except (IndexError, KeyError, TypeError, AttributeError, ValueError):
        valid = False
    if not valid or scheme.lower() != "bearer" or "api-key" in headers:
        raise unauthorized()
    return str(claims.get("appid", ""))


def read(request: Request, body: bytes) -> EmbeddingsRequest:
    """Return the request, if its shape is right and its model supports it. Its images are not decoded."""
    if not request.query_params.get("api-version"):
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise wrapped(400, "MissingApiVersionParameter", message)
    if request.query_params["api-version"] in RETIRED_API_VERSIONS:
        raise wrapped(400, "BadRequest", "API version not supported")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise wrapped(400, "BadRequest", f"The request body is not JSON: {error}") from error
    name = fields.get("model") if isinstance(fields, dict) else None
    if not name or not isinstance(name, str):
        message = (
            "No model specified in request. Please provide a model name in the request body or as a "
            "x-ms-model-mesh-model-name header."
        )
        raise wrapped(400, "no_model_name", message, details=message)
    if name not in MODELS:
        raise wrapped(404, "unknown_model", f"Unknown model: {name}", details=f"Unknown model: {name}")
    shape: type[EmbeddingsRequest] = ImageRequest if request.url.path.endswith("/images/embeddings") else TextRequest
    extra = sorted(fields.keys() - set(shape.__struct_fields__))
    wish = request.headers.get("extra-parameters")
    if extra and wish not in ("drop", "pass-through"):
        message = f"Extra parameters {extra} are not allowed when extra-parameters is not set or set to be 'error'."
        raise wrapped(400, "BadRequest", message)
    try:
        parsed = msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise _invalid([{"type": "value_error", "loc": ["body"], "msg": str(error)}]) from error
    _check_supported(parsed, MODELS[name])
    if wish == "pass-through":
        _check_passed_on({each: fields[each] for each in extra}, MODELS[name])
    return parsed


def passed_on(request: Request, body: bytes) -> list[str]:
    """Return the names of the fields besides the API's own that are passed on to the model."""
    if request.headers.get("extra-parameters") != "pass-through":
        return []
    return sorted(msgspec.json.decode(body).keys() - set(ImageRequest.__struct_fields__))


def _check_passed_on(extra: Mapping[str, object], model: Model) -> None:
    """Refuse what the model itself does not take: every such field, or a wrong value of the one that Cohere's know."""
    if extra and model.strict:
        message = "Extra inputs are not permitted"
        raise _invalid([{"type": "extra_forbidden", "loc": ["body", each], "msg": message} for each in extra])
    if "truncate" in extra and extra["truncate"] not in TRUNCATE:
        message = f"Input should be one of {', '.join(TRUNCATE)}"
        raise _invalid([{"type": "enum", "loc": ["body", "truncate"], "msg": message}])


def _check_supported(request: EmbeddingsRequest, model: Model) -> None:
    """Refuse what the API allows and this model does not."""
    options = {
        "dimensions": model.lengths if len(model.lengths) > 1 else (),
        "input_type": model.input_types,
        "encoding_format": model.formats,
    }
    for name, values in options.items():
        value = getattr(request, name)
        if value is not msgspec.UNSET and value not in values:
            raise _not_supported(["body", name], value)
    if isinstance(request, ImageRequest):
        for index, item in enumerate(request.input):
            if isinstance(item.text, str) and not model.pairs:
                raise _not_supported(["body", "input", index, "text"], item.text)
        if len(request.input) > model.images_max:
            message = f"{request.model} takes {model.images_max} image per request, got {len(request.input)}."
            raise wrapped(400, "BadRequest", message)


def images_of(request: EmbeddingsRequest) -> list[bytes]:
    """Return the image files of a request, in order and not decoded yet; none for texts."""
    if isinstance(request, TextRequest):
        return []
    pngs = []
    for index, item in enumerate(request.input):
        head, _, data = item.image.partition(";base64,")
        if not head.startswith("data:image/") or not data:
            raise _bad_image(index, "is not a data URL: data:image/png;base64,...")
        try:
            pngs.append(pybase64.b64decode(data, validate=True))
        except ValueError as error:
            raise _bad_image(index, "is not base64") from error
        if len(pngs[-1]) > IMAGE_MAX_BYTES:
            raise _bad_image(index, f"has {len(pngs[-1])} bytes, more than {IMAGE_MAX_BYTES}")
    return pngs


def decoded(png: bytes, index: int) -> Image.Image:
    """Decode a PNG file, told by its content, whatever its declared type."""
    try:
        picture = Image.open(io.BytesIO(png), formats=["PNG"])
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _bad_image(index, "is not a PNG image that can be decoded") from error
    return picture


def wrapped(http: int, code: str, message: str, **more: object) -> Refusal:
    """Make an error of the usual shape."""
    return Refusal(http, {"error": {"code": code, "message": message, **more}})


def unauthorized() -> Refusal:
    """Make the service's one answer to anything wrong with a token."""
    message = (
        "Unauthorized. Access token is missing, invalid, audience is incorrect "
        "(https://cognitiveservices.azure.com/ or https://ai.azure.com/), or have expired."
    )
    return Refusal(401, {"statusCode": 401, "message": message})


def _not_supported(loc: list[str | int], value: object) -> Refusal:
    """422 for a parameter of the API that this model lacks."""
    message = "One of the parameters contain invalid values."
    detail = {"loc": loc, "input": value}
    return Refusal(422, {"status": 422, "code": "parameter_not_supported", "detail": detail, "message": message})


def _invalid(detail: list[dict[str, object]]) -> Refusal:
    """422 for a request of the wrong shape: a list of its errors, as JSON inside the message."""
    return wrapped(422, "Invalid input", json.dumps({"detail": detail}), status=422)


def _bad_image(index: int, what: str) -> Refusal:
    """400 for an image that cannot be used."""
    return wrapped(400, "BadRequest", f"invalid image: input[{index}].image {what}.", status=400)
