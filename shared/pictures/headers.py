"""What a file claims about itself, read before any decoder touches it: opening some formats is costly already."""

import re
from typing import Literal

from shared.pictures.png import SIGNATURE

# How files of the known formats begin. One that begins so and cannot be opened is a picture, but broken or unusual.
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM|II\*\0|MM\0\*|II\+\0|MM\0\+|RIFF....WEBP|....ftyp|\0\0\0\x0cjP|\xff\x4f\xff\x51",
    re.DOTALL,
)


def is_picture(data: bytes) -> bool:
    """Whether the file begins as a picture of a known format does."""
    return _BEGINNINGS.match(data) is not None


def is_document(data: bytes) -> bool:
    """Whether the file is a picture to a person, but not to us: PDF, PostScript, PSD, SVG."""
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith((b"%PDF", b"%!PS", b"8BPS")) or (head.startswith(b"<") and b"<svg" in head)


def pixels_when_opened(data: bytes) -> int:
    """The most pixels that are decoded, or given memory, when the file is only opened: icons and WebP; else 0."""
    if data.startswith(b"\0\0\1\0"):
        count = _little(data[4:6])
        return max(
            (_icon_entry_pixels(data, 6 + 16 * entry) for entry in range(min(count, len(data) // 16))), default=0
        )
    match data[:4], data[8:16]:
        case b"RIFF", b"WEBPVP8X":
            return (1 + _little(data[24:27])) * (1 + _little(data[27:30]))
        case b"RIFF", b"WEBPVP8L":
            sizes = _little(data[21:25])
            return (1 + (sizes & 0x3FFF)) * (1 + (sizes >> 14 & 0x3FFF))
        case b"RIFF", b"WEBPVP8 ":
            return (_little(data[26:28]) & 0x3FFF) * (_little(data[28:30]) & 0x3FFF)
        case _:
            return 0


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _icon_entry_pixels(data: bytes, entry: int) -> int:
    """The pixels of a picture in an icon, by its own header: a PNG, or a bitmap whose height counts its mask too."""
    start = _little(data[entry + 12 : entry + 16])
    header = data[start : start + 24]
    if header.startswith(SIGNATURE):
        return int.from_bytes(header[16:20]) * int.from_bytes(header[20:24])
    return _little(header[4:8]) * _little(header[8:12]) // 2


def values_of_a_tag(data: bytes) -> int:
    """The most numbers that any tag of a TIFF's first page holds, and 0 for other files.

    A page is as many strips or tiles as two of its tags have numbers, and each becomes an object when it is opened.
    Tags of bytes and text (profiles, thumbnails) do not count.
    """
    match data[:4]:
        case b"II*\0" | b"MM\0*":
            entry_size, count_size, offset_at = 12, 4, 4
        case b"II+\0" | b"MM\0+":
            entry_size, count_size, offset_at = 20, 8, 8
        case _:
            return 0
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    page = number(offset_at, count_size)
    length_size = 2 if entry_size == 12 else 8
    first = page + length_size
    entries = range(first, first + entry_size * min(number(page, length_size), 65_535), entry_size)
    return max((number(entry + 4, count_size) for entry in entries if number(entry + 2, 2) not in _TEXTS), default=0)


_TEXTS = {1, 2, 6, 7}  # BYTE, ASCII, SBYTE, UNDEFINED
