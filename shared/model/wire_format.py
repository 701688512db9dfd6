"""What a wire format is, and what both have in common: the errors of the service, and what makes a vector good.

A wire format is a module (:mod:`shared.model.foundry`, :mod:`shared.model.cohere`) with the functions of
:class:`WireFormat`. Nothing else in the app knows which of them is spoken.
"""

import email.utils
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec

from shared.errors import ModelError, ModelMisconfigured, ModelRefused, ModelUnavailable, RefusalCode
from shared.known_models import known
from shared.log import MESSAGE_LIMIT

InputType = Literal["text", "query", "document"]
EncodingFormat = Literal["float", "base64", "binary", "ubinary", "int8", "uint8"]

_REFUSALS = {400, 413, 415, 422}
_MISCONFIGURED_CODES = {"no_model_name", "unknown_model", "operationnotsupported", "deploymentnotfound"}
_OUR_FIELDS = {"model", "input_type", "dimensions", "encoding_format"}
# No more digits than any wait has: the number stays finite.
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_WAIT_IN_WORDS = re.compile(r"(?:wait|retry after|try again in)\s+([0-9]{1,12})\s+second", re.IGNORECASE)
_NOT_ALLOWED = re.compile(r"[Ee]xtra (?:parameters|inputs) \[?([^\]]*)\]? are not")
# Bytes of a part that is worth sending by itself rather than copying.
_SMALL = 65_536
_API_VERSION = re.compile(r"api[-_ ]?version", re.IGNORECASE)
# How pydantic quotes the input in the text of an error, up to the fields that may follow or the end.
_QUOTED_INPUT = re.compile(r"input_value=.*?(?=, input_type=|$)")
_ADVICE = {
    400: "Check FOUNDRY_MODEL, FOUNDRY_ENDPOINT and FOUNDRY_API_VERSION.",
    401: "Check FOUNDRY_SCOPE, and that the app's identity has the role Cognitive Services User on the resource.",
    403: "Check that the app's identity has the role Cognitive Services User on the resource and may reach it.",
    404: "Check FOUNDRY_ENDPOINT and FOUNDRY_MODEL; a new deployment takes some minutes to answer.",
    422: "Check FOUNDRY_MODEL and EMBEDDING_DIMENSIONS.",
}


@dataclass(frozen=True)
class ModelOptions:
    """How the model embeds. ``extras`` are further request fields that only the model knows."""

    input_type: InputType
    dimensions: int | None = None
    encoding_format: EncodingFormat = "float"
    extras: Mapping[str, object] = field(default_factory=dict, hash=False)

    @property
    def requested_encoding(self) -> EncodingFormat:
        """What is requested of the model: base64 can be made from floats exactly, the integer encodings cannot."""
        return "float" if self.encoding_format == "base64" else self.encoding_format


@dataclass(frozen=True)
class Input:
    """What becomes one vector: a picture, a text, or both. The picture is a file of a type that the format takes."""

    image: bytes | None = field(default=None, repr=False)
    text: str | None = None
    image_type: str = "image/png"


@dataclass(frozen=True)
class ModelAnswer:
    """One embedding as the model returned it; token counts are ``None`` if it did not report them.

    Of a call for several inputs the model reports the tokens of all: they are shared out, and add up to what it said.
    ``model`` is the service's own name for the model, ``None`` if it gave none: some deployments leave it empty.
    """

    embedding: list[float]
    prompt_tokens: int | None
    total_tokens: int | None
    model: str | None = None


@dataclass(frozen=True)
class Stated:
    """What the service says of its quota along with an answer: calls and tokens a minute, and the share of tokens left.

    Each is ``None`` where it does not say.
    """

    calls: float | None
    tokens: float | None
    left: float | None


class WireFormat(Protocol):
    """A wire format: where requests go, what is in them, and what their answers say."""

    FIELDS: Mapping[str, str]
    """How it calls the fields that callers and settings choose, and how this app does, where the two differ."""

    MAX_TEXTS: int
    """How many texts one call takes."""

    MAX_IMAGES: int
    """How many pictures, with texts or without, one call takes."""

    def route(self, *, has_image: bool) -> str:
        """The path of a request below ``FOUNDRY_ENDPOINT``."""

    def parameters(self, api_version: str) -> dict[str, str]:
        """The query string of every request."""

    def headers(self, options: ModelOptions) -> dict[str, str]:
        """What its requests need besides what all have."""

    def request(self, model: str, inputs: Sequence[Input], options: ModelOptions) -> list[bytes]:
        """The JSON body of a request for these inputs, all with pictures or all without, in parts to be sent in order.

        Megabytes of base64 need no escaping: they go through no JSON encoder and are never copied.
        """

    def read_answers(
        self, content: bytes, host: str, inputs: Sequence[Input], options: ModelOptions
    ) -> list[ModelAnswer]:
        """Read the body of a 200: one vector for each input, in their order, none of them checked.

        Raises :class:`~shared.errors.ModelUnavailable` for a broken answer and
        :class:`~shared.errors.ModelMisconfigured` for one that only a wrong setting explains.
        """


