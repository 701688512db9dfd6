"""A picture file from a stranger, opened: its format told by content, its costs by its header, before any decoding.

Decoders are native code, or slow Python, and a few bytes can ask a lot of either. What is let through here takes less
than a gigabyte and a few seconds, whatever it is.
"""

import ctypes
import enum
import io
import itertools
import logging
import re
import warnings
from pathlib import Path

import pi_heif
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from shared.errors import PictureError
from shared.pictures import headers

MEDIA_TYPES = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "HEIF": "image/heic",
    "ICO": "image/x-icon",
    "JPEG": "image/jpeg",
    "JPEG2000": "image/jp2",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "PPM": "image/x-portable-pixmap",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
# Multi-picture JPEGs are opened as JPEGs and say "MPO" afterwards.
_FORMATS = [name for name in MEDIA_TYPES if name != "MPO"]

# What decoding may take, and what it takes a pixel at its peak (measured on 30 megapixels; Pillow holds RGB in 4).
_MEMORY = 900_000_000
_BYTES_PER_PIXEL = {"AVIF": 10, "HEIF": 8, "JPEG2000": 20, "WEBP": 17}
_BYTES_PER_PIXEL_ELSEWHERE = 4
_BYTES_PER_PIXEL_WITH_ALPHA = 6  # no more memory, but half as much time again
# Some decoders run in Python, or are made to by odd files: a step each for a chunk, a run or a number.
_MOST_READS = 300_000
_MOST_READS_OF_A_BITMAP = 2_000_000
_MOST_PIXELS_IN_PYTHON = {"bmp_rle": 2_000_000, "ppm_plain": 1_000_000, "ppm": 90_000}
_MOST_BYTES_IN_PYTHON = 8_000_000
_MOST_COMMENTS = 500
_MOST_PIXELS_WHEN_OPENED = {b"\0\0\1\0": 4_194_304, b"RIFF": _MEMORY // _BYTES_PER_PIXEL["WEBP"]}
_MOST_VALUES_OF_A_TAG = 500_000
# Each scan of a JPEG is a pass over all of it. Cameras and encoders write about 10, a file may have millions.
_MOST_SCANS = 1_000
_SCAN = re.compile(rb"\xff\xda")
_MOST_SCANNED_PIXELS = 4_000_000_000

pi_heif.register_heif_opener(thumbnails=False)
# What decoders warn of is either harmless or an error soon after; as a line on stderr it helps nobody.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
# Pillow's own limit would be one more; ours is read from the header of every picture, below.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")
# Picture generators write their recipes into text chunks of megabytes; all of them together stay under Pillow's 64 MiB.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# libtiff writes to stderr by itself. Pillow's wheels bring it along, and this is the very copy that they have loaded.
for library in Path(Image.__file__).parent.parent.glob("[Pp]illow.libs/libtiff*"):
    ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)


