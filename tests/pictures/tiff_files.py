"""TIFFs of any layout, written by TIFF 6.0 alone, so that no library's idea of them is in the tests."""

import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

type Samples = NDArray[Any]
type Order = Literal["<", ">"]
# A tag's type, and its values: whole numbers, or the bytes as they are.
type Tags = Mapping[int, tuple[int, list[int] | bytes]]

BYTE, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 3, 4, 5, 7, 16
NONE, LZW, DEFLATE, PACKBITS, LZMA = 1, 5, 8, 32_773, 34_925
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9


def lzw(data: bytes) -> bytes:
    """Every byte as a code of 9 bits; the table is cleared before codes would need 10."""
    literals = np.frombuffer(data, np.uint8).astype(">u2")
    codes = np.append(np.insert(literals, range(0, len(literals), 250), 256), 257).astype(">u2")
    bits = np.unpackbits(codes.view(np.uint8).reshape(-1, 2), axis=1)[:, 7:]
    return np.packbits(bits).tobytes()


def packbits(data: bytes) -> bytes:
    return b"".join(
        bytes([len(part) - 1]) + part for part in (data[start : start + 128] for start in range(0, len(data), 128))
    )


COMPRESSIONS: dict[int, Callable[[bytes], bytes]] = {
    NONE: bytes,
    LZW: lzw,
    DEFLATE: zlib.compress,
    PACKBITS: packbits,
    LZMA: lambda data: lzma.compress(data, lzma.FORMAT_XZ, preset=0),
}


def tiff(
    samples: Samples,
    *,
    order: Order = "<",
    big: bool = False,
    compression: int = NONE,
    tile: tuple[int, int] | None = None,
    planar: bool = False,
    predictor: int = 1,
    bits: int = 0,
    photometric: int = MIN_IS_BLACK,
    more: Tags | None = None,
) -> bytes:
    """A TIFF of one page. ``samples`` are rows x columns x channels; ``bits`` packs whole numbers more tightly.

    ``tile`` is width and height; without it there are strips of 10 rows.
    """
    height, width, channels = samples.shape
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    across, down = tile or (width, 10)
    encode = COMPRESSIONS[compression]
    planes = [samples[..., index : index + 1] for index in range(channels)] if planar else [samples]
    chunks = [
        encode(_chunk_bytes(plane[top : top + down, left : left + across], tile, order, predictor, bits))
        for plane in planes
        for top in range(0, height, down)
        for left in range(0, width, across)
    ]
    size: Tags = {322: (LONG, [across]), 323: (LONG, [down])} if tile else {278: (LONG, [down])}
    entries: Tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits or samples.dtype.itemsize * 8] * channels),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [channels]),
        284: (SHORT, [2 if planar else 1]),
        317: (SHORT, [predictor]),
        339: (SHORT, [kind] * channels),
        **size,
    }
    return file_of([({**entries, **(more or {})}, chunks)], order=order, big=big)


def file_of(pages: list[tuple[Tags, list[bytes]]], *, order: Order = "<", big: bool = False) -> bytes:
    """A file of these pages, each its tags and its strips; or its tiles, where there is a size for them."""
    version = struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    data = (b"II" if order == "<" else b"MM") + version
    word, count_word, inline = ("Q", "Q", 8) if big else ("I", "H", 4)
    for number, (tags, chunks) in enumerate(pages):
        offsets, counts = (324, 325) if 322 in tags else (273, 279)
        listing: Tags = {offsets: (LONG8 if big else LONG, [0] * len(chunks)), counts: (LONG, list(map(len, chunks)))}
        entries = sorted({**tags, **listing}.items())
        at = len(data) + struct.calcsize(f"<{count_word}") + len(entries) * (12 + 2 * (inline - 4)) + inline
        outside_size = sum(len(value) for _, entry in entries if len(value := _packed(entry, order)) > inline)
        starts = np.cumsum([at + outside_size, *map(len, chunks)])[:-1].tolist()
        outside, rows = b"", b""
        for tag, (kind, values) in entries:
            value = _packed((kind, starts if tag == offsets else values), order)
            count = len(value) // {BYTE: 1, SHORT: 2, LONG: 4, RATIONAL: 8, UNDEFINED: 1, LONG8: 8}[kind]
            if len(value) > inline:
                outside += value
                value = struct.pack(f"{order}{word}", at + len(outside) - len(value))
            rows += struct.pack(f"{order}HH{word}", tag, kind, count) + value.ljust(inline, b"\0")
        end = at + len(outside) + sum(map(len, chunks))
        following = end if number + 1 < len(pages) else 0
        data += struct.pack(f"{order}{count_word}", len(entries)) + rows + struct.pack(f"{order}{word}", following)
        data += outside + b"".join(chunks)
    return data


def _packed(entry: tuple[int, list[int] | bytes], order: Order) -> bytes:
    kind, values = entry
    if isinstance(values, bytes):
        return values
    letter = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "B", LONG8: "Q"}[kind]
    return struct.pack(f"{order}{len(values)}{letter}", *values)


def _chunk_bytes(part: Samples, tile: tuple[int, int] | None, order: Order, predictor: int, bits: int) -> bytes:
    if tile:
        padding = [(0, tile[1] - part.shape[0]), (0, tile[0] - part.shape[1]), (0, 0)]
        part = np.pad(part, padding, mode="edge")
    rows, columns, channels = part.shape
    size = part.dtype.itemsize
    if bits:
        wide = part.reshape(rows, -1, 1).astype(">u2").view(np.uint8)
        single = np.unpackbits(wide, axis=2)[..., 16 - bits :]
        return np.packbits(single.reshape(rows, -1), axis=1).tobytes()
    if predictor == 3:
        by_byte = np.ascontiguousarray(part.astype(part.dtype.newbyteorder(">"))).view(np.uint8)
        plain = by_byte.reshape(rows, columns * channels, size).swapaxes(1, 2).reshape(rows, columns * size, channels)
        return np.diff(plain, axis=1, prepend=np.zeros_like(plain[:, :1])).tobytes()
    if predictor == 2:
        whole = np.ascontiguousarray(part).view(f"u{size}")
        part = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
    return part.astype(part.dtype.newbyteorder(order)).tobytes()
