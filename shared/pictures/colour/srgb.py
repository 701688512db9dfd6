"""To sRGB, and whether colours are sRGB already."""

import functools
import io
import itertools
from typing import cast

from PIL import Image, ImageCms

from shared.pictures.colour import inks

# Two conversions of the same colour may round otherwise.
_MAX_DIFFERENCE = 1
# Cameras and programs put the same few kilobytes into every picture.
_MAX_KEPT_BYTES, _MAX_KEPT = 65_536, 64


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture as grey or RGB in sRGB. A profile that cannot be used counts as none.

    Without a profile RGB and grey are sRGB, and CMYK is as it is printed (:mod:`shared.pictures.colour.inks`).
    """
    if profile and not is_srgb(profile):
        try:
            return _converted(image, _opened(profile))
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    if image.mode == "CMYK":
        return cast(Image.Image, ImageCms.applyTransform(image, _from_inks()))
    return image if image.mode in {"L", "RGB"} else image.convert("RGB")


def is_srgb(profile: bytes | None) -> bool:
    """Whether the colours are sRGB already; a picture without a profile counts as sRGB.

    What the profile does to colours decides, not its name: there are linear and wide spaces with "sRGB" in theirs.
    """
    if not profile:
        return True
    return _changes_nothing(profile) if len(profile) <= _MAX_KEPT_BYTES else _changes_nothing.__wrapped__(profile)


@functools.lru_cache(_MAX_KEPT)
def _changes_nothing(profile: bytes) -> bool:
    try:
        source = _opened(profile)
        probe = _greys() if source.profile.xcolor_space == "GRAY" else _colours()
        shown = _converted(probe, source)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    pairs = zip(probe.tobytes(), shown.tobytes(), strict=True)
    return all(abs(before - after) <= _MAX_DIFFERENCE for before, after in pairs)


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """The picture in sRGB: grey stays grey, of which an RGB profile means the same as of equal red, green and blue."""
    mode = "L" if image.mode == "L" else "RGB"
    if image.mode == "L" and source.profile.xcolor_space == "RGB ":
        image = image.convert("RGB")
    shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return cast(Image.Image, shown).convert(mode)


@functools.cache
def _greys() -> Image.Image:
    return Image.frombytes("L", (256, 1), bytes(range(256)))


@functools.cache
def _colours() -> Image.Image:
    """Any other curve, primaries or white would change one of these. They are no edges of the space, which clip."""
    greys = [(value, value, value) for value in range(0, 256, 5)]
    colours = [*greys, *itertools.product((64, 128, 192), repeat=3)]
    return Image.frombytes("RGB", (len(colours), 1), bytes(itertools.chain.from_iterable(colours)))


@functools.cache
def _from_inks() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(_opened(inks.profile()), ImageCms.createProfile("sRGB"), "CMYK", "RGB")