@dataclass(frozen=True)
class ServiceError:
    """What could be read from an error of the service: ``fields`` are the request fields that it calls wrong."""

    code: str
    message: str
    fields: frozenset[str] = frozenset()


def checked(embedding: list[float], options: ModelOptions, model: str) -> list[float]:
    """The vector, if it is one: of the right length, finite, not all zero.

    Raises :class:`~shared.errors.ModelMisconfigured` and :class:`~shared.errors.ModelUnavailable`.
    """
    published = known(model)
    dimensions = options.dimensions or (published.dimensions[0] if published else None)
    if dimensions is not None and options.requested_encoding in {"binary", "ubinary"}:
        dimensions //= 8
    if not embedding or (dimensions is not None and len(embedding) != dimensions):
        raise ModelMisconfigured(
            f"The model returned {len(embedding)} numbers instead of {dimensions or 'a vector'}."
            " Check FOUNDRY_MODEL and EMBEDDING_DIMENSIONS.",
            status=200,
        )
    # Among integers, zeros may be the answer.
    is_zero = options.requested_encoding == "float" and not any(embedding)
    if is_zero or not all(map(math.isfinite, embedding)):
        raise ModelUnavailable("The model returned a vector that is all zero or not finite", status=200)
    return embedding


def broken(error: Exception) -> ModelUnavailable:
    """The error for a body that is not what the format says."""
    return ModelUnavailable(f"The model's answer does not have the API's shape: {error}", status=200)


def miscounted(inputs: int, embeddings: int) -> ModelUnavailable:
    """The error for an answer with more or fewer vectors than there were inputs."""
    return ModelUnavailable(f"The model answered {inputs} inputs with {embeddings} embeddings", status=200)


def in_list(start: bytes, items: Iterable[list[bytes]]) -> list[bytes]:
    """The parts of a body that ends in a list of these items. Small parts are joined: each is a packet of its own."""
    parts, small = [], bytearray(start)
    for index, item in enumerate(items):
        small += b"," if index else b"["
        for part in item:
            if len(part) < _SMALL:
                small += part
            else:
                parts += [bytes(small), part]
                small.clear()
    return [*parts, bytes(small) + b"]}"]


def shared_out(tokens: int | None, weights: Sequence[int]) -> list[int | None]:
    """The tokens of one call by the weights of its inputs: whole numbers that add up to them."""
    if tokens is None:
        return [None] * len(weights)
    if not any(weights):
        weights = [1] * len(weights)
    total = sum(weights)
    shares: list[int | None] = []
    before = counted = 0
    for weight in weights:
        counted += weight
        until = tokens * counted // total
        shares.append(until - before)
        before = until
    return shares


