"""Any picture a person has, made into an upright PNG that the model accepts."""

import io
import math
import os
import re
import struct
import threading
import zlib
from dataclasses import dataclass
from typing import cast

import pi_heif
from isal import isal_zlib
from PIL import ExifTags, Image, ImageChops, ImageCms, UnidentifiedImageError

from shared.errors import PictureError
from shared.settings import Settings

# Raised whenever the same picture would be prepared to other pixels than before: records of older ones are stale.
PREPARATION = 1

# Below this the model enlarges by itself (56 x 56, Cohere's "Embed" documentation); we choose how.
_MIN_PIXELS = 3_136

_MEDIA_TYPES = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "HEIF": "image/heic",
    "ICO": "image/x-icon",
    "JPEG": "image/jpeg",
    "JPEG2000": "image/jp2",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "PPM": "image/x-portable-pixmap",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
# Multi-picture JPEGs are opened as JPEGs and say "MPO" afterwards.
_FORMATS = [name for name in _MEDIA_TYPES if name != "MPO"]

# Pictures to a person, but not to us: they get a code of their own, since somebody can convert them.
_UNSUPPORTED = re.compile(rb"\s*(%PDF|%!PS|8BPS|(<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>|\s)*<svg)", re.DOTALL)

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What stays in a PNG that is passed on: its pixels. All else (EXIF, text, time, animation) goes.
_KEPT_CHUNKS = {b"IHDR", b"IDAT", b"IEND"}
_FILTER_UP = 2
_KEPT_COLOURS = {0, 2, 6}  # grey, RGB, RGBA
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Decoding is CPU and memory: more at once than there are cores gains nothing and costs tens of megabytes each.
_DECODERS = threading.BoundedSemaphore(os.cpu_count() or 1)

