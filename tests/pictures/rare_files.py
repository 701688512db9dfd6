"""Files in formats that no library writes, or none that is here, made by their specifications."""

import struct

from PIL import Image

from tests.pictures.hostile.catalogue import save
from tests.pictures.tiff_files import BYTE, LONG, SHORT, Order, Tags, file_of

CFA, LINEAR_RAW = 32_803, 34_892
_RESOURCE_ICC, _RESOURCE_VERSION = 1_039, 1_057


def packbits(rows: bytes) -> bytes:
    return b"".join(bytes([len(rows[at : at + 128]) - 1]) + rows[at : at + 128] for at in range(0, len(rows), 128))


def psd(
    image: Image.Image,
    *,
    mode: int = 3,
    compressed: bool = False,
    version: int = 1,
    bits: int = 8,
    merged: bool | None = None,
    profile: bytes = b"",
) -> bytes:
    """A Photoshop file without layers: one flattened picture."""
    width, height = image.size
    planes = [channel.tobytes() for channel in image.split()]
    header = struct.pack(">4sH6xHIIHH", b"8BPS", version, len(planes), height, width, bits, mode)
    resources = b""
    if merged is not None:
        resources += _resource(_RESOURCE_VERSION, struct.pack(">IB", 1, merged) + bytes(13))
    if profile:
        resources += _resource(_RESOURCE_ICC, profile)
    pixels = b"\0\0" + b"".join(planes)
    if compressed:
        rows = [packbits(plane[at : at + width]) for plane in planes for at in range(0, len(plane), width)]
        pixels = b"\0\1" + struct.pack(f">{len(rows)}H", *map(len, rows)) + b"".join(rows)
    palette = b""
    if mode == 2:
        palette = bytes(image.getpalette() or ()).ljust(768, b"\0")
        palette = bytes(palette[at] for channel in range(3) for at in range(channel, 768, 3))
    return header + _sized(palette) + _sized(resources) + _sized(b"") + pixels


def _resource(number: int, content: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + content + bytes(len(content) % 2)


def _sized(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def tga(
    image: Image.Image, *, footer: bool = True, compressed: bool = False, flags: int = 0x20, kind: int | None = None
) -> bytes:
    """A TGA from its top, or its bottom with other flags."""
    bands = len(image.getbands())
    order = {1: "L", 3: "BGR", 4: "BGRA"}[bands]
    pixels = image.tobytes("raw", order, 0, 1 if flags & 0x20 else -1)
    if compressed:
        each = [pixels[at : at + bands] for at in range(0, len(pixels), bands)]
        pixels = b"".join(b"\x00" + pixel for pixel in each)
    number = (3 if bands == 1 else 2) + (8 if compressed else 0) if kind is None else kind
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, number, 0, 0, 0, 0, 0, *image.size, 8 * bands, flags)
    return header + pixels + (bytes(8) + b"TRUEVISION-XFILE.\0" if footer else b"")


def dds(size: tuple[int, int], bits: int, masks: tuple[int, ...], pixels: bytes) -> bytes:
    """A DDS of plain numbers."""
    flags = 0x40 | (1 if masks[3] else 0)
    kind = struct.pack("<II4xI4I", 32, flags, bits, *masks)
    return b"DDS " + struct.pack("<IIIIIII44x", 124, 0x1007, size[1], size[0], 0, 0, 0) + kind + bytes(20) + pixels


def cursor(dib: bytes, side: int, tip: tuple[int, int] = (5, 250)) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 2, 1, side, side, 0, 0, *tip, len(dib), 22) + dib


def icns(*elements: tuple[bytes, bytes]) -> bytes:
    content = b"".join(kind + struct.pack(">I", 8 + len(body)) + body for kind, body in elements)
    return b"icns" + struct.pack(">I", 8 + len(content)) + content


def apple_rle(band: bytes) -> bytes:
    """Runs of an ICNS: every byte once, by a number one less than the count."""
    return b"".join(bytes([len(band[at : at + 128]) - 1]) + band[at : at + 128] for at in range(0, len(band), 128))


def raw_of_nikon(photograph: Image.Image, *, orientation: int = 1, order: Order = ">", dng: bool = False) -> bytes:
    """A thumbnail, and within its page the sensor's values and the photograph as a JPEG."""
    preview = save(photograph, "JPEG", quality=95)
    thumbnail = photograph.resize((16, 12)).tobytes()
    sensor: Tags = {
        254: (LONG, [0]),
        256: (LONG, [400]),
        257: (LONG, [300]),
        258: (SHORT, [16]),
        259: (SHORT, [1]),
        262: (SHORT, [CFA]),
        277: (SHORT, [1]),
        278: (LONG, [300]),
    }
    first: Tags = {
        254: (LONG, [1]),
        256: (LONG, [16]),
        257: (LONG, [12]),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, [1]),
        262: (SHORT, [2]),
        274: (SHORT, [orientation]),
        277: (SHORT, [3]),
        278: (LONG, [12]),
        **({50706: (BYTE, [1, 4, 0, 0])} if dng else {}),
    }
    data = file_of([(first, [thumbnail]), (sensor, [b"\x12\x34" * 120_000])], order=order)
    return data + preview


def raw_of_canon(photograph: Image.Image, orientation: int = 1) -> bytes:
    """A CR3: boxes, with a TIFF of metadata, a thumbnail and the photograph."""
    metadata = file_of([({274: (SHORT, [orientation])}, [])])
    thumbnail = save(photograph.resize((32, 24)), "JPEG")
    moov = _box(b"uuid", bytes(16) + _box(b"CMT1", metadata) + _box(b"THMB", bytes(16) + thumbnail))
    preview = save(photograph, "JPEG", quality=95)
    return _box(b"ftyp", b"crx \0\0\0\1crx isom") + _box(b"moov", moov) + _box(b"mdat", preview + bytes(range(256)) * 9)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body
