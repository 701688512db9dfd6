"""GIF, BMP and ICO, which contains bitmaps and PNGs."""

import struct

from tests.pictures.hostile.catalogue import (
    ANYTHING,
    BROKEN,
    MEGABYTE,
    PREPARED,
    REJECTED,
    SIDE,
    SMALL,
    TOO_LARGE,
    gradient,
    hostile,
    save,
    zeroes_deflated,
)
from tests.pictures.hostile.jpeg_files import jpeg
from tests.pictures.hostile.png_files import chunk, png


def gif(
    screen: tuple[int, int], frame: tuple[int, int] | None, before: bytes = b"", at: tuple[int, int] = (0, 0)
) -> bytes:
    start = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(range(6)) + before
    if frame is None:
        return start + b";"
    pixels = b"\x02\x16\x8c\x2d\x99\x87\x2a\x1c\xdc\x33\xa0\x02\x75\xec\x95\xfa\xa8\xde\x60\x8c\x04\x91\x4c\x01\x00"
    return start + b"," + struct.pack("<HHHHB", *at, *frame, 0) + pixels + b";"


hostile("gif_of_a_screen_of_65535_by_65535", lambda: gif((65_535, 65_535), (1, 1)), TOO_LARGE)
hostile("gif_of_a_frame_of_65535_by_65535", lambda: gif((10, 10), (65_535, 65_535)), REJECTED)
hostile("gif_of_a_frame_far_outside", lambda: gif((10, 10), (10, 10), at=(65_535, 65_535)), REJECTED)
hostile(
    "gif_just_under_the_limit_transparent",
    lambda: gif((SIDE, SIDE), (10, 10), before=b"!\xf9\x04\x01\0\0\x01\0"),
    PREPARED | TOO_LARGE,
)
hostile("gif_without_frames", lambda: gif((100, 100), None), BROKEN)
hostile("gif_of_0_by_0", lambda: gif((0, 0), (0, 0)), BROKEN)
hostile("gif_of_a_screen_of_0_by_0", lambda: gif((0, 0), (10, 10)), BROKEN | PREPARED)
hostile("gif_of_a_frame_of_0_by_10", lambda: gif((10, 10), (0, 10)), BROKEN | PREPARED)
hostile("gif_of_30_million_extensions", lambda: gif((9, 9), (10, 10), b"!\x01\0" * 30_000_000), BROKEN | PREPARED)
hostile(
    "gif_of_48_million_comment_bytes", lambda: gif((9, 9), (10, 10), b"!\xfe" + b"\x01a" * 47_000_000 + b"\0"), ANYTHING
)
hostile("gif_of_95_mb_of_nothing", lambda: gif((9, 9), None)[:-1] + bytes(95 * MEGABYTE), BROKEN)
hostile(
    "gif_of_pixels_in_blocks_of_one_byte",
    lambda: (
        gif((SIDE, SIDE), (10, 10))[:19]
        + b",\0\0\0\0"
        + struct.pack("<HH", SIDE, SIDE)
        + b"\0\x02"
        + b"\x01\x04" * 47_000_000
    ),
    REJECTED,
)
hostile("gif_of_more_pixels_than_it_says", lambda: gif((10, 10), (1000, 1000)), REJECTED, SMALL)


def bmp(size: tuple[int, int], bits: int, compression: int = 0, data: bytes = b"") -> bytes:
    colours = b"".join(bytes((n, 0, n, 0)) for n in range(2**bits)) if bits <= 8 else b""
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression, len(data), 0, 0, 0, 0)
    return (
        b"BM" + struct.pack("<IHHI", 54 + len(colours) + len(data), 0, 0, 54 + len(colours)) + header + colours + data
    )


for name, bits, compression in [("rgb", 24, 0), ("black_and_white", 1, 0), ("rle8", 8, 1), ("rle4", 4, 2)]:
    hostile(
        f"bmp_of_10_gigapixels_{name}",
        lambda bits=bits, compression=compression: bmp((100_000, 100_000), bits, compression, bytes(100)),
        TOO_LARGE,
    )
