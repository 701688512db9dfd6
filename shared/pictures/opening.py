"""Open a picture from a stranger: tell its format by content, and bound the cost of decoding it by its header.

Decoders are native code, or slow Python, and a few bytes can make either do a lot of work. Whatever passes here takes
less than a gigabyte and a few seconds to decode.
"""

import ctypes
import io
import itertools
import logging
import re
import warnings
from pathlib import Path

import pi_heif
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from shared.errors import PictureError
from shared.pictures import headers
from shared.pictures.tiff.pages import is_tiff
from shared.pictures.tiff.picture import TiffPicture

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
# Pillow opens multi-picture JPEGs as JPEG, and reports them as "MPO" afterwards. TIFFs are read here.
_FORMATS = [name for name in MEDIA_TYPES if name not in {"MPO", "TIFF"}]

# The memory that decoding may take, and its peak per pixel (measured on 30 megapixels; Pillow holds RGB in 4 bytes).
_MAX_MEMORY = 900_000_000
_BYTES_PER_PIXEL = {"AVIF": 10, "HEIF": 8, "JPEG2000": 20, "WEBP": 17}
_BYTES_PER_PIXEL_ELSEWHERE = 4
_BYTES_PER_PIXEL_WITH_ALPHA = 6  # no more memory, but half as much time again
# Some decoders run in Python, and an odd file makes others read in tiny steps: one for each chunk, run or number.
_MAX_READS = 300_000
_MAX_READS_OF_A_BITMAP = 2_000_000
_MAX_PIXELS_IN_PYTHON = {"bmp_rle": 2_000_000, "ppm_plain": 1_000_000, "ppm": 90_000}
_MAX_BYTES_IN_PYTHON = 8_000_000
_MAX_COMMENTS = 500
_MAX_PIXELS_ON_OPEN = {b"\0\0\1\0": 4_194_304, b"RIFF": _MAX_MEMORY // _BYTES_PER_PIXEL["WEBP"]}
_MAX_TIFF_WORK = 450_000_000  # at 6 ns each (2 virtual CPUs, busy)
# Each scan of a JPEG is a pass over the whole picture. Cameras and encoders write about 10; a file may have millions.
_MAX_SCANS = 1_000
_MAX_SCANNED_PIXELS = 4_000_000_000
_SCAN = re.compile(rb"\xff\xda")

pi_heif.register_heif_opener(thumbnails=False)
# What decoders warn of is harmless or soon becomes an error; a line on stderr helps nobody.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.")
# Our own limit, checked below against every header, replaces Pillow's.
Image.MAX_IMAGE_PIXELS = None
# Image generators write their recipes into text chunks of megabytes. The total stays within Pillow's 64 MiB.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# libtiff writes to stderr by itself. This is the copy in Pillow's wheel, the one that Pillow has loaded.
for library in Path(Image.__file__).parent.parent.glob("[Pp]illow.libs/libtiff*"):
    ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)


