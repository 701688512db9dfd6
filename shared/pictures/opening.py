"""Open a picture from a stranger: tell its format by content, and bound the cost of decoding it by its header.

Decoders are native code, or slow Python, and a few bytes can make either do a lot of work. Whatever passes here takes
less than a gigabyte and a few seconds to decode.
"""

import ctypes
import io
import itertools
import logging
import re
import struct
import warnings
from pathlib import Path

import pi_heif
from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    ImageFile,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from shared.errors import PictureError
from shared.pictures import headers, png
from shared.pictures.bitmaps import MAX_PIXELS_OF_AN_ICON, bitmap_of_icon
from shared.pictures.colour import code_points
from shared.pictures.tiff.pages import is_tiff
from shared.pictures.tiff.picture import TiffPicture

MEDIA_TYPES = {
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
# Pillow opens multi-picture JPEGs as JPEG, and reports them as "MPO" afterwards. TIFFs are read here.
_FORMATS = [name for name in MEDIA_TYPES if name not in {"MPO", "TIFF"}]

# The memory that decoding may take, and its peak per pixel (measured on 30 megapixels; Pillow holds RGB in 4 bytes).
_MAX_MEMORY = 900_000_000
_BYTES_PER_PIXEL = {"AVIF": 10, "HEIF": 8, "JPEG2000": 20, "WEBP": 17}
_BYTES_PER_PIXEL_ELSEWHERE = 4
_BYTES_PER_PIXEL_WITH_ALPHA = 6  # no more memory, but half as much time again
_BYTES_PER_PIXEL_OF_NUMBERS = 18  # no more memory, but five times as much time
_BYTES_PER_PIXEL_OF_TWO_DECODINGS = 24  # 10 bytes of memory, and the time of two PNGs with 6 bytes a pixel
# Some decoders run in Python, and an odd file makes others read in tiny steps: one for each chunk, run or number.
_MAX_READS = 300_000
_MAX_READS_OF_A_BITMAP = 2_000_000
_MAX_PIXELS_IN_PYTHON = {"bmp_rle": 2_000_000, "ppm_plain": 1_000_000, "ppm": 90_000}
_MAX_BYTES_IN_PYTHON = 8_000_000
_MAX_COMMENTS = 500
_ICON = b"\0\0\1\0"
_MAX_PIXELS_OF_A_WEBP = _MAX_MEMORY // _BYTES_PER_PIXEL["WEBP"]
_MAX_TIFF_WORK = 450_000_000  # at 6 ns each (2 virtual CPUs, busy)
# Each scan of a JPEG is a pass over the whole picture. Cameras and encoders write about 10; a file may have millions.
_MAX_SCANS = 1_000
_MAX_SCANNED_PIXELS = 4_000_000_000
_SCAN = re.compile(rb"\xff\xda")
_END_OF_JPEG = b"\xff\xd9"
# A JPEG without its end is decoded twice more, to see whether it is whole, if it is not too large for that.
_MAX_PIXELS_WITHOUT_END = 50_000_000
_MAX_SCANNED_PIXELS_WITHOUT_END = 250_000_000

pi_heif.register_heif_opener(thumbnails=False)
# What decoders warn of is harmless or soon becomes an error; a line on stderr helps nobody.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.")
# Our own limit, checked below against every header, replaces Pillow's.
Image.MAX_IMAGE_PIXELS = None
# libtiff writes to stderr by itself. This is the copy in Pillow's wheel, the one that Pillow has loaded.
for library in Path(Image.__file__).parent.parent.glob("[Pp]illow.libs/libtiff*"):
    ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)


