"""What a file says about itself, read from its bytes: what it is, what opening it would cost, which side is up.

Nothing here fails, whatever the bytes are.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

# The first bytes of known formats. A file that starts with them and cannot be opened is a damaged picture.
_MAGIC_BYTES = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM|II\*\0|MM\0\*|II\+\0|MM\0\+|RIFF....WEBP|....ftyp|\0\0\0\x0cjP|\xff\x4f\xff\x51"
    rb"|8BPS|qoif|icns|DDS |\xff\x0a|\0\0\0\x0cJXL |\x01\xda[\0\x01][\x01\x02]|\x0a[\0-\x05]\x01[\x01\x02\x04\x08]"
    rb"|#define \w+_width |\0\0\x02\0[^\0]",
    re.DOTALL,
)
# The first bytes of pictures, drawings and documents that a person would call pictures, with the name of their format.
_OTHER_PICTURES = {
    rb"%PDF": "PDF",
    rb"%!PS|\xc5\xd0\xd3\xc6": "PostScript",
    rb"gimp xcf": "GIMP",
    rb"SIMPLE  =": "FITS",
    rb".{128}DICM": "DICOM",
    rb"II\xbc[\0\x01]": "JPEG XR",
    rb"\x97JB2": "JBIG2",
    rb"\x8a[JM]NG": "MNG or JNG",
    rb"\x59\xa6\x6a\x95": "Sun raster",
    rb"#\?R(?:ADIANCE|GBE)": "Radiance HDR",
    rb"\x76\x2f\x31\x01": "OpenEXR",
    rb"P7[ \n]": "PAM",
    rb"/\* XPM \*/": "XPM",
    rb"FORM....(?:ILBM|PBM )": "IFF",
    rb"AT&TFORM": "DjVu",
    rb"BPG\xfb": "BPG",
    rb"FLIF": "FLIF",
    rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF": "Windows metafile",
}
_FILMS = {
    rb"....ftyp[ -~]{4}|....(?:moov|mdat|pnot)|\0\0\0.(?:wide|free|skip)": "QuickTime or MPEG-4",
    rb"RIFF....(?:AVI |AVIX|WAVE|RMID)": "AVI or WAV",
    rb"\x1a\x45\xdf\xa3": "Matroska or WebM",
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "Windows Media",
    rb"\0\0\x01[\xb3\xba]|G.{187}G.{187}G|.{4}G.{191}G.{191}G": "MPEG",
    rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb][^\0\xff]|\xff[\xf0\xf1\xf8\xf9][^\0\xff]": "MP3 or AAC",
    rb"OggS": "Ogg",
    rb"fLaC": "FLAC",
    rb"FLV\x01|[CFZ]WS[\x01-\x40]": "Flash",
    rb"FORM....AIF[CF]|caff\0|MThd\0|#!AMR|\.RMF|\x06\x0e\x2b\x34": "AIFF, CAF, MIDI, AMR, RealMedia or MXF",
}
_NAMED_PICTURES = [(re.compile(start, re.DOTALL), name) for start, name in _OTHER_PICTURES.items()]
_NAMED_FILMS = [(re.compile(start, re.DOTALL), name) for start, name in _FILMS.items()]
# Brands of HEIF and AVIF in their first box (ISO/IEC 23008-12, AV1 Image File Format); all others are films or sound.
_PICTURE_BRANDS = re.compile(rb"avi[fsc]|av01|he[iv][cxms]|m[is]f[12]|miaf|MA1[AB]|jpeg|jpgs|j2ki|j2is")

# How much of a drawing is searched for its first element, and what may stand before that.
_PROLOG = 1_000_000
_BEFORE_THE_ROOT = re.compile(
    rb"""\s+|<!--.*?-->|<\?.*?\?>|<!(?!--)(?:"[^"]*"|'[^']*'|[^>\["'])*+[>\[]|%[\w.]+;|\]\s*>""", re.DOTALL
)
_SVG_ROOT = re.compile(rb"<(?:[\w.-]+:)?svg[\s/>:]")

_ORIENTATION = 0x112
_SIZES = {1: 1, 3: 2, 4: 4}  # of the types BYTE, SHORT and LONG
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")

# The entry of EXIF data in the list of items ("infe", ISO/IEC 14496-12), in the versions with short and long numbers.
_EXIF_ITEM = re.compile(rb"(infe\x02.{7}|infe\x03.{9})Exif", re.DOTALL)

# The first property of colour is the picture's own; one of its transparency or depth would follow.
_CODE_POINTS = b"colrnclx"