def open_picture(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Read the header: format and size are known afterwards, no pixel has been decoded but an icon's.

    Raises :class:`~shared.errors.PictureError` for what is no picture, or would cost too much to decode, or has more
    than ``max_pixels`` pixels.
    """
    if (pixels := headers.pixels_when_opened(data)) > _MOST_PIXELS_WHEN_OPENED.get(data[:4], 0):
        raise PictureError("too_many_pixels", f"The picture has, or holds one that has, {pixels:,} pixels.")
    if (values := headers.values_of_a_tag(data)) > _MOST_VALUES_OF_A_TAG:
        raise PictureError("damaged_image", f"The TIFF has a tag of {values:,} values: nobody writes one for good.")
    try:
        image = Image.open(_Reader(data), formats=_FORMATS)
        _check_cost(image, data, max_pixels)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        if headers.is_document(data):
            message = "Documents and drawings (PDF, SVG, PSD) cannot be embedded; convert it first."
            raise PictureError("unsupported_format", message) from error
        if headers.is_picture(data):
            raise PictureError("damaged_image", "The picture's header is broken or of an unusual kind.") from error
        raise PictureError("not_an_image", "The bytes are no picture in any format that is known here.") from error
    except Exception as error:
        raise damaged("The picture's header cannot be read", error) from error
    return image


class _Reader(io.BytesIO):
    """The file, for decoders that read it in steps: so many and no more, since a file can make them take millions."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _MOST_READS_OF_A_BITMAP if data.startswith(b"BM") else _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise PictureError("damaged_image", "The picture takes far more steps to decode than it should.")
        return super().read(size)


def _check_cost(image: ImageFile.ImageFile, data: bytes, max_pixels: int) -> None:
    """Refuse, by the header alone, what would take too much memory or time to decode."""
    width, height = image.size
    pixels = width * height
    size = f"The {image.format} picture has {width} x {height} pixels"
    if pixels > max_pixels:
        raise PictureError("too_many_pixels", f"{size}; IMAGE_MAX_PIXELS allows {max_pixels:,}.")
    alpha = image.mode in {"RGBA", "LA", "PA"}
    usual = _BYTES_PER_PIXEL_WITH_ALPHA if alpha else _BYTES_PER_PIXEL_ELSEWHERE
    each = _BYTES_PER_PIXEL.get(image.format or "", usual)
    if image.format in {"JPEG", "MPO"}:
        # A regular expression finds two bytes three times as fast as bytes.count does.
        scans = sum(1 for _ in itertools.islice(_SCAN.finditer(data), _MOST_SCANS + 1))
        if scans > _MOST_SCANS or scans * pixels > _MOST_SCANNED_PIXELS:
            raise PictureError("damaged_image", f"{size} in {scans:,} scans: nobody writes such a JPEG for good.")
        if image.info.get("progressive"):
            each = max(each, 2 * len(image.getbands()))  # all coefficients of all channels, 16 bits each
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if (strip := _largest_strip(image)) > _MEMORY:
            raise PictureError("damaged_image", f"The TIFF has a strip or tile of {strip:,} bytes.")
        if image.tag_v2.get(_Tag.ORIENTATION, 1) != 1:
            each += _BYTES_PER_PIXEL_ELSEWHERE  # it is turned as a whole, beside itself
    else:
        strip = 0
    # Rows have pointers, and decoders hold some rows beside the picture: that counts in extreme shapes.
    needed = pixels * each + strip + 16 * (width + height)
    if needed > _MEMORY:
        raise PictureError("too_many_pixels", f"{size}: to decode it would take {needed:,} bytes of memory.")
    decoder = image.tile[0][0] if image.tile else ""
    if decoder in _MOST_PIXELS_IN_PYTHON:
        if pixels > _MOST_PIXELS_IN_PYTHON[decoder]:
            raise PictureError("too_many_pixels", f"{size} in a form that is slow to read. Convert it first.")
        if len(data) > _MOST_BYTES_IN_PYTHON:
            raise PictureError("unsupported_format", f"{size} in a form that is slow to read. Convert it first.")
        if image.format == "PPM" and data.count(b"#") > _MOST_COMMENTS:
            raise PictureError("damaged_image", "The PPM picture has far more comments than it should.")


def _largest_strip(image: TiffImagePlugin.TiffImageFile) -> int:
    """The bytes of the largest strip or tile, decompressed: libtiff holds one beside the picture."""
    tags = image.tag_v2
    rows = min(int(tags.get(_Tag.ROWS_PER_STRIP, image.height)), image.height)
    tile = int(tags.get(_Tag.TILE_WIDTH, 0)) * int(tags.get(_Tag.TILE_HEIGHT, 0))
    return int(max(rows * image.width, tile) * sum(tags.get(_Tag.BITS_PER_SAMPLE, (8,))) // 8)


class _Tag(enum.IntEnum):
    BITS_PER_SAMPLE = 258
    ORIENTATION = 274
    ROWS_PER_STRIP = 278
    TILE_WIDTH = 322
    TILE_HEIGHT = 323


def damaged(what: str, error: Exception) -> PictureError:
    """Return what a decoder raised as an error about the picture."""
    return PictureError("damaged_image", f"{what}: {type(error).__name__}: {error}"[:500])
