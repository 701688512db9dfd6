"""Photoshop's PSD: its flattened picture, which programs write for those that know nothing of layers."""

import struct
from typing import cast

from PIL import ImageFile, PsdImagePlugin

from shared.errors import PictureError

SIGNATURE = b"8BPS"
_LARGE = 2  # the version of PSB
_MAX_SIDE = 30_000
_VERSION_INFO = 1057  # the resource that says whether there is a flattened picture (Adobe's file format specification)


def check(data: bytes) -> None:
    """Refuse by name what Pillow does not read. Raises :class:`~shared.errors.PictureError`."""
    if len(data) < 26:
        raise PictureError("damaged_image", "The Photoshop file is cut off.")
    version, _, height, width, bits, mode = struct.unpack_from(">H6xHIIHH", data, 4)
    if version == _LARGE:
        raise PictureError("unsupported_format", "It is a large Photoshop file (PSB). Save it as PSD, PNG or JPEG.")
    if (mode, bits) not in PsdImagePlugin.MODES or PsdImagePlugin.MODES[mode, bits][0] == "LAB":
        message = f"It is a Photoshop file of {bits} bits in colour mode {mode}. Save it with 8 bits in RGB."
        raise PictureError("unsupported_format", message)
    if max(width, height) > _MAX_SIDE:
        message = f"The Photoshop file says {width} x {height} pixels, more than the format allows."
        raise PictureError("damaged_image", message)


def flatten(image: ImageFile.ImageFile) -> None:
    """Leave out the fourth channel: the flattened picture is opaque, and that channel may be a saved selection.

    Raises :class:`~shared.errors.PictureError` (``unsupported_format``) if there is no flattened picture.
    """
    for number, _, content in cast(PsdImagePlugin.PsdImageFile, image).resources:
        if number == _VERSION_INFO and content[4:5] == b"\0":
            message = "The Photoshop file has no flattened picture. Save it with maximum compatibility, or as PNG."
            raise PictureError("unsupported_format", message)
    if image.mode == "RGBA":
        image._mode = "RGB"
        image.tile = image.tile[:3]
