"""What a TIFF's header says: which of its pages is the picture, and every field that decides how its pixels are read.

Tags are named and numbered by TIFF 6.0 (Adobe, 1992); BigTIFF and ``SampleFormat`` as libtiff documents them. Only tags
that decide about pixels are read. The others cannot make a good picture a damaged one.
"""

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from shared.errors import PictureError

# Two tags list the strips or tiles of a page.
_MAX_VALUES = 500_000
_MAX_ENTRIES = 4_096
_MAX_PAGES = 256


class Tag(enum.IntEnum):
    """The tags that decide how pixels are read."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    PLANAR_CONFIGURATION = 284
    FAX_3_OPTIONS = 292
    FAX_4_OPTIONS = 293
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    SUB_PAGES = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    OLD_JPEG_PROCESS = 512
    OLD_JPEG_OFFSET = 513
    OLD_JPEG_LENGTH = 514
    OLD_JPEG_RESTART = 515
    OLD_JPEG_QUANTIZATION = 519
    OLD_JPEG_DC = 520
    OLD_JPEG_AC = 521
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    XMP = 700
    COLOUR_PROFILE = 34675
    DNG_VERSION = 50706


class Photometric(enum.IntEnum):
    """What a sample means."""

    MIN_IS_WHITE = 0
    MIN_IS_BLACK = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6
    CIELAB = 8
    ICCLAB = 9


class Compression(enum.IntEnum):
    """How strips and tiles are compressed: those that can be read."""

    NONE = 1
    FAX_RLE = 2
    FAX_3 = 3
    FAX_4 = 4
    LZW = 5
    OLD_JPEG = 6
    JPEG = 7
    DEFLATE = 8
    FAX_RLE_WORDS = 32771
    PACKBITS = 32773
    THUNDERSCAN = 32809
    OLD_DEFLATE = 32946
    LZMA = 34925
    ZSTD = 50000
    WEBP = 50001


class Format(enum.IntEnum):
    """What kind of number a sample is. An undefined one (4) is read as unsigned, as libtiff does."""

    UNSIGNED = 1
    SIGNED = 2
    FLOAT = 3
    UNDEFINED = 4


class Alpha(enum.IntEnum):
    """What the channels after the colours are."""

    NONE = 0
    ASSOCIATED = 1
    UNASSOCIATED = 2


@dataclass(frozen=True)
class Entry:
    """A tag's value as it stands in the file: its type, and that many values in the file's byte order."""

    kind: int
    count: int
    content: bytes


# Metadata never decides: what cannot be read of these is left out.
_METADATA = {Tag.ORIENTATION, Tag.XMP, Tag.COLOUR_PROFILE, Tag.DNG_VERSION}
_FRACTIONS = {Tag.YCBCR_COEFFICIENTS, Tag.REFERENCE_BLACK_WHITE}
# The size of a value by type, and how ``struct`` reads those that are whole numbers.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_BYTES = {1, 2, 6, 7}
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_OLD_REDUCED = 2  # of SubfileType


@dataclass(frozen=True)
class Page:
    """One page. Sizes are in pixels; a chunk is a strip or a tile."""

    order: Literal["<", ">"]
    big: bool
    entries: dict[int, Entry]

    def numbers(self, tag: Tag) -> tuple[int, ...]:
        """The tag's values; none if it is missing or holds no whole numbers."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _NUMBERS:
            return ()
        return struct.unpack(f"{self.order}{entry.count}{_NUMBERS[entry.kind]}", entry.content)

    def number(self, tag: Tag, default: int) -> int:
        """The tag's first value."""
        return next(iter(self.numbers(tag)), default)

    def fractions(self, tag: Tag) -> tuple[float, ...]:
        """The tag's values, if they are fractions of two whole numbers; none otherwise."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind != 5:
            return ()
        numbers = struct.unpack(f"{self.order}{2 * entry.count}I", entry.content)
        return tuple(above / (below or 1) for above, below in zip(numbers[::2], numbers[1::2], strict=True))

    @cached_property
    def is_full(self) -> bool:
        """Whether it is a picture in full size, not a thumbnail and not a mask."""
        if self.number(Tag.NEW_SUBFILE_TYPE, 0) & (_REDUCED | _MASK):
            return False
        return self.number(Tag.SUBFILE_TYPE, 0) != _OLD_REDUCED

    @cached_property
    def width(self) -> int:
        """In pixels."""
        return self.number(Tag.WIDTH, 0)

    @cached_property
    def height(self) -> int:
        """In pixels."""
        return self.number(Tag.HEIGHT, 0)

    @cached_property
    def samples(self) -> int:
        """The channels of a pixel, with those that are no colours."""
        return self.number(Tag.SAMPLES_PER_PIXEL, max(1, len(self.numbers(Tag.BITS_PER_SAMPLE))))

    @cached_property
    def bits(self) -> int:
        """The bits of a sample; 0 if channels differ."""
        return self._common(Tag.BITS_PER_SAMPLE, 1)

    @cached_property
    def format(self) -> int:
        """One of :class:`Format`; 0 if channels differ."""
        found = self._common(Tag.SAMPLE_FORMAT, Format.UNSIGNED)
        return Format.UNSIGNED if found == Format.UNDEFINED else found

    def _common(self, tag: Tag, default: int) -> int:
        values = set(self.numbers(tag)[: self.samples] or (default,))
        return values.pop() if len(values) == 1 else 0

    @cached_property
    def has_fixed_range(self) -> bool:
        """Whether the header alone says which values are black and white."""
        lab = self.photometric in {Photometric.CIELAB, Photometric.ICCLAB}
        return lab or (self.format == Format.UNSIGNED and self.bits <= 16)

    @cached_property
    def compression(self) -> int:
        """One of :class:`Compression`, or another number."""
        return self.number(Tag.COMPRESSION, Compression.NONE)

    @cached_property
    def photometric(self) -> int:
        """One of :class:`Photometric`, or another number."""
        found = self.number(Tag.PHOTOMETRIC, Photometric.MIN_IS_WHITE)
        return Photometric.YCBCR if self.compression == Compression.OLD_JPEG else found

    @cached_property
    def extra(self) -> tuple[int, ...]:
        """What the channels after the colours are: one of :class:`Alpha` each."""
        colours = COLOURS.get(self.photometric, self.samples)
        told = self.numbers(Tag.EXTRA_SAMPLES)
        if not told and self.photometric == Photometric.RGB and self.samples == colours + 1:
            return (Alpha.UNASSOCIATED,)  # files without the tag are older than it; all mean transparency
        # 999 is what CorelDRAW 10 writes for transparency.
        named = [Alpha.UNASSOCIATED if kind == 999 else kind for kind in told]
        known = [kind if kind in set(Alpha) else Alpha.NONE for kind in named]
        count = max(0, self.samples - colours)
        return tuple((known + [Alpha.NONE] * count)[:count]) if count <= _MAX_VALUES else ()

    @cached_property
    def wanted(self) -> list[int]:
        """The channels that show: the colours, and the first that says how transparent they are."""
        colours = COLOURS[self.photometric]
        alpha = [colours + index for index, kind in enumerate(self.extra) if kind != Alpha.NONE]
        return [*range(colours), *alpha[:1]]

    @cached_property
    def planes(self) -> int:
        """How many planes the channels are stored in: one, or one each."""
        return self.samples if self.number(Tag.PLANAR_CONFIGURATION, 1) == 2 else 1

    @cached_property
    def tiled(self) -> bool:
        """Whether the chunks are tiles."""
        return Tag.TILE_OFFSETS in self.entries or Tag.TILE_WIDTH in self.entries

    @cached_property
    def chunk_width(self) -> int:
        """The pixels of a chunk's row."""
        return self.number(Tag.TILE_WIDTH, 0) if self.tiled else self.width

    @cached_property
    def chunk_height(self) -> int:
        """The rows of a chunk; the last strip may have fewer."""
        if self.tiled:
            return self.number(Tag.TILE_HEIGHT, 0)
        return min(self.number(Tag.ROWS_PER_STRIP, self.height) or self.height, self.height)

    @cached_property
    def across(self) -> int:
        """How many chunks lie side by side."""
        return -(-self.width // self.chunk_width)

    @cached_property
    def down(self) -> int:
        """How many chunks, or rows of tiles, lie below each other."""
        return -(-self.height // self.chunk_height)

    @cached_property
    def group(self) -> tuple[int, int]:
        """How many pixels across and down are stored together: YCbCr may share colours between them."""
        across, down = (*self.numbers(Tag.YCBCR_SUBSAMPLING), 2, 2)[:2]
        return (across, down) if self.photometric == Photometric.YCBCR else (1, 1)

    @cached_property
    def group_row_bytes(self) -> int:
        """The bytes of a chunk's row of groups, decompressed: of a row of pixels, if none share colours."""
        across, down = self.group
        if self.photometric == Photometric.YCBCR:
            return -(-self.chunk_width // across) * (across * down + 2)
        return -(-self.chunk_width * (self.samples // self.planes) * self.bits // 8)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each chunk begins, a plane after another."""
        return self.numbers(Tag.TILE_OFFSETS if self.tiled else Tag.STRIP_OFFSETS)

    @cached_property
    def byte_counts(self) -> tuple[int, ...]:
        """How many bytes each chunk has in the file; none if the file does not say."""
        return self.numbers(Tag.TILE_BYTE_COUNTS if self.tiled else Tag.STRIP_BYTE_COUNTS)

    @cached_property
    def predictor(self) -> int:
        """1: none, 2: differences of whole numbers, 3: of floats. Other compressions than these have none."""
        return self.number(Tag.PREDICTOR, 1) if self.compression in _PREDICTED else 1


# How many channels are colours.
COLOURS: dict[int, int] = {
    Photometric.MIN_IS_WHITE: 1,
    Photometric.MIN_IS_BLACK: 1,
    Photometric.RGB: 3,
    Photometric.PALETTE: 1,
    Photometric.CMYK: 4,
    Photometric.YCBCR: 3,
    Photometric.CIELAB: 3,
    Photometric.ICCLAB: 3,
}
_PREDICTED = {Compression.LZW, Compression.DEFLATE, Compression.OLD_DEFLATE, Compression.LZMA, Compression.ZSTD}


def is_tiff(data: bytes) -> bool:
    """Whether the file starts like a TIFF or BigTIFF, with the number's bytes in either order."""
    return data[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0"}


def read_page(data: bytes) -> Page:
    """Return the page that is meant: the first in full size, else the first.

    Raises :class:`~shared.errors.PictureError` (``damaged_image``) if it cannot be read.
    """
    first = None
    for page in every_page(data):
        if page.is_full:
            return page
        first = first or page
    if first is None:
        raise PictureError("damaged_image", "The TIFF has no page.")
    return first


def every_page(data: bytes) -> Iterator[Page]:
    """The pages in their row, and then those within the first one, where some files have the picture itself.

    Raises :class:`~shared.errors.PictureError` (``damaged_image``) at the first that cannot be read.
    """
    reader = _Reader(data)
    offset = reader.first
    first = None
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        page, offset = reader.page_at(offset)
        first = first or page
        yield page
    for inner in first.numbers(Tag.SUB_PAGES)[:_MAX_PAGES] if first else ():
        yield reader.page_at(inner)[0]


class _Reader:
    """Numbers at offsets, in the file's byte order. Whatever lies outside of the file is damage."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
        self._big = b"+" in data[2:4]
        self.first = self._numbers("Q", 8)[0] if self._big else self._numbers("I", 4)[0]

    def page_at(self, offset: int) -> tuple[Page, int]:
        """The page at this offset, and the offset of the next; 0 if there is none or the file ends."""
        count_format, entry_format = ("Q", "HHQ8s") if self._big else ("H", "HHI4s")
        [count] = self._numbers(count_format, offset)
        if count > _MAX_ENTRIES:
            raise PictureError("damaged_image", f"The TIFF has a page with {count:,} tags.")
        at = offset + struct.calcsize(f"<{count_format}")
        size = struct.calcsize(f"<{entry_format}")
        entries: dict[int, Entry] = {}
        for place in range(at, at + count * size, size):
            tag, kind, values, inline = self._numbers(entry_format, place)
            if tag in _WANTED and tag not in entries and (entry := self._entry(tag, kind, values, inline)):
                entries[tag] = entry
        following = at + count * size
        width = 8 if self._big else 4
        next_at = self._data[following : following + width]
        return Page(self._order, self._big, entries), int.from_bytes(next_at, "little" if self._order == "<" else "big")

    def _entry(self, tag: int, kind: int, count: int, inline: bytes) -> Entry | None:
        size = count * _SIZES.get(kind, 0)
        if kind not in _BYTES and count > _MAX_VALUES:
            message = f"The TIFF has a tag with {count:,} values; at most {_MAX_VALUES:,} are read."
            raise PictureError("damaged_image", message)
        content = inline[:size]
        if size > len(inline):
            at = int.from_bytes(inline, "little" if self._order == "<" else "big")
            content = self._data[at : at + size]
        read = kind in _NUMBERS or tag in _METADATA | _FRACTIONS
        if read and len(content) == size and size:
            return Entry(kind, count, content)
        if tag in _METADATA or not count:
            return None
        raise PictureError("damaged_image", f"The TIFF's tag {tag} cannot be read; the file may be cut off.")

    def _numbers(self, layout: str, offset: int) -> tuple[Any, ...]:
        try:
            return struct.unpack_from(f"{self._order}{layout}", self._data, offset)
        except (struct.error, OverflowError) as error:
            message = "The TIFF's header points outside of the file, which may be cut off."
            raise PictureError("damaged_image", message) from error


_WANTED = frozenset(Tag)