_SCAN, _EXIF, _COMMENT = 0xDA, 0xE1, 0xFE
END_OF_JPEG = b"\xff\xd9"
_APPLICATIONS = range(0xE0, 0xF0)
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, with Huffman or arithmetic coding.
_DECODED_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
# What tells the colour space is no metadata: the name and least size of JFIF's segment and of Adobe's.
_COLOUR_SEGMENTS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
_COEFFICIENTS = 64
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
# Cameras and encoders write some dozen segments before the pixels.
_MAX_SEGMENTS = 10_000
_FILL = re.compile(rb"\xff+")

_WEBP_PIXELS = {b"VP8 ", b"VP8L"}
# A frame of an animation, and transparency.
_WEBP_MORE_THAN_PIXELS = {b"ANMF", b"ALPH"}


def is_picture(data: bytes) -> bool:
    """Whether the file starts like a picture of a known format."""
    return _MAGIC_BYTES.match(data) is not None


def unsupported(data: bytes) -> str | None:
    """Why this file is no picture that can be embedded, in a sentence for its owner, if its format is recognised."""
    head = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, name in _NAMED_PICTURES:
        if start.match(data) or start.match(head):
            return f"It is a {name} file, a format that is not supported. Export it as PNG or JPEG."
    if _is_svg(data):
        return "It is a drawing in SVG, a format that is not supported. Export it as PNG."
    # A cut file may end within its first box.
    if data[4:8] == b"ftyp" and (len(data) < 12 or _has_picture_brand(data)):
        return None
    for start, name in _NAMED_FILMS:
        if start.match(data):
            return f"It is a film or a sound recording ({name}), not a picture. Export one of its pictures, if any."
    return None


def _has_picture_brand(data: bytes) -> bool:
    size = min(int.from_bytes(data[:4]), 512)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size, 4))]
    return any(_PICTURE_BRANDS.fullmatch(brand) for brand in brands)


