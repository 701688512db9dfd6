"""Formats of editors, games, icons and cameras."""

import struct

from PIL import Image

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
)
from tests.pictures.hostile.jpeg_files import jpeg, segment
from tests.pictures.hostile.png_files import png
from tests.pictures.rare_files import dds, icns, raw_of_nikon, tga

DOT = Image.new("RGB", (1, 1))


def psd_of(width: int, height: int, after: bytes = bytes(12)) -> bytes:
    return struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3) + after


hostile("psd_of_30000_by_30000", lambda: psd_of(30_000, 30_000, bytes(12) + b"\0\1" + bytes(200_000)), TOO_LARGE)
hostile("psd_of_2_billion_rows", lambda: psd_of(1, 2**31, bytes(12) + b"\0\1" + bytes(50 * MEGABYTE)), REJECTED)
hostile(
    "psd_of_4_million_resources",
    lambda: psd_of(9, 9, bytes(4) + struct.pack(">I", 48 * MEGABYTE) + b"8BIM\0\0\0\0\0\0\0\0" * (4 * MEGABYTE)),
    REJECTED,
)
hostile("psd_without_pixels", lambda: psd_of(14_000, 14_000), REJECTED)
hostile("psd_of_0_by_0", lambda: psd_of(0, 0), REJECTED)
hostile("psd_cut_in_its_header", lambda: b"8BPS\0\1", BROKEN)


