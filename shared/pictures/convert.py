"""Convert any picture into an upright file that the model accepts: decode, scale, turn, flatten, encode."""

import io
import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

from PIL import Image, ImageChops, ImageFile, ImageMath

from shared.errors import PictureError
from shared.pictures import headers, jpeg, png
from shared.pictures.colour.srgb import is_srgb, to_srgb
from shared.pictures.limits import JPEG, PNG, WEBP, Limits, Prepared
from shared.pictures.opening import damaged, open_picture

# The model enlarges smaller pictures itself (56 x 56, Cohere's "Embed" documentation); here we choose how.
_MIN_PIXELS = 3_136
# Larger ones it scales down itself, to so many pixels.
_MODEL_SCALES_TO = 2_458_624
# Not those that take a service a quarter of a gigabyte to decode: Pillow, with which many do, warns of more pixels.
_MAX_SCALED_BY_MODEL = 89_478_485
# Rows are converted and averaged in bands of about this many pixels; larger bands do not fit the processor's cache.
_BAND_PIXELS = 500_000
# A picture more than so many times wider than its target is scaled by the faster filter.
_FAST_FILTER_RATIO = 1.5

# What PNG compresses to so much of its pixels' bytes or less is written as PNG, all else as JPEG. 11 screenshots, 10
# charts and 8 drawings take 0.15 or less, but for a heat map of noise (0.37) and two shaded drawings (0.25, 0.29), 24
# photographs 0.25 or more, and 6 scans 0.6 or more. The number of colours does not tell a grey photograph from a page.
_MOST_OF_A_PNG = 0.2

# The quality of a thumbnail: half the bytes of the usual one (bench/photographs.py).
_SMALL = 82

# Formats in which programs write zeroes for an alpha that they do not use.
_UNSURE_OF_ALPHA = {"BMP", "DDS", "TGA"}
# The formats that models take, by Pillow's names.
_TYPES = {"PNG": PNG, "JPEG": JPEG, "MPO": JPEG, "WEBP": WEBP}
# Colour types of a PNG that is kept: grey, RGB, RGBA.
_KEPT_COLOURS = {0, 2, 6}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Decoding takes CPU and memory: more pictures at once than cores are no faster and take tens of megabytes each.
_DECODERS = threading.BoundedSemaphore(os.cpu_count() or 1)


def prepare(data: bytes, limits: Limits) -> Prepared:
    """Convert any picture to a file within the limits: upright, flattened on white, in sRGB, without metadata.

    A file that is all of this already, of a type that the model takes, keeps its compressed pixels. The format is told
    by content. An animation counts as its first frame, a multi-page file as its first page. At most one picture per
    core is decoded at a time.

    Raises :class:`~shared.errors.PictureError`, with a code, if the bytes are not a picture or the picture is damaged,
    too large or of an unsupported format.
    """
    with _DECODERS:
        image = _opened(data, limits.image_max_pixels)
        width, height = image.size
        written = _decoding(image, lambda: _keep(image, limits) or _re_encode(image, limits))
    return Prepared(written.file, written.media_type, *written.size, image.info["media_type"], width, height)


def thumbnail(data: bytes, max_pixels: int, side: int) -> bytes:
    """A JPEG of any picture of at most ``max_pixels``, itself of at most ``side`` pixels a side and never enlarged.

    In all else it is as :func:`prepare` makes files, and raises what that raises.
    """
    with _DECODERS:
        image = _opened(data, max_pixels)
        return _decoding(image, lambda: jpeg.write(_upright(image, lambda size: _within_square(size, side)), _SMALL))


class _Written(NamedTuple):
    """What is sent to the model."""

    file: bytes
    media_type: str
    size: tuple[int, int]


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise PictureError("empty", "The picture has no bytes.")
    return open_picture(data, max_pixels)


def _decoding[Result](image: Image.Image, work: Callable[[], Result]) -> Result:
    """The result of work that decodes the picture; raises ``PictureError`` for whatever a decoder raises."""
    width, height = image.size
    try:
        return work()
    except PictureError:
        raise
    except MemoryError as error:
        message = f"The {image.format} picture of {width} x {height} pixels does not fit in memory."
        raise PictureError("too_many_pixels", message) from error
    except Exception as error:
        # Decoders raise exceptions of any type. Whatever they raise is about these bytes.
        raise damaged(f"The {image.format} picture cannot be decoded", error) from error


