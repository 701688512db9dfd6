"""Any picture a person has, made into an upright PNG that the model accepts."""

import io
import math
import os
import threading
from collections.abc import Callable
from typing import cast

from PIL import ExifTags, Image, ImageCms

from shared.errors import PictureError
from shared.pictures import png
from shared.pictures.limits import Limits, Prepared
from shared.pictures.opening import MEDIA_TYPES, damaged, open_picture

# Below this the model enlarges by itself (56 x 56, Cohere's "Embed" documentation); we choose how.
_MIN_PIXELS = 3_136

# Rows are converted and averaged in bands of about this many pixels; larger ones fall out of the processor's cache.
_BAND_PIXELS = 500_000
_MUCH = 1.5

_ORIENTING_CHUNKS = {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}
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


def prepare(data: bytes, limits: Limits) -> Prepared:
    """Make any picture into a PNG within the limits, upright, flattened on white, in sRGB, without metadata.

    A PNG that is all that already keeps its compressed pixels as they are. Formats are told by content. Of animations
    the first frame counts, of documents the first page. Raises :class:`~shared.errors.PictureError`, with a code, for
    anything that is no picture, or a broken one, or one too large. At most one picture a core is decoded at a time.
    """
    if not data:
        raise PictureError("empty", "There are no bytes.")
    with _DECODERS:
        return _prepare(data, limits)


def _prepare(data: bytes, limits: Limits) -> Prepared:
    image = open_picture(data, limits.image_max_pixels)
    width, height = image.size
    media_type = MEDIA_TYPES[image.format or ""]
    try:
        # Pillow does not look at the checksums of pixels: a picture of wrong ones would be embedded.
        chunks = png.chunks(data) if image.format == "PNG" else []
        written, size = _keep(image, data, chunks, limits) or _remake(image, limits)
    except PictureError:
        raise
    except MemoryError as error:
        message = f"The {image.format} picture of {width} x {height} pixels does not fit into memory."
        raise PictureError("too_many_pixels", message) from error
    except Exception as error:
        # The decoders' exceptions are not a closed set; whatever they raise, it is about these bytes.
        raise damaged(f"The {image.format} picture cannot be decoded", error) from error
    return Prepared(written, *size, media_type, width, height)


def _keep(
    image: Image.Image, data: bytes, chunks: list[tuple[bytes, memoryview]], limits: Limits
) -> tuple[bytes, tuple[int, int]] | None:
    """The PNG with its compressed pixels as they are, when the model should see just them; else ``None``.

    All else that was in the file (EXIF, text, time, animation) is left out.
    """
    width, height = image.size
    fits = _MIN_PIXELS <= width * height <= limits.model_max_pixels and len(data) <= limits.model_max_bytes
    if image.format != "PNG" or not fits:
        return None
    header = bytes(chunks[0][1])
    # After width and height (8 bytes) come depth, colour type, compression, filter, interlace.
    depth, colour, _, _, interlaced = header[8:13]
    kinds = {kind for kind, _ in chunks}
    if depth != 8 or colour not in _KEPT_COLOURS or interlaced or b"tRNS" in kinds:
        return None
    # Asking a PNG for its orientation decodes it, so only one that may hold it is asked.
    oriented = kinds & _ORIENTING_CHUNKS and _orientation(image) is not None
    if oriented or not _is_srgb(image.info.get("icc_profile")):
        return None
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        return None
    pixels = b"".join(content for kind, content in chunks if kind == b"IDAT")
    if not png.holds_just(pixels, width * len(image.getbands()), height):
        return None
    whole = len(png.SIGNATURE) + sum(12 + len(content) for _, content in chunks) + len(png.END)
    untouched = kinds == {b"IHDR", b"IDAT"} and len(data) == whole
    return data if untouched else png.assemble(header, pixels), image.size


