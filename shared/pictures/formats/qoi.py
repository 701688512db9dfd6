"""QOI ("Quite OK Image", specification 1.0) for Pillow, whose own decoder is four times slower."""

import contextlib
import sys
from array import array
from typing import IO, cast, override

from PIL import Image, ImageFile, QoiImagePlugin

MAGIC = b"qoif"
_CODEC = "qoi_here"
# Where each kind of first byte begins; below them is an index of a colour seen before.
_DIFFERENCE, _LUMA, _RUN, _RGB, _RGBA = 0x40, 0x80, 0xC0, 0xFE, 0xFF


class _Decoder(ImageFile.PyDecoder):
    _pulls_fd = True

    @override
    def decode(self, buffer: Image.DecoderInput) -> tuple[int, int]:
        pixels = _pixels(cast(IO[bytes], self.fd).read(), self.state.xsize * self.state.ysize)
        # Pixels have four bytes in either mode. Pillow takes any buffer: a copy would be as large as the picture.
        self.set_as_raw(cast(bytes, pixels), "RGBX" if self.mode == "RGB" else "RGBA")
        return -1, 0


def _pixels(data: bytes, count: int) -> memoryview:
    """So many pixels of four bytes. Raises ``ValueError`` if the file ends before."""
    # A pixel is one number, its bytes in the order of a file: red is the lowest.
    made = array("I")
    append = made.append
    seen = [0] * 64
    red = green = blue = 0
    alpha = 255
    pixel = alpha << 24
    steps = iter(data)
    # The file may end within a pixel.
    with contextlib.suppress(StopIteration):
        for head in steps:
            if head < _DIFFERENCE:
                pixel = seen[head]
                red, green, blue, alpha = pixel & 255, pixel >> 8 & 255, pixel >> 16 & 255, pixel >> 24
                append(pixel)
                continue
            if head < _LUMA:
                red = red + (head >> 4 & 3) - 2 & 255
                green = green + (head >> 2 & 3) - 2 & 255
                blue = blue + (head & 3) - 2 & 255
            elif head < _RUN:
                more = next(steps)
                change = head - _LUMA - 32
                red = red + change + (more >> 4) - 8 & 255
                green = green + change & 255
                blue = blue + change + (more & 15) - 8 & 255
            elif head < _RGB:
                made.extend(array("I", (pixel,)) * (head - _RUN + 1))
                if len(made) >= count:
                    break
                continue
            else:
                red, green, blue = next(steps), next(steps), next(steps)
                if head == _RGBA:
                    alpha = next(steps)
            pixel = red | green << 8 | blue << 16 | alpha << 24
            seen[red * 3 + green * 5 + blue * 7 + alpha * 11 & 63] = pixel
            append(pixel)
    if len(made) < count:
        raise ValueError("the picture is cut off")
    if sys.byteorder == "big":
        made.byteswap()
    return memoryview(made).cast("B")[: 4 * count]


def open_qoi(file: IO[bytes]) -> ImageFile.ImageFile:
    """The picture with its size read; its pixels are decoded here when it is loaded."""
    image = QoiImagePlugin.QoiImageFile(file)
    image.tile = [image.tile[0]._replace(codec_name=_CODEC)]
    return image


Image.register_decoder(_CODEC, _Decoder)
