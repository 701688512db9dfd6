"""What decoding a picture costs, by its header, and the limits of it: a gigabyte of memory and a few seconds."""

import io
import itertools
import math
import re
from typing import override

from PIL import Image, ImageFile

from shared.errors import PictureError
from shared.pictures.tiff.picture import TiffPicture

# The memory that decoding may take, and its peak per pixel (measured on 30 megapixels; Pillow holds RGB in 4 bytes).
_MAX_MEMORY = 900_000_000
# JPEG XL takes 9 bytes, but up to 0.3 microseconds: its 30 limits the time.
_BYTES_PER_PIXEL = {"AVIF": 10, "HEIF": 8, "JPEG2000": 20, "JXL": 30, "QOI": 12, "WEBP": 17}
_BYTES_PER_PIXEL_ELSEWHERE = 4
_BYTES_PER_PIXEL_WITH_ALPHA = 6  # no more memory, but half as much time again
_BYTES_PER_PIXEL_OF_NUMBERS = 18  # no more memory, but five times as much time
_BYTES_PER_PIXEL_OF_TWO_DECODINGS = 24  # 10 bytes of memory, and the time of two PNGs with 6 bytes a pixel
# Some decoders run in Python, and an odd file makes others read in tiny steps: one for each chunk, run or number.
_MAX_READS = 300_000
_MAX_READS_OF_A_BITMAP = 2_000_000
_MAX_PIXELS_IN_PYTHON = {
    "bmp_rle": 2_000_000,
    "ppm_plain": 1_000_000,
    "ppm": 90_000,
    "qoi_here": 56_000_000,
    "xbm": 30_000_000,
}
_MAX_BYTES_IN_PYTHON = 8_000_000
_MAX_BYTES_OF_A_QOI = 4_000_000  # up to 0.6 microseconds each
_MAX_COMMENTS = 500
_MAX_TIFF_WORK = 450_000_000  # at 6 ns each (2 virtual CPUs, busy)
# Each scan of a JPEG is a pass over the whole picture. Cameras and encoders write about 10; a file may have millions.
_MAX_SCANS = 1_000
_MAX_SCANNED_PIXELS = 4_000_000_000

SCAN = re.compile(rb"\xff\xda")


class LimitedReader(io.BytesIO):
    """The file, for decoders that read it in steps. The number of reads is limited: a file can cause millions."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._max_reads = self._reads_left = _MAX_READS_OF_A_BITMAP if data.startswith(b"BM") else _MAX_READS

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            message = f"Decoding the picture takes more than {self._max_reads:,} steps; it is probably damaged."
            raise PictureError("damaged_image", message)
        return super().read(size)


def check(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Reject, by the header alone, a picture that would take too much memory or time to decode.

    Raises :class:`~shared.errors.PictureError`.
    """
    needed = image.decoding_bytes if isinstance(image, TiffPicture) else _bytes_per_pixel(image) * math.prod(image.size)
    _check_memory(image.format or "", image.size, needed, max_pixels)
    if image.format in {"JPEG", "MPO"}:
        _check_scans(image, data)
    if isinstance(image, TiffPicture) and image.decoding_work > _MAX_TIFF_WORK:
        message = f"{_sized('TIFF', image.size)}; decoding it would take too long. Save it as 8-bit RGB or PNG."
        raise PictureError("too_many_pixels", message)
    _check_python_decoder(image, data)


def check_size(kind: str, size: tuple[int, int], max_pixels: int) -> None:
    """The same for a format that is decoded as it is opened, by its size alone."""
    _check_memory(kind, size, _BYTES_PER_PIXEL[kind] * math.prod(size), max_pixels)


def check_bytes(kind: str, data: bytes) -> None:
    """Reject a file that is too large for a format that Python reads."""
    if len(data) > (_MAX_BYTES_OF_A_QOI if kind == "QOI" else _MAX_BYTES_IN_PYTHON):
        message = f"The {kind} picture has {len(data):,} bytes and is slow to decode. Convert it to PNG or JPEG."
        raise PictureError("unsupported_format", message)


def _sized(kind: str, size: tuple[int, int]) -> str:
    return f"The {kind} picture has {size[0]} x {size[1]} pixels"


def _check_memory(kind: str, size: tuple[int, int], decoded: int, max_pixels: int) -> None:
    if math.prod(size) > max_pixels:
        raise PictureError("too_many_pixels", f"{_sized(kind, size)}; IMAGE_MAX_PIXELS allows {max_pixels:,}.")
    # Each row has a pointer, and decoders hold a few rows in addition to the picture: this counts in extreme shapes.
    needed = decoded + 16 * sum(size)
    if needed > _MAX_MEMORY:
        message = (
            f"{_sized(kind, size)}; decoding it would take {needed:,} bytes of memory, {_MAX_MEMORY:,} are allowed."
        )
        raise PictureError("too_many_pixels", message)


def _check_scans(image: Image.Image, data: bytes) -> None:
    # A regular expression finds two bytes three times as fast as bytes.count does.
    scans = sum(1 for _ in itertools.islice(SCAN.finditer(data), _MAX_SCANS + 1))
    if scans > _MAX_SCANS or scans * math.prod(image.size) > _MAX_SCANNED_PIXELS:
        size = _sized("JPEG", image.size)
        message = f"{size} in {scans:,} scans or more; decoding it would take too long. Save it as a baseline JPEG."
        raise PictureError("damaged_image", message)


def _check_python_decoder(image: Image.Image, data: bytes) -> None:
    decoder = image.tile[0].codec_name if isinstance(image, ImageFile.ImageFile) and image.tile else ""
    if decoder not in _MAX_PIXELS_IN_PYTHON:
        return
    slow = f"{_sized(image.format or '', image.size)} in an encoding that is slow to decode. Convert it to PNG or JPEG."
    if math.prod(image.size) > _MAX_PIXELS_IN_PYTHON[decoder]:
        raise PictureError("too_many_pixels", slow)
    if len(data) > _MAX_BYTES_IN_PYTHON:
        raise PictureError("unsupported_format", slow)
    if image.format == "PPM" and data.count(b"#") > _MAX_COMMENTS:
        raise PictureError("damaged_image", f"The PPM picture has more than {_MAX_COMMENTS} comments.")


def _bytes_per_pixel(image: Image.Image) -> int:
    """The memory that decoding takes at its peak."""
    alpha = image.mode in {"RGBA", "LA", "PA"}
    usual = _BYTES_PER_PIXEL_WITH_ALPHA if alpha else _BYTES_PER_PIXEL_ELSEWHERE
    each = _BYTES_PER_PIXEL.get(image.format or "", usual)
    if image.format in {"JPEG", "MPO"} and image.info.get("progressive"):
        each = max(each, 2 * len(image.getbands()))  # all coefficients of all channels, 16 bits each
    if "low_bytes" in image.info:
        each = _BYTES_PER_PIXEL_OF_TWO_DECODINGS
    if "masks" in image.info:
        each = _BYTES_PER_PIXEL_OF_NUMBERS
    return each