def _keep(image: Image.Image, limits: Limits) -> _Written | None:
    """The file with its compressed pixels unchanged and nothing else; ``None`` if the pixels must be converted.

    Everything else in the file (EXIF, text, time, animation) is dropped.
    """
    media_type, pixels = _TYPES.get(image.format or "", ""), image.width * image.height
    most = limits.model_max_pixels
    if media_type == JPEG and most >= _MODEL_SCALES_TO:
        most = max(most, _MAX_SCALED_BY_MODEL)
    if media_type not in limits.image_types or not _MIN_PIXELS <= pixels <= most:
        return None
    if image.info["orientation"] != 1 or not is_srgb(image.info["icc_profile"]):
        return None
    keep = {PNG: _keep_png, JPEG: _keep_jpeg, WEBP: _keep_webp}[media_type]
    file = keep(image, limits)
    return None if file is None else _Written(file, media_type, image.size)


def _keep_png(image: Image.Image, limits: Limits) -> bytes | None:
    data: bytes = image.info["file"]
    chunks: png.Chunks = image.info["chunks"]
    header = bytes(chunks[0][1])
    # Width and height take 8 bytes; depth, colour type, compression, filter and interlace follow.
    depth, colour, _, _, interlaced = header[8:13]
    kinds = {kind for kind, _ in chunks}
    if len(data) > limits.model_max_bytes:
        return None
    if depth != 8 or colour not in _KEPT_COLOURS or interlaced or b"tRNS" in kinds:
        return None
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        return None
    pixels = b"".join(content for kind, content in chunks if kind == b"IDAT")
    if not png.holds_exactly(pixels, image.width * len(image.getbands()), image.height):
        return None
    complete = len(png.SIGNATURE) + sum(12 + len(content) for _, content in chunks) + len(png.END)
    untouched = kinds == {b"IHDR", b"IDAT"} and len(data) == complete and data.endswith(png.END)
    return data if untouched else png.assemble(header, pixels)


def _keep_jpeg(image: Image.Image, limits: Limits) -> bytes | None:
    if image.mode not in {"L", "RGB"}:
        return None
    file = jpeg.pixels_alone(image.info["file"], limits.model_max_bytes)
    return file if file is not None and _is_whole(file, "JPEG", image.size) else None


def _keep_webp(image: Image.Image, limits: Limits) -> bytes | None:
    file = headers.webp_pixels_alone(image.info["file"]) if image.mode == "RGB" else None
    if file is None or len(file) > limits.model_max_bytes:
        return None
    return file if _is_whole(file, "WEBP", image.size) else None


def _is_whole(file: bytes, kind: str, size: tuple[int, int]) -> bool:
    """Whether all of the file can be decoded, to a picture of this size."""
    try:
        with Image.open(io.BytesIO(file), formats=[kind]) as image:
            same = image.size == size
            # A JPEG's eighth, without its colours, takes the least work that reads every value.
            image.draft("L", (1, 1))
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return same


def _re_encode(image: Image.Image, limits: Limits) -> _Written:
    """Decode, scale, turn upright, flatten and write. If the file has too many bytes, scale it down further."""
    scaled = _upright(image, lambda size: _fit(size, limits.model_max_pixels))
    media_type = _type_of(scaled, limits)
    write = jpeg.write if media_type == JPEG else png.write
    while len(written := write(scaled)) > limits.model_max_bytes:
        # Bytes are about proportional to pixels; 0.95 allows for the part that does not shrink.
        smaller = scaled.width * scaled.height * limits.model_max_bytes / len(written) * 0.95
        scaled = scaled.resize(_fit(scaled.size, int(smaller)), Image.Resampling.BICUBIC)
    return _Written(written, media_type, scaled.size)


