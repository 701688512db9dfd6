"""JSON from outside made into typed data; what does not fit is an error that names the field at fault."""

import re
from typing import Any

import msgspec

from shared.errors import QueryError

_CHOICES = {
    "input_type": "It is one of text, query and document.",
    "encoding_format": "It is one of float, base64, int8, uint8, binary and ubinary.",
    "retry_failures": "It is false, or a list of failure codes such as damaged_image.",
}


def read_json(body: bytes) -> object:
    """The decoded JSON; raises :class:`~shared.errors.QueryError`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QueryError("invalid_json", f"The body is not JSON: {error}.") from error


def convert[Shape](content: object, shape: type[Shape], *, strict: bool = True) -> Shape:
    """``content`` as ``shape``; raises :class:`~shared.errors.QueryError`. Not ``strict``: strings may be numbers."""
    try:
        return msgspec.convert(content, shape, strict=strict)
    except msgspec.ValidationError as error:
        message, path = split_path(error)
        target = re.sub(r"^\.", "", path)[:100] or None
        hint = _CHOICES.get((target or "").partition("[")[0], "")
        raise QueryError("invalid_request", f"{message}. {hint}".rstrip(), target=target) from error


def split_path(error: msgspec.ValidationError) -> tuple[str, str]:
    """What is wrong, and the path of the field at fault, such as ``.input[0].image``; empty for the whole."""
    message, _, path = str(error).partition(" - at `$")
    return message, path.rstrip("`")


def check_depth(extras: dict[str, Any]) -> None:
    """Refuse what is nested so deep that it can be decoded but not encoded again."""
    try:
        msgspec.json.encode([[[extras]]])
    except RecursionError as error:
        raise QueryError("invalid_json", "The body is nested too deep.") from error
