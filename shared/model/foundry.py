"""The format of Azure AI Foundry Models' own routes, ``…/models``: requests and answers.

Shapes: the API's TypeSpec (``Azure/azure-rest-api-specs``, ``ai/ModelInference``).
"""

from collections.abc import Mapping, Sequence

import msgspec
import pybase64

from shared.errors import ModelMisconfigured
from shared.model.wire_format import (
    Input,
    ModelAnswer,
    ModelOptions,
    broken,
    count,
    if_it_is,
    in_list,
    miscounted,
    shared_out,
)

FIELDS: Mapping[str, str] = {}
# "Embed" model cards.
MAX_TEXTS, MAX_IMAGES = 96, 1


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
    index: msgspec.Raw = _NULL


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


def request(model: str, inputs: Sequence[Input], options: ModelOptions) -> list[bytes]:
    """One item of ``input`` each: a text as it is, and a picture with its text as the second field."""
    fields: dict[str, object] = {**options.extras, "model": model, "input_type": options.input_type}
    if options.dimensions is not None:
        fields["dimensions"] = options.dimensions
    if options.requested_encoding != "float":
        fields["encoding_format"] = options.requested_encoding
    return in_list(msgspec.json.encode(fields)[:-1] + b',"input":', map(_item, inputs))


def read_answers(content: bytes, host: str, inputs: Sequence[Input], options: ModelOptions) -> list[ModelAnswer]:
    """The embeddings of the list, what they cost, and the model's own name."""
    del options
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
    if len(answer.data) != len(inputs):
        raise miscounted(len(inputs), len(answer.data))
    usage = if_it_is(dict, answer.usage) or {}
    weights = [len(one.text or "") for one in inputs]
    prompt_tokens, total_tokens = (
        shared_out(count(usage.get(name)), weights) for name in ("prompt_tokens", "total_tokens")
    )
    name = if_it_is(str, answer.model) or None
    return [
        ModelAnswer(vector.embedding, prompt, total, name)
        for vector, prompt, total in zip(_in_order(answer.data), prompt_tokens, total_tokens, strict=True)
    ]


def _in_order(data: list[_Vector]) -> list[_Vector]:
    """By their indices; as they came where those are not what the API says."""
    by_index = {if_it_is(int, vector.index): vector for vector in data}
    try:
        return [by_index[index] for index in range(len(data))]
    except KeyError:
        return data


def _item(one: Input) -> list[bytes]:
    if one.image is None:
        return [msgspec.json.encode(one.text)]
    item = [f'{{"image":"data:{one.image_type};base64,'.encode(), pybase64.b64encode(one.image), b'"']
    if one.text is not None:
        item += [b',"text":', msgspec.json.encode(one.text)]
    return [*item, b"}"]
