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
from shared.model.foundry import Usage
from shared.model.wire_format import EncodingFormat, InputType, ModelOptions
from shared.parsing import check_depth, convert, convert_strings
from shared.queries.formats.bodies import ImageBody, read_body
from shared.queries.formats.data_urls import decode_image
from shared.queries.queries import Answer, Query, QueryOptions, is_image_url
from shared.settings import Settings


class ImageInput(msgspec.Struct):
    """One image (a data URL or bare base64), alone or with a text that is embedded together with it."""

    image: str
    text: str | None = None


class TextOrImage(msgspec.Struct):
    """A text, an image, or both embedded together, as servers of OpenAI's API for several kinds of input take them."""

    image: str | None = None
    text: str | None = None


class EmbeddingsOptions(msgspec.Struct, kw_only=True):
    """What both routes take in addition to their input. ``extras`` are further fields, passed through to the model.

    ``user`` is a field of OpenAI's API: it is taken from its clients, and means nothing.
    """

    model: str | None = None
    input_type: InputType = "query"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65536)] | None = None
    encoding_format: EncodingFormat = "float"
    user: str | None = None
    extras: dict[str, Any] = {}


class ImageEmbeddingsRequest(EmbeddingsOptions, kw_only=True):
    """The body of ``POST /images/embeddings``."""

    input: list[ImageInput]


class TextEmbeddingsRequest(EmbeddingsOptions, kw_only=True):
    """The body of ``POST /embeddings``. The specification requires a list of strings; OpenAI's clients send more."""

    input: list[str | TextOrImage] | str | TextOrImage


class Deployment(msgspec.Struct, kw_only=True):
    """A deployment of a model, as OpenAI's API lists models. When it was made is not known."""

    id: str
    owned_by: str
    object: str = "model"
    created: int = 0


class DeploymentList(msgspec.Struct, kw_only=True):
    """The body of ``GET /models``."""

    data: list[Deployment]
    object: str = "list"


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


class _Vector(msgspec.Struct, kw_only=True):
    """:class:`~shared.model.foundry.Embedding`, with its numbers in JSON already."""

    index: int
    embedding: msgspec.Raw
    object: str = "embedding"


class _Answer(msgspec.Struct, kw_only=True):
    """:class:`~shared.model.foundry.EmbeddingsAnswer`, made of those."""

    data: list[_Vector]
    model: str
    usage: Usage
    id: str
    object: str = "list"


_BODY_OPTIONS = {"model", "input_type", "dimensions", "encoding_format"}


def read_image_request(
    body: bytes, content_type: str, parameters: Mapping[str, str], extra_parameters: str
) -> ParsedRequest:
    """Read a request for images: JSON, a form with one file, or the image itself.

    Of the last two the text and the options are in ``parameters``, the query string, or in fields of the form. Raises
    one :class:`~shared.errors.QueryError` for all wrong inputs.
    """
    content = read_body(body, content_type, parameters)
    if isinstance(content, ImageBody):
        return _read_image(content)
    request = _read(content, ImageEmbeddingsRequest, parameters, extra_parameters)
    return ParsedRequest(_each(request.input, lambda index, item: _image_query(f"input[{index}]", item)), request)


def read_texts(content: object, parameters: Mapping[str, str], extra_parameters: str) -> ParsedRequest:
    """Read the JSON of a request for texts; raises one :class:`~shared.errors.QueryError` for all wrong inputs."""
    if isinstance(content, dict):
        _reject_tokens(content.get("input"))
    request = _read(content, TextEmbeddingsRequest, parameters, extra_parameters)
    inputs = request.input if isinstance(request.input, list) else [request.input]
    return ParsedRequest(_each(inputs, lambda index, item: _text_query(f"input[{index}]", item)), request)


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


class AnswerWriter:
    """Makes the body of a 200 of answers, in the order of the inputs. It keeps of their vectors what is sent."""

    def __init__(self, encoding: EncodingFormat) -> None:
        self._encoding = encoding
        self._vectors: list[_Vector] = []
        self._first: tuple[str, str] = "", ""
        self._usage = Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
        self.paths: list[str] = []
        """The blobs that hold the embeddings."""

    def add(self, answers: Sequence[Answer]) -> None:
        """Add the next ones."""
        if not self._vectors:
            self._first = answers[0].record.id, answers[0].record.model
        for answer in answers:
            vector = msgspec.Raw(msgspec.json.encode(_encode(answer.record.embedding, self._encoding)))
            self._vectors.append(_Vector(index=len(self._vectors), embedding=vector))
        self._usage = _sum([self._usage, usage_of(answers)])
        self.paths += [answer.path for answer in answers if answer.path]

    def body(self) -> msgspec.Struct:
        """The body, which JSON has as :class:`~shared.model.foundry.EmbeddingsAnswer`."""
        name, model = self._first
        return _Answer(id=name, model=model, data=self._vectors, usage=self._usage)


