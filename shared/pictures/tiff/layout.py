"""Which layouts of pixels are decoded, and by what; every other one is refused by its name."""

import enum

from shared.errors import PictureError
from shared.pictures.tiff.pages import COLOURS, Alpha, Compression, Format, Page, Photometric, Tag


class Reading(enum.Enum):
    """What turns the bytes of a strip or tile into pixels."""

    PILLOW = enum.auto()  # all of it, into a mode of Pillow
    SAMPLES = enum.auto()  # libtiff decompresses, shared/pictures/tiff/samples.py does the rest
    WEBP = enum.auto()  # each chunk is a WebP file
    OLD_JPEG = enum.auto()  # libtiff needs the whole file


_FAX = {Compression.FAX_RLE, Compression.FAX_3, Compression.FAX_4, Compression.FAX_RLE_WORDS}
# What Pillow and libtiff get right, as the tests compare with other decoders: photometric, bits, samples, extra.
_PILLOW_IS_RIGHT = {
    *((photometric, bits, 1, ()) for photometric in (0, 1, 3) for bits in (1, 2, 4, 8)),
    (Photometric.MIN_IS_BLACK, 8, 2, (Alpha.UNASSOCIATED,)),
    (Photometric.RGB, 8, 3, ()),
    *((Photometric.RGB, 8, 4, (extra,)) for extra in Alpha),
    (Photometric.CMYK, 8, 4, ()),
}
_BITS: dict[int, set[int]] = {
    Format.UNSIGNED: {*range(1, 17), 32, 64},
    Format.SIGNED: {8, 16, 32, 64},
    Format.FLOAT: {16, 32, 64},
}
_MAX_SAMPLES = 65_535  # SamplesPerPixel is a SHORT
_NAMES: dict[int, str] = {
    **{compression: compression.name.replace("_", " ") for compression in Compression},
    32766: "NeXT",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy DNG",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_COLOURS: dict[int, str] = {
    Photometric.MIN_IS_WHITE: "grey (white is 0)",
    Photometric.MIN_IS_BLACK: "grey",
    Photometric.RGB: "RGB",
    Photometric.PALETTE: "palette",
    4: "mask",
    Photometric.CMYK: "CMYK",
    Photometric.YCBCR: "YCbCr",
    Photometric.CIELAB: "CIELAB",
    Photometric.ICCLAB: "ICC Lab",
    10: "ITU Lab",
    32803: "camera raw",
    32844: "LogL",
    32845: "LogLuv",
    34892: "camera raw",
}
_FORMATS: dict[int, str] = {Format.UNSIGNED: "unsigned", Format.SIGNED: "signed", Format.FLOAT: "float", 0: "mixed"}


def reading(page: Page) -> Reading:
    """What decodes this page.

    Raises :class:`~shared.errors.PictureError`: ``damaged_image`` if the header contradicts itself,
    ``unsupported_format`` with the combination's name if nothing here decodes it.
    """
    _check_sizes(page)
    if reason := _unsupported(page):
        message = f"The TIFF cannot be decoded: {reason}. It is {description(page)}. Save it as 8-bit RGB or PNG."
        raise PictureError("unsupported_format", message)
    _check_chunks(page)
    if page.compression == Compression.OLD_JPEG:
        return Reading.OLD_JPEG
    if page.compression == Compression.WEBP:
        return Reading.WEBP
    if page.compression in _FAX or page.compression == Compression.THUNDERSCAN or _is_jpeg_of_pixels(page):
        return Reading.PILLOW
    # Pillow would take a step for each tile that is not compressed.
    slow = page.compression == Compression.NONE and page.tiled
    return Reading.PILLOW if _pillow_is_right(page) and not slow else Reading.SAMPLES


def description(page: Page) -> str:
    """The combination in words, such as "16-bit float RGB with 5 channels in planes, LZW compression"."""
    colours = _COLOURS.get(page.photometric, f"photometric {page.photometric}")
    number = _FORMATS.get(page.format, f"format {page.format}")
    channels = f"{page.samples} channel{'s' if page.samples > 1 else ''}{' in planes' if page.planes > 1 else ''}"
    bits = f"{page.bits}-bit" if page.bits else "mixed-bit"
    name = _NAMES.get(page.compression, f"unknown ({page.compression})")
    order = "little" if page.order == "<" else "big"
    return f"{bits} {number} {colours} with {channels}, {name} compression, {order}-endian"


def _check_sizes(page: Page) -> None:
    colours = COLOURS.get(page.photometric, 1)
    sizes = page.width, page.height, page.chunk_width, page.chunk_height
    if min(sizes) < 1 or not colours <= page.samples <= _MAX_SAMPLES:
        message = (
            f"The TIFF's header is damaged: {page.width} x {page.height} pixels in parts of {page.chunk_width} x "
            f"{page.chunk_height}, with {page.samples} channels."
        )
        raise PictureError("damaged_image", message)


