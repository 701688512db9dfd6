"""A TIFF as a picture that Pillow's users understand, decoded when it is loaded."""

import io
import math
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from PIL import Image, ImageFile

from shared.errors import PictureError
from shared.pictures import headers
from shared.pictures.tiff import chunks
from shared.pictures.tiff.layout import Reading, reading
from shared.pictures.tiff.pages import COLOURS, Page, Photometric, Tag, read_page

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

# What a pixel costs whose colours are computed, as bytes that are only scaled.
_LAB_WORK = 11
_FLOAT_PREDICTOR = 3
_WEBP_BYTES_PER_PIXEL = 17  # as measured for files of this format
_TURNED_ON_ITS_SIDE = {5, 6, 7, 8}


class TiffPicture(ImageFile.ImageFile):
    """The page that is meant. ``size`` is upright; after loading it is as stored, to be turned by ``orientation``.

    Raises :class:`~shared.errors.PictureError` if the header is damaged or describes what is not supported.
    """

    format = "TIFF"
    format_description = "TIFF"

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._page = read_page(data)
        self._reading = reading(self._page)
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        page = self._page
        self._size = (page.height, page.width) if self.orientation in _TURNED_ON_ITS_SIDE else (page.width, page.height)
        self._mode = {1: "L", 3: "RGB", 4: "CMYK"}[COLOURS[page.photometric]]
        if profile := page.entries.get(Tag.COLOUR_PROFILE):
            self.info["icc_profile"] = profile.content

    @cached_property
    def orientation(self) -> int:
        """How it is turned, 1 (upright) to 8: the tag says it, and XMP where there is no such tag."""
        told = self._page.number(Tag.ORIENTATION, 0)
        xmp = self._page.entries.get(Tag.XMP)
        return told if 1 <= told <= 8 else headers.orientation(None, xmp and xmp.content)

    @property
    def decoding_bytes(self) -> int:
        """The memory that decoding takes at its peak (measured on 30 megapixels and more)."""
        page = self._page
        pixels = page.width * page.height
        channels = COLOURS[page.photometric]
        needed = pixels * (1 if channels == 1 and not any(page.extra) else 4)
        band = chunks.largest_band(page)
        needed += chunks.largest_chunk(page, self._data)
        match self._reading:
            case Reading.OLD_JPEG:
                return needed + len(self._data)
            case Reading.WEBP:
                return needed + page.chunk_width * page.chunk_height * _WEBP_BYTES_PER_PIXEL
            case Reading.PILLOW:
                # The band as libtiff decompresses it and as Pillow holds it; a band of all rows is the picture itself.
                several = page.height > next(chunks.bands(page))[1]
                # Transparency takes no more memory, but half as much time again.
                return needed + pixels * (2 if any(page.extra) else 0) + band + (4 * band if several else 0)
        shown = len(page.wanted)
        kept = 0 if page.has_fixed_range else pixels * shown * page.bits // 8
        return needed + kept + (1 + min(page.planes, shown)) * band

    @property
    def decoding_work(self) -> int:
        """The bytes that are converted by this app's own code, weighted by the time they take (6 ns each)."""
        if self._reading is not Reading.SAMPLES:
            return 0
        page = self._page
        pixels = page.width * page.height
        read = len(page.wanted) if page.planes > 1 else page.samples
        if page.photometric in {Photometric.CIELAB, Photometric.ICCLAB}:
            return pixels * _LAB_WORK
        slow = page.predictor == _FLOAT_PREDICTOR or page.photometric == Photometric.YCBCR
        return pixels * read * max(page.bits, 8) // 8 * (2 if slow else 1)

    def load(self) -> "PixelAccess | None":
        """Decode the pixels, once."""
        if self._im is None:
            image = _decoded(self._page, self._reading, self._data)
            self._size, self._mode = image.size, image.mode
            self.palette = image.palette
            self.im = image.im
        return super().load()


def _decoded(page: Page, how: Reading, data: bytes) -> Image.Image:
    match how:
        case Reading.OLD_JPEG:
            return chunks.old_jpeg(page, data)
        case Reading.WEBP:
            return _from_webp(page, data)
        case Reading.PILLOW:
            return _joined(page, ((top, chunks.picture(page, data, top, end)) for top, end in chunks.bands(page)))
        case Reading.SAMPLES:
            return _joined(page, _from_samples(page, data))


def _joined(page: Page, bands: Iterator[tuple[int, Image.Image]]) -> Image.Image:
    """One picture of bands that follow each other, each with its first row."""
    _, first = next(bands)
    if first.height == page.height:
        return first
    picture = Image.new(first.mode, (page.width, page.height))
    if first.palette:
        picture.palette = first.palette
    picture.paste(first, (0, 0))
    for top, band in bands:
        picture.paste(band, (0, top))
    return picture


def _from_samples(page: Page, data: bytes) -> Iterator[tuple[int, Image.Image]]:
    from shared.pictures.tiff import samples

    blocks = samples.blocks(page, data)
    if page.has_fixed_range:
        scale = samples.fixed_scale(page)
    else:
        kept = list(blocks)
        scale = samples.scale_of(page, [block for _, block in kept])
        blocks = iter(kept)
    for top, block in blocks:
        yield top, samples.shown(page, block, scale)


def _from_webp(page: Page, data: bytes) -> Image.Image:
    mode = "RGBA" if any(page.extra) else "RGB"
    picture = Image.new(mode, (page.width, page.height))
    for place, size, content in chunks.webp_chunks(page, data):
        if math.prod(headers.webp_size(content) or (0, 0)) > math.prod(size):
            raise PictureError("damaged_image", "The TIFF has a strip or tile with more pixels than it says.")
        part = Image.open(io.BytesIO(content), formats=["WEBP"])
        if part.size != size:
            raise ValueError(f"a strip or tile has {part.size} pixels instead of {size}")
        picture.paste(part.convert(mode), place)
    return picture
