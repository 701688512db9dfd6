"""Icons and cursors hold a picture in several sizes. This gets the largest, as a file of its own."""

import io
import struct
from typing import NamedTuple

from PIL import IcnsImagePlugin, Image, UnidentifiedImageError

from shared.pictures import png
from shared.pictures.formats.bitmaps import bitmap_of_icon

# The pictures of an ICNS that are files, and what they begin with; and those that are plain pixels: their type, their
# side, and the type of their mask.
_FILES = (png.SIGNATURE, b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_PLAIN = {b"it32": (128, b"t8mk"), b"ih32": (48, b"h8mk"), b"il32": (32, b"l8mk"), b"is32": (16, b"s8mk")}
_MAX_ELEMENTS = 100


class Icon(NamedTuple):
    """The picture as a file, and the mask of a bitmap, ``None`` if it has none."""

    format: str
    file: bytes
    is_bitmap: bool = False
    opacity: Image.Image | None = None


def largest(data: bytes) -> Icon | None:
    """The largest picture of an ICO, CUR or ICNS, of several the one with most colours; ``None`` for other files.

    Raises :class:`~shared.errors.PictureError`, or what Pillow and ``struct`` raise, if it holds none that can be read.
    """
    if data.startswith(b"\0\0\1\0"):
        return _of_windows("ICO", data)
    # The beginning of a TGA is the same, but a cursor has at least one picture.
    if data.startswith(b"\0\0\2\0") and data[4:6] != b"\0\0":
        return _of_windows("CUR", data)
    return _of_apple(data) if data.startswith(b"icns") else None


def _of_windows(kind: str, data: bytes) -> Icon:
    count = int.from_bytes(data[4:6], "little")
    starts = range(6, min(6 + 16 * count, len(data) - 15), 16)
    entries = [struct.unpack_from("<BBxxxxHII", data, at) for at in starts]
    if not entries:
        raise UnidentifiedImageError("an icon without pictures")
    # Where an icon counts bits, a cursor has the place of its tip.
    sizes = [((wide or 256) * (high or 256), bits if kind == "ICO" else 0) for wide, high, bits, _, _ in entries]
    _, _, _, size, offset = entries[sizes.index(max(sizes))]
    file = data[offset : offset + size]
    if file.startswith(png.SIGNATURE):
        return Icon(kind, file)
    bitmap, opacity = bitmap_of_icon(file)
    return Icon(kind, bitmap, True, opacity)


def _of_apple(data: bytes) -> Icon:
    elements: dict[bytes, bytes] = {}
    at = 8
    for _ in range(_MAX_ELEMENTS):
        size = int.from_bytes(data[at + 4 : at + 8])
        if size < 8:
            break
        elements[data[at : at + 4]] = data[at + 8 : at + size]
        at += size
    files = [content for content in elements.values() if content.startswith(_FILES)]
    if files:
        return Icon("ICNS", max(files, key=_pixels))
    for kind, (side, mask) in _PLAIN.items():
        if kind in elements:
            return Icon("ICNS", _as_png(elements[kind], side, elements.get(mask)))
    raise UnidentifiedImageError("an icon without pictures that can be read")


def _pixels(file: bytes) -> int:
    if file.startswith(png.SIGNATURE):
        return int.from_bytes(file[16:20]) * int.from_bytes(file[20:24])
    with Image.open(io.BytesIO(file), formats=["JPEG2000"]) as image:
        return image.width * image.height


def _as_png(content: bytes, side: int, mask: bytes | None) -> bytes:
    read = IcnsImagePlugin.read_32t if side == 128 else IcnsImagePlugin.read_32
    size = side, side, 1
    picture = read(io.BytesIO(content), (0, len(content)), size)["RGB"]
    if mask is not None:
        picture.putalpha(IcnsImagePlugin.read_mk(io.BytesIO(mask), (0, len(mask)), size)["A"])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
