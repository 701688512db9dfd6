"""The format of Azure AI Foundry Models' own routes: `/models/images/embeddings` and `/models/embeddings`."""

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from local.model.answers import tokens_of
from local.model.models import MODELS, Model
from local.model.requests import INPUTS_MAX, TRUNCATE, Item, Numbers, Refusal, Wanted, wrapped

# One that this service has never had stands for all that it has no longer.
RETIRED_API_VERSIONS = ("2020-01-01",)


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


class ImageRequest(Options, frozen=True, kw_only=True):
    """The body of `POST /models/images/embeddings`."""

    input: Annotated[list[ImageInput], msgspec.Meta(min_length=1)]


class TextRequest(Options, frozen=True, kw_only=True):
    """The body of `POST /models/embeddings`."""

    input: Annotated[list[str], msgspec.Meta(min_length=1, max_length=INPUTS_MAX)]


type EmbeddingsRequest = ImageRequest | TextRequest


def read(request: Request, body: bytes) -> Wanted:
    """Return what the request wants, if its shape is right and its model supports it. Its images are not decoded."""
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
    if name not in MODELS or "foundry" not in MODELS[name].formats:
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
    passed_on: dict[str, Any] = {each: fields[each] for each in extra} if wish == "pass-through" else {}
    _check_passed_on(passed_on, MODELS[name])
    return Wanted(
        model=parsed.model,
        items=[
            Item(text=each) if isinstance(each, str) else Item(each.image, each.text or None) for each in parsed.input
        ],
        length=parsed.dimensions or MODELS[parsed.model].lengths[0],
        bad_image=_bad_image,
        input_type=parsed.input_type or None,
        dimensions=parsed.dimensions or None,
        encodings=(parsed.encoding_format or "float",),
        encoding_said=parsed.encoding_format,
        truncate=passed_on.get("truncate", msgspec.UNSET),
        passed_on=tuple(passed_on),
    )


def response(wanted: Wanted, answers: Mapping[str, Sequence[Numbers]], name: str) -> Response:
    """Make the 200: integers, numbers with nine decimals, like the service's, or base64 of little-endian float32."""
    [(encoding, vectors)] = answers.items()
    words, pictures = tokens_of(wanted)
    tokens = words + pictures
    usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    data = [
        {"index": index, "object": "embedding", "embedding": _json(vector, encoding)}
        for index, vector in enumerate(vectors)
    ]
    body = {"id": str(uuid.uuid4()), "object": "list", "data": data, "model": name, "usage": usage}
    headers = {"num_tokens": str(tokens), "azureml-model-group": f"offer-{wanted.model.lower()}-paygo"}
    return Response(json.dumps(body), headers=headers, media_type="application/json")


def _json(vector: Numbers, encoding: str) -> str | list[float]:
    """A vector as it appears in the answer."""
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    whole = vector.dtype == np.int16
    numbers: list[float] = vector.tolist() if whole else vector.astype(np.float64).round(9).tolist()
    return numbers


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
        "encoding_format": model.encodings,
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