def _remake(image: Image.Image, limits: Limits) -> tuple[bytes, tuple[int, int]]:
    """Decode, scale, turn upright, flatten, and write as PNG, smaller again where the PNG is still too large."""
    profile = image.info.get("icc_profile")
    target = _fit(image.size, limits.model_max_pixels)
    if image.format in {"JPEG", "MPO"}:
        # libjpeg decodes at 1/2, 1/4 or 1/8 scale for a fraction of the work, never below the size asked for.
        image.draft(image.mode, target)
        image.load()
    else:
        image.load()
        # Formats that turn themselves upright, or hold another picture, have their real size only now.
        target = _fit(image.size, limits.model_max_pixels)
    turn = _orientation(image)
    image = _to_srgb(_scale(image, target), profile)
    if turn is not None:
        image = image.transpose(turn)
    while len(written := png.write(image)) > limits.model_max_bytes:
        # Bytes grow with pixels; a little less than the ratio, for what does not shrink along.
        smaller = image.width * image.height * limits.model_max_bytes / len(written) * 0.95
        image = image.resize(_fit(image.size, int(smaller)), Image.Resampling.BICUBIC)
    return written, image.size


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """What turns the picture upright, by its EXIF data; ``None`` where it is upright."""
    return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def _fit(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """The size nearest to ``size`` in shape with at least the model's fewest and at most ``max_pixels`` pixels."""
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


def _scale(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """The picture at the target's size, opaque, with 8 bits a channel: ``L``, ``RGB`` or ``CMYK``.

    A much larger one is first averaged over squares of whole pixels; what remains for the slower, better filter is
    at least twice the target's size.
    """
    width, height = image.size
    across, down = max(1, width // target[0] // 2), max(1, height // target[1] // 2)
    image = _reduce(image, across, down)
    if image.size == target:
        return image
    # Where much is averaged anyway, a filter of half the width does: SSIM 0.991 to Lanczos, and a third less time.
    much = image.width > _MUCH * target[0]
    resampling = Image.Resampling.HAMMING if much else Image.Resampling.BICUBIC
    return image.resize(target, resampling, (0, 0, width / across, height / down))


def _reduce(image: Image.Image, across: int, down: int) -> Image.Image:
    """The picture in 8 bits, each pixel the mean of ``across`` x ``down`` of its own.

    Where its mode changes, that goes by bands of rows, so that no second picture of the whole size exists beside it.
    """
    to_8_bit = _conversion(image)
    if to_8_bit is None:
        return image.reduce((across, down)) if max(across, down) > 1 else image
    width, height = image.size
    rows = max(1, _BAND_PIXELS // (width * down)) * down
    mode = to_8_bit(image.crop((0, 0, 1, 1))).mode
    reduced = Image.new(mode, (math.ceil(width / across), math.ceil(height / down)))
    for top in range(0, height, rows):
        band = to_8_bit(image.crop((0, top, width, min(top + rows, height)))).reduce((across, down))
        reduced.paste(band, (0, top // down))
    return reduced


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image] | None:
    """What makes a part of this picture opaque with 8 bits a channel; ``None`` where it is that already.

    Deeper channels are scaled, not clipped.
    """
    match image.mode:
        case "L" | "RGB" | "CMYK" if "transparency" not in image.info:
            return None
        case "1":
            return lambda part: part.convert("L")
        case "P" if "transparency" not in image.info:
            return lambda part: part.convert("RGB")
        case "P" | "PA" | "L" | "RGB" | "RGBA" | "LA":
            return lambda part: _on_white(part if part.mode == "RGBA" else part.convert("RGBA"))
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            return lambda part: part.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        case "I" if image.format == "PPM":
            return lambda part: part.point(lambda value: value * (1 / 257)).convert("L")
        case "I" | "F":
            scale, offset = _levels(image)
            return lambda part: part.convert("F").point(lambda value: value * scale + offset).convert("L")
        case "YCbCr" | "RGBX":
            return lambda part: part.convert("RGB")
        case "LAB":
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
            return lambda part: cast(Image.Image, ImageCms.applyTransform(part, transform))
        case mode:
            raise PictureError("unsupported_format", f"Pictures of mode {mode} cannot be embedded; convert it first.")


def _on_white(image: Image.Image) -> Image.Image:
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image)
    return ground


def _levels(image: Image.Image) -> tuple[float, float]:
    """Scale and offset that bring numbers without a range of their own to 0..255, over the usual range they fit."""
    low, high = cast(tuple[float, float], image.getextrema())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise PictureError("damaged_image", "The picture's values are not all finite.")
    bottom = min(0.0, low)
    top = next((usual for usual in (1.0, 255.0, 65535.0) if low >= 0 and high <= usual), high)
    scale = 255 / (top - bottom or 1.0)
    return scale, -bottom * scale


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture as grey or RGB in sRGB. A profile that cannot be used leaves the colours as they are."""
    if not _is_srgb(profile):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
            mode = "L" if image.mode == "L" else "RGB"
            srgb = ImageCms.createProfile("sRGB")
            image = cast(Image.Image, ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")).convert(mode)
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return image if image.mode in {"L", "RGB"} else image.convert("RGB")


def _is_srgb(profile: bytes | None) -> bool:
    """Whether colours are sRGB already: no profile means that too."""
    if not profile:
        return True
    try:
        return "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
