"""Turn JSON from outside into typed data, with errors that name the field at fault."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec

from shared.errors import QueryError

_QUOTED_VALUE = re.compile(r"(Invalid enum value) .*", re.DOTALL)
_CHOICES = {
    "input_type": "It must be one of text, query and document.",
    "encoding_format": "It must be one of float, base64, int8, uint8, binary and ubinary.",
    "retry_failures": "It must be false or a list of failure codes such as damaged_image.",
}

_MAX_KIND = 100
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# An escaped surrogate that no other one follows or precedes, after anything else; no part is looked at twice.
_LONE_SURROGATE = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![Dd][89A-Fa-f])|\\u[Dd][89ABab]..\\u[Dd][C-Fc-f]..)*+\\u[Dd][89A-Fa-f]", re.DOTALL
)
# Up to here a float holds every integer exactly.
_MAX_EXACT = 2**53
_DECODER = msgspec.json.Decoder(float_hook=lambda text: _number(text))


def learn_shapes(package: str) -> None:
    """Have msgspec learn every Struct of a package that is imported by now, before any thread decodes one.

    It learns a shape when it is first decoded. A thread that decodes the same one meanwhile finds it half learned, and
    the whole process ends with a segmentation fault (0.22.0, eight threads). Takes 1.4 ms for all of the app's (2 vCPU
    AMD EPYC).
    """
    for shape in _structs(msgspec.Struct):
        if shape.__module__.startswith(f"{package}."):
            msgspec.json.Decoder(shape)


def _structs(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for shape in base.__subclasses__():
        yield shape
        yield from _structs(shape)


def read_json(body: bytes) -> object:
    """The decoded JSON, without the byte order mark that some programs put before it.

    Raises :class:`~shared.errors.QueryError`, whose message names the usual causes by their names.
    """
    text = body.removeprefix(_BYTE_ORDER_MARK)
    if not text or text.isspace():
        raise QueryError("invalid_json", "The body is empty; it must be JSON.")
    if encoding := _other_encoding(body):
        raise QueryError("invalid_json", f"The body is not JSON in UTF-8: it is in {encoding}. Send it in UTF-8.")
    try:
        return _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise QueryError("invalid_json", "The body is not JSON: it has bytes that are not UTF-8.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        if _LONE_SURROGATE.match(text):
            message = (
                "The body is not JSON: it has half of a character, a surrogate such as \\ud83d without its other half."
                " Escape the whole character, as in \\ud83d\\ude00, or send it unescaped."
            )
            raise QueryError("invalid_json", message) from error
        raise QueryError("invalid_json", f"The body is not JSON: {error}.") from error


def read_json_body(body: bytes, content_type: str, *, others: str = "") -> object:
    """The decoded JSON of a body, whatever its content-type; ``others`` says what else the route takes.

    Raises :class:`~shared.errors.QueryError`: status 415 for what is no JSON and does not claim to be.
    """
    try:
        return read_json(body)
    except QueryError as error:
        kind = content_type.partition(";")[0].strip().lower()[:_MAX_KIND]
        if _is_meant_as_json(body, kind):
            hints = [f"Its content-type is {kind}."] if kind and "json" not in kind else []
            hints += [f"Send JSON{others}."] if hints or others else []
            raise QueryError(error.code, " ".join([str(error), *hints])) from error
        message = f"The body is no JSON, and its content-type is {kind}. Send JSON{others}."
        raise QueryError("unsupported_media_type", message, status=415, target="content-type") from error


def convert_strings[Shape: msgspec.Struct](fields: Mapping[str, str], shape: type[Shape]) -> Shape:
    """Fields of a query string or a form as ``shape``, or :class:`~shared.errors.QueryError`.

    A string stands for a number or a truth value where the shape has one. (msgspec, unless strict, would also take
    ``null`` for nothing and a number for a time.)
    """
    kinds = {field.name: {*_kinds(field.type)} for field in msgspec.structs.fields(shape)}
    return convert({name: _meant(value, kinds.get(name, set())) for name, value in fields.items()}, shape)


def convert[Shape](content: object, shape: type[Shape]) -> Shape:
    """``content`` as ``shape``, or :class:`~shared.errors.QueryError`."""
    try:
        return msgspec.convert(content, shape)
    except msgspec.ValidationError as error:
        message, path = split_path(error)
        target = re.sub(r"^\.", "", path)[:100] or None
        hint = _CHOICES.get((target or "").partition("[")[0], "")
        raise QueryError("invalid_request", f"{message}. {hint}".rstrip(), target=target) from error


def _kinds(kind: object) -> Iterator[object]:
    yield kind
    for part in get_args(kind):
        yield from _kinds(part)


def _meant(text: str, kinds: set[object]) -> object:
    if bool in kinds:
        return _TRUTHS.get(text.lower(), text)
    if kinds & {int, float}:
        try:
            value = _DECODER.decode(text)
        except msgspec.DecodeError:
            return text
        return value if type(value) in {int, float} else text
    return text


def split_path(error: msgspec.ValidationError) -> tuple[str, str]:
    """The message, and the path of the field at fault, such as ``.input[0].image``; empty for the whole body.

    The message quotes no value: it goes into the log, and a value may be an image.
    """
    message, _, path = str(error).partition(" - at `$")
    return _QUOTED_VALUE.sub(r"\1", message), path.rstrip("`")


def _is_meant_as_json(body: bytes, kind: str) -> bool:
    """Whether it claims to be JSON, or looks like it: curl calls everything a form unless it is told otherwise."""
    looks = body.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] in {b"", b"{", b"["} or _other_encoding(body) is not None
    return not kind or "json" in kind or looks


def _other_encoding(body: bytes) -> str | None:
    """UTF-16 or UTF-32, by a byte order mark or by where the zeros are (RFC 4627, section 3); else ``None``."""
    if body[:4] in {b"\xff\xfe\0\0", b"\0\0\xfe\xff"}:
        return "UTF-32"
    if body[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "UTF-16"
    match [bool(byte) for byte in body[:4]]:
        case [False, False, False, True] | [True, False, False, False]:
            return "UTF-32"
        case [False, True, False, True] | [True, False, True, False] | [False, True] | [True, False]:
            return "UTF-16"
    return None


def _number(text: str) -> int | float:
    """A number with a point or an exponent; an integer if it is one, as in JavaScript: 1024.0 and 1e3."""
    number = float(text)
    if not math.isfinite(number):
        raise msgspec.ValidationError("Number out of range")
    return int(number) if number.is_integer() and abs(number) <= _MAX_EXACT else number


def check_depth(extras: dict[str, Any]) -> None:
    """Raise :class:`~shared.errors.QueryError` if this is nested so deeply that it decodes but does not encode."""
    try:
        msgspec.json.encode([[[extras]]])
    except RecursionError as error:
        raise QueryError("invalid_json", "The body is nested too deeply.") from error
