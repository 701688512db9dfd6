"""Cohere's own format on Foundry, ``…/providers/cohere/v2``: requests and answers.

Shapes: Cohere's "Embed API (v2)". Models from Embed 4 on answer on it, and from Embed 5 on on it alone.
"""

from collections.abc import Mapping

import msgspec
import pybase64

from shared.errors import ModelMisconfigured, ModelUnavailable
from shared.known_models import COHERE_PATH
from shared.model.wire_format import InputType, ModelAnswer, ModelOptions, broken, checked, count, if_it_is

FIELDS: Mapping[str, str] = {
    "output_dimension": "dimensions",
    "embedding_types": "encoding_format",
    "input_type": "input_type",
}
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


def image_request(model: str, png: bytes, text: str | None, options: ModelOptions) -> list[bytes]:
    """One of ``inputs``, with the text before the picture."""
    parts = [b'{"type":"image_url","image_url":{"url":"data:image/png;base64,', pybase64.b64encode(png), b'"}}']
    if text is not None:
        parts.insert(0, b'{"type":"text","text":' + msgspec.json.encode(text) + b"},")
    return _request(model, b"inputs", [b'{"content":[', *parts, b"]}"], options)


def text_request(model: str, text: str, options: ModelOptions) -> list[bytes]:
    """One of ``texts``."""
    return _request(model, b"texts", [msgspec.json.encode(text)], options)


def read_answer(content: bytes, host: str, options: ModelOptions, model: str) -> ModelAnswer:
    """The one embedding in the encoding that was asked for, and what it cost; this format names no model."""
    if not content:
        message = f"{host} answered 200 with an empty body: check FOUNDRY_ENDPOINT, which must end in {COHERE_PATH}."
        raise ModelMisconfigured(message, status=200)
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise broken(error) from error
    embeddings = answer.embeddings.get(options.requested_encoding, [])
    if len(embeddings) != 1:
        raise ModelUnavailable(f"The model answered one input with {len(embeddings)} embeddings", status=200)
    tokens = _tokens(answer.meta)
    return ModelAnswer(checked(embeddings[0], options, model), tokens, tokens)


def _tokens(meta: msgspec.Raw) -> int | None:
    """Those of texts and pictures together; ``None`` if neither is there."""
    billed = if_it_is(_Billed, (if_it_is(_Meta, meta) or _Meta()).billed_units) or _Billed()
    counts = [count(if_it_is(float, tokens)) for tokens in (billed.input_tokens, billed.image_tokens)]
    known = [tokens for tokens in counts if tokens is not None]
    return sum(known) if known else None


def _request(model: str, name: bytes, item: list[bytes], options: ModelOptions) -> list[bytes]:
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
    start = msgspec.json.encode(fields)[:-1] + b',"' + name + b'":['
    return [start + item[0], *item[1:], b"]}"]
