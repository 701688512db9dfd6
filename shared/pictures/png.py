"""Read and write PNG files, as far as this app needs to: split one into chunks, check its pixels, write a new one."""

import re
import struct

from isal import isal_zlib
from isal.igzip_lib import IsalError
from PIL import Image, ImageChops

from shared.pictures.colour import code_points

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"
_GREY, _RGB = 0, 2
_FILTER_UP = 2
_LAST_FILTER = 4
_SAMPLES, _SAMPLED_ROWS, _SAMPLED_PIXELS = 8, 8, 4_096
_FASTEST = 1
# Encoders write chunks of 8 kB or more, so this allows 800 MB. Splitting millions of tiny ones would take seconds.
_MAX_CHUNKS = 100_000
# The chunks that decide what the pixels are. All other critical ones (in capitals) belong to variants of the format.
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_TRANSPARENCY = b"tRNS"
_PALETTE_COLOURS = 256
# Profiles of presses take up to 4 MB, EXIF data and XMP less than 100 kB.
_MAX_INFLATED = 16_000_000
_MAX_TEXT = 1_000_000
_TEXTS = re.compile(rb"(XML:com\.adobe\.xmp|Raw profile type (?:exif|APP1))\0", re.DOTALL)

type Chunks = list[tuple[bytes, memoryview]]


def chunks(data: bytes) -> Chunks:
    """Return the type and content of each chunk up to ``IEND``, or to the end of a file without it.

    Raises ``ValueError`` for a critical chunk that is cut off or has a wrong checksum, for a second header, and
    for more chunks than any encoder writes. Other broken chunks are left out: all they say is about the pixels,
    which are whole.
    """
    view = memoryview(data)
    found: Chunks = []
    position = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        kind = data[position + 4 : position + 8]
        if kind == b"IEND" or len(kind) < 4:
            return found
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if kind == b"IHDR" and any(known == kind for known, _ in found):
            raise ValueError("there is a second header")
        if data[end : end + 4] == isal_zlib.crc32(view[position + 4 : end]).to_bytes(4):
            found.append((kind, view[position + 8 : end]))
        elif not kind[:1].islower():
            raise ValueError(f"the chunk {kind!r} is cut off or its checksum is wrong")
        position = end + 4
    raise ValueError(f"there are more than {_MAX_CHUNKS:,} chunks")


def unknown(found: Chunks) -> str | None:
    """The name of a chunk without which the pixels cannot be read, and which this format does not have."""
    return next((str(kind, "latin-1") for kind, _ in found if kind[:1].isupper() and kind not in _CRITICAL), None)


def pixels_alone(data: bytes, found: Chunks) -> bytes:
    """The file with nothing but what decides its pixels: metadata cannot trouble who decodes it.

    It keeps the transparency of palettes; :func:`transparent` tells that of other pictures.
    """
    kept = [
        (kind, content)
        for kind, content in found
        if kind in _CRITICAL or (kind == _TRANSPARENCY and _has_palette(found) and len(content) <= _PALETTE_COLOURS)
    ]
    complete = len(SIGNATURE) + sum(12 + len(content) for _, content in kept) + len(END)
    if len(kept) == len(found) and len(data) == complete:
        return data
    return b"".join((SIGNATURE, *(_chunk(kind, content) for kind, content in kept), END))


def transparent(found: Chunks) -> tuple[int, ...] | None:
    """The one colour that is transparent in a picture in grey (one value) or RGB (three), in its own bits."""
    names = {0: 1, 2: 3}
    header = next((content for kind, content in found if kind == b"IHDR"), b"")
    colour = next((content for kind, content in found if kind == _TRANSPARENCY), b"")
    values = names.get(header[9], 0) if len(header) == 13 else 0
    if not values or len(colour) < 2 * values:
        return None
    # Only the lowest bits count (PNG specification, tRNS).
    return tuple(value & (1 << header[8]) - 1 for value in struct.unpack_from(f">{values}H", colour))