def _check_chunks(page: Page) -> None:
    needed = page.across * page.down * page.planes
    if page.compression != Compression.OLD_JPEG and len(page.offsets) < needed:
        message = f"The TIFF lists {len(page.offsets):,} strips or tiles; its size needs {needed:,}."
        raise PictureError("damaged_image", message)
    if any(not start and not size for start, size in zip(page.offsets, page.byte_counts, strict=False)):
        message = "The TIFF cannot be decoded: some of its strips or tiles are not in the file. Save it in full."
        raise PictureError("unsupported_format", message)


def _unsupported(page: Page) -> str:
    """Why this page cannot be decoded; empty if it can."""
    if page.compression not in set(Compression):
        return "its compression is not supported"
    if page.photometric not in set(Photometric):
        return "its colours are not supported"
    if page.bits not in _BITS.get(page.format, ()):
        return "its numbers are not supported"
    return _unsupported_colours(page) or _unsupported_compression(page)


def _unsupported_colours(page: Page) -> str:
    transparent = any(page.extra)
    match page.photometric:
        case Photometric.MIN_IS_WHITE | Photometric.MIN_IS_BLACK if page.extra.count(Alpha.NONE) > 1:
            return "it does not say which of its channels are red, green and blue"
        case Photometric.PALETTE if page.bits > 8 or page.format != Format.UNSIGNED:
            return "its palette is too large"
        case Photometric.PALETTE if len(page.numbers(Tag.COLOUR_MAP)) < 3 << page.bits:
            raise PictureError("damaged_image", "The TIFF's palette is missing or too short.")
        case Photometric.CMYK if page.number(Tag.INK_SET, 1) != 1:
            return "its inks are not cyan, magenta, yellow and black"
        case Photometric.CMYK | Photometric.YCBCR if page.format != Format.UNSIGNED:
            return "its numbers are not supported for its colours"
        case Photometric.CIELAB | Photometric.ICCLAB if page.bits not in {8, 16} or page.format == Format.FLOAT:
            return "its numbers are not supported for its colours"
        case Photometric.CIELAB | Photometric.ICCLAB | Photometric.YCBCR if transparent:
            return "its colours are not supported with transparency"
        case Photometric.YCBCR if page.bits != 8 or page.samples != 3 or page.planes > 1:
            return "its numbers are not supported for its colours"
        case Photometric.YCBCR if not {*page.group} <= {1, 2, 4}:
            raise PictureError("damaged_image", f"The TIFF's colours are shared by {page.group} pixels.")
    return ""


def _unsupported_compression(page: Page) -> str:
    whole = page.chunk_width * page.bits * (page.samples // page.planes) % 8 == 0
    match page.compression:
        case Compression.NONE if page.across > 1 and not whole:
            return "its tiles do not end on whole bytes"
        case Compression.OLD_JPEG if page.big or page.bits != 8:
            return "its compression is not supported for its numbers"
        case Compression.WEBP if page.photometric not in {Photometric.RGB, Photometric.YCBCR} or page.planes > 1:
            return "its compression is not supported for its colours"
        case Compression.WEBP | Compression.JPEG if page.bits != 8 or page.format != Format.UNSIGNED:
            return "its compression is not supported for its numbers"
        case Compression.JPEG if not _is_jpeg_of_pixels(page) and page.planes < page.samples:
            return "its compression is not supported for its channels"
        case compression if compression in _FAX and (page.bits, page.samples) != (1, 1):
            return "its compression is not supported for its numbers"
        case Compression.THUNDERSCAN if (page.bits, page.samples) != (4, 1):
            return "its compression is not supported for its numbers"
        case _ if page.across > 1 and not whole:
            return "its tiles do not end on whole bytes"
        case _ if _splits_groups(page):
            return "its strips or tiles do not hold whole groups of pixels"
    return _unsupported_predictor(page)


def _splits_groups(page: Page) -> bool:
    across, down = page.group
    return bool((page.across > 1 and page.chunk_width % across) or (page.down > 1 and page.chunk_height % down))


def _unsupported_predictor(page: Page) -> str:
    match page.predictor:
        case 1:
            return ""
        case 2 if page.bits in {8, 16, 32, 64} and page.photometric != Photometric.YCBCR:
            return ""
        case 3 if page.format == Format.FLOAT:
            return ""
    return f"its predictor ({page.predictor}) is not supported for its numbers"


def _is_jpeg_of_pixels(page: Page) -> bool:
    """Whether a strip or tile is a JPEG of whole pixels, which libtiff decodes with the colours that it has."""
    ycbcr = page.photometric == Photometric.YCBCR
    return page.compression == Compression.JPEG and (ycbcr or _pillow_is_right(page))


def _pillow_is_right(page: Page) -> bool:
    chunky = page.planes == 1 or page.samples == 1
    layout = page.photometric, page.bits, page.samples, page.extra
    return chunky and page.format == Format.UNSIGNED and layout in _PILLOW_IS_RIGHT