def open_picture(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Return the picture with its format and size read from the header. No pixels are decoded, except to check a few.

    Its ``info`` says what Pillow does not, or not in every format:

    - ``orientation``: how it is turned, 1 (upright) to 8;
    - ``icc_profile``, unchecked;
    - ``chunks``: those of a PNG;
    - ``transparent``: the transparent colour of a PNG in 16 bits, and for RGB ``low_bytes``, the same picture with the
      lower byte of each value;
    - ``covered``: the box outside of which a GIF is empty;
    - ``masks``: where red, green, blue and alpha are in the numbers that are a BMP's pixels;
    - ``opacity``: the mask of a bitmap in an icon, ``None`` if it has none.

    Raises :class:`~shared.errors.PictureError` if the bytes are not a picture, if it has more than ``max_pixels``
    pixels, or if decoding it would cost too much.
    """
    if (pixels := headers.webp_pixels(data)) > _MAX_PIXELS_OF_A_WEBP:
        message = f"The WebP has {pixels:,} pixels; this format may have {_MAX_PIXELS_OF_A_WEBP:,}."
        raise PictureError("too_many_pixels", message)
    try:
        image = _open(data)
        _check_cost(image, data, max_pixels)
        if image.format in {"JPEG", "MPO"} and (ended := _with_its_end(image, data)) is not None:
            image = _open_jpeg(ended)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        if reason := headers.unsupported(data):
            raise PictureError("unsupported_format", reason) from error
        if headers.is_picture(data):
            message = "The picture's header is damaged or of an unsupported kind."
            raise PictureError("damaged_image", message) from error
        raise PictureError("not_an_image", "The bytes are not a picture in any supported format.") from error
    except Exception as error:
        raise damaged("The picture's header cannot be read", error) from error
    image.info["orientation"] = _orientation(image)
    image.info.setdefault("icc_profile", None)
    return image


def damaged(message: str, error: Exception) -> PictureError:
    """A decoder's exception as an error of the picture."""
    return PictureError("damaged_image", f"{message}: {type(error).__name__}: {error}"[:500])


class _LimitedReader(io.BytesIO):
    """The file, for decoders that read it in steps. The number of reads is limited: a file can cause millions."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._max_reads = self._reads_left = _MAX_READS_OF_A_BITMAP if data.startswith(b"BM") else _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            message = f"Decoding the picture takes more than {self._max_reads:,} steps; it is probably damaged."
            raise PictureError("damaged_image", message)
        return super().read(size)


def _open(data: bytes) -> ImageFile.ImageFile:
    if data.startswith(png.SIGNATURE):
        return _open_png(data)
    if data.startswith(_ICON):
        return _open_icon(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _open_jpeg(data)
    if data[4:8] == b"ftyp":
        image = _identified(headers.heif_without_exif(data))
        if not image.info.get("icc_profile") and (points := headers.code_points(data)):
            image.info["icc_profile"] = code_points.profile_of(*points)
        return image
    if is_tiff(data):
        return TiffPicture(data)
    image = _identified(data)
    if isinstance(image, GifImagePlugin.GifImageFile) and (box := image.tile[0].extents) != (0, 0, *image.size):
        image.info["covered"] = box
    if isinstance(image, WebPImagePlugin.WebPImageFile) and image.rawmode == "RGBX" and _is_animated_webp(data):
        # The decoder says that there is no alpha because no frame has any. What no frame covers is transparent.
        image.rawmode = image._mode = "RGBA"
    return image


def _identified(data: bytes) -> ImageFile.ImageFile:
    return Image.open(_LimitedReader(data), formats=_FORMATS)


def _open_png(data: bytes) -> ImageFile.ImageFile:
    """The PNG with its metadata read by us: what Pillow finds wrong with them is no reason to refuse the pixels."""
    chunks = png.chunks(data)
    if variant := png.unknown(chunks):
        message = f'It is a variant of PNG with chunks "{variant}", which is not supported. Save it as an ordinary PNG.'
        raise PictureError("unsupported_format", message)
    file = png.pixels_alone(data, chunks)
    image = _identified(file)
    image.info.update(png.metadata(chunks), chunks=chunks)
    colour = png.transparent(chunks)
    depth = chunks[0][1][8]
    if colour is None:
        return image
    if depth < 16:
        # When Pillow compares, it has scaled the pixels to 8 bits.
        scaled = [value * 255 // ((1 << depth) - 1) for value in colour]
        image.info["transparency"] = tuple(scaled) if len(scaled) > 1 else scaled[0]
        return image
    image.info["transparent"] = colour
    if image.mode == "RGB":
        image.info["low_bytes"] = low = _identified(file)
        low.tile = [low.tile[0]._replace(args="RGB;16L")]
    return image


def _open_icon(data: bytes) -> ImageFile.ImageFile:
    """The largest picture of an icon, of several the one with most colours: a PNG, or a bitmap and its mask."""
    count = int.from_bytes(data[4:6], "little")
    starts = range(6, min(6 + 16 * count, len(data) - 15), 16)
    entries = [struct.unpack_from("<BBxxxxHII", data, at) for at in starts]
    if not entries:
        raise UnidentifiedImageError("an icon without pictures")
    _, _, _, size, offset = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[2]))
    file = data[offset : offset + size]
    opacity = None
    if is_bitmap := not file.startswith(png.SIGNATURE):
        file, opacity = bitmap_of_icon(file)
    image = _open(file)
    if image.width * image.height > MAX_PIXELS_OF_AN_ICON:
        message = f"The icon has {image.width} x {image.height} pixels; {MAX_PIXELS_OF_AN_ICON:,} are allowed."
        raise PictureError("too_many_pixels", message)
    if is_bitmap:
        image.info["opacity"] = opacity
    image.format = "ICO"
    return image


def _open_jpeg(data: bytes) -> ImageFile.ImageFile:
    if kind := headers.rare_jpeg(data):
        message = f"It is a JPEG of a kind that is not supported ({kind}). Save it as a baseline JPEG."
        raise PictureError("unsupported_format", message)
    try:
        return _identified(data)
    except PictureError:
        raise
    except Exception:  # noqa: BLE001 - whatever broken metadata cause; without them, the pixels decide
        without, exif = headers.jpeg_without_metadata(data)
    image = _identified(without)
    image.info["exif"] = exif
    return image


def _with_its_end(image: ImageFile.ImageFile, data: bytes) -> bytes | None:
    """The JPEG with the end marker that it lacks, if no pixel is missing, else ``None``.

    No pixel is missing if every coefficient is in some scan, and what follows the file's last byte changes nothing.
    """
    last_end = data.rfind(_END_OF_JPEG)
    if last_end >= 0 and data.find(b"\xff\xda", last_end) < 0:
        return None
    scans = [found.start() for found in _SCAN.finditer(data)]
    pixels = image.width * image.height
    too_much = pixels > _MAX_PIXELS_WITHOUT_END or len(scans) * pixels > _MAX_SCANNED_PIXELS_WITHOUT_END
    if too_much or not headers.are_complete(data, scans, len(image.getbands())):
        return None
    # Half of the marker may be there.
    body = data.rstrip(b"\xff")
    ended = body + _END_OF_JPEG
    try:
        one, other = (
            Image.open(io.BytesIO(file), formats=["JPEG"]) for file in (ended, body + b"\xaa" * 64 + _END_OF_JPEG)
        )
        same = ImageChops.difference(one, other).getbbox() is None
    except (OSError, ValueError):
        return None
    return ended if same else None


def _is_animated_webp(data: bytes) -> bool:
    return data[12:16] == b"VP8X" and data[20] & 2 != 0


def _orientation(image: ImageFile.ImageFile) -> int:
    match image:
        case pi_heif.HeifImageFile():
            return 1  # libheif has it turned as its container says, whatever EXIF and XMP say
        case AvifImagePlugin.AvifImageFile():
            return headers.orientation(image.info.get("exif"), None)  # from the container, written by Pillow
        case TiffPicture():
            return image.orientation
    return headers.orientation(image.info.get("exif"), image.info.get("xmp"))


def _check_cost(image: ImageFile.ImageFile, data: bytes, max_pixels: int) -> None:
    """Reject, by the header alone, a picture that would take too much memory or time to decode."""
    width, height = image.size
    pixels = width * height
    size = f"The {image.format} picture has {width} x {height} pixels"
    if pixels > max_pixels:
        raise PictureError("too_many_pixels", f"{size}; IMAGE_MAX_PIXELS allows {max_pixels:,}.")
    if image.format in {"JPEG", "MPO"}:
        _check_scans(data, pixels, size)
    # Each row has a pointer, and decoders hold a few rows in addition to the picture: this counts in extreme shapes.
    decoded = image.decoding_bytes if isinstance(image, TiffPicture) else pixels * _bytes_per_pixel(image)
    needed = decoded + 16 * (width + height)
    if needed > _MAX_MEMORY:
        message = f"{size}; decoding it would take {needed:,} bytes of memory, {_MAX_MEMORY:,} are allowed."
        raise PictureError("too_many_pixels", message)
    if isinstance(image, TiffPicture) and image.decoding_work > _MAX_TIFF_WORK:
        raise PictureError("too_many_pixels", f"{size}; decoding it would take too long. Save it as 8-bit RGB or PNG.")
    _check_python_decoder(image, data, size)


def _check_scans(data: bytes, pixels: int, size: str) -> None:
    # A regular expression finds two bytes three times as fast as bytes.count does.
    scans = sum(1 for _ in itertools.islice(_SCAN.finditer(data), _MAX_SCANS + 1))
    if scans > _MAX_SCANS or scans * pixels > _MAX_SCANNED_PIXELS:
        message = f"{size} in {scans:,} scans or more; decoding it would take too long. Save it as a baseline JPEG."
        raise PictureError("damaged_image", message)


def _check_python_decoder(image: ImageFile.ImageFile, data: bytes, size: str) -> None:
    decoder = image.tile[0][0] if image.tile else ""
    if decoder not in _MAX_PIXELS_IN_PYTHON:
        return
    slow = f"{size} in an encoding that is slow to decode. Convert it to PNG or JPEG."
    if image.width * image.height > _MAX_PIXELS_IN_PYTHON[decoder]:
        raise PictureError("too_many_pixels", slow)
    if len(data) > _MAX_BYTES_IN_PYTHON:
        raise PictureError("unsupported_format", slow)
    if image.format == "PPM" and data.count(b"#") > _MAX_COMMENTS:
        raise PictureError("damaged_image", f"The PPM picture has more than {_MAX_COMMENTS} comments.")


def _bytes_per_pixel(image: ImageFile.ImageFile) -> int:
    """The memory that decoding takes at its peak."""
    alpha = image.mode in {"RGBA", "LA", "PA"}
    usual = _BYTES_PER_PIXEL_WITH_ALPHA if alpha else _BYTES_PER_PIXEL_ELSEWHERE
    each = _BYTES_PER_PIXEL.get(image.format or "", usual)
    if image.format in {"JPEG", "MPO"} and image.info.get("progressive"):
        each = max(each, 2 * len(image.getbands()))  # all coefficients of all channels, 16 bits each
    if "low_bytes" in image.info:
        each = _BYTES_PER_PIXEL_OF_TWO_DECODINGS
    if "masks" in image.info:
        each = _BYTES_PER_PIXEL_OF_NUMBERS
    return each
