"""Writes ICC profiles of version 2 (ICC.1:2001-04) whose connection space is XYZ."""

import struct
from collections.abc import Iterable

# White of the connection space.
D50 = (0.9642, 1.0, 0.8249)


def write(kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """The profile of this kind (class and colour space, 4 bytes each) with these tags."""
    tags = {b"desc": struct.pack(">4sxxxxI79x", b"desc", 1), b"wtpt": xyz(D50)} | tags
    at = 132 + 12 * len(tags)
    listed, contents = [], []
    for name, content in tags.items():
        listed.append(struct.pack(">4sII", name, at, len(content)))
        contents.append(content + bytes(-len(content) % 4))
        at += len(contents[-1])
    header = struct.pack(">I4xI8s4s12x4s28x3i48xI", at, 0x02400000, kind, b"XYZ ", b"acsp", *_fixed(D50), len(tags))
    return b"".join((header, *listed, *contents))


def xyz(values: Iterable[float]) -> bytes:
    """A colour as a tag's content."""
    return struct.pack(">4sxxxx3i", b"XYZ ", *_fixed(values))


def curve(shares: list[float]) -> bytes:
    """A curve as a tag's content: the light, 0 to 1, of signals in equal steps."""
    return struct.pack(f">4sxxxxI{len(shares)}H", b"curv", len(shares), *map(sixteen_bits, shares))


def sixteen_bits(share: float) -> int:
    """0 to 1 as a number of 16 bits."""
    return round(65_535 * min(1.0, max(0.0, share)))


def _fixed(values: Iterable[float]) -> list[int]:
    return [round(65_536 * value) for value in values]
