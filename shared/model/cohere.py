"""Cohere's own format on Foundry, ``…/providers/cohere/v2``: requests and answers.

Shapes: Cohere's "Embed API (v2)". Models from Embed 4 on answer on it, and from Embed 5 on on it alone.
"""

from collections.abc import Mapping, Sequence

import msgspec
import pybase64

from shared.errors import ModelMisconfigured
from shared.known_models import COHERE_PATH
from shared.model.wire_format import (
    Input,
    InputType,
    ModelAnswer,
    ModelOptions,
    broken,
    count,
    if_it_is,
    in_list,
    miscounted,
    shared_out,
)

FIELDS: Mapping[str, str] = {
    "output_dimension": "dimensions",
    "embedding_types": "encoding_format",
    "input_type": "input_type",
}
MAX_TEXTS, MAX_IMAGES = 96, 96
# It has none for a text that is neither searched for nor found: as a feature of something else comes closest.
_INPUT_TYPES: dict[InputType, str] = {
    "document": "search_document",
    "query": "search_query",
    "text": "classification",
}
_NULL = msgspec.Raw(b"null")


class _Billed(msgspec.Struct):
    """Tokens, each of which may be missing or a fraction."""

    input_tokens: msgspec.Raw = _NULL
    image_tokens: msgspec.Raw = _NULL


class _Meta(msgspec.Struct):
    billed_units: msgspec.Raw = _NULL


class _Answer(msgspec.Struct):
    """The body of a 200: vectors by their encoding. A good vector was paid for, so the rest may have any shape."""

    embeddings: dict[str, list[list[float]]]
    meta: msgspec.Raw = _NULL


def route(*, has_image: bool) -> str:
    """Images and texts go the same way."""
    del has_image
    return "embed"


def parameters(api_version: str) -> dict[str, str]:
    """The version is in the path."""
    del api_version
    return {}


def headers(options: ModelOptions) -> dict[str, str]:
    """Fields that only the model knows need no leave."""
    del options
    return {}


def request(model: str, inputs: Sequence[Input], options: ModelOptions) -> list[bytes]:
    """``texts``, or ``inputs`` that each have the text before the picture."""
    fields: dict[str, object] = {
        # Without a word about it, a text that is too long would be cut.
        "truncate": "NONE",
        **options.extras,
        "model": model,
        "input_type": _INPUT_TYPES[options.input_type],
        "embedding_types": [options.requested_encoding],
    }
    if options.dimensions is not None:
        fields["output_dimension"] = options.dimensions
    name = b"texts" if inputs[0].image is None else b"inputs"
    return in_list(msgspec.json.encode(fields)[:-1] + b',"' + name + b'":', map(_item, inputs))


def read_answers(content: bytes, host: str, inputs: Sequence[Input], options: ModelOptions) -> list[ModelAnswer]:
    """The embeddings in the encoding that was asked for, and what they cost; this format names no model."""
    if not content:
        message = f"{host} answered 200 with an empty body: check FOUNDRY_ENDPOINT, which must end in {COHERE_PATH}."
        raise ModelMisconfigured(message, status=200)
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise broken(error) from error
    embeddings = answer.embeddings.get(options.requested_encoding, [])
    if len(embeddings) != len(inputs):
        raise miscounted(len(inputs), len(embeddings))
    tokens = _tokens(answer.meta, inputs)
    return [ModelAnswer(vector, spent, spent) for vector, spent in zip(embeddings, tokens, strict=True)]


def _tokens(meta: msgspec.Raw, inputs: Sequence[Input]) -> list[int | None]:
    """Those of each input, its text's and its picture's together; ``None`` if neither is there."""
    billed = if_it_is(_Billed, (if_it_is(_Meta, meta) or _Meta()).billed_units) or _Billed()
    of_texts = shared_out(count(if_it_is(float, billed.input_tokens)), [len(one.text or "") for one in inputs])
    of_images = shared_out(count(if_it_is(float, billed.image_tokens)), [1] * len(inputs))
    return [
        None if text is None and image is None else (text or 0) + (image or 0)
        for text, image in zip(of_texts, of_images, strict=True)
    ]


def _item(one: Input) -> list[bytes]:
    if one.image is None:
        return [msgspec.json.encode(one.text)]
    text = b"" if one.text is None else b'{"type":"text","text":' + msgspec.json.encode(one.text) + b"},"
    head = f'{{"type":"image_url","image_url":{{"url":"data:{one.image_type};base64,'.encode()
    return [b'{"content":[' + text + head, pybase64.b64encode(one.image), b'"}}]}']