pi_heif.register_heif_opener(thumbnails=False)
# Our own limit is read from the header of every picture, below. Pillow's would be one more, with warnings.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Limits:
    """How large a picture may come (pixels), and how large it may go to the model (pixels and PNG bytes)."""

    image_max_pixels: int
    model_max_pixels: int
    model_max_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits that the app settings name."""
        return cls(settings.image_max_pixels, settings.model_max_pixels, settings.model_max_bytes)


@dataclass(frozen=True)
class Prepared:
    """An upright 8-bit PNG of ``width`` x ``height`` pixels, and what it was made from."""

    png: bytes
    width: int
    height: int
    media_type: str
    original_width: int
    original_height: int


def prepare(data: bytes, limits: Limits) -> Prepared:
    """Make any picture into a PNG within the limits, upright, flattened on white, in sRGB, without metadata.

    A PNG that is all that already keeps its compressed pixels as they are. Raises
    :class:`~shared.errors.PictureError`, with a code, for anything that is no picture, or a broken one, or one that
    is too large. Formats are told by content. Of animations the first frame counts, of documents the first page.
    """
    if not data:
        raise PictureError("empty", "There are no bytes.")
    with _DECODERS:
        image = _open(data)
        width, height = image.size
        if width * height > limits.image_max_pixels:
            raise PictureError(
                "too_many_pixels",
                f"The picture has {width} x {height} pixels; IMAGE_MAX_PIXELS allows {limits.image_max_pixels:,}.",
            )
        media_type = _MEDIA_TYPES[image.format or ""]
        try:
            png, size = _keep(image, data, limits) or _remake(image, limits)
        except PictureError:
            raise
        except Exception as error:
            # The decoders' exceptions are not a closed set; whatever they raise, it is about these bytes.
            raise PictureError(
                "damaged_image", f"The {image.format} picture cannot be decoded: {_reason(error)}"
            ) from error
    return Prepared(png, *size, media_type, width, height)


def _open(data: bytes) -> Image.Image:
    """Read the header: format and size are known afterwards, no pixel has been decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        if _UNSUPPORTED.match(data[:4096]):
            raise PictureError(
                "unsupported_format",
                "Documents and drawings (PDF, SVG, PSD) cannot be embedded; convert it first.",
            ) from error
        raise PictureError("not_an_image", "The bytes are no picture in any format that is known here.") from error
    except Exception as error:
        raise PictureError("damaged_image", f"The picture's header cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _keep(image: Image.Image, data: bytes, limits: Limits) -> tuple[bytes, tuple[int, int]] | None:
    """The PNG with its compressed pixels as they are, when the model should see just them; else ``None``."""
    width, height = image.size
    fits = _MIN_PIXELS <= width * height <= limits.model_max_pixels and len(data) <= limits.model_max_bytes
    if image.format != "PNG" or not fits:
        return None
    chunks = _chunks(data)
    # IHDR is length, kind, width and height (16 bytes), then depth, colour type, compression, filter, interlace.
    depth, colour, _, _, interlaced = chunks[0][1][16:21]
    if depth != 8 or colour not in _KEPT_COLOURS or interlaced:
        return None
    if _orientation(image) is not None or any(kind in {b"tRNS", b"iCCP"} for kind, _ in chunks):
        return None
    image.load()
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        return None
    kept = (chunk for kind, chunk in chunks if kind in _KEPT_CHUNKS)
    return b"".join((_PNG_SIGNATURE, *kept)), image.size


def _remake(image: Image.Image, limits: Limits) -> tuple[bytes, tuple[int, int]]:
    """Decode, scale, turn upright, flatten, and write as PNG, smaller again where the PNG is still too large."""
    icc_profile = image.info.get("icc_profile")
    target = _fit(image.size, limits.model_max_pixels)
    if image.format in {"JPEG", "MPO"}:
        # libjpeg decodes at 1/2, 1/4 or 1/8 scale for a fraction of the work, never below the size asked for.
        image.draft(image.mode, target)
        image.load()
    else:
        image.load()
        # Formats that turn themselves upright have their real size only now.
        target = _fit(image.size, limits.model_max_pixels)
    turn = _orientation(image)
    image = _to_8_bit(image)
    if image.size != target:
        image = image.resize(target, Image.Resampling.BICUBIC, reducing_gap=2.0)
    image = _to_srgb(image, icc_profile)
    if turn is not None:
        image = image.transpose(turn)
    while len(png := _write_png(image)) > limits.model_max_bytes:
        # Bytes grow with pixels; a little less than the ratio, for what does not shrink along.
        smaller = image.width * image.height * limits.model_max_bytes / len(png) * 0.95
        image = image.resize(_fit(image.size, int(smaller)), Image.Resampling.BICUBIC)
    return png, image.size


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """What turns the picture upright, by its EXIF data; ``None`` where it is upright."""
    return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def _fit(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """The size nearest to ``size`` in shape that has at least the model's fewest and at most ``max_pixels`` pixels."""
    width, height = size
    if width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height))
        narrow = max(1, int(width * scale))
        # A side cannot be thinner than a pixel, so the other one gives way.
        short = max(1, min(int(height * scale), max_pixels // narrow))
        return min(narrow, max_pixels // short), short
    if width * height < _MIN_PIXELS:
        scale = math.sqrt(_MIN_PIXELS / (width * height))
        return math.ceil(width * scale), math.ceil(height * scale)
    return size


def _to_8_bit(image: Image.Image) -> Image.Image:
    """The picture in a mode with 8 bits a channel, its alpha kept. Deeper ones are scaled, not clipped."""
    match image.mode:
        case "1":
            return image.convert("L")
        case "P" | "PA":
            return image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
        case "L" | "RGB" if "transparency" in image.info:
            return image.convert("RGBA")
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        case "I" | "F":
            return _stretch(image)
        case "LAB" | "HSV" | "YCbCr" | "RGBX":
            return image.convert("RGB")
        case "La" | "RGBa":
            return image.convert("RGBA")
        case "L" | "LA" | "RGB" | "RGBA" | "CMYK":
            return image
        case mode:
            raise PictureError("unsupported_format", f"Pictures of mode {mode} cannot be embedded; convert it first.")


def _stretch(image: Image.Image) -> Image.Image:
    """A picture whose numbers have no range of their own (float, 32-bit), over the usual range that they fit."""
    low, high = cast(tuple[float, float], image.getextrema())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise PictureError("damaged_image", "The picture's values are not all finite.")
    bottom = min(0.0, low)
    top = next((usual for usual in (1.0, 255.0, 65535.0) if low >= 0 and high <= usual), high)
    scale = 255 / (top - bottom or 1.0)
    offset = -bottom * scale
    return image.convert("F").point(lambda value: value * scale + offset).convert("L")


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """The picture as RGB or grey in the colours of sRGB, on white where it is transparent."""
    if image.mode in {"LA", "RGBA"}:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if icc_profile:
        image = _through_profile(image, icc_profile)
    return image if image.mode in {"L", "RGB"} else image.convert("RGB")


def _through_profile(image: Image.Image, icc_profile: bytes) -> Image.Image:
    """The picture's colours as its profile means them; as they are where the profile is unusable."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        mode = "L" if image.mode == "L" else "RGB"
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return image if converted is None else converted.convert(mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _write_png(image: Image.Image) -> bytes:
    """Write an RGB or grey picture, each row as its difference to the row above (PNG's filter "Up").

    That one filter and the fastest deflate there is make a PNG 17 times faster than zlib's level 6, for 6 % more
    bytes (see docs/design.md).
    """
    width, height = image.size
    stride = width * len(image.getbands())
    # Seen as bytes, the picture is a grey one of that width, so that Pillow subtracts and lays out the rows.
    flat = Image.frombuffer("L", (stride, height), image.tobytes())
    above = Image.new("L", flat.size)
    above.paste(flat, (0, 1))
    filtered = Image.new("L", (stride + 1, height), _FILTER_UP)
    filtered.paste(ImageChops.subtract_modulo(flat, above), (1, 0))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if image.mode == "L" else 2, 0, 0, 0)
    pixels = isal_zlib.compress(filtered.tobytes(), 1)
    return b"".join((_PNG_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return b"".join((len(body).to_bytes(4), kind, body, zlib.crc32(body, zlib.crc32(kind)).to_bytes(4)))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG, each with its kind, up to its end. Their checksums are left to the decoder."""
    chunks: list[tuple[bytes, bytes]] = []
    position = len(_PNG_SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        chunks.append((kind, data[position : position + 12 + length]))
        position += 12 + length
    return chunks
