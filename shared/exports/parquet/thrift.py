"""Thrift's compact protocol, as far as a Parquet file needs it: structs of numbers, texts, lists and structs.

A struct is bytes; a field is its number, its type and its bytes. No fields may be further apart than 15 numbers.
"""

from collections.abc import Iterable, Sequence
from typing import Final

type Field = tuple[int, int, bytes]

_TRUE, _FALSE, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 2, 5, 6, 8, 9, 12
_STOP: Final = b"\0"
# A list of so many items or more has its length behind its first byte.
_LONG: Final = 15


def struct(*fields: Field) -> bytes:
    """The fields, in the order of their numbers."""
    parts, last = [], 0
    for number, kind, content in fields:
        parts += [bytes([(number - last) << 4 | kind]), content]
        last = number
    return b"".join([*parts, _STOP])


def i32(number: int, value: int) -> Field:
    """A number of 32 bits, or one of an enumeration."""
    return number, _I32, _zigzag(value)


def i64(number: int, value: int) -> Field:
    """A number of 64 bits."""
    return number, _I64, _zigzag(value)


def flag(number: int, *, value: bool) -> Field:
    """A truth value."""
    return number, _TRUE if value else _FALSE, b""


def binary(number: int, value: bytes) -> Field:
    """A string, of text or bytes."""
    return number, _BINARY, _sized(value)


def nested(number: int, *fields: Field) -> Field:
    """A struct, or a union, which has one field."""
    return number, _STRUCT, struct(*fields)


def i32s(number: int, values: Iterable[int]) -> Field:
    """A list of numbers of 32 bits."""
    return _list(number, _I32, [_zigzag(value) for value in values])


def binaries(number: int, values: Iterable[bytes]) -> Field:
    """A list of strings."""
    return _list(number, _BINARY, [_sized(value) for value in values])


def structs(number: int, values: Sequence[bytes]) -> Field:
    """A list of structs."""
    return _list(number, _STRUCT, values)


def varint(value: int) -> bytes:
    """An unsigned number in as many groups of seven bits as it needs, the lowest first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _list(number: int, kind: int, items: Sequence[bytes]) -> Field:
    count = len(items)
    head = bytes([count << 4 | kind]) if count < _LONG else bytes([_LONG << 4 | kind]) + varint(count)
    return number, _LIST, head + b"".join(items)


def _sized(value: bytes) -> bytes:
    return varint(len(value)) + value


def _zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)
