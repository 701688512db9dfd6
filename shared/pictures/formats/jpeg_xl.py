"""JPEG XL: its size, read before anything is decoded, and its pixels or the JPEG that it was made of, by libjxl."""

from typing import NamedTuple

from PIL import Image

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_MAX_BOXES = 1_000
# By the three bits behind the height (ISO/IEC 18181-1, "SizeHeader"): the width in shares of it.
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIZE_BITS = (9, 13, 18, 30)
_MODES = {"L", "LA", "RGB", "RGBA", "I;16"}


class Decoded(NamedTuple):
    """Either the JPEG that the file holds without loss, or a picture, which is upright."""

    jpeg: bytes | None
    picture: Image.Image | None


def is_jpeg_xl(data: bytes) -> bool:
    """Whether the file is a JPEG XL, in a container or bare."""
    return data.startswith((_CODESTREAM, _CONTAINER))


def size(data: bytes) -> tuple[int, int]:
    """Width and height as stored.

    Raises ``ValueError`` if the header is not there.
    """
    start = _codestream(data)
    if not start.startswith(_CODESTREAM) or len(start) < 16:
        raise ValueError("the JPEG XL has no header")
    bits = _Bits(int.from_bytes(start[2:16], "little"))
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    if not ratio:
        return _side(bits, small), height
    above, below = _RATIOS[ratio]
    return height * above // below, height


def decode(data: bytes) -> Decoded:
    """Decode the first frame. Raises whatever the decoder raises, as an :class:`Exception`."""
    from pillow_jxl import Decoder

    try:
        jpeg, info, content, profile, _ = Decoder(num_threads=1)(data)
    except BaseException as error:
        # What fails in Rust is none, and must not end the process.
        if type(error).__name__ == "PanicException":
            raise ValueError(str(error)) from None
        raise
    if jpeg:
        return Decoded(bytes(content), None)
    if info.mode not in _MODES:
        raise ValueError(f"pictures of the kind {info.mode} are not decoded")
    picture = Image.frombytes(info.mode, (info.width, info.height), content)
    picture.format = "JXL"
    picture.info["icc_profile"] = profile or None
    return Decoded(None, picture)


class _Bits:
    """A number that is read from its lowest bit on."""

    def __init__(self, number: int) -> None:
        self._number = number

    def take(self, count: int) -> int:
        taken = self._number & ((1 << count) - 1)
        self._number >>= count
        return taken


def _side(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (1 + bits.take(5))
    return 1 + bits.take(_SIZE_BITS[bits.take(2)])


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream: of the file, or of the box that holds it or its first part."""
    if data.startswith(_CODESTREAM):
        return data[:16]
    at = 0
    for _ in range(_MAX_BOXES):
        length, kind, content = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, content = int.from_bytes(data[at + 8 : at + 16]), at + 16
        if kind == b"jxlc":
            return data[content : content + 16]
        if kind == b"jxlp":
            return data[content + 4 : content + 20]  # behind its number
        if length < 8:
            break
        at += length
    return b""
