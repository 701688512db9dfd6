"""Queries in the wire format of Azure AI Foundry Models: reads requests, writes answers.

The shapes follow the API's TypeSpec (``Azure/azure-rest-api-specs``, ``ai/ModelInference``).
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pybase64

from shared.errors import QueryError
from shared.model.foundry import Embedding, EmbeddingsAnswer, Usage
from shared.model.wire_format import EncodingFormat, InputType, ModelOptions
from shared.parsing import check_depth, convert
from shared.queries.formats.bodies import ImageBody, read_body
from shared.queries.formats.data_urls import decode_image
from shared.queries.queries import Answer, Query, QueryOptions
from shared.settings import Settings


class ImageInput(msgspec.Struct):
    """One image (a data URL or bare base64), alone or with a text that is embedded together with it."""

    image: str
    text: str | None = None


class EmbeddingsOptions(msgspec.Struct, kw_only=True):
    """What both routes take in addition to their input. ``extras`` are further fields, passed through to the model."""

    model: str | None = None
    input_type: InputType = "query"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65536)] | None = None
    encoding_format: EncodingFormat = "float"
    extras: dict[str, Any] = {}


class ImageEmbeddingsRequest(EmbeddingsOptions, kw_only=True):
    """The body of ``POST /images/embeddings``."""

    input: list[ImageInput]


class TextEmbeddingsRequest(EmbeddingsOptions, kw_only=True):
    """The body of ``POST /embeddings``. The specification requires a list; a single string is accepted as well."""

    input: list[str] | str


class ModelInfo(msgspec.Struct, kw_only=True):
    """The body of ``GET /info``."""

    model_name: str
    model_type: str
    model_provider_name: str


@dataclass(frozen=True)
class ParsedRequest:
    """The queries of a request, in order, and the options that they share."""

    queries: list[Query]
    options: EmbeddingsOptions


_BODY_OPTIONS = {"model", "input_type", "dimensions", "encoding_format"}


def read_image_request(
    body: bytes, content_type: str, parameters: Mapping[str, str], extra_parameters: str
) -> ParsedRequest:
    """Read a request for images: JSON, a form with one file, or the image itself.

    Of the last two the text and the options are in ``parameters``, the query string, or in fields of the form. Raises
    :class:`~shared.errors.QueryError`.
    """
    content = read_body(body, content_type, parameters)
    return _read_image(content) if isinstance(content, ImageBody) else read_images(content, extra_parameters)


def read_images(content: object, extra_parameters: str) -> ParsedRequest:
    """Read the JSON of a request for images; raises one :class:`~shared.errors.QueryError` for all wrong inputs."""
    request = _read(content, ImageEmbeddingsRequest, extra_parameters)
    queries = _each(request.input, lambda index, item: _image_query(f"input[{index}].image", item))
    return ParsedRequest(queries, request)


def read_texts(content: object, extra_parameters: str) -> ParsedRequest:
    """Read the JSON of a request for texts; raises :class:`~shared.errors.QueryError`."""
    request = _read(content, TextEmbeddingsRequest, extra_parameters)
    texts = [request.input] if isinstance(request.input, str) else request.input
    return ParsedRequest([Query(f"input[{index}]", text=text) for index, text in enumerate(texts)], request)


def query_options(options: EmbeddingsOptions, settings: Settings, *, deadline: float, fresh: bool) -> QueryOptions:
    """How to embed the queries; raises :class:`~shared.errors.QueryError` if they name another model than deployed."""
    deployed = dict.fromkeys((settings.foundry_model, settings.foundry_query_model))
    if options.model is not None and options.model not in deployed:
        message = f"Unknown model: {options.model[:100]}. This app serves {' and '.join(deployed)}."
        raise QueryError("unknown_model", message, target="model")
    model_options = ModelOptions(
        input_type=options.input_type,
        dimensions=options.dimensions or settings.embedding_dimensions,
        encoding_format=options.encoding_format,
        extras=options.extras,
    )
    return QueryOptions(model_options, deadline, fresh, _set_by_caller(options), options.model)


def write_answers(answers: list[Answer], options: EmbeddingsOptions) -> EmbeddingsAnswer:
    """The body of a 200, with the vectors in the order of the inputs."""
    data = [
        Embedding(index=index, embedding=_encode(answer.record.embedding, options.encoding_format))
        for index, answer in enumerate(answers)
    ]
    return EmbeddingsAnswer(id=answers[0].record.id, model=answers[0].record.model, data=data, usage=usage_of(answers))


def model_info(model: str) -> ModelInfo:
    """The answer to ``/info``, made from the settings because Foundry resources do not serve that route."""
    cohere = model.lower().startswith(("cohere", "embed-v"))
    return ModelInfo(model_name=model, model_type="embeddings", model_provider_name="Cohere" if cohere else "")


def _read_image(body: ImageBody) -> ParsedRequest:
    """Read a request with the image itself, and the options as strings; raises :class:`~shared.errors.QueryError`."""
    given = {name: value for name, value in body.fields.items() if name in _BODY_OPTIONS}
    options = convert(given, EmbeddingsOptions, strict=False)
    return ParsedRequest([Query(body.name, body.image, body.text())], options)


def _read[Request: EmbeddingsOptions](content: object, shape: type[Request], extra_parameters: str) -> Request:
    """Read either request.

    Fields that the API does not have are rejected unless the header ``extra-parameters`` is ``drop`` or
    ``pass-through``, as in the API itself.
    """
    if not isinstance(content, dict):
        raise QueryError("invalid_request", "The body must be a JSON object.")
    known = {name: value for name, value in content.items() if name in shape.__struct_fields__ and name != "extras"}
    extras = {name: value for name, value in content.items() if name not in known}
    policy = extra_parameters.strip().lower()
    if policy not in {"error", "drop", "pass-through"}:
        message = f"extra-parameters is {policy[:50]!r}; it must be error, drop or pass-through."
        raise QueryError("invalid_request", message, target="extra-parameters")
    if policy == "error":
        _reject_extras(extras, known.get("input"))
    check_depth(extras)
    request = convert({k: v for k, v in known.items() if v is not None}, shape)
    return msgspec.structs.replace(request, extras=extras) if policy == "pass-through" else request


def _reject_extras(extras: dict[str, Any], inputs: object) -> None:
    targets = list(extras)
    for index, item in enumerate(inputs if isinstance(inputs, list) else []):
        if isinstance(item, dict):
            targets += [f"input[{index}].{name}" for name in item if name not in ImageInput.__struct_fields__]
    if targets:
        shown = ", ".join(target[:100] for target in targets[:10])
        raise QueryError(
            "invalid_request",
            f"Extra parameters [{shown}] are not allowed, unless the header extra-parameters is drop or pass-through.",
            target=targets[0][:100],
        )


def _image_query(target: str, item: ImageInput) -> Query:
    return Query(target, decode_image(item.image, target), (item.text or "").strip() or None)


def _each[Item](items: list[Item], read: Callable[[int, Item], Query]) -> list[Query]:
    """A query for each item; raises one error that names every item at fault."""
    queries, errors = [], []
    for index, item in enumerate(items):
        try:
            queries.append(read(index, item))
        except QueryError as error:
            errors.append(error)
    if errors:
        raise QueryError.of_all(errors)
    return queries


def _set_by_caller(options: EmbeddingsOptions) -> frozenset[str]:
    """The options that differ from the defaults."""
    defaults = EmbeddingsOptions()
    names = ("input_type", "dimensions", "encoding_format")
    return frozenset(name for name in names if getattr(options, name) != getattr(defaults, name))


def usage_of(answers: Sequence[Answer]) -> Usage:
    """The tokens charged for this request: cache hits cost nothing, and a repeated query is one call."""
    charged = {answer.record.id: answer.record for answer in answers if not answer.cached}.values()
    return Usage(
        prompt_tokens=sum(record.prompt_tokens or 0 for record in charged),
        completion_tokens=0,
        total_tokens=sum(record.total_tokens or 0 for record in charged),
    )


def _encode(embedding: list[float], encoding: EncodingFormat) -> list[float] | str:
    """The vector in the requested encoding: floats, base64 of little-endian float32, or integers."""
    match encoding:
        case "float":
            return embedding
        case "base64":
            return pybase64.b64encode(struct.pack(f"<{len(embedding)}f", *embedding)).decode()
        case _:
            return [int(number) for number in embedding]
