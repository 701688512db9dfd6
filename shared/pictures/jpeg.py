"""Read and write JPEG files, as far as this app needs to: take one down to its pixels, write a new one."""

import io
import re
from collections import Counter
from collections.abc import Iterator

from PIL import Image

# No side may be longer (``JPEG_MAX_DIMENSION`` of libjpeg).
MAX_SIDE = 65_500

_START, _END = 0xD8, 0xD9
# Baseline, extended and progressive, with Huffman codes: what every decoder reads.
_FRAMES = {0xC0, 0xC1, 0xC2}
_HUFFMAN_TABLES, _QUANTIZATION_TABLES, _RESTART_INTERVAL, _SCAN = 0xC4, 0xDB, 0xDD, 0xDA
_NEEDED = {_HUFFMAN_TABLES, _QUANTIZATION_TABLES, _SCAN, _END}
_KEPT = {*_FRAMES, *_NEEDED, _RESTART_INTERVAL}
_JFIF, _ADOBE, _COMMENT = 0xE0, 0xEE, 0xFE
# For a frame that does not say how many rows it has. None that was opened is of that kind.
_NUMBER_OF_ROWS = 0xDC
_DROPPED = {*range(0xE0, 0xF0), _COMMENT, _NUMBER_OF_ROWS}
# Version 1.1, without a density and a thumbnail. That it is there says that the colours are YCbCr.
_PLAIN_JFIF = b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
# Without a JFIF segment the last byte of Adobe's says so, or 0 that they are RGB.
_PLAIN_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
_JFIF_BYTES, _ADOBE_BYTES = 14, 12
_FILL = re.compile(rb"\xff+")
# Among a scan's values 0xFF is followed by 0, and before a restart by its number.
_END_OF_SCAN = re.compile(rb"\xff[^\0\xd0-\xd7]")
# A progressive file has some dozen, and a phone's up to a hundred of its own.
_MAX_SEGMENTS = 10_000

# On photographs of 2.4 megapixels (bench/photographs.py) the luma's SSIM to the pixels before is 0.973 with quality 90,
# 0.979 with 93 and 0.985 with 95, and the file has 15, 18 and 22 % of the PNG's bytes. Colours are written as cameras
# write them, at half the width and height: at full size they take 24 % more bytes and half as much time again.
_QUALITY, _SUBSAMPLING = 95, "4:2:0"


def write(image: Image.Image, quality: int = _QUALITY) -> bytes:
    """Return an ``L`` or ``RGB`` picture as a JPEG."""
    file = io.BytesIO()
    # Of all that the original said, Pillow writes the comment by itself.
    image.save(file, "JPEG", quality=quality, subsampling=_SUBSAMPLING, comment=b"")
    return file.getvalue()


def pixels_alone(data: bytes, max_bytes: int) -> bytes | None:
    """The JPEG with nothing but what decides its pixels; ``None`` if it has more bytes, or decoders may disagree on it.

    What cameras and programs say of the picture is left out, wherever it stands, and so is everything behind its end: a
    film, more pictures, a phone's notes.
    """
    kept: list[bytes] = []
    markers: Counter[int] = Counter()
    colours: dict[int, bytes] = {}
    size = 0
    for marker, content in _segments(data, max_bytes):
        if not markers[_SCAN] and (told := _colours(marker, content)):
            colours[marker] = told
        if marker in _KEPT:
            kept += [bytes((0xFF, marker)), content]
            markers[marker] += 1
            size += 2 + len(content)
        if size > max_bytes:
            return None
    if not markers.keys() >= _NEEDED or sum(markers[frame] for frame in _FRAMES) != 1:
        return None
    # Where both tell, decoders go by JFIF.
    file = b"".join((bytes((0xFF, _START)), colours.get(_JFIF) or colours.get(_ADOBE, b""), *kept))
    return file if len(file) <= max_bytes else None


def _colours(marker: int, content: bytes) -> bytes:
    """The segment that tells the colour space, with nothing else in it; empty if this is none."""
    if marker == _JFIF and content.startswith(b"JFIF\0", 2) and len(content) >= 2 + _JFIF_BYTES:
        return _PLAIN_JFIF
    if marker == _ADOBE and content.startswith(b"Adobe", 2) and len(content) >= 2 + _ADOBE_BYTES:
        return _PLAIN_ADOBE + bytes((min(1, content[1 + _ADOBE_BYTES]),))
    return b""


def _segments(data: bytes, longest: int) -> Iterator[tuple[int, bytes]]:
    """Each segment's marker and what follows it, in a scan with its values, up to the end marker.

    It ends earlier at the first that is cut off, unknown, or a scan of more than so many bytes.
    """
    at = 2
    for _ in range(_MAX_SEGMENTS):
        fill = _FILL.match(data, at)
        if fill is None or fill.end() == len(data):
            return
        start, marker = fill.end() + 1, data[fill.end()]
        if marker == _END:
            yield marker, b""
            return
        at = start + int.from_bytes(data[start : start + 2])
        if marker not in _KEPT | _DROPPED or at < start + 2:
            return
        if marker == _SCAN:
            end = _END_OF_SCAN.search(data, at, at + longest)
            if end is None:
                return
            at = end.start()
        yield marker, data[start:at]