def open_picture(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Return the picture with its format and size read from the header. No pixels are decoded, except an icon's.

    Raises :class:`~shared.errors.PictureError` if the bytes are not a picture, if it has more than ``max_pixels``
    pixels, or if decoding it would cost too much.
    """
    max_on_open = _MAX_PIXELS_ON_OPEN.get(data[:4], 0)
    if (pixels := headers.pixels_on_open(data)) > max_on_open:
        message = f"The picture, or one inside it, has {pixels:,} pixels; this format may have {max_on_open:,}."
        raise PictureError("too_many_pixels", message)
    try:
        image = TiffPicture(data) if is_tiff(data) else Image.open(_LimitedReader(data), formats=_FORMATS)
        _check_cost(image, data, max_pixels)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        if headers.is_document(data):
            message = "PDF, PostScript, SVG and PSD files are not supported. Export it as PNG or JPEG."
            raise PictureError("unsupported_format", message) from error
        if headers.is_picture(data):
            message = "The picture's header is damaged or of an unsupported kind."
            raise PictureError("damaged_image", message) from error
        raise PictureError("not_an_image", "The bytes are not a picture in any supported format.") from error
    except Exception as error:
        raise damaged("The picture's header cannot be read", error) from error
    return image


def damaged(message: str, error: Exception) -> PictureError:
    """A decoder's exception as an error of the picture."""
    return PictureError("damaged_image", f"{message}: {type(error).__name__}: {error}"[:500])


class _LimitedReader(io.BytesIO):
    """The file, for decoders that read it in steps. The number of reads is limited: a file can cause millions."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._max_reads = self._reads_left = _MAX_READS_OF_A_BITMAP if data.startswith(b"BM") else _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            message = f"Decoding the picture takes more than {self._max_reads:,} steps; it is probably damaged."
            raise PictureError("damaged_image", message)
        return super().read(size)


def _check_cost(image: ImageFile.ImageFile, data: bytes, max_pixels: int) -> None:
    """Reject, by the header alone, a picture that would take too much memory or time to decode."""
    width, height = image.size
    pixels = width * height
    size = f"The {image.format} picture has {width} x {height} pixels"
    if pixels > max_pixels:
        raise PictureError("too_many_pixels", f"{size}; IMAGE_MAX_PIXELS allows {max_pixels:,}.")
    if image.format in {"JPEG", "MPO"}:
        _check_scans(data, pixels, size)
    # Each row has a pointer, and decoders hold a few rows in addition to the picture: this counts in extreme shapes.
    decoded = image.decoding_bytes if isinstance(image, TiffPicture) else pixels * _bytes_per_pixel(image)
    needed = decoded + 16 * (width + height)
    if needed > _MAX_MEMORY:
        message = f"{size}; decoding it would take {needed:,} bytes of memory, {_MAX_MEMORY:,} are allowed."
        raise PictureError("too_many_pixels", message)
    if isinstance(image, TiffPicture) and image.decoding_work > _MAX_TIFF_WORK:
        raise PictureError("too_many_pixels", f"{size}; decoding it would take too long. Save it as 8-bit RGB or PNG.")
    _check_python_decoder(image, data, size)


def _check_scans(data: bytes, pixels: int, size: str) -> None:
    # A regular expression finds two bytes three times as fast as bytes.count does.
    scans = sum(1 for _ in itertools.islice(_SCAN.finditer(data), _MAX_SCANS + 1))
    if scans > _MAX_SCANS or scans * pixels > _MAX_SCANNED_PIXELS:
        message = f"{size} in {scans:,} scans or more; decoding it would take too long. Save it as a baseline JPEG."
        raise PictureError("damaged_image", message)


def _check_python_decoder(image: ImageFile.ImageFile, data: bytes, size: str) -> None:
    decoder = image.tile[0][0] if image.tile else ""
    if decoder not in _MAX_PIXELS_IN_PYTHON:
        return
    slow = f"{size} in an encoding that is slow to decode. Convert it to PNG or JPEG."
    if image.width * image.height > _MAX_PIXELS_IN_PYTHON[decoder]:
        raise PictureError("too_many_pixels", slow)
    if len(data) > _MAX_BYTES_IN_PYTHON:
        raise PictureError("unsupported_format", slow)
    if image.format == "PPM" and data.count(b"#") > _MAX_COMMENTS:
        raise PictureError("damaged_image", f"The PPM picture has more than {_MAX_COMMENTS} comments.")


def _bytes_per_pixel(image: ImageFile.ImageFile) -> int:
    """The memory that decoding takes at its peak."""
    alpha = image.mode in {"RGBA", "LA", "PA"}
    usual = _BYTES_PER_PIXEL_WITH_ALPHA if alpha else _BYTES_PER_PIXEL_ELSEWHERE
    each = _BYTES_PER_PIXEL.get(image.format or "", usual)
    if image.format in {"JPEG", "MPO"} and image.info.get("progressive"):
        each = max(each, 2 * len(image.getbands()))  # all coefficients of all channels, 16 bits each
    return each
