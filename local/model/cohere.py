"""Cohere's own format ("Embed API v2"), on `/providers/cohere/v2/embed`."""

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from local.model.answers import tokens_of
from local.model.models import MODELS, Model
from local.model.requests import CONTEXT, INPUTS_MAX, Item, Numbers, Refusal, Wanted, wrapped

REQUEST_MAX_BYTES = 20_000_000
FILES = ("JPEG", "PNG", "WEBP", "GIF")

InputType = Literal["search_document", "search_query", "classification", "clustering", "image"]
Encoding = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]


class ImageUrl(msgspec.Struct, frozen=True):
    """Where a picture is: a data URL."""

    url: str


class Content(msgspec.Struct, frozen=True):
    """A part of an input."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class Input(msgspec.Struct, frozen=True):
    """One item of `inputs`: texts and pictures that become one vector."""

    content: Annotated[list[Content], msgspec.Meta(min_length=1)]


class EmbedRequest(msgspec.Struct, frozen=True):
    """The body of `POST /providers/cohere/v2/embed`."""

    model: str
    input_type: InputType
    inputs: list[Input] | None = None
    texts: list[str] | None = None
    images: list[str] | None = None
    embedding_types: Annotated[list[Encoding], msgspec.Meta(min_length=1)] | None = None
    output_dimension: int | None = None
    truncate: Literal["NONE", "START", "END"] = "END"


def read(request: Request, body: bytes) -> Wanted:
    """Return what the request wants, if its shape is right and its model supports it. Its images are not decoded."""
    del request
    if len(body) * 3 // 4 > REQUEST_MAX_BYTES:
        raise refused(413, f"request too large: it must have at most {REQUEST_MAX_BYTES} bytes of images")
    try:
        parsed = msgspec.json.decode(body, type=EmbedRequest)
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refused(400, f"invalid request: {error}") from error
    model = MODELS.get(parsed.model)
    if model is None or "cohere" not in model.formats:
        message = "The API deployment for this resource does not exist."
        raise wrapped(404, "DeploymentNotFound", message)
    items = _items(parsed, model)
    if parsed.output_dimension is not None and parsed.output_dimension not in model.lengths:
        lengths = ", ".join(map(str, sorted(model.lengths)))
        raise refused(422, f"invalid output_dimension: {parsed.output_dimension}, it must be one of {lengths}")
    encodings = tuple(dict.fromkeys(parsed.embedding_types or ("float",)))
    return Wanted(
        model=parsed.model,
        items=items,
        length=parsed.output_dimension or model.lengths[0],
        bad_image=_bad_image,
        files=FILES,
        input_type=parsed.input_type,
        dimensions=parsed.output_dimension,
        encodings=encodings,
        encoding_said=encodings[0] if parsed.embedding_types else msgspec.UNSET,
        truncate=parsed.truncate,
        passed_on=tuple(sorted(fields.keys() - set(EmbedRequest.__struct_fields__))),
    )


def _items(parsed: EmbedRequest, model: Model) -> list[Item]:
    given = [field for field in ("inputs", "texts", "images") if getattr(parsed, field) is not None]
    if len(given) != 1:
        raise refused(400, f"invalid request: exactly one of inputs, texts and images is required, got {given}")
    count = len(getattr(parsed, given[0]))
    most = model.images_max if given == ["images"] else INPUTS_MAX
    if not 1 <= count <= most:
        raise refused(400, f"invalid request: {given[0]} must have 1 to {most} items, got {count}")
    if given == ["images"]:
        items = [Item(image=url) for url in parsed.images or ()]
    elif parsed.input_type == "image":
        raise refused(400, "invalid request: the input_type image goes with images alone")
    elif given == ["texts"]:
        items = [Item(text=text) for text in parsed.texts or ()]
    else:
        items = [_item(index, each) for index, each in enumerate(parsed.inputs or ())]
    for index, item in enumerate(items):
        if parsed.truncate == "NONE" and len((item.text or "").split()) > CONTEXT:
            raise refused(400, f"too many tokens: input {index} is longer than the model's context")
    return items


def _item(index: int, given: Input) -> Item:
    texts = [part.text for part in given.content if part.type == "text"]
    images = [part.image_url for part in given.content if part.type == "image_url"]
    if None in texts or None in images or len(images) > 1:
        raise refused(400, f"invalid request: inputs[{index}].content has a part that is not what its type says")
    image = images[0].url if images and images[0] else None
    return Item(image, " ".join(text for text in texts if text) or None)


def response(wanted: Wanted, answers: Mapping[str, Sequence[Numbers]], name: str) -> Response:
    """Make the 200: the vectors by their encoding, and what was billed."""
    del name  # this format names no model
    words, pictures = tokens_of(wanted)
    images = sum(item.image is not None for item in wanted.items)
    billed = {"input_tokens": words, "image_tokens": pictures, "images": images}
    embeddings = {encoding: [_json(vector, encoding) for vector in vectors] for encoding, vectors in answers.items()}
    body = {
        "id": str(uuid.uuid4()),
        "embeddings": embeddings,
        "texts": [item.text for item in wanted.items if item.text is not None and item.image is None],
        "response_type": "embeddings_by_type",
        "meta": {"api_version": {"version": "2"}, "billed_units": {key: n for key, n in billed.items() if n}},
    }
    # Not a JSONResponse, which takes no NaN.
    return Response(json.dumps(body), headers={"num_tokens": str(words + pictures)}, media_type="application/json")


def refused(status: int, message: str) -> Refusal:
    """Make an error in Cohere's own shape."""
    return Refusal(status, {"id": str(uuid.uuid4()), "message": message})


def _bad_image(index: int, what: str) -> Refusal:
    return refused(400, f"invalid image: input {index} {what}")


def _json(vector: Numbers, encoding: str) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist() if vector.dtype == np.int16 else vector.astype(np.float64).tolist()
    return numbers
