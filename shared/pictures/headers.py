"""What a file claims about itself, read before any decoder sees it: for some formats, opening is already costly."""

import re

from shared.pictures.png import SIGNATURE

# The first bytes of known formats. A file that starts with them and cannot be opened is a damaged or unusual picture.
_MAGIC_BYTES = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM|II\*\0|MM\0\*|II\+\0|MM\0\+|RIFF....WEBP|....ftyp|\0\0\0\x0cjP|\xff\x4f\xff\x51",
    re.DOTALL,
)


def is_picture(data: bytes) -> bool:
    """Whether the file starts like a picture of a known format."""
    return _MAGIC_BYTES.match(data) is not None


def is_document(data: bytes) -> bool:
    """Whether the file is PDF, PostScript, PSD or SVG: a picture to a person, but not to this app."""
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith((b"%PDF", b"%!PS", b"8BPS")) or (head.startswith(b"<") and b"<svg" in head)


def pixels_on_open(data: bytes) -> int:
    """The number of pixels for which opening the file already decodes or allocates: for icons and WebP, else 0."""
    if data.startswith(b"\0\0\1\0"):
        count = _little_endian(data[4:6])
        return max(
            (_icon_entry_pixels(data, 6 + 16 * entry) for entry in range(min(count, len(data) // 16))), default=0
        )
    match data[:4], data[8:16]:
        case b"RIFF", b"WEBPVP8X":
            return (1 + _little_endian(data[24:27])) * (1 + _little_endian(data[27:30]))
        case b"RIFF", b"WEBPVP8L":
            sizes = _little_endian(data[21:25])
            return (1 + (sizes & 0x3FFF)) * (1 + (sizes >> 14 & 0x3FFF))
        case b"RIFF", b"WEBPVP8 ":
            return (_little_endian(data[26:28]) & 0x3FFF) * (_little_endian(data[28:30]) & 0x3FFF)
        case _:
            return 0


def _icon_entry_pixels(data: bytes, entry: int) -> int:
    """The pixels of a picture in an icon, from its own header: a PNG, or a bitmap whose height includes its mask."""
    start = _little_endian(data[entry + 12 : entry + 16])
    header = data[start : start + 24]
    if header.startswith(SIGNATURE):
        return int.from_bytes(header[16:20]) * int.from_bytes(header[20:24])
    return _little_endian(header[4:8]) * _little_endian(header[8:12]) // 2


def _little_endian(data: bytes) -> int:
    return int.from_bytes(data, "little")
