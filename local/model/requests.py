"""What both formats of the stand-in have in common: who may call, what a call wants, and the refusals."""

import base64
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
import pybase64
from numpy.typing import NDArray
from PIL import Image
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

type Numbers = NDArray[np.float32 | np.int16]

AUDIENCES = ("https://cognitiveservices.azure.com", "https://ai.azure.com")
IMAGE_MAX_BYTES = 5_000_000
INPUTS_MAX = 96
TRUNCATE = ("NONE", "START", "END")
# Embed's context, in words here: "Embed" model cards.
CONTEXT = 512


@dataclass(frozen=True)
class Item:
    """One input: a picture as a data URL, a text, or both."""

    image: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What a call wants, in whichever format it says so. `bad_image` makes the format's refusal of a picture."""

    model: str
    items: list[Item]
    length: int
    bad_image: Callable[[int, str], "Refusal"]
    files: tuple[str, ...] = ("PNG",)
    """The formats of pictures that are decoded, by Pillow's names."""
    input_type: str | None = None
    dimensions: int | None = None
    encodings: tuple[str, ...] = ("float",)
    encoding_said: str | msgspec.UnsetType = msgspec.UNSET
    truncate: str | msgspec.UnsetType = msgspec.UNSET
    passed_on: tuple[str, ...] = ()

    def images(self) -> list[bytes | None]:
        """Return the image file of each input, not decoded yet."""
        return [None if item.image is None else self._image(index, item.image) for index, item in enumerate(self.items)]

    def image_type(self) -> str | None:
        """Return the media type that the first image is said to have."""
        return (self.items[0].image or "").removeprefix("data:").partition(";")[0] or None

    def _image(self, index: int, url: str) -> bytes:
        head, _, data = url.partition(";base64,")
        if not head.startswith("data:image/") or not data:
            raise self.bad_image(index, "is not a data URL: data:image/png;base64,...")
        try:
            content = pybase64.b64decode(data, validate=True)
        except ValueError as error:
            raise self.bad_image(index, "is not base64") from error
        if len(content) > IMAGE_MAX_BYTES:
            raise self.bad_image(index, f"has {len(content)} bytes, more than {IMAGE_MAX_BYTES}")
        return content

    def decoded(self, content: bytes, index: int) -> Image.Image:
        """Decode a picture, told by its content, whatever its declared type."""
        try:
            picture = Image.open(io.BytesIO(content), formats=list(self.files))
            picture.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise self.bad_image(index, f"is not a {' or '.join(self.files)} image that can be decoded") from error
        return picture


class Format(Protocol):
    """A format: a module that reads requests and makes the 200."""

    def read(self, request: Request, body: bytes) -> Wanted:
        """Return what the request wants. Raises `Refusal`."""

    def response(self, wanted: Wanted, answers: Mapping[str, Sequence[Numbers]], name: str) -> Response:
        """Make the 200 of these vectors, by their encoding."""


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