def _is_svg(data: bytes) -> bool:
    """Whether the first element is ``svg``, behind declarations and comments; in UTF-16 and compressed as well."""
    text = data[:_PROLOG]
    if text.startswith(b"\x1f\x8b"):
        try:
            text = zlib.decompressobj(wbits=31).decompress(text, _PROLOG)
        except zlib.error:
            return False
    if text.startswith((b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")):
        text = text.replace(b"\0", b"").lstrip(b"\xff\xfe")
    at = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    while found := _BEFORE_THE_ROOT.match(text, at):
        at = found.end()
    return _SVG_ROOT.match(text, at) is not None


def orientation(exif: object, xmp: object) -> int:
    """How a picture is turned, 1 (upright) to 8, as its EXIF data say, or its XMP if no EXIF data can be read.

    EXIF data without an orientation mean upright, the standard's default, whatever XMP says.
    """
    said = _exif_orientation(exif) if isinstance(exif, bytes) else None
    if said is None and isinstance(xmp, bytes) and (found := _XMP_ORIENTATION.search(xmp)):
        return int(found[1])
    return said or 1


def _exif_orientation(block: bytes) -> int | None:
    """The orientation in EXIF data, 1 if they have none, or ``None`` if they cannot be read."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    orders: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
    order = orders.get(block[:4])
    if order is None:
        return None
    directory = int.from_bytes(block[4:8], order)
    if not 8 <= directory <= len(block) - 2:
        return None
    count = int.from_bytes(block[directory : directory + 2], order)
    for at in range(directory + 2, min(directory + 2 + 12 * count, len(block) - 11), 12):
        if int.from_bytes(block[at : at + 2], order) == _ORIENTATION:
            size = _SIZES.get(int.from_bytes(block[at + 2 : at + 4], order), 0)
            value = int.from_bytes(block[at + 8 : at + 8 + size], order)
            return value if 1 <= value <= 8 else None
    return 1


def heif_without_exif(data: bytes) -> bytes:
    """The HEIC or AVIF with its EXIF data under a name that decoders pass over: libavif fails on broken ones."""
    return _EXIF_ITEM.sub(rb"\1skip", data)


class Frame(NamedTuple):
    """What a JPEG says of its picture, and where the pixels of its first scan begin."""

    width: int
    height: int
    rarity: str | None
    """What no common decoder reads of it; ``None`` for nearly all."""
    scan: int


def jpeg_frame(data: bytes, start: int = 0) -> Frame | None:
    """The frame of the JPEG that begins there; ``None`` if it has no frame or no scan."""
    frame = None
    for marker, at, end in _jpeg_segments(data, start):
        if marker in _FRAMES and end - at >= 6 and frame is None:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at)
            rare = marker not in _DECODED_FRAMES or bits != 8 or channels not in {1, 3, 4}
            rarity = f"frame {marker:X}, {bits} bits, {channels} channels" if rare else None
            frame = Frame(width, height, rarity, 0)
        elif marker == _SCAN and frame is not None:
            return frame._replace(scan=end)
    return None


def has_exif(jpeg: bytes) -> bool:
    """Whether the JPEG has EXIF data of its own."""
    segments = _jpeg_segments(jpeg)
    return any(marker == _EXIF and jpeg.startswith(b"Exif\0\0", at) for marker, at, _ in segments)


def jpeg_without_metadata(data: bytes) -> tuple[bytes, bytes]:
    """The JPEG with nothing but what decides its pixels, and its EXIF data, unchecked."""
    segments = list(_jpeg_segments(data))
    kept = [data[:2]]
    for marker, start, end in segments:
        name, size = _COLOUR_SEGMENTS.get(marker, (b"", len(data)))
        tells_colours = data.startswith(name, start) and end - start >= size
        if tells_colours or (marker not in _APPLICATIONS and marker != _COMMENT):
            kept.append(data[start - 4 : end])
    blocks = [data[start:end] for marker, start, end in segments if marker == _EXIF]
    exif = next((block for block in blocks if block.startswith(b"Exif\0\0")), b"")
    return b"".join([*kept, data[segments[-1][2] :]]) if segments else b"", exif


def are_complete(data: bytes, scans: list[int], channels: int) -> bool:
    """Whether a JPEG's scans at these positions hold the last bit of every coefficient of every channel."""
    complete = set()
    for scan in scans:
        count = int.from_bytes(data[scan + 4 : scan + 5])
        names = data[scan + 5 : scan + 5 + 2 * count : 2]
        first, last, bits = data[scan + 5 + 2 * count : scan + 8 + 2 * count].ljust(3, b"\xff")
        if bits & 0x0F == 0:
            complete |= {(name, number) for name in names for number in range(first, last + 1)}
    return len(complete) == channels * _COEFFICIENTS


def _jpeg_segments(data: bytes, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """The segments of the JPEG that begins there, before its pixels: marker, start and end of its content.

    The last one is the header of the first scan (marker 0xDA), unless the file is damaged.
    """
    at = start + 2
    for _ in range(_MAX_SEGMENTS):
        if (fill := _FILL.match(data, at)) is None:
            return
        at = fill.end() + 1
        marker = int.from_bytes(data[at - 1 : at])
        if marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[at : at + 2])
        if length < 2 or at + length > len(data):
            return
        yield marker, at + 2, at + length
        if marker == _SCAN:
            return
        at += length


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP; ``None`` for other files."""
    match data[:4], data[8:16]:
        case b"RIFF", b"WEBPVP8X":
            return 1 + _little_endian(data[24:27]), 1 + _little_endian(data[27:30])
        case b"RIFF", b"WEBPVP8L":
            sizes = _little_endian(data[21:25])
            return 1 + (sizes & 0x3FFF), 1 + (sizes >> 14 & 0x3FFF)
        case b"RIFF", b"WEBPVP8 ":
            return _little_endian(data[26:28]) & 0x3FFF, _little_endian(data[28:30]) & 0x3FFF
        case _:
            return None


def webp_pixels_alone(data: bytes) -> bytes | None:
    """A still and opaque WebP with its pixels and nothing else; ``None`` for other files."""
    at = 12
    for _ in range(_MAX_SEGMENTS):
        kind, length = data[at : at + 4], _little_endian(data[at + 4 : at + 8])
        end = at + 8 + length
        if kind in _WEBP_PIXELS:
            if end > len(data):
                return None
            chunk = data[at:end] + bytes(length % 2)
            return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
        if kind in _WEBP_MORE_THAN_PIXELS or end >= len(data):
            return None
        at = end + length % 2
    return None


def code_points(data: bytes) -> tuple[int, int] | None:
    """What an AVIF or HEIC says of its primaries and its curve, as H.273 numbers them (``colr``, ISO/IEC 14496-12)."""
    _, found, rest = data.partition(_CODE_POINTS)
    return (int.from_bytes(rest[:2]), int.from_bytes(rest[2:4])) if found else None


def _little_endian(data: bytes) -> int:
    return int.from_bytes(data, "little")
