"""The bytes of a page's strips and tiles: gathered as they are, or decompressed by libtiff.

Pillow and libtiff never see the file itself. They are given a small TIFF with one band of rows and nothing but the tags
that decide about its pixels, so that nothing else in the file can reach them.
"""

import io
import struct
from collections.abc import Iterator, Sequence

from PIL import Image

from shared.pictures.tiff.pages import Compression, Entry, Page, Tag

# Bands of about this many bytes, decompressed, are decoded one after another.
_BAND_BYTES = 4_000_000
_SHARED_BYTES = 1_000_000
_SHORT, _LONG = 3, 4
_REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
# Compressions whose bytes have a bit order of their own, whatever FillOrder says.
_OWN_BIT_ORDER = {Compression.OLD_JPEG, Compression.JPEG, Compression.WEBP}
_PASSED = {
    Tag.BITS_PER_SAMPLE,
    Tag.PHOTOMETRIC,
    Tag.FAX_3_OPTIONS,
    Tag.FAX_4_OPTIONS,
    Tag.PREDICTOR,
    Tag.JPEG_TABLES,
    Tag.YCBCR_COEFFICIENTS,
    Tag.YCBCR_SUBSAMPLING,
    Tag.REFERENCE_BLACK_WHITE,
}
_OLD_JPEG = {
    Tag.STRIP_OFFSETS,
    Tag.STRIP_BYTE_COUNTS,
    Tag.ROWS_PER_STRIP,
    Tag.TILE_OFFSETS,
    Tag.TILE_BYTE_COUNTS,
    Tag.TILE_WIDTH,
    Tag.TILE_HEIGHT,
    *(tag for tag in Tag if 512 <= tag <= 521),
}