hostile("bmp_of_the_largest_numbers", lambda: bmp((2**31 - 1, -(2**31) + 1), 24), REJECTED)
hostile(
    "bmp_of_the_os_2_kind_65535_by_65535",
    lambda: b"BM" + bytes(8) + struct.pack("<IIHHHH", 26, 12, 65_535, 65_535, 1, 24),
    TOO_LARGE,
)
hostile("bmp_of_0_by_0", lambda: bmp((0, 0), 24), BROKEN)
hostile("bmp_of_0_by_100", lambda: bmp((0, 100), 24, 0, bytes(100)), BROKEN)
hostile("bmp_just_under_the_limit_without_pixels", lambda: bmp((SIDE, SIDE), 24), BROKEN | TOO_LARGE)
hostile(
    "bmp_just_under_the_limit_black_and_white",
    lambda: bmp((SIDE, SIDE), 1, 0, bytes(1768 * SIDE)),
    PREPARED | TOO_LARGE,
)
for name, bits, compression in [("rle8", 8, 1), ("rle4", 4, 2)]:
    hostile(
        f"bmp_{name}_just_under_the_limit_of_row_ends",
        lambda bits=bits, compression=compression: bmp(
            (SIDE, SIDE), bits, compression, b"\x01\x01\0\0" * SIDE + b"\0\x01"
        ),
        ANYTHING,
    )
    hostile(
        f"bmp_{name}_of_45_million_single_pixels",
        lambda bits=bits, compression=compression: bmp((6_700, 6_700), bits, compression, b"\x01\x01" * 45_000_000),
        ANYTHING,
    )
    hostile(
        f"bmp_{name}_of_45_million_row_ends",
        lambda bits=bits, compression=compression: bmp((100, 100), bits, compression, b"\0\0" * 45_000_000),
        ANYTHING,
    )
    hostile(
        f"bmp_{name}_of_jumps",
        lambda bits=bits, compression=compression: bmp((SIDE, SIDE), bits, compression, b"\0\x02\xff\xff" * 100),
        ANYTHING,
    )
hostile("bmp_holding_a_jpeg", lambda: bmp((64, 64), 24, 4, jpeg((64, 64))), REJECTED)
hostile(
    "bmp_of_4_billion_colours",
    lambda: bmp((64, 64), 8).replace(struct.pack("<IIii", 0, 0, 0, 0), b"\xff" * 16),
    REJECTED,
)


def ico(*pictures: bytes, side: int = 64, bits: int = 32, claims: int | None = None, at: int | None = None) -> bytes:
    start = 6 + 16 * len(pictures)
    directory = b""
    for index, picture in enumerate(pictures):
        here = start + sum(len(p) for p in pictures[:index]) if at is None else at
        directory += struct.pack("<BBBBHHII", side % 256, side % 256, 0, 0, 1, bits, len(picture), here)
    return struct.pack("<HHH", 0, 1, len(pictures) if claims is None else claims) + directory + b"".join(pictures)


def dib(size: tuple[int, int], bits: int, data: bytes) -> bytes:
    return bmp((size[0], size[1] * 2), bits, 0, data)[14:]


hostile("ico_holding_a_png_of_400_megapixels", lambda: ico(png((20_000, 20_000), 1, 0)), TOO_LARGE)
hostile("ico_holding_a_png_of_10_gigapixels", lambda: ico(png((100_000, 100_000), data=b"")), REJECTED)
hostile("ico_holding_a_png_just_under_the_limit", lambda: ico(png((SIDE, SIDE))), ANYTHING)
hostile("ico_holding_a_png_of_another_size", lambda: ico(png((100, 100))), PREPARED | BROKEN)
hostile("ico_holding_a_bitmap_of_30000_by_30000", lambda: ico(dib((30_000, 30_000), 32, bytes(1000))), REJECTED)
hostile("ico_holding_a_bitmap_of_another_size", lambda: ico(dib((32, 32), 32, bytes(32 * 32 * 5))), PREPARED | BROKEN)
hostile("ico_holding_itself", lambda: ico(b"\0" * 100, at=0), REJECTED)
hostile("ico_of_65535_entries", lambda: ico(*[png((64, 64))] * 1000, claims=65_535), ANYTHING)
hostile("ico_without_entries", lambda: ico(), BROKEN)
hostile("ico_pointing_beyond_its_end", lambda: ico(png((64, 64)), at=2**32 - 1), BROKEN)
hostile(
    "ico_holding_a_png_with_a_text_bomb",
    lambda: ico(png((64, 64), before=chunk(b"zTXt", b"a\0\0" + zeroes_deflated(10**9)))),
    ANYTHING,
)


