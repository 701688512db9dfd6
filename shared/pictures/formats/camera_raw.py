"""The photograph in a camera's raw file: the largest JPEG in it, which cameras add for their own display."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from shared.errors import PictureError
from shared.pictures import headers
from shared.pictures.tiff.pages import Tag, every_page, is_tiff

# Fujifilm RAF, Olympus ORF, Panasonic RW2, Sigma X3F, Minolta MRW, Canon CRW and CR3. All others are TIFFs.
_START = re.compile(rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM|.{6}HEAPCCDR|....ftypcrx ", re.DOTALL)
_CANON_2 = b"CR"  # at byte 8
# Of TIFF: a value for each filter over the sensor, or for each colour before any processing; and Nikon's compression.
_SENSOR_COLOURS = {32803, 34892}
_NIKON = 34713
# Where a CR3 has the TIFF with its orientation.
_CANON_3 = b"CMT1"
_JPEG = re.compile(rb"\xff\xd8\xff")
# A file has up to six; in 100 MB of other bytes their beginning is found six times by chance.
_MAX_JPEGS = 50
# More of one size are the tiles of a picture that is itself stored so.
_MAX_OF_A_SIZE = 4


class Photograph(NamedTuple):
    """The JPEG, and how it is turned (1 to 8); ``None`` if it says so itself."""

    jpeg: bytes
    orientation: int | None


class _Found(NamedTuple):
    pixels: int
    size: tuple[int, int]
    start: int
    scan: int


def is_raw(data: bytes) -> bool:
    """Whether the file is a camera's raw file."""
    if _START.match(data) or (is_tiff(data) and data[8:10] == _CANON_2):
        return True
    with suppress(PictureError):
        return is_tiff(data) and any(
            page.photometric in _SENSOR_COLOURS or page.compression == _NIKON or Tag.DNG_VERSION in page.entries
            for page in every_page(data)
        )
    return False


def photograph(data: bytes) -> Photograph:
    """The largest JPEG in a raw file.

    Raises :class:`~shared.errors.PictureError` (``unsupported_format``) if there is none.
    """
    found = list(_jpegs(data))
    largest = max(found, default=None)
    if largest is None or sum(each.size == largest.size for each in found) > _MAX_OF_A_SIZE:
        message = "It is a camera's raw file without a JPEG in it, which is not supported. Export it as JPEG."
        raise PictureError("unsupported_format", message)
    end = data.find(headers.END_OF_JPEG, largest.scan)
    jpeg = data[largest.start : end + 2 if end >= 0 else len(data)]
    return Photograph(jpeg, None if headers.has_exif(jpeg) else _orientation(data))


def _jpegs(data: bytes) -> Iterator[_Found]:
    """Those that can be decoded: the raw pixels themselves may be a JPEG too, of a rare kind."""
    for number, start in enumerate(_JPEG.finditer(data)):
        if number == _MAX_JPEGS:
            return
        frame = headers.jpeg_frame(data, start.start())
        if frame is not None and frame.rarity is None:
            size = frame.width, frame.height
            yield _Found(frame.width * frame.height, size, start.start(), frame.scan)


def _orientation(data: bytes) -> int:
    if data[4:8] == b"ftyp":
        data = data.partition(_CANON_3)[2][:100_000]
    elif not is_tiff(data):
        # Those that are TIFFs but for their number.
        data = data[:2] + (b"*\0" if data[:2] == b"II" else b"\0*") + data[4:]
    return headers.orientation(data, None)