def tga_of(width: int, height: int, kind: int = 10, bits: int = 24, pixels: bytes = b"") -> bytes:
    return struct.pack("<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, width, height, bits, 0x20) + pixels


hostile("tga_of_65535_by_65535", lambda: tga_of(65_535, 65_535), TOO_LARGE)
hostile(
    "tga_just_under_the_limit_in_runs",
    lambda: tga_of(SIDE, SIDE, pixels=b"\xff\1\2\3" * 1_600_000),
    ANYTHING,
)
hostile("tga_in_runs_of_one", lambda: tga_of(5_000, 5_000, pixels=b"\x80\1\2\3" * 25_000_000), PREPARED | TOO_LARGE)
hostile("tga_without_pixels", lambda: tga_of(4_000, 4_000), REJECTED)
hostile("tga_whose_map_is_longer_than_it", lambda: tga(DOT)[:3] + b"\0\0\xff\xff\x20" + tga(DOT)[8:], ANYTHING)


def qoi_of(width: int, height: int, operations: bytes) -> bytes:
    return b"qoif" + struct.pack(">IIBB", width, height, 4, 0) + operations + bytes(7) + b"\1"


hostile("qoi_of_2_billion_by_2_billion", lambda: qoi_of(2**31, 2**31, b"\xfd" * 9), TOO_LARGE)
hostile("qoi_of_4_million_steps", lambda: qoi_of(2_000, 1_990, b"\x6b" * 3_980_000), PREPARED)
hostile("qoi_of_a_picture_in_runs", lambda: qoi_of(7_000, 7_000, b"\xfd" * 790_323), PREPARED)
hostile("qoi_of_too_many_bytes", lambda: qoi_of(4_000, 4_000, b"\x6b" * 16_000_000), DOCUMENT)
hostile("qoi_that_ends_in_a_pixel", lambda: qoi_of(9, 9, b"\xff\1")[:-8], BROKEN)

hostile("dds_of_65535_by_65535", lambda: dds((65_535, 65_535), 32, (255, 65_280, 0xFF0000, 0), b""), TOO_LARGE)
hostile(
    "dds_of_30_megapixels_of_numbers",
    lambda: dds((6_000, 5_000), 16, (0xF800, 0x7E0, 0x1F, 0), bytes(60_000_000)),
    PREPARED,
)
hostile("dds_of_blocks_without_any", lambda: save(gradient((64, 64)), "DDS", pixel_format="DXT5")[:128], REJECTED)
hostile("dds_of_no_bits", lambda: dds((64, 64), 0, (0, 0, 0, 0), bytes(999)), DOCUMENT | BROKEN)

hostile("xbm_of_definitions", lambda: b"#define a_width 9\n" + b"#define a 1\n" * 660_000, REJECTED)
hostile("xbm_of_too_many_bytes", lambda: b"#define a_width 9\n" + b"#define a 1\n" * 4_000_000, DOCUMENT)
hostile(
    "xbm_without_bits",
    lambda: b"#define a_width 14000\n#define a_height 14000\nstatic char a_bits[] = {\n",
    REJECTED,
)
hostile("comments_of_c_that_never_end", lambda: b"/*" * (40 * MEGABYTE), frozenset({"not_an_image"}))

hostile("icns_of_a_million_elements", lambda: icns(*[(b"ic07", b"")] * 1_000_000), BROKEN)
hostile("icns_of_a_png_of_49_megapixels", lambda: icns((b"ic10", png((7_000, 7_000)))), TOO_LARGE)
hostile("icns_in_an_icns", lambda: icns((b"ic10", icns((b"ic10", png((64, 64)))))), BROKEN)
hostile("icns_of_runs_that_end", lambda: icns((b"it32", bytes(4) + b"\xff")), BROKEN)
hostile("cursor_without_pictures", lambda: struct.pack("<HHH", 0, 2, 65_535), BROKEN)

hostile("sgi_of_65535_by_65535", lambda: b"\x01\xda\1\1\0\3\xff\xff\xff\xff\0\3" + bytes(500), TOO_LARGE)
hostile("sgi_in_runs_without_any", lambda: b"\x01\xda\1\1\0\3\x20\0\x20\0\0\3" + bytes(500), REJECTED)
hostile(
    "pcx_of_65535_by_65535",
    lambda: b"\x0a\5\1\x08\0\0\0\0\xff\xff\xff\xff" + bytes(53) + b"\3\0\0" + bytes(59),
    REJECTED,
)
hostile(
    "pcx_without_pixels",
    lambda: b"\x0a\5\1\x08\0\0\0\0\xff\x0f\xff\x0f" + bytes(53) + b"\3\0\x10" + bytes(59),
    REJECTED,
)

RAW = b"FUJIFILMCCD-RAW 0201FF"
hostile("raw_of_50_mb_of_beginnings", lambda: RAW + b"\xff\xd8\xff" * 16_000_000, DOCUMENT)
hostile(
    "raw_of_jpegs_of_10000_segments",
    lambda: RAW + (b"\xff\xd8" + segment(0xE2, b"") * 10_000) * 100,
    DOCUMENT,
)
hostile("raw_whose_jpeg_is_of_65535_by_65535", lambda: RAW + jpeg((65_535, 65_535)), TOO_LARGE)
hostile("raw_whose_pages_are_each_other", lambda: raw_of_nikon(gradient((64, 64)))[:200] * 3, ANYTHING)
hostile("raw_of_canon_without_metadata", lambda: b"\0\0\0\x18ftypcrx CMT1" + jpeg((64, 64)), ANYTHING)


def jpeg_xl(bits: int) -> bytes:
    """A bare stream whose size has these bits, the lowest first."""
    return b"\xff\x0a" + bits.to_bytes(14, "little") + bytes(999)


# Not small; the height behind a selector of 3, in 30 bits; a width of its own, alike.
_SIZE = (3 << 1) | ((2**30 - 1) << 3) | (0 << 33) | (3 << 36) | ((2**30 - 1) << 38)
hostile("jpeg_xl_of_a_billion_by_a_billion", lambda: jpeg_xl(_SIZE), TOO_LARGE)
hostile("jpeg_xl_of_nothing_but_a_size", lambda: jpeg_xl((3 << 1) | (4_000 << 3) | (1 << 33)), REJECTED)
hostile("jpeg_xl_cut_in_its_header", lambda: b"\xff\x0a\x01", BROKEN)
hostile(
    "jpeg_xl_of_a_million_boxes",
    lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x08free" * 1_000_000,
    BROKEN,
)
hostile("jpeg_xl_just_under_its_limit", lambda: save(Image.new("RGB", (5_400, 5_400)), "JXL", effort=1), PREPARED)
