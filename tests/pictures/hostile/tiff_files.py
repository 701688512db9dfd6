"""TIFF built from its tags."""

import io
import struct

from PIL import ExifTags, Image, TiffImagePlugin

from tests.pictures.hostile.catalogue import (
    ANYTHING,
    BROKEN,
    DOCUMENT,
    MEGABYTE,
    PREPARED,
    REJECTED,
    SIDE,
    TOO_LARGE,
    gradient,
    hostile,
    save,
    zeroes_deflated,
)
from tests.pictures.hostile.jpeg_files import jpeg

SHORT, LONG = 3, 4

type Tags = dict[int, tuple[int, list[int]]]


def tiff(entries: Tags, data: bytes = b"", next_at: int = 0) -> bytes:
    """A little-endian TIFF: its directory at 8, then longer values, then ``data``; ``-1`` stands for its offset."""
    packed = {
        tag: struct.pack(f"<{len(v)}{'HI'[kind == LONG]}", *(max(x, 0) for x in v))
        for tag, (kind, v) in entries.items()
    }
    at = 8 + 2 + 12 * len(entries) + 4
    outside = b""
    data_at = at + sum(len(value) for value in packed.values() if len(value) > 4)
    directory = b""
    for tag, (kind, values) in sorted(entries.items()):
        value = packed[tag]
        if values == [-1]:
            value = struct.pack("<I", data_at)
        if len(value) > 4:
            outside += value
            value = struct.pack("<I", at + len(outside) - len(value))
        directory += struct.pack("<HHI", tag, kind, len(values)) + value.ljust(4, b"\0")
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + struct.pack("<I", next_at) + outside + data
    )


def tiff_of(
    size: tuple[int, int],
    data: bytes = bytes(100),
    more: Tags | None = None,
    compression: int = 1,
    samples: int = 1,
    next_at: int = 0,
) -> bytes:
    """A TIFF of 8-bit grey or RGB with one strip, ``data``, and ``more`` tags."""
    entries = {
        256: (LONG, [size[0]]),
        257: (LONG, [size[1]]),
        258: (SHORT, [8] * samples),
        259: (SHORT, [compression]),
        262: (SHORT, [2 if samples == 3 else 1]),
        273: (LONG, [-1]),
        277: (SHORT, [samples]),
        278: (LONG, [size[1]]),
        279: (LONG, [len(data)]),
    }
    return tiff(entries | (more or {}), data, next_at)


DEFLATE, LZW, JPEG_IN_TIFF, PACKBITS, GROUP_4, ZSTD, LZMA = 8, 5, 7, 32_773, 4, 50_000, 34_925

for name, compression in [
    ("raw", 1),
    ("lzw", LZW),
    ("deflate", DEFLATE),
    ("packbits", PACKBITS),
    ("jpeg", JPEG_IN_TIFF),
]:
    hostile(
        f"tiff_of_10_gigapixels_{name}",
        lambda compression=compression: tiff_of((100_000, 100_000), compression=compression, samples=3),
        TOO_LARGE,
    )
    hostile(
        f"tiff_just_under_the_limit_without_pixels_{name}",
        lambda compression=compression: tiff_of((SIDE, SIDE), compression=compression, samples=3),
        BROKEN | TOO_LARGE,
    )
hostile("tiff_of_the_largest_numbers", lambda: tiff_of((2**32 - 1, 2**32 - 1)), TOO_LARGE)
hostile(
    "tiff_of_one_strip_just_under_the_limit",
    lambda: tiff_of((SIDE, SIDE), zeroes_deflated(SIDE * SIDE * 3), None, DEFLATE, 3),
    PREPARED | TOO_LARGE,
)
hostile(
    "tiff_of_one_tile_just_under_the_limit",
    lambda: tiff_of(
        (SIDE, SIDE),
        zeroes_deflated(14_144 * 14_144 * 3),
        {322: (LONG, [14_144]), 323: (LONG, [14_144]), 324: (LONG, [-1]), 325: (LONG, [10**6])},
        DEFLATE,
        3,
    ),
    ANYTHING,
)
hostile(
    "tiff_of_floats_just_under_the_limit",
    lambda: tiff_of((SIDE, SIDE), zeroes_deflated(SIDE * SIDE * 4), {258: (SHORT, [32]), 339: (SHORT, [3])}, DEFLATE),
    PREPARED | TOO_LARGE,
)
hostile(
    "tiff_of_16_bits_just_under_the_limit",
    lambda: tiff_of((SIDE, SIDE), zeroes_deflated(SIDE * SIDE * 2), {258: (SHORT, [16])}, DEFLATE),
    PREPARED | TOO_LARGE,
)
hostile(
    "tiff_that_must_be_turned_just_under_the_limit",
    lambda: tiff_of((SIDE, SIDE), zeroes_deflated(SIDE * SIDE * 3), {274: (SHORT, [6])}, DEFLATE, 3),
    PREPARED | TOO_LARGE,
)
hostile(
    "tiff_of_a_tile_of_2_to_the_31",
    lambda: tiff_of(
        (64, 64),
        more={322: (LONG, [2**31]), 323: (LONG, [2**31]), 324: (LONG, [-1]), 325: (LONG, [10])},
        compression=DEFLATE,
    ),
    REJECTED,
)
hostile(
    "tiff_of_tiles_of_no_size",
    lambda: tiff_of((64, 64), more={322: (LONG, [0]), 323: (LONG, [0]), 324: (LONG, [-1]), 325: (LONG, [10])}),
    ANYTHING,
)