hostile("ico_of_more_pixels_than_it_says", lambda: ico(save(gradient((1000, 1000)), "PNG")), REJECTED, SMALL)
hostile("gif_just_under_the_limit_uncovered", lambda: gif((SIDE, SIDE), (10, 10), at=(7_000, 7_000)), PREPARED)


def bit_fields(size: tuple[int, int], bits: int, masks: tuple[int, int, int, int], data: bytes, at: int = 122) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 108, *size, 1, bits, 3, 0, 0, 0, 0, 0) + struct.pack("<4I", *masks)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, at) + info.ljust(108, b"\0") + data


RARE_MASKS = (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)
hostile("bmp_of_10_gigapixels_of_bit_fields", lambda: bit_fields((100_000, 100_000), 32, RARE_MASKS, b""), TOO_LARGE)
hostile("bmp_of_bit_fields_of_2_billion_columns", lambda: bit_fields((2**31 - 1, 1), 32, RARE_MASKS, b""), TOO_LARGE)
for name, size in [("just_under_the_limit", (SIDE, SIDE)), ("of_24_megapixels", (6_000, 4_000))]:
    hostile(
        f"bmp_of_bit_fields_{name}",
        lambda size=size: bit_fields(size, 16, (0xF00, 0xF0, 0xF, 0xF000), bytes(2 * size[0] * size[1])),
        PREPARED | TOO_LARGE,
    )
hostile("bmp_of_bit_fields_without_pixels", lambda: bit_fields((64, 64), 32, RARE_MASKS, b""), BROKEN)
hostile(
    "bmp_of_bit_fields_beyond_its_end",
    lambda: bit_fields((64, 64), 32, RARE_MASKS, bytes(64 * 64 * 4), 2**32 - 1),
    BROKEN,
)
for width, height in [(0, 64), (64, 0), (-64, 64), (-(2**31), -(2**31)), (2**31 - 1, -(2**31))]:
    hostile(
        f"bmp_of_bit_fields_{width}_by_{height}",
        lambda size=(width, height): bit_fields(size, 32, RARE_MASKS, bytes(64 * 64 * 4)),
        REJECTED,
    )
for masks in [(2**32 - 1,) * 4, (1, 1, 1, 1), (0, 0, 0, 1), (0, 0xFF, 0, 0), (2**31, 2**31, 2**31, 2**31)]:
    hostile(
        f"bmp_of_bit_fields_under_{'_'.join(f'{mask:x}' for mask in masks)}",
        lambda masks=masks: bit_fields((64, 64), 32, masks, bytes(range(256)) * 64),
        PREPARED,
    )
hostile("ico_holding_a_bitmap_of_minus_sizes", lambda: ico(dib((-64, -64), 32, bytes(64 * 64 * 5))), REJECTED)
hostile(
    "ico_holding_a_bitmap_of_4_billion_colours",
    lambda: ico(dib((64, 64), 8, bytes(64 * 64 * 2)).replace(struct.pack("<IIii", 0, 0, 0, 0), b"\xff" * 16)),
    REJECTED,
)
hostile(
    "ico_holding_a_bitmap_of_4_megapixels", lambda: ico(dib((2_048, 2_048), 32, bytes(2_048 * 2_048 * 5))), PREPARED
)
hostile("ico_holding_an_icon", lambda: ico(ico(png((64, 64)))), REJECTED)
hostile("ico_holding_a_jpeg", lambda: ico(jpeg((64, 64))), REJECTED)
