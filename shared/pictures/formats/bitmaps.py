"""Open bitmaps (BMP) whose channels lie anywhere, and those inside of icons, which have other headers and masks."""

import struct
from typing import IO, cast, override

from PIL import BmpImagePlugin, Image, ImageFile

from shared.errors import PictureError

MAX_PIXELS_OF_AN_ICON = 4_194_304

# The headers of a BMP, by their sizes; how its pixels may be stored; and the layouts that Pillow decodes by itself.
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_BMP_BITS = {1, 4, 8, 16, 24, 32}
_BIT_FIELDS, _ALPHA_BIT_FIELDS = 3, 6
_USUAL_MASKS = {
    16: [(0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)],
    24: [(0xFF0000, 0xFF00, 0xFF, 0)],
    32: [
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0, 0, 0, 0),
    ],
}


def bitmap_of_icon(dib: bytes) -> tuple[bytes, Image.Image | None]:
    """The bitmap of an icon as a BMP file, and its mask: the rows of bits behind its pixels, 0 where it is opaque."""
    header_size, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", dib)
    (colours,) = struct.unpack_from("<I", dib, 32)
    # The height counts the rows of the mask as well.
    height = abs(height) // 2
    if header_size < 40 or width <= 0 or width * height > MAX_PIXELS_OF_AN_ICON:
        raise PictureError("damaged_image", f"The icon has a bitmap of {width} x {height} pixels.")
    masks = 12 if header_size == 40 and compression == _BIT_FIELDS else 0
    palette = 4 * (colours or (1 << bits if bits <= 8 else 0))
    pixels_at = header_size + masks + palette
    header = dib[:8] + struct.pack("<i", height) + dib[12:pixels_at]
    if bits == 32 and compression == 0:
        # In icons, unlike in other bitmaps, the fourth byte is alpha: said by the masks of a longer header.
        header = struct.pack("<I", 56) + header[4:16] + struct.pack("<I", _BIT_FIELDS) + header[20:40]
        header += struct.pack("<4I", *_USUAL_MASKS[32][1])
    file = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(header)) + header + dib[pixels_at:]
    if compression not in {0, _BIT_FIELDS}:
        return file, None
    stride = (width + 31) // 32 * 4
    mask_at = pixels_at + (width * bits + 31) // 32 * 4 * height
    rows = dib[mask_at : mask_at + stride * height]
    if len(rows) < stride * height or not rows:
        return file, None
    return file, Image.frombytes("1", (width, height), rows, "raw", "1;I", stride, -1).convert("L")


class _Bitmap(BmpImagePlugin.BmpImageFile):
    """A BMP. If its channels lie where Pillow does not expect them, its pixels are plain numbers, with ``masks``."""

    @override
    def _open(self) -> None:
        file = cast(IO[bytes], self.fp)
        head = file.read(70)
        file.seek(0)
        header_size, width, height, planes, bits, compression = struct.unpack_from("<IiiHHI", head.ljust(70, b"\0"), 14)
        if header_size == 12 or planes != 1 or len(head) < 70:
            return super()._open()
        if compression in {_BIT_FIELDS, _ALPHA_BIT_FIELDS} and bits in _USUAL_MASKS and header_size != 64:
            masks = struct.unpack_from("<4I", head, 54)
            if header_size == 52 or (header_size == 40 and compression == _BIT_FIELDS):
                masks = (*masks[:3], 0)
            if compression == _ALPHA_BIT_FIELDS or masks not in _USUAL_MASKS[bits]:
                behind = 14 + max(header_size, 40 + (16 if compression == _ALPHA_BIT_FIELDS else 12))
                self._open_numbers(width, height, bits, masks, int.from_bytes(head[10:14], "little") or behind)
                return None
        elif header_size not in _BMP_HEADERS or bits not in _BMP_BITS or compression > 2:
            message = f"It is a BMP of a rare kind (header {header_size}, {bits} bits, compression {compression})."
            raise PictureError("unsupported_format", f"{message} Save it as PNG or JPEG.")
        return super()._open()

    def _open_numbers(self, width: int, height: int, bits: int, masks: tuple[int, ...], offset: int) -> None:
        if bits == 24 or any(not _is_one_run(mask) or mask >> bits for mask in masks):
            message = f"The BMP has masks {[f'{mask:X}' for mask in masks]} for {bits} bits. Save it as PNG or JPEG."
            raise PictureError("unsupported_format", message)
        if width <= 0 or height == 0:
            raise SyntaxError(f"a BMP of {width} x {height} pixels")
        self._size, self._mode = (width, abs(height)), "I"
        self.info["masks"] = masks
        stride = (width * bits + 31) // 32 * 4
        tile = ImageFile._Tile("raw", (0, 0, *self._size), offset, (f"I;{bits}", stride, 1 if height < 0 else -1))
        self.tile = [tile]


def _is_one_run(mask: int) -> bool:
    """Whether the ones in a mask stand side by side."""
    run = mask >> max(0, (mask & -mask).bit_length() - 1)
    return run & (run + 1) == 0


Image.register_open(_Bitmap.format, _Bitmap, BmpImagePlugin._accept)