def _upright(image: Image.Image, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> Image.Image:
    """The picture decoded, at the size that fits, in sRGB, flattened on white and then turned upright."""
    profile = image.info.get("icc_profile")
    target = fit(image.size)
    turn = _TURNS.get(image.info["orientation"])
    if image.format in {"JPEG", "MPO"}:
        # libjpeg decodes at 1/2, 1/4 or 1/8 scale for a fraction of the work, never below the requested size.
        image.draft(image.mode, target)
        image.load()
    else:
        image.load()
        # Only now is the real size known of formats that turn themselves upright or hold another picture.
        target = fit(image.size)
    scaled = to_srgb(_scale(_with_true_alpha(image), target), profile)
    return scaled if turn is None else scaled.transpose(turn)


def _type_of(image: Image.Image, limits: Limits) -> str:
    """JPEG for what PNG would not compress well, if the model takes it."""
    may_be_jpeg = JPEG in limits.image_types and max(image.size) <= jpeg.MAX_SIDE
    return JPEG if may_be_jpeg and png.compression(image) > _MOST_OF_A_PNG else PNG


def _with_true_alpha(image: Image.Image) -> Image.Image:
    """The decoded picture with the alpha that its format means, where Pillow takes the file by its word.

    An alpha of 0 everywhere in a bitmap means that there is none: programs write zeroes into a byte they do not use. In
    an icon, the mask counts then. A colour in 16 bits that is transparent becomes white here.
    """
    if "low_bytes" in image.info:
        _whiten(image, image.info["low_bytes"], image.info["transparent"])
    if "masks" in image.info:
        *colours, alpha = image.info["masks"]
        if not any(_channel(part, alpha).getbbox() for _, part in _bands(image)):
            image.info["masks"] = (*colours, 0)
    if image.format not in _UNSURE_OF_ALPHA and "opacity" not in image.info:
        return image
    if image.mode == "RGBA":
        if image.getchannel("A").getbbox() is not None:
            return image
        image = image.convert("RGB")
    if (opacity := image.info.get("opacity")) is not None:
        image = image.convert("RGB")
        image.putalpha(opacity)
    return image


def _whiten(image: Image.Image, low_bytes: ImageFile.ImageFile, colour: tuple[int, ...]) -> None:
    """Paint the pixels of this colour in 16 bits white, in a picture of their higher bytes."""
    low_bytes.load()
    for top, band in _bands(image):
        lower = low_bytes.crop((0, top, image.width, top + band.height))
        same = Image.new("L", band.size, 255)
        for part, values in ((band, [value >> 8 for value in colour]), (lower, [value & 255 for value in colour])):
            for channel, value in zip(part.split(), values, strict=True):
                table = [255 if number == value else 0 for number in range(256)]
                same = ImageChops.darker(same, channel.point(table))
        image.paste("white", (0, top, *(image.width, top + band.height)), same)


def _bands(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """The picture from top to bottom in bands of a multiple of so many rows, each with the number of its first row."""
    width, height = image.size
    rows = max(1, _BAND_PIXELS // (width * multiple)) * multiple
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _fit(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """The size of the same shape, as nearly as possible, with ``_MIN_PIXELS`` to ``max_pixels`` pixels."""
    width, height = size
    if width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height))
        # A side is at least one pixel; if that makes the product too large, the other side shrinks.
        fitted_width = max(1, int(width * scale))
        fitted_height = max(1, min(int(height * scale), max_pixels // fitted_width))
        return min(fitted_width, max_pixels // fitted_height), fitted_height
    if width * height < _MIN_PIXELS:
        scale = math.sqrt(_MIN_PIXELS / (width * height))
        return math.ceil(width * scale), math.ceil(height * scale)
    return size


def _within_square(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size of the same shape that a square of this side holds; the size itself if it does."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _scale(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """The picture at the target size, opaque, with 8 bits per channel: ``L``, ``RGB`` or ``CMYK``.

    A much larger picture is first averaged over blocks of whole pixels, down to no less than twice the target size. The
    slower, better filter does the rest.
    """
    width, height = image.size
    across, down = max(1, width // target[0] // 2), max(1, height // target[1] // 2)
    image = _reduce(image, across, down)
    if image.size == target:
        return image
    # When many pixels are averaged, a filter of half the width is enough: SSIM 0.991 to Lanczos in a third less time.
    fast = image.width > _FAST_FILTER_RATIO * target[0]
    resampling = Image.Resampling.HAMMING if fast else Image.Resampling.BICUBIC
    return image.resize(target, resampling, (0, 0, width / across, height / down))


def _reduce(image: Image.Image, across: int, down: int) -> Image.Image:
    """The picture with 8 bits per channel, each pixel the mean of ``across`` x ``down`` pixels.

    A change of mode is done in bands of rows, so that memory never holds a second picture of full size.
    """
    to_8_bit = _conversion(image)
    if to_8_bit is None:
        return image.reduce((across, down)) if max(across, down) > 1 else image
    width, height = image.size
    mode = to_8_bit(image.crop((0, 0, 1, 1))).mode
    reduced = Image.new(mode, (math.ceil(width / across), math.ceil(height / down)))
    for top, band in _bands(image, down):
        part = to_8_bit(band)
        if "covered" in image.info:
            part = _within(part, image.info["covered"], top)
        reduced.paste(part.reduce((across, down)), (0, top // down))
    return reduced


def _within(band: Image.Image, covered: tuple[int, int, int, int], top: int) -> Image.Image:
    """The band of a picture that starts at row ``top``, in white outside of the box that is covered."""
    left, upper, right, lower = covered
    box = (left, max(0, upper - top), right, min(band.height, lower - top))
    white = Image.new(band.mode, band.size, "white")
    if box[1] < box[3]:
        white.paste(band.crop(box), box)
    return white


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image] | None:
    """The function that makes a part of this picture opaque with 8 bits per channel; ``None`` if it is so already.

    Deeper channels are scaled, not clipped.
    """
    opaque = "transparency" not in image.info
    match image.mode:
        case "L" | "RGB" | "CMYK" if opaque:
            return (lambda part: part) if "covered" in image.info else None
        case "1" if image.format == "XBM":
            # Bits that are set are the foreground, which is black.
            return lambda part: ImageChops.invert(part.convert("L"))
        case "1" if opaque:
            return lambda part: part.convert("L")
        case "P" if opaque:
            return lambda part: part.convert("RGB")
        case "1" | "P" | "PA" | "L" | "RGB" | "RGBA" | "LA":
            return lambda part: _on_white(part if part.mode == "RGBA" else part.convert("RGBA"))
        case "I;16" if "transparent" in image.info:
            (colour,) = image.info["transparent"]
            return lambda part: _grey_on_white(part.convert("I"), colour)
        case "I;16":
            return lambda part: part.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        case "I" if "masks" in image.info:
            masks = image.info["masks"]
            return lambda part: _unpacked(part, masks)
        case "I":
            return lambda part: part.point(lambda value: value * (1 / 257)).convert("L")
        case "F":
            scale, offset = _levels(image)
            return lambda part: part.convert("F").point(lambda value: value * scale + offset).convert("L")
        case "RGBX":
            return lambda part: part.convert("RGB")
        case mode:
            message = f"Pictures of Pillow's mode {mode} are not supported. Convert it to RGB."
            raise PictureError("unsupported_format", message)


def _on_white(image: Image.Image) -> Image.Image:
    background = Image.new("RGB", image.size, "white")
    background.paste(image, mask=image)
    return background


def _grey_on_white(values: Image.Image, transparent: int) -> Image.Image:
    """Grey in 16 bits as 8 bits, the transparent value as white."""
    clear = ImageMath.lambda_eval(
        lambda held: held["convert"]((held["values"] == transparent) * 255, "L"), values=values
    )
    grey = values.point(lambda value: value * (1 / 257)).convert("L")
    return ImageChops.lighter(grey, clear)


def _unpacked(numbers: Image.Image, masks: tuple[int, ...]) -> Image.Image:
    """The picture whose red, green, blue and alpha are the bits under these masks; no mask of alpha means opaque."""
    colour = Image.merge("RGB", [_channel(numbers, mask) for mask in masks[:3]])
    if not masks[3]:
        return colour
    colour.putalpha(_channel(numbers, masks[3]))
    return _on_white(colour)


def _channel(numbers: Image.Image, mask: int) -> Image.Image:
    """The bits under a mask, scaled to 8 bits."""
    if not mask:
        return Image.new("L", numbers.size)
    # Of more than 16 bits the lowest show nowhere, and would not fit into the arithmetic.
    width = min(mask.bit_count(), 16)
    shift, largest = mask.bit_length() - width, (1 << width) - 1
    # The sign of the largest numbers would fill what is shifted in, so the bits are cut out afterwards.
    bits = ImageMath.lambda_eval(lambda held: (held["numbers"] >> shift) & largest, numbers=numbers)
    return cast(Image.Image, bits).point(lambda value: value * (255 / largest) + 0.5).convert("L")


def _levels(image: Image.Image) -> tuple[float, float]:
    """The scale and offset that map values of no fixed range to 0..255, by the smallest usual range that holds them."""
    low, high = cast(tuple[float, float], image.getextrema())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise PictureError("damaged_image", "The picture has values that are NaN or infinite.")
    bottom = min(0.0, low)
    top = next((usual for usual in (1.0, 255.0, 65535.0) if low >= 0 and high <= usual), high)
    scale = 255 / (top - bottom or 1.0)
    return scale, -bottom * scale