def metadata(found: Chunks) -> dict[str, bytes]:
    """The EXIF data, XMP and ICC profile (``exif``, ``xmp``, ``icc_profile``), unchecked; without what is broken.

    Code points of colours count as a profile, before any other (PNG specification, third edition, 4.3).
    """
    said: dict[str, bytes] = {}
    for kind, content in found:
        match kind:
            case b"eXIf":
                said["exif"] = bytes(content)
            case b"iCCP" if "icc_profile" not in said:
                _, _, rest = bytes(content).partition(b"\0")
                said["icc_profile"] = _inflated(rest[1:])
            case b"tEXt" | b"zTXt" | b"iTXt" if keyword := _TEXTS.match(content):
                name = "xmp" if keyword[1].startswith(b"XML") else "exif"
                # One of each: a file may have thousands, and each may be a bomb.
                if name not in said:
                    text = _text(kind, bytes(content[keyword.end() :]))[:_MAX_TEXT]
                    said[name] = text if name == "xmp" else _unhexed(text)
    points = next((content for kind, content in found if kind == b"cICP"), b"")
    if len(points) == 4:
        said["icc_profile"] = code_points.profile_of(points[0], points[1]) or b""
    return {name: content for name, content in said.items() if content}


def _has_palette(found: Chunks) -> bool:
    return any(kind == b"IHDR" and bytes(content[9:10]) == b"\x03" for kind, content in found)


def _text(kind: bytes, content: bytes) -> bytes:
    match kind, content[:1]:
        case b"tEXt", _:
            return content
        case b"zTXt", _:
            return _inflated(content[1:])
        case _, compressed:
            text = content[2:].split(b"\0", 2)[-1]  # behind the language and the translated keyword
            return text if compressed == b"\0" else _inflated(text)


def _inflated(compressed: bytes) -> bytes:
    try:
        return isal_zlib.decompressobj().decompress(compressed, _MAX_INFLATED)
    except IsalError:  # type: ignore[misc] # declared as an instance
        return b""


def _unhexed(profile: bytes) -> bytes:
    """The content of a "Raw profile" as ImageMagick writes it: a line with a name, one with a length, hexadecimals."""
    try:
        return bytes.fromhex(b"".join(profile.split(maxsplit=2)[2:]).decode("ascii"))
    except ValueError:
        return b""


def holds_exactly(compressed: bytes, stride: int, height: int) -> bool:
    """Whether the content of the ``IDAT`` chunks inflates to exactly ``height`` rows of ``stride`` bytes.

    With the chunks' checksums, this is all that can be wrong with 8-bit pixels: every value is valid.
    """
    inflate = isal_zlib.decompressobj()
    size = height * (1 + stride)  # each row begins with a byte that names its filter
    rows = inflate.decompress(compressed, size + 1)
    complete = len(rows) == size and inflate.eof and not inflate.unused_data
    return complete and max(rows[:: 1 + stride]) <= _LAST_FILTER


def assemble(header: bytes, compressed: bytes) -> bytes:
    """Return the PNG with this content of ``IHDR`` and of ``IDAT``."""
    return b"".join((SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", compressed), END))


def write(image: Image.Image) -> bytes:
    """Return an ``L`` or ``RGB`` picture as a PNG whose rows all use the filter "Up", the difference to the row above.

    This one filter with the fastest deflate is 17 times faster than zlib's level 6 and takes 6 % more bytes
    (docs/design.md).
    """
    width, height = image.size
    stride = width * len(image.getbands())
    # Pillow does the subtraction and the layout if the rows are treated as a grey picture ``stride`` pixels wide.
    rows = image.tobytes()
    flat = Image.frombuffer("L", (stride, height), rows)
    above = Image.frombuffer("L", flat.size, bytes(stride) + memoryview(rows)[:-stride])
    filtered = Image.new("L", (stride + 1, height), _FILTER_UP)
    filtered.paste(ImageChops.subtract_modulo(flat, above), (1, 0))
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY if image.mode == "L" else _RGB, 0, 0, 0)
    return assemble(header, isal_zlib.compress(filtered.tobytes(), _FASTEST))


def compression(image: Image.Image) -> float:
    """The bytes of an ``L`` or ``RGB`` picture as :func:`write` writes it, over those of its pixels: an estimate.

    It is made from a few strips of rows, each of which begins without a row above and so takes a little more.
    """
    width, height = image.size
    rows = min(height, max(_SAMPLED_ROWS, _SAMPLED_PIXELS // width))
    tops = {int(part * (height - rows) / (_SAMPLES - 1)) for part in range(_SAMPLES)}
    written = sum(len(write(image.crop((0, top, width, top + rows)))) for top in tops)
    return written / (len(tops) * rows * width * len(image.getbands()))


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return b"".join((len(body).to_bytes(4), kind, body, isal_zlib.crc32(body, isal_zlib.crc32(kind)).to_bytes(4)))