def tiff_of_strips(count: int, compression: int) -> bytes:
    """A picture with one row per strip, and the list of strips as its pixels."""
    start = tiff_of((8, count), b"", {278: (LONG, [1])}, compression)
    offset = struct.pack("<I", len(start))
    for tag in (273, 279):
        at = start.index(struct.pack("<HHI", tag, LONG, 1))
        start = start[: at + 4] + struct.pack("<I", count) + offset + start[at + 12 :]
    return start + b"\x09\0\0\0" * count


for name, compression in [("raw", 1), ("deflate", DEFLATE)]:
    hostile(
        f"tiff_of_24_million_strips_{name}",
        lambda compression=compression: tiff_of_strips(24_000_000, compression),
        ANYTHING,
    )
    hostile(
        f"tiff_that_claims_a_billion_strips_{name}",
        lambda compression=compression: tiff_of_strips(1000, compression).replace(
            struct.pack("<HHI", 273, LONG, 1000), struct.pack("<HHI", 273, LONG, 10**9)
        ),
        BROKEN,
    )
for tag, name in [
    (258, "bits"),
    (338, "extra_samples"),
    (339, "sample_formats"),
    (320, "colours"),
    (700, "xmp"),
    (34675, "profile"),
]:
    hostile(
        f"tiff_with_90_mb_of_{name}",
        lambda tag=tag: tiff_of((64, 64), bytes(90 * MEGABYTE)).replace(
            struct.pack("<HHII", 277, SHORT, 1, 1),
            struct.pack("<HHII", tag, 1 if tag > 500 else SHORT, 40 * MEGABYTE, 200),
        ),
        ANYTHING,
    )
hostile("tiff_of_4_billion_samples", lambda: tiff_of((64, 64), more={277: (LONG, [2**32 - 1])}), BROKEN)
hostile("tiff_whose_directory_is_its_own_successor", lambda: tiff_of((10, 10), next_at=8), PREPARED)
hostile("tiff_whose_directory_lies_beyond_its_end", lambda: b"II*\0\xff\xff\xff\x7f" + bytes(100), BROKEN)
hostile("tiff_whose_directory_is_its_header", lambda: b"II*\0\0\0\0\0" + bytes(100), BROKEN)
hostile(
    "tiff_whose_other_directories_are_all_the_first",
    lambda: tiff_of((10, 10), more={330: (LONG, [8] * 50), 34665: (LONG, [8]), 34853: (LONG, [8])}, next_at=8),
    PREPARED,
)
hostile("bigtiff_of_numbers_beyond_64_bits", lambda: b"II+\0\x08\0\0\0" + b"\xff" * 100, BROKEN)
hostile("tiff_of_0_by_0", lambda: tiff_of((0, 0)), BROKEN)
hostile("tiff_of_0_by_100", lambda: tiff_of((0, 100)), BROKEN)
hostile(
    "tiff_whose_sizes_are_lists", lambda: tiff_of((9, 9), more={256: (LONG, [9, 9]), 257: (LONG, [9, 9])}), ANYTHING
)
for name, compression in [
    ("lzw", LZW),
    ("deflate", DEFLATE),
    ("jpeg", JPEG_IN_TIFF),
    ("old_jpeg", 6),
    ("group_4", GROUP_4),
    ("zstd", ZSTD),
    ("lzma", LZMA),
]:
    hostile(
        f"tiff_of_noise_instead_of_{name}",
        lambda compression=compression: tiff_of(
            (64, 64),
            bytes(range(1, 256)),
            {258: (SHORT, [1])} if compression == GROUP_4 else None,
            compression,
            3 if compression in (JPEG_IN_TIFF, 6) else 1,
        ),
        REJECTED,
    )
