"""What the index is told: that an image has a vector now, or none any more. One entry for each change of a record."""

import math
import struct
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from isal import isal_zlib

# Length and checksum of what follows.
_FRAME = struct.Struct("<II")


class DamagedEntries(ValueError):
    """Bytes of a log are not as :func:`encode` writes them. The message says where."""


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a result says of an image besides its name: as in its record.

    ``metadata`` is ``None`` where it is too large to be kept here.
    """

    etag: str
    media_type: str
    width: int
    height: int
    embedded_at: datetime
    text: str | None = None
    metadata: dict[str, str] | None = {}


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of an image at one moment.

    Of all entries with the same ``name`` the one with the largest ``seq`` counts. ``vector`` has length 1, as float16
    in little-endian order. An image that is gone has neither ``facts`` nor ``vector``.
    """

    name: str
    seq: int
    facts: Facts | None = None
    vector: bytes = b""


def packed(embedding: Sequence[float]) -> bytes:
    """An embedding as the vector of an entry: of length 1, in float16. Raises ``ValueError`` for one without length."""
    length = math.hypot(*embedding)
    if not (length > 0 and math.isfinite(length)):
        raise ValueError("The embedding has no length.")
    return struct.pack(f"<{len(embedding)}e", *(number / length for number in embedding))


def comparable(entry: Entry, dimensions: int) -> Entry:
    """The entry, as of an image that is gone if its vector has another length than all others."""
    return entry if len(entry.vector) in {0, 2 * dimensions} else Entry(name=entry.name, seq=entry.seq)


def encode(entries: Iterable[Entry]) -> bytes:
    """The bytes of a block of a log."""
    frames = []
    for entry in entries:
        content = msgspec.msgpack.encode(entry)
        frames += [_FRAME.pack(len(content), isal_zlib.crc32(content)), content]
    return b"".join(frames)


def decode(data: bytes) -> list[Entry]:
    """The entries of blocks, in the order in which they were appended; raises :class:`DamagedEntries`."""
    entries, at = [], 0
    while at < len(data):
        try:
            size, checksum = _FRAME.unpack_from(data, at)
            content = data[at + _FRAME.size : at + _FRAME.size + size]
            if len(content) < size or isal_zlib.crc32(content) != checksum:
                raise DamagedEntries(f"The entry at byte {at:,} is cut off, or its checksum is wrong.")
            entries.append(msgspec.msgpack.decode(content, type=Entry))
        except (struct.error, msgspec.DecodeError) as error:
            raise DamagedEntries(f"The entry at byte {at:,} cannot be read: {error}") from error
        at += _FRAME.size + size
    return entries


def whole(data: bytes) -> int:
    """How many of these bytes are whole entries: what was read of a log may end within one."""
    at = 0
    while at + _FRAME.size <= len(data):
        end = at + _FRAME.size + _FRAME.unpack_from(data, at)[0]
        if end > len(data):
            break
        at = end
    return at