def usage_of(answers: Sequence[Answer]) -> Usage:
    """The tokens charged for a request: cache hits cost nothing, and a repeated query is one call."""
    charged = {answer.record.id: answer.record for answer in answers if not answer.cached}.values()
    return _sum([Usage(prompt_tokens=one.prompt_tokens, total_tokens=one.total_tokens) for one in charged])


def model_list(settings: Settings) -> DeploymentList:
    """The deployments that a request may name as its ``model``: the first is that of queries."""
    names = dict.fromkeys((settings.foundry_query_model, settings.foundry_model))
    return DeploymentList(data=[Deployment(id=name, owned_by=_provider(name)) for name in names])


def model_info(model: str) -> ModelInfo:
    """The answer to ``/info``, made from the settings because Foundry resources do not serve that route."""
    return ModelInfo(model_name=model, model_type="embeddings", model_provider_name=_provider(model))


def _provider(model: str) -> str:
    return "Cohere" if model.lower().startswith(("cohere", "embed-v")) else ""


def _read_image(body: ImageBody) -> ParsedRequest:
    """Read a request with the image itself, and the options as strings; raises :class:`~shared.errors.QueryError`."""
    given = {name: value for name, value in body.fields.items() if name in _BODY_OPTIONS}
    options = convert_strings(given, EmbeddingsOptions)
    return ParsedRequest([Query(body.name, body.image, body.text())], options)


def _read[Request: EmbeddingsOptions](
    content: object, shape: type[Request], parameters: Mapping[str, str], extra_parameters: str
) -> Request:
    """Read either request. Clients that cannot send ``input_type`` as a field have it in the query string.

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
    by_url = {name: value for name, value in parameters.items() if name == "input_type"}
    request = convert({**by_url, **{name: value for name, value in known.items() if value is not None}}, shape)
    return msgspec.structs.replace(request, extras=extras) if policy == "pass-through" else request


def _reject_extras(extras: dict[str, Any], inputs: object) -> None:
    targets = list(extras)
    for index, item in enumerate(inputs if isinstance(inputs, list) else [inputs]):
        if isinstance(item, dict):
            targets += [f"input[{index}].{name}" for name in item if name not in ImageInput.__struct_fields__]
    if targets:
        shown = ", ".join(target[:100] for target in targets[:10])
        raise QueryError(
            "invalid_request",
            f"Extra parameters [{shown}] are not allowed, unless the header extra-parameters is drop or pass-through.",
            target=targets[0][:100],
        )


def _reject_tokens(inputs: object) -> None:
    """Name the switch of the client that sends token numbers, or a list of lists of them."""
    for index, item in enumerate(inputs if isinstance(inputs, list) else []):
        numbers = item if isinstance(item, list) else [item]
        if numbers and all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
            message = (
                "The input is token numbers, which only OpenAI's own models can read. Send text: LangChain's"
                " OpenAIEmbeddings does so with check_embedding_ctx_length=False."
            )
            raise QueryError("invalid_request", message, target=f"input[{index}]")


def _image_query(target: str, item: ImageInput) -> Query:
    return Query(f"{target}.image", decode_image(item.image, f"{target}.image"), _stripped(item.text))


def _text_query(target: str, item: str | TextOrImage) -> Query:
    """A query of a text; or of an image, alone or with a text."""
    if isinstance(item, str):
        return Query(target, decode_image(item, target)) if is_image_url(item) else Query(target, text=item)
    if item.image is not None:
        return Query(f"{target}.image", decode_image(item.image, f"{target}.image"), _stripped(item.text))
    if item.text is None:
        raise QueryError("invalid_request", "The input has neither a text nor an image.", target=target)
    return Query(f"{target}.text", text=item.text)


def _stripped(text: str | None) -> str | None:
    return (text or "").strip() or None


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


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens or 0 for usage in usages),
        completion_tokens=0,
        total_tokens=sum(usage.total_tokens or 0 for usage in usages),
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