hostile(
    "tiff_whose_jpeg_is_larger_than_it_says",
    lambda: tiff_of((64, 64), jpeg((SIDE, SIDE), 3), {262: (SHORT, [6])}, JPEG_IN_TIFF, 3),
    ANYTHING,
)
hostile(
    "tiff_of_a_bomb_behind_few_pixels", lambda: tiff_of((64, 64), zeroes_deflated(4 * 10**9), None, DEFLATE), ANYTHING
)


def dng_like() -> bytes:
    """A TIFF with a picture in a nested directory, as camera raw files have."""
    file = io.BytesIO()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[ExifTags.Base.SubIFDs] = 8
    gradient().save(file, "TIFF", tiffinfo=info)
    return file.getvalue()


hostile("tiff_whose_other_picture_is_itself", dng_like, PREPARED)


def shared_strips(
    kind: str,
    channels: int,
    photometric: int,
    *,
    rows: int = 64,
    tile: int = 0,
    side: int = SIDE,
    more: Tags | None = None,
) -> bytes:
    """A deep picture whose deflated strips or tiles are all the same few bytes of the file."""
    bits = int(kind[1:]) * 8
    width, height = (tile, tile) if tile else (side, rows)
    count = -(-side // width) * -(-side // height)
    chunk = zeroes_deflated(width * height * channels * bits // 8)
    offsets, counts = (324, 325) if tile else (273, 279)
    entries: Tags = {
        256: (LONG, [side]),
        257: (LONG, [side]),
        258: (SHORT, [bits] * channels),
        259: (SHORT, [DEFLATE]),
        262: (SHORT, [photometric]),
        277: (SHORT, [channels]),
        339: (SHORT, [{"u": 1, "i": 2, "f": 3}[kind[0]]] * channels),
        counts: (LONG, [len(chunk)] * count),
        **({322: (LONG, [tile]), 323: (LONG, [tile])} if tile else {278: (LONG, [rows])}),
        **(more or {}),
    }
    # The data follows the longer values, so where it begins does not depend on the offsets themselves.
    draft = tiff(entries | {offsets: (LONG, [0] * count)}, chunk)
    return tiff(entries | {offsets: (LONG, [len(draft) - len(chunk)] * count)}, chunk)


for name, kind, channels, photometric, tags in [
    ("shared_16_bit_grey", "u2", 1, 1, {}),
    ("16_bit_rgb", "u2", 3, 2, {}),
    ("16_bit_rgb_differences", "u2", 3, 2, {317: (SHORT, [2])}),
    ("16_bit_rgb_and_alpha", "u2", 4, 2, {338: (SHORT, [2])}),
    ("16_bit_lab", "u2", 3, 8, {}),
    ("half_floats", "f2", 1, 1, {317: (SHORT, [3])}),
    ("float_differences", "f4", 1, 1, {317: (SHORT, [3])}),
    ("doubles", "f8", 1, 1, {}),
    ("rgb_doubles", "f8", 3, 2, {}),
    ("signed", "i4", 1, 1, {}),
]:
    hostile(
        f"tiff_of_{name}_just_under_the_limit",
        lambda kind=kind, channels=channels, photometric=photometric, tags=tags: shared_strips(
            kind, channels, photometric, more=tags
        ),
        PREPARED | TOO_LARGE,
    )
# The largest that are decoded.
for name, kind, channels, photometric, side, tags in [
    ("16_bit_rgb", "u2", 3, 2, 8_600, {317: (SHORT, [2])}),
    ("16_bit_lab", "u2", 3, 8, 6_390, {}),
    ("floats", "f4", 1, 1, 7_490, {317: (SHORT, [3])}),
]:
    hostile(
        f"tiff_of_{name}_that_is_just_small_enough",
        lambda kind=kind, channels=channels, photometric=photometric, side=side, tags=tags: shared_strips(
            kind, channels, photometric, side=side, more=tags
        ),
        PREPARED,
    )
for name, kind in [("8_bits", "u1"), ("16_bits", "u2")]:
    hostile(
        f"tiff_of_half_a_million_tiles_of_{name}",
        lambda kind=kind: shared_strips(kind, 3, 2, tile=16, side=11_200),
        PREPARED | TOO_LARGE,
    )
hostile(
    "tiff_of_65_thousand_planes",
    lambda: shared_strips("u1", 1, 1, side=64, more={277: (SHORT, [65_535]), 284: (SHORT, [2])}),
    REJECTED,
)
hostile(
    "tiff_of_65_thousand_planes_that_are_there",
    lambda: tiff_of(
        (64, 64),
        bytes(64 * 64),
        {
            262: (SHORT, [2]),
            277: (SHORT, [65_535]),
            284: (SHORT, [2]),
            273: (LONG, [9] * 65_535),
            279: (LONG, [9] * 65_535),
        },
    ),
    ANYTHING,
)
hostile(
    "tiff_of_65_thousand_channels",
    lambda: tiff_of((64, 64), bytes(64 * 64 * 65_535), {262: (SHORT, [2]), 277: (SHORT, [65_535])}),
    ANYTHING,
)
hostile("tiff_of_65_thousand_bits", lambda: tiff_of((64, 64), more={258: (SHORT, [65_535])}), DOCUMENT)
hostile(
    "tiff_of_floats_that_are_no_numbers",
    lambda: tiff_of((64, 64), b"\xff" * 64 * 64 * 4, {258: (SHORT, [32]), 339: (SHORT, [3])}),
    BROKEN,
)
hostile(
    "tiff_of_the_largest_doubles",
    lambda: tiff_of((64, 64), struct.pack("<2d", 1.7e308, -1.7e308) * 2048, {258: (SHORT, [64]), 339: (SHORT, [3])}),
    ANYTHING,
)
hostile(
    "tiff_of_the_smallest_doubles",
    lambda: tiff_of((64, 64), struct.pack("<2d", 5e-324, 0) * 2048, {258: (SHORT, [64]), 339: (SHORT, [3])}),
    PREPARED,
)
for name, group in [("0_by_0", [0, 0]), ("3_by_5", [3, 5]), ("65535", [65_535, 65_535])]:
    hostile(
        f"tiff_of_colours_shared_by_{name}_pixels",
        lambda group=group: tiff_of((64, 64), bytes(64 * 64 * 3), {262: (SHORT, [6]), 530: (SHORT, group)}, 1, 3),
        BROKEN,
    )
hostile(
    "tiff_of_a_row_of_thumbnails_that_has_no_end",
    lambda: tiff_of((10, 10), more={254: (LONG, [1])}, next_at=8),
    PREPARED,
)


def thumbnails(count: int, tags: int) -> bytes:
    """Pages that all say they are thumbnails, with as many tags as may be."""
    page = struct.pack("<H", tags) + struct.pack("<HHII", 254, LONG, 1, 1) * tags
    size = len(page) + 4
    pages = (page + struct.pack("<I", 8 + size * (number + 1)) for number in range(count))
    return b"II*\0\x08\0\0\0" + b"".join(pages)


hostile("tiff_of_a_million_thumbnails", lambda: thumbnails(1_000_000, 1), BROKEN)
hostile("tiff_of_thumbnails_of_4096_tags", lambda: thumbnails(400, 4_096), BROKEN)
hostile("tiff_of_thumbnails_of_65535_tags", lambda: thumbnails(20, 65_535), BROKEN)
hostile(
    "tiff_of_pages_within_that_are_its_own",
    lambda: tiff_of((10, 10), more={254: (LONG, [1]), 330: (LONG, [8] * 400_000)}),
    PREPARED,
)
hostile(
    "tiff_of_a_webp_larger_than_it_says",
    lambda: tiff_of((64, 64), save(Image.new("RGB", (4_000, 4_000)), "WEBP", lossless=True), None, 50_001, 3),
    BROKEN,
)
hostile("tiff_of_noise_instead_of_webp", lambda: tiff_of((64, 64), bytes(range(256)), None, 50_001, 3), BROKEN)
hostile(
    "tiff_of_old_jpeg_that_points_everywhere",
    lambda: tiff_of(
        (64, 64),
        jpeg((64, 64), 3),
        {tag: (LONG, [8, 2**31, 2**32 - 1]) for tag in (513, 514, 515, 519, 520, 521)},
        6,
        3,
    ),
    REJECTED | PREPARED,
)
hostile(
    "tiff_of_planes_of_jpeg_larger_than_they_say",
    lambda: tiff_of(
        (64, 64),
        jpeg((SIDE, SIDE), 1),
        {284: (SHORT, [2]), 273: (LONG, [400] * 3), 279: (LONG, [10**6] * 3)},
        JPEG_IN_TIFF,
        3,
    ),
    REJECTED,
)
hostile("bigtiff_whose_directory_lies_beyond_its_end", lambda: b"MM\0+\0\x08\0\0" + b"\x7f" * 8 + bytes(100), BROKEN)


def strips_of_the_whole_file(count: int, compression: int) -> bytes:
    """A row of pixels a strip; each strip is all of the file."""
    size = 20 * MEGABYTE
    entries: Tags = {278: (LONG, [1]), 273: (LONG, [8] * count), 279: (LONG, [size] * count)}
    return tiff_of((8, count), bytes(size), entries, compression)


for name, compression in [("deflate", DEFLATE), ("packbits", PACKBITS), ("jpeg", JPEG_IN_TIFF), ("webp", 50_001)]:
    hostile(
        f"tiff_of_strips_of_the_whole_file_{name}",
        lambda compression=compression: strips_of_the_whole_file(400_000, compression),
        REJECTED,
    )
