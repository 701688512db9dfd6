"""Open a picture from a stranger: tell its format by content, and what its file says that Pillow does not.

Decoders are native code, or slow Python, and a few bytes can make either do a lot of work. Whatever passes here takes
less than a gigabyte and a few seconds to decode (:mod:`shared.pictures.costs`).
"""

import ctypes
import io
import logging
import re
import warnings
from pathlib import Path
from typing import NamedTuple

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
from shared.pictures import costs, headers, png
from shared.pictures.colour import code_points
from shared.pictures.formats import camera_raw, icons, jpeg_xl, photoshop, qoi, textures
from shared.pictures.formats.bitmaps import MAX_PIXELS_OF_AN_ICON
from shared.pictures.tiff.pages import is_tiff
from shared.pictures.tiff.picture import TiffPicture

_MEDIA_TYPES = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "CUR": "image/x-win-bitmap",
    "DDS": "image/vnd.ms-dds",
    "GIF": "image/gif",
    "HEIF": "image/heic",
    "ICNS": "image/icns",
    "ICO": "image/x-icon",
    "JPEG": "image/jpeg",
    "JPEG2000": "image/jp2",
    "JXL": "image/jxl",
    "MPO": "image/jpeg",
    "PCX": "image/vnd.zbrush.pcx",
    "PNG": "image/png",
    "PPM": "image/x-portable-pixmap",
    "PSD": "image/vnd.adobe.photoshop",
    "QOI": "image/qoi",
    "RAW": "image/x-dcraw",
    "SGI": "image/sgi",
    "TGA": "image/x-tga",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "XBM": "image/x-xbitmap",
}
# What Pillow tells by the first bytes. The others are told here; multi-picture JPEGs are reported as "MPO" afterwards.
_TOLD_HERE = {"CUR", "ICNS", "JXL", "MPO", "QOI", "RAW", "TGA", "TIFF", "XBM"}
_FORMATS = [name for name in _MEDIA_TYPES if name not in _TOLD_HERE]
_XBM = re.compile(rb"\s*(?:/\*.*?\*/\s*)?#define[ \t]+\S*width[ \t]+\d", re.DOTALL)
_XBM_HEAD = 4_096

# A JPEG without its end is decoded twice more, to see whether it is whole, if it is not too large for that.
_MAX_PIXELS_WITHOUT_END = 50_000_000
_MAX_SCANNED_PIXELS_WITHOUT_END = 250_000_000

pi_heif.register_heif_opener(thumbnails=False)
# What decoders warn of is harmless or soon becomes an error; a line on stderr helps nobody.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.")
# Our own limit, checked against every header, replaces Pillow's.
Image.MAX_IMAGE_PIXELS = None
# libtiff writes to stderr by itself. This is the copy in Pillow's wheel, the one that Pillow has loaded.
for library in Path(Image.__file__).parent.parent.glob("[Pp]illow.libs/libtiff*"):
    ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)


def open_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Return the picture with its format and size read from the header.

    WebP and JPEG XL are decoded as they are opened, once their size is checked. Of the others no pixels are decoded,
    except to check a few.

    Its ``info`` says what Pillow does not, or not in every format:

    - ``orientation``: how it is turned, 1 (upright) to 8;
    - ``icc_profile``, unchecked;
    - ``chunks``: those of a PNG;
    - ``file``: the picture's own file, which may lie within another;
    - ``transparent``: the transparent colour of a PNG in 16 bits, and for RGB ``low_bytes``, the same picture with the
      lower byte of each value;
    - ``covered``: the box outside of which a GIF is empty;
    - ``masks``: where red, green, blue and alpha are in the numbers that are the pixels of a BMP or a DDS;
    - ``opacity``: the mask of a bitmap in an icon, ``None`` if it has none;
    - ``media_type``.

    Raises :class:`~shared.errors.PictureError` if the bytes are not a picture, if it has more than ``max_pixels``
    pixels, or if decoding it would cost too much.
    """
    try:
        content = _content(data, max_pixels)
        image = content.picture or _open(content.file)
        costs.check(image, content.file, max_pixels)
        if image.format in {"JPEG", "MPO"} and (ended := _with_its_end(image, content.file)) is not None:
            image = _open_jpeg(ended)
    except PictureError:
        raise
    except NotImplementedError as error:
        message = f"The picture is of a kind that is not supported: {error}. Save it as PNG or JPEG."
        raise PictureError("unsupported_format", message) from error
    except UnidentifiedImageError as error:
        if reason := headers.unsupported(data):
            raise PictureError("unsupported_format", reason) from error
        if headers.is_picture(data):
            message = "The picture's header is damaged or of an unsupported kind."
            raise PictureError("damaged_image", message) from error
        raise PictureError("not_an_image", "The bytes are not a picture in any supported format.") from error
    except Exception as error:
        raise damaged("The picture's header cannot be read", error) from error
    image.info["orientation"] = content.orientation or _orientation(image)
    image.info.setdefault("icc_profile", None)
    image.info["file"] = content.file
    image.info["media_type"] = content.media_type or _MEDIA_TYPES[image.format or ""]
    return image


def damaged(message: str, error: Exception) -> PictureError:
    """A decoder's exception as an error of the picture."""
    return PictureError("damaged_image", f"{message}: {type(error).__name__}: {error}"[:500])


