"""PNG built from its chunks."""

import struct
import zlib

from tests.pictures.hostile.catalogue import (
    ANYTHING,
    BROKEN,
    HTML,
    MEGABYTE,
    PREPARED,
    REJECTED,
    SIDE,
    TOO_LARGE,
    hostile,
    zeroes_deflated,
)


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    size: tuple[int, int], depth: int = 8, colour: int = 2, before: bytes = b"", data: bytes | None = None
) -> bytes:
    """A PNG whose pixels are all zero, or ``data`` if given, with ``before`` in front of its pixels."""
    if data is None:
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        data = zeroes_deflated(size[1] * (1 + (size[0] * depth * channels + 7) // 8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    if colour == 3:
        header += chunk(b"PLTE", bytes(range(6)))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", data) + chunk(b"IEND")


for name, depth, colour in [("black_and_white", 1, 0), ("rgb", 8, 2), ("rgba_16_bit", 16, 6), ("palette", 8, 3)]:
    hostile(
        f"png_of_10_gigapixels_{name}",
        lambda depth=depth, colour=colour: png((100_000, 100_000), depth, colour, data=zeroes_deflated(1000)),
        TOO_LARGE,
    )
hostile("png_of_400_megapixels_with_all_its_pixels", lambda: png((20_000, 20_000), 1, 0), TOO_LARGE)
hostile("png_of_the_largest_numbers", lambda: png((2**31 - 1, 2**31 - 1), data=b""), TOO_LARGE)
hostile("png_of_numbers_beyond_the_standard", lambda: png((2**32 - 1, 2**32 - 1), data=b""), TOO_LARGE | BROKEN)
hostile("png_of_one_endless_row", lambda: png((2**31 - 1, 1), 1, 0, data=b""), TOO_LARGE)
hostile("png_of_one_endless_column", lambda: png((1, 2**31 - 1), 1, 0, data=b""), TOO_LARGE)
for name, depth, colour in [("black_and_white", 1, 0), ("palette", 8, 3), ("rgba", 8, 6)]:
    hostile(
        f"png_just_under_the_limit_{name}",
        lambda depth=depth, colour=colour: png((SIDE, SIDE), depth, colour),
        PREPARED if name == "black_and_white" else PREPARED | TOO_LARGE,
    )
hostile("png_just_under_the_limit_without_pixels", lambda: png((SIDE, SIDE), data=zeroes_deflated(9)), REJECTED)
hostile("png_of_200_million_by_1", lambda: png((200_000_000, 1), 1, 0), PREPARED | TOO_LARGE)
hostile("png_of_1_by_200_million", lambda: png((1, 200_000_000), 1, 0), PREPARED | TOO_LARGE)
hostile("png_with_gigabytes_behind_its_pixels", lambda: png((100, 100), data=zeroes_deflated(4 * 10**9)), ANYTHING)
hostile(
    "png_with_bytes_behind_its_pixels", lambda: png((64, 64), data=zeroes_deflated(12_352) + HTML), PREPARED | BROKEN
)
hostile(
    "png_with_pixels_behind_its_pixels",
    lambda: png((64, 64)).replace(chunk(b"IEND"), chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", HTML) + chunk(b"IEND")),
    PREPARED | BROKEN,
)
hostile(
    "png_with_a_wrong_checksum_of_its_pixels",
    lambda: png((64, 64))[:-16] + bytes(4) + chunk(b"IEND"),
    PREPARED | BROKEN,
)
hostile("png_with_two_headers", lambda: png((64, 64), before=png((64, 64))[8:33]), PREPARED | BROKEN)
hostile(
    "png_with_a_compressed_text_bomb",
    lambda: png((100, 100), before=chunk(b"zTXt", b"Comment\0\0" + zeroes_deflated(10**9))),
    PREPARED | BROKEN,
)
hostile(
    "png_with_many_compressed_texts",
    lambda: png((100, 100), before=chunk(b"zTXt", b"Comment\0\0" + zeroes_deflated(10**6)) * 5_000),
    PREPARED | BROKEN,
)
hostile(
    "png_with_an_international_text_bomb",
    lambda: png((100, 100), before=chunk(b"iTXt", b"Comment\0\1\0\0\0" + zeroes_deflated(10**9))),
    PREPARED | BROKEN,
)
hostile(
    "png_with_a_profile_bomb",
    lambda: png((100, 100), before=chunk(b"iCCP", b"name\0\0" + zeroes_deflated(10**9))),
    PREPARED | BROKEN,
)
hostile(
    "png_with_a_100_mb_exif_block",
    lambda: png((100, 100), before=chunk(b"eXIf", b"II*\0\x08\0\0\0" + bytes(90 * MEGABYTE))),
    PREPARED | BROKEN,
)
hostile("png_of_8_million_empty_chunks", lambda: png((100, 100), before=chunk(b"tEXt") * 8_000_000), PREPARED | BROKEN)
hostile("png_of_8_million_unknown_chunks", lambda: png((9, 9), before=chunk(b"haRm") * 8_000_000), PREPARED | BROKEN)
hostile(
    "png_of_8_million_empty_pixel_chunks", lambda: png((9, 9), before=chunk(b"IDAT") * 8_000_000), PREPARED | BROKEN
)
hostile(
    "png_of_2_million_pixel_chunks_for_a_large_picture",
    lambda: png((SIDE, SIDE), 1, 0, before=chunk(b"IDAT") * 2_000_000),
    PREPARED | BROKEN,
)
for width, height in [(0, 0), (0, 100), (100, 0)]:
    hostile(f"png_of_{width}_by_{height}", lambda size=(width, height): png(size, data=zeroes_deflated(9)), BROKEN)
hostile("png_of_a_signature_only", lambda: b"\x89PNG\r\n\x1a\n", BROKEN)
hostile("png_without_a_header", lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", zeroes_deflated(9)), BROKEN)
hostile("png_with_an_empty_header", lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR") + chunk(b"IEND"), BROKEN)
hostile("png_without_pixels", lambda: png((64, 64))[:33], BROKEN)
hostile("png_with_a_chunk_of_4_gigabytes", lambda: png((9, 9), before=b"\xff\xff\xff\xfftEXt"), BROKEN)
hostile(
    "png_that_changes_its_size",
    lambda: png((64, 64), before=chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))),
    REJECTED,
)
hostile("png_with_a_palette_of_nothing", lambda: png((64, 64), 8, 3, before=chunk(b"PLTE")), PREPARED | BROKEN)
hostile("png_with_a_depth_that_does_not_exist", lambda: png((64, 64), 7, 2), REJECTED)
for frames in (0, 1, 2**31 - 1, 2**32 - 1):
    hostile(
        f"png_that_claims_{frames}_frames",
        lambda frames=frames: png((64, 64), before=chunk(b"acTL", struct.pack(">II", frames, 0))),
        PREPARED,
    )
hostile(
    "png_whose_first_frame_lies_outside",
    lambda: png(
        (64, 64),
        before=chunk(b"acTL", struct.pack(">II", 2, 0))
        + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 64, 2**31 - 1, 2**31 - 1, 1, 1, 0, 0)),
    ),
    PREPARED | BROKEN,
)
hostile(
    "png_whose_first_frame_is_huge",
    lambda: png(
        (64, 64),
        before=chunk(b"acTL", struct.pack(">II", 2, 0))
        + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 50_000, 50_000, 0, 0, 1, 1, 0, 0)),
    ),
    ANYTHING,
)
hostile(
    "png_with_a_bomb_for_exif_data",
    lambda: png((100, 100), before=chunk(b"zTXt", b"Raw profile type exif\0\0" + zeroes_deflated(10**9))),
    PREPARED,
)
hostile(
    "png_with_a_bomb_for_xmp",
    lambda: png((100, 100), before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeroes_deflated(10**9))),
    PREPARED,
)
hostile(
    "png_with_thousands_of_bombs_for_exif_data",
    lambda: png((100, 100), before=chunk(b"zTXt", b"Raw profile type exif\0\0" + zeroes_deflated(16 * 10**6)) * 2_000),
    PREPARED,
)
hostile(
    "png_of_8_million_chunks_with_wrong_checksums",
    lambda: png((9, 9), before=b"\0\0\0\0tEXt\0\0\0\0" * 8_000_000),
    PREPARED | BROKEN,
)
hostile(
    "png_of_a_chunk_that_ends_beyond_the_file", lambda: png((64, 64), before=b"\x7f\xff\xff\xfftEXt"), PREPARED | BROKEN
)
for name, depth, colour, size in [
    ("grey_just_under_the_limit", 16, 0, (SIDE, SIDE)),
    ("rgb_just_under_the_limit", 16, 2, (SIDE, SIDE)),
    ("rgb_of_36_megapixels", 16, 2, (6_000, 6_000)),
]:
    hostile(
        f"png_with_a_transparent_colour_in_16_bits_{name}",
        lambda depth=depth, colour=colour, size=size: png(size, depth, colour, before=chunk(b"tRNS", bytes(6))),
        PREPARED | TOO_LARGE,
    )
