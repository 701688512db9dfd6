"""The format of Azure AI Foundry Models' own routes, ``…/models``: requests and answers.

Shapes: the API's TypeSpec (``Azure/azure-rest-api-specs``, ``ai/ModelInference``).
"""

from collections.abc import Mapping

import msgspec
import pybase64

from shared.errors import ModelMisconfigured, ModelUnavailable
from shared.model.wire_format import ModelAnswer, ModelOptions, broken, checked, count, if_it_is

FIELDS: Mapping[str, str] = {}


class Embedding(msgspec.Struct, kw_only=True):
    """One vector: floats, integers, or base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class Usage(msgspec.Struct, kw_only=True):
    """Tokens charged; ``None`` if the model did not report them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class EmbeddingsAnswer(msgspec.Struct, kw_only=True):
    """The body of a 200 from either route, as the API specifies it and this app answers."""

    data: list[Embedding]
    model: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    id: str | None = None
    object: str = "list"


_NULL = msgspec.Raw(b"null")


class _Vector(msgspec.Struct):
    """The part of an embedding that counts."""

    embedding: list[float]


class _ReceivedAnswer(msgspec.Struct):
    """The same body, as models send it. A good vector was paid for, so nothing beside it can make it a broken answer.

    What is not read here may have any shape, and what is optional is checked by itself.
    """

    data: list[_Vector]
    model: msgspec.Raw = _NULL
    usage: msgspec.Raw = _NULL


def route(*, has_image: bool) -> str:
    """Images have a route of their own."""
    return "images/embeddings" if has_image else "embeddings"


def parameters(api_version: str) -> dict[str, str]:
    """Every request names the API's version."""
    return {"api-version": api_version}


def headers(options: ModelOptions) -> dict[str, str]:
    """Fields that only the model knows are refused unless a header lets them through."""
    return {"extra-parameters": "pass-through"} if options.extras else {}


def image_request(model: str, png: bytes, text: str | None, options: ModelOptions) -> list[bytes]:
    """One item of ``input``, with the text as its second field."""
    item = [b'{"image":"data:image/png;base64,', pybase64.b64encode(png), b'"']
    if text is not None:
        item += [b',"text":', msgspec.json.encode(text)]
    return _request(model, [*item, b"}"], options)


def text_request(model: str, text: str, options: ModelOptions) -> list[bytes]:
    """One item of ``input``."""
    return _request(model, [msgspec.json.encode(text)], options)


def read_answer(content: bytes, host: str, options: ModelOptions, model: str) -> ModelAnswer:
    """The one embedding of the list, what it cost, and the model's own name."""
    if not content:
        raise ModelMisconfigured(
            f"{host} answered 200 with an empty body, as it does when FOUNDRY_ENDPOINT lacks its"
            " /models: it must be like https://<resource>.services.ai.azure.com/models",
            status=200,
        )
    try:
        answer = msgspec.json.decode(content, type=_ReceivedAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise broken(error) from error
    if len(answer.data) != 1:
        raise ModelUnavailable(f"The model answered one input with {len(answer.data)} embeddings", status=200)
    usage = if_it_is(dict, answer.usage) or {}
    return ModelAnswer(
        checked(answer.data[0].embedding, options, model),
        count(usage.get("prompt_tokens")),
        count(usage.get("total_tokens")),
        if_it_is(str, answer.model) or None,
    )


def _request(model: str, item: list[bytes], options: ModelOptions) -> list[bytes]:
    fields: dict[str, object] = {**options.extras, "model": model, "input_type": options.input_type}
    if options.dimensions is not None:
        fields["dimensions"] = options.dimensions
    if options.requested_encoding != "float":
        fields["encoding_format"] = options.requested_encoding
    return [msgspec.json.encode(fields)[:-1] + b',"input":[' + item[0], *item[1:], b"]}"]