class _Content(NamedTuple):
    """What a file holds: a picture as a file, itself or within it, or one that had to be decoded at once."""

    file: bytes
    picture: Image.Image | None = None
    media_type: str | None = None
    orientation: int | None = None


def _content(data: bytes, max_pixels: int) -> _Content:
    if camera_raw.is_raw(data):
        jpeg, orientation = camera_raw.photograph(data)
        return _Content(jpeg, None, _MEDIA_TYPES["RAW"], orientation)
    # These two are decoded as they are opened.
    if (size := headers.webp_size(data)) is not None:
        costs.check_size("WEBP", size, max_pixels)
    if not jpeg_xl.is_jpeg_xl(data):
        return _Content(data)
    costs.check_size("JXL", jpeg_xl.size(data), max_pixels)
    decoded = jpeg_xl.decode(data)
    if decoded.jpeg is not None:
        return _Content(decoded.jpeg, None, _MEDIA_TYPES["JXL"])
    return _Content(data, decoded.picture, _MEDIA_TYPES["JXL"], 1)


def _open(data: bytes) -> ImageFile.ImageFile:
    if data.startswith(png.SIGNATURE):
        return _open_png(data)
    if (icon := icons.largest(data)) is not None:
        return _open_icon(icon)
    if data.startswith(b"\xff\xd8\xff"):
        return _open_jpeg(data)
    if data[4:8] == b"ftyp":
        image = _identified(headers.heif_without_exif(data))
        if not image.info.get("icc_profile") and (points := headers.code_points(data)):
            image.info["icc_profile"] = code_points.profile_of(*points)
        return image
    if is_tiff(data):
        return TiffPicture(data)
    if data.startswith(photoshop.SIGNATURE):
        return _open_photoshop(data)
    if data.startswith(qoi.MAGIC):
        costs.check_bytes("QOI", data)
        return qoi.open_qoi(costs.LimitedReader(data))
    if textures.is_tga(data):
        return _identified(data, "TGA")
    if _XBM.match(data, 0, _XBM_HEAD):
        costs.check_bytes("XBM", data)
        return _identified(data, "XBM")
    image = _identified(data)
    if image.format == "DDS":
        textures.with_masks(image)
    if isinstance(image, GifImagePlugin.GifImageFile) and (box := image.tile[0].extents) != (0, 0, *image.size):
        image.info["covered"] = box
    if isinstance(image, WebPImagePlugin.WebPImageFile) and image.rawmode == "RGBX" and _is_animated_webp(data):
        # The decoder says that there is no alpha because no frame has any. What no frame covers is transparent.
        image.rawmode = image._mode = "RGBA"
    return image


def _identified(data: bytes, *formats: str) -> ImageFile.ImageFile:
    return Image.open(costs.LimitedReader(data), formats=formats or _FORMATS)


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


def _open_photoshop(data: bytes) -> ImageFile.ImageFile:
    photoshop.check(data)
    image = _identified(data)
    photoshop.flatten(image)
    return image


def _open_icon(icon: icons.Icon) -> ImageFile.ImageFile:
    image = _open(icon.file)
    if image.width * image.height > MAX_PIXELS_OF_AN_ICON:
        message = f"The icon has {image.width} x {image.height} pixels; {MAX_PIXELS_OF_AN_ICON:,} are allowed."
        raise PictureError("too_many_pixels", message)
    if icon.is_bitmap:
        image.info["opacity"] = icon.opacity
    image.format = icon.format
    return image


def _open_jpeg(data: bytes) -> ImageFile.ImageFile:
    frame = headers.jpeg_frame(data)
    if frame is not None and frame.rarity:
        message = f"It is a JPEG of a kind that is not supported ({frame.rarity}). Save it as a baseline JPEG."
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


def _with_its_end(image: Image.Image, data: bytes) -> bytes | None:
    """The JPEG with the end marker that it lacks, if no pixel is missing, else ``None``.

    No pixel is missing if every coefficient is in some scan, and what follows the file's last byte changes nothing.
    """
    last_end = data.rfind(headers.END_OF_JPEG)
    if last_end >= 0 and data.find(b"\xff\xda", last_end) < 0:
        return None
    scans = [found.start() for found in costs.SCAN.finditer(data)]
    pixels = image.width * image.height
    too_much = pixels > _MAX_PIXELS_WITHOUT_END or len(scans) * pixels > _MAX_SCANNED_PIXELS_WITHOUT_END
    if too_much or not headers.are_complete(data, scans, len(image.getbands())):
        return None
    # Half of the marker may be there.
    body = data.rstrip(b"\xff")
    ended = body + headers.END_OF_JPEG
    try:
        one, other = (
            Image.open(io.BytesIO(file), formats=["JPEG"])
            for file in (ended, body + b"\xaa" * 64 + headers.END_OF_JPEG)
        )
        same = ImageChops.difference(one, other).getbbox() is None
    except (OSError, ValueError):
        return None
    return ended if same else None


def _is_animated_webp(data: bytes) -> bool:
    return data[12:16] == b"VP8X" and data[20] & 2 != 0


def _orientation(image: Image.Image) -> int:
    match image:
        case pi_heif.HeifImageFile():
            return 1  # libheif has it turned as its container says, whatever EXIF and XMP say
        case AvifImagePlugin.AvifImageFile():
            return headers.orientation(image.info.get("exif"), None)  # from the container, written by Pillow
        case TiffPicture():
            return image.orientation
    return headers.orientation(image.info.get("exif"), image.info.get("xmp"))
