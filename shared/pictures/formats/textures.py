"""TGA and DDS, which games and renderers use: a TGA has no mark at its start, and a DDS may hold plain numbers."""

import struct
from typing import cast

from PIL import ImageFile

from shared.errors import PictureError

_TGA_END = b"TRUEVISION-XFILE.\0"
_TGA_BITS = {1: {8}, 2: {16, 24, 32}, 3: {8, 16}, 9: {8}, 10: {16, 24, 32}, 11: {8, 16}}
_TGA_MAP_BITS = {15, 16, 24, 32}
_COMPRESSED = 8
_DDS_HEADER = 128
_DDS_ORDERS: dict[tuple[int, ...], str] = {(0xFF0000, 0xFF00, 0xFF): "BGR", (0xFF, 0xFF00, 0xFF0000): "RGB"}


def is_tga(data: bytes) -> bool:
    """Whether every field of the header is as in a TGA. That it has no mark makes this a guess, if a safe one."""
    if len(data) < 18:
        return False
    _, mapped, kind, first, length, map_bits, _, _, width, height, bits, flags = struct.unpack_from(
        "<BBBHHBHHHHBB", data
    )
    if bits not in _TGA_BITS.get(kind, ()) or not width or not height or flags & 0xC0:
        return False
    if data.endswith(_TGA_END):
        return True
    needs_map = kind in {1, 9}
    map_is_right = map_bits in _TGA_MAP_BITS and 0 < length <= 256 if mapped else (first, length) == (0, 0)
    whole = kind & _COMPRESSED or len(data) >= 18 + width * height * bits // 8
    return mapped == needs_map and map_is_right and bool(whole)


def with_masks(image: ImageFile.ImageFile) -> None:
    """Have a DDS of plain numbers decoded as one, with ``masks``: Pillow takes it apart in Python, pixel by pixel."""
    for tile in image.tile:
        if tile.codec_name != "dds_rgb":
            return
        bits, masks = cast(tuple[int, tuple[int, ...]], tile.args)
        if bits == 24 and (order := _DDS_ORDERS.get(masks[:3])):
            image._mode, raw = "RGB", order
        elif bits in {16, 32}:
            image._mode, raw = "I", f"I;{bits}"
            image.info["masks"] = (*masks, 0)[:4]
        else:
            message = f"It is a DDS of {bits} bits with masks that are not supported. Save it as PNG."
            raise PictureError("unsupported_format", message)
        image.tile = [ImageFile._Tile("raw", (0, 0, *image.size), _DDS_HEADER, (raw, 0, 1))]