def if_it_is[Shape](shape: type[Shape], value: msgspec.Raw) -> Shape | None:
    """What may have any shape, if it has this one. A good vector was paid for: nothing beside it makes it a bad one."""
    try:
        return msgspec.json.decode(value, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def count(tokens: object) -> int | None:
    """A number of tokens, which some models send as a float; ``None`` for whatever else is in its place."""
    if not isinstance(tokens, int | float) or isinstance(tokens, bool) or not 0 <= tokens < 2**53:
        return None
    return round(tokens)


def failure(
    status: int, headers: Mapping[str, str], content: bytes, *, has_text: bool, fields: Mapping[str, str] | None = None
) -> ModelError:
    """What a status other than 200 means, with the service's own message. ``has_text``: an image came with a text.

    ``fields`` are those of :class:`WireFormat`: an error that names one is about it.
    """
    error = read_error(content)
    refusal = _refusal(error, has_text)
    if refusal != "text_not_supported":
        # Where it speaks of the text beside a picture, a field that it names explains what it says of the text.
        named = {ours for theirs, ours in (fields or {}).items() if theirs in error.message}
        error = replace(error, fields=error.fields | named)
    message = f"The model answered {status}: {': '.join(filter(None, (error.code, error.message))) or '(no body)'}"
    if status in {408, 429} or status >= 500:
        return ModelUnavailable(message, status=status, retry_after=requested_wait(headers, error))
    ours = error.fields & _OUR_FIELDS or _API_VERSION.search(error.message)
    if status not in _REFUSALS or error.code.lower() in _MISCONFIGURED_CODES or ours:
        advised = f"{message}. {_ADVICE.get(status, '')}".rstrip()
        return ModelMisconfigured(advised, status=status, fields=error.fields)
    return ModelRefused(refusal, message, status=status)


def requested_wait(headers: Mapping[str, str], error: ServiceError) -> float | None:
    """The wait that the service asks for, in seconds: from its headers, else from the words of its message.

    ``None`` if it names none, or 0: to come back at once is no advice where that just failed, and the app's own waits
    are longer.
    """
    return _named_wait(headers, error) or None


def stated_quota(headers: Mapping[str, str]) -> Stated | None:
    """The quota that the headers of an answer state; ``None`` if they state none.

    The names are those of Azure OpenAI. What is left of the calls is not read: Azure counts it for ten seconds there,
    and the limit for a minute.
    """
    calls, tokens, left = (_stated(headers, name) for name in ("limit-requests", "limit-tokens", "remaining-tokens"))
    if not calls and not tokens:
        return None
    return Stated(calls or None, tokens or None, None if left is None or not tokens else min(1.0, left / tokens))


def read_error(body: bytes) -> ServiceError:
    """Read whatever the service sent with a status other than 200; never raises.

    At least six shapes are in use: ``{"error": {…}}``, ``{"error": "…"}``, ``{"code", "message"}`` and
    ``{"statusCode", "message"}`` at the top, validation lists under ``detail``, JSON inside ``message``, and HTML
    or nothing from the proxies in front.
    """
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    if isinstance(content, list):
        return ServiceError("", _shorten(_findings(content)), _fields(content))
    if not isinstance(content, dict):
        return ServiceError("", _shorten(body.decode("utf-8", "replace")))
    error = content.get("error", content)
    if not isinstance(error, dict):
        return ServiceError("", _shorten(_findings(error)), _fields(content.get("detail")))
    code = error.get("code") or error.get("statusCode") or error.get("status") or ""
    inner = _inner(error.get("message"))
    said = (inner, error.get("message"), error.get("detail"), error.get("status"))
    message = next(filter(None, map(_findings, said)), "")
    fields = _fields(error.get("detail")) | _fields(error.get("details")) | _fields(inner)
    if listed := _NOT_ALLOWED.search(message):
        fields |= set(re.findall(r"\w+", listed[1]))
    return ServiceError(str(code), _shorten(message), fields)


def _stated(headers: Mapping[str, str], name: str) -> float | None:
    # Some models answer -1, which says nothing.
    value = headers.get(f"x-ratelimit-{name}", "")
    return float(value) if _SECONDS.fullmatch(value) else None


def _named_wait(headers: Mapping[str, str], error: ServiceError) -> float | None:
    if (after := headers.get("retry-after")) is not None:
        if _SECONDS.fullmatch(after.strip()):
            return float(after)
        try:
            date = email.utils.parsedate_to_datetime(after)
        except ValueError:
            pass
        else:
            return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if _SECONDS.fullmatch(headers.get(name, "")):
            return float(headers[name]) / 1000
    words = _WAIT_IN_WORDS.search(error.message)
    return float(words[1]) if words else None


def _refusal(error: ServiceError, has_text: bool) -> RefusalCode:
    if "content_filter" in error.code.lower():
        return "content_filtered"
    if has_text and ("text" in error.fields or re.search(r"\btexts?\b", error.message)):
        return "text_not_supported"
    return "refused_by_model"


def _inner(message: object) -> object:
    """The ``detail`` of an error, or a list of findings, packed as JSON text into another error's message."""
    try:
        inner = msgspec.json.decode(message) if isinstance(message, str) else None
    except (msgspec.DecodeError, RecursionError):
        return None
    return inner.get("detail") if isinstance(inner, dict) else inner if isinstance(inner, list) else None


def _findings(detail: object) -> str:
    """What a validation list says, without the inputs that it quotes; a text or number as it is."""
    if isinstance(detail, str | int):
        return str(detail)
    items = detail if isinstance(detail, list) else [detail]
    return "; ".join(
        ": ".join(
            part
            for part in (
                ".".join(map(str, item["loc"])) if isinstance(item.get("loc"), list) else "",
                str(item.get("msg", "")),
                str(item.get("type", "")),
            )
            if part
        )
        for item in items
        if isinstance(item, dict)
    )


def _fields(detail: object) -> frozenset[str]:
    """The fields named by ``{"loc": ["body", "dimensions"]}`` or a list of such."""
    items = detail if isinstance(detail, list) else [detail]
    locations = [item.get("loc") for item in items if isinstance(item, dict)]
    return frozenset(
        part
        for location in locations
        if isinstance(location, list)
        for part in location
        if isinstance(part, str) and part != "body"
    )


def _shorten(message: str) -> str:
    """The message on one line, no longer than a log line should be, without the input that it may quote."""
    message = re.sub(r"data:image/[^\s\"']*", "data:image/…", " ".join(message.split()))
    message = _QUOTED_INPUT.sub("input_value=…", message)
    return message if len(message) <= MESSAGE_LIMIT else message[:MESSAGE_LIMIT] + "…"
