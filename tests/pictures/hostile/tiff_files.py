"""TIFF built from its tags."""

import io
import struct

from PIL import ExifTags, TiffImagePlugin

from tests.pictures.hostile.catalogue import (
    ANYTHING,
    BROKEN,
    MEGABYTE,
    PREPARED,
    REJECTED,
    SIDE,
    TOO_LARGE,
    gradient,
    hostile,
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