def bands(page: Page) -> Iterator[tuple[int, int]]:
    """Split the picture into bands: the first row of each, and the one after its last.

    Every band is made of whole strips or rows of tiles, but strips that are not compressed may be cut anywhere.
    """
    unit = page.group[1] if _is_cut_anywhere(page) else page.chunk_height
    row_bytes = -(-page.across * page.group_row_bytes * page.planes // page.group[1])
    rows = max(unit, _BAND_BYTES // row_bytes // unit * unit)
    for top in range(0, page.height, rows):
        yield top, min(top + rows, page.height)


def largest_band(page: Page) -> int:
    """The bytes of the largest band of one plane, decompressed."""
    _, rows = next(bands(page))
    return _group_rows(page, rows) * page.across * page.group_row_bytes


def largest_chunk(page: Page, data: bytes) -> int:
    """The bytes of the largest strip or tile as it is in the file, compressed."""
    return min(len(data), max(page.byte_counts, default=len(data)))


def decompressed(page: Page, data: bytes, plane: int, top: int, bottom: int) -> bytes:
    """The bytes of a band of one plane, row after row, each as wide as all chunks side by side."""
    width = page.across * page.group_row_bytes
    height = _group_rows(page, bottom - top)
    entries = {
        Tag.WIDTH: _numbers(page, _LONG, width),
        Tag.HEIGHT: _numbers(page, _LONG, height),
        Tag.BITS_PER_SAMPLE: _numbers(page, _SHORT, 8),
        Tag.PHOTOMETRIC: _numbers(page, _SHORT, 1),
        Tag.SAMPLES_PER_PIXEL: _numbers(page, _SHORT, 1),
        **_chunk_sizes(page, page.group_row_bytes, -(-page.chunk_height // page.group[1])),
    }
    if tables := page.entries.get(Tag.JPEG_TABLES):
        entries[Tag.JPEG_TABLES] = tables
    return _decoded(_file(page, entries, _chunks(page, data, plane, top, bottom))).tobytes()


def stored_bytes(page: Page, data: bytes, plane: int, top: int, bottom: int) -> bytes | memoryview:
    """The bytes of a band of one plane that is not compressed: a strip after another, or a tile after another."""
    view = memoryview(data)
    parts = []
    height = page.group[1]
    for index in range(top // page.chunk_height, -(-bottom // page.chunk_height)):
        first = index * page.chunk_height
        if page.tiled:
            size = page.chunk_height // height * page.group_row_bytes
            starts = [page.offsets[(plane * page.down + index) * page.across + column] for column in range(page.across)]
        else:
            size = -(-(min(bottom, first + page.chunk_height) - max(top, first)) // height) * page.group_row_bytes
            skipped = (max(top, first) - first) // height * page.group_row_bytes
            starts = [page.offsets[plane * page.down + index] + skipped]
        for start in starts:
            part = view[start : start + size]
            if len(part) != size:
                raise ValueError("a strip or tile is cut off")
            parts.append(part)
    rows = parts[0] if len(parts) == 1 else b"".join(parts)
    return bytes(rows).translate(_REVERSED_BITS) if page.number(Tag.FILL_ORDER, 1) == 2 else rows


def picture(page: Page, data: bytes, top: int, bottom: int) -> Image.Image:
    """A band as Pillow decodes it; its orientation and profile are not applied. Tiles must be compressed."""
    entries = {tag: entry for tag, entry in page.entries.items() if tag in _PASSED}
    entries |= {
        Tag.WIDTH: _numbers(page, _LONG, page.width),
        Tag.HEIGHT: _numbers(page, _LONG, bottom - top),
        Tag.BITS_PER_SAMPLE: _numbers(page, _SHORT, *[page.bits] * page.samples),
        Tag.SAMPLES_PER_PIXEL: _numbers(page, _SHORT, page.samples),
        Tag.PREDICTOR: _numbers(page, _SHORT, page.predictor),
        **_chunk_sizes(page, page.chunk_width, page.chunk_height),
    }
    if page.extra:
        entries[Tag.EXTRA_SAMPLES] = _numbers(page, _SHORT, *page.extra)
    if palette := colour_map(page):
        entries[Tag.COLOUR_MAP] = _numbers(page, _SHORT, *palette)
    if page.compression != Compression.NONE:
        return _decoded(_file(page, entries, _chunks(page, data, 0, top, bottom)))
    entries[Tag.ROWS_PER_STRIP] = _numbers(page, _LONG, bottom - top)
    return _decoded(_file(page, entries, [stored_bytes(page, data, 0, top, bottom)]))


def old_jpeg(page: Page, data: bytes) -> Image.Image:
    """The picture of a page in the older kind of JPEG, whose tags point anywhere into the file."""
    entries = {tag: entry for tag, entry in page.entries.items() if tag in _PASSED | _OLD_JPEG}
    entries |= {
        Tag.WIDTH: _numbers(page, _LONG, page.width),
        Tag.HEIGHT: _numbers(page, _LONG, page.height),
        Tag.COMPRESSION: _numbers(page, _SHORT, page.compression),
        Tag.SAMPLES_PER_PIXEL: _numbers(page, _SHORT, page.samples),
    }
    directory = _directory(page, entries, len(data))
    return _decoded(b"".join((_header(page, len(data)), memoryview(data)[8:], directory)))


def webp_chunks(page: Page, data: bytes) -> Iterator[tuple[tuple[int, int], tuple[int, int], bytes]]:
    """Where each chunk belongs, its size in pixels, and its bytes."""
    for index in range(page.across * page.down):
        left, top = index % page.across * page.chunk_width, index // page.across * page.chunk_height
        rows = page.chunk_height if page.tiled else min(page.chunk_height, page.height - top)
        yield (left, top), (page.chunk_width, rows), bytes(_chunk(page, data, index))


def colour_map(page: Page) -> list[int]:
    """The palette's red, then green, then blue values, of 16 bits; some programs write 8 bits, which are scaled."""
    values = list(page.numbers(Tag.COLOUR_MAP)[: 3 << page.bits])
    return [value * 257 for value in values] if values and max(values) < 256 else values


def _is_cut_anywhere(page: Page) -> bool:
    return page.compression == Compression.NONE and not page.tiled


def _group_rows(page: Page, rows: int) -> int:
    whole = -(-rows // page.chunk_height) * page.chunk_height if page.tiled else rows
    return -(-whole // page.group[1])


def _chunks(page: Page, data: bytes, plane: int, top: int, bottom: int) -> list[bytes | memoryview]:
    """The compressed bytes of each chunk of a band."""
    first = (plane * page.down + top // page.chunk_height) * page.across
    last = (plane * page.down + -(-bottom // page.chunk_height)) * page.across
    found = [_chunk(page, data, index) for index in range(first, last)]
    # Empty parts of a picture may share their bytes. Where large ones do, a small file would become a huge one.
    if sum(map(len, found)) > len(data) + _SHARED_BYTES:
        raise ValueError("its strips or tiles lie over each other")
    return found


def _chunk(page: Page, data: bytes, index: int) -> bytes | memoryview:
    start = page.offsets[index]
    if index < len(page.byte_counts):
        end = start + page.byte_counts[index]
    elif len(page.offsets) == 1:
        end = len(data)
    else:
        raise ValueError("the sizes of its strips or tiles are missing")
    if page.number(Tag.FILL_ORDER, 1) == 2 and page.compression not in _OWN_BIT_ORDER:
        return data[start:end].translate(_REVERSED_BITS)
    return memoryview(data)[start:end]


def _chunk_sizes(page: Page, width: int, height: int) -> dict[int, Entry]:
    if not page.tiled:
        return {Tag.ROWS_PER_STRIP: _numbers(page, _LONG, height)}
    return {Tag.TILE_WIDTH: _numbers(page, _LONG, width), Tag.TILE_HEIGHT: _numbers(page, _LONG, height)}


def _numbers(page: Page, kind: int, *values: int) -> Entry:
    return Entry(kind, len(values), struct.pack(f"{page.order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values))


def _decoded(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file), formats=["TIFF"])
    image.load()
    return image


def _file(page: Page, entries: dict[int, Entry], chunks: Sequence[bytes | memoryview]) -> bytes:
    """A TIFF of one page with these tags and chunks."""
    starts, at = [], 8
    for chunk in chunks:
        starts.append(at)
        at += len(chunk)
    offsets, counts = Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS
    if Tag.TILE_WIDTH in entries:
        offsets, counts = Tag.TILE_OFFSETS, Tag.TILE_BYTE_COUNTS
    listed = {
        Tag.COMPRESSION: _numbers(page, _SHORT, page.compression),
        offsets: _numbers(page, _LONG, *starts),
        counts: _numbers(page, _LONG, *map(len, chunks)),
    }
    return b"".join((_header(page, at), *chunks, _directory(page, entries | listed, at)))


def _header(page: Page, directory_at: int) -> bytes:
    return struct.pack(f"{page.order}2sHI", b"II" if page.order == "<" else b"MM", 42, directory_at)


def _directory(page: Page, entries: dict[int, Entry], at: int) -> bytes:
    rows, outside = [], []
    position = at + 2 + 12 * len(entries) + 4
    for tag, entry in sorted(entries.items()):
        value = entry.content
        if len(value) > 4:
            outside.append(value)
            value = struct.pack(f"{page.order}I", position)
            position += len(entry.content)
        rows.append(struct.pack(f"{page.order}HHI4s", tag, entry.kind, entry.count, value))
    return b"".join((struct.pack(f"{page.order}H", len(entries)), *rows, bytes(4), *outside))
