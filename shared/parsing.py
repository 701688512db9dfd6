"""Turn JSON from outside into typed data, with errors that name the field at fault."""

import re
from typing import Any

import msgspec

from shared.errors import QueryError

_QUOTED_VALUE = re.compile(r"(Invalid enum value) .*", re.DOTALL)
_CHOICES = {
    "input_type": "It must be one of text, query and document.",
    "encoding_format": "It must be one of float, base64, int8, uint8, binary and ubinary.",
    "retry_failures": "It must be false or a list of failure codes such as damaged_image.",
}


def read_json(body: bytes) -> object:
    """The decoded JSON; raises :class:`~shared.errors.QueryError`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QueryError("invalid_json", f"The body is not JSON: {error}.") from error


def convert[Shape](content: object, shape: type[Shape], *, strict: bool = True) -> Shape:
    """``content`` as ``shape``, or :class:`~shared.errors.QueryError`. Unless ``strict``, numbers may be strings."""
    try:
        return msgspec.convert(content, shape, strict=strict)
    except msgspec.ValidationError as error:
        message, path = split_path(error)
        target = re.sub(r"^\.", "", path)[:100] or None
        hint = _CHOICES.get((target or "").partition("[")[0], "")
        raise QueryError("invalid_request", f"{message}. {hint}".rstrip(), target=target) from error


def split_path(error: msgspec.ValidationError) -> tuple[str, str]:
    """The message, and the path of the field at fault, such as ``.input[0].image``; empty for the whole body.

    The message quotes no value: it goes into the log, and a value may be an image.
    """
    message, _, path = str(error).partition(" - at `$")
    return _QUOTED_VALUE.sub(r"\1", message), path.rstrip("`")


def check_depth(extras: dict[str, Any]) -> None:
    """Raise :class:`~shared.errors.QueryError` if this is nested so deeply that it decodes but does not encode."""
    try:
        msgspec.json.encode([[[extras]]])
    except RecursionError as error:
        raise QueryError("invalid_json", "The body is nested too deeply.") from error
