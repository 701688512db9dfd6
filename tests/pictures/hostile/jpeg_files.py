"""JPEG built from its parts. With one-bit codes a block of one colour takes two bits, both zero."""

import struct
from collections.abc import Iterable

from tests.pictures.hostile.catalogue import ANYTHING, BROKEN, MEGABYTE, PREPARED, REJECTED, SIDE, TOO_LARGE, hostile


def segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_frame(size: tuple[int, int], components: int = 1, kind: int = 0xC0) -> bytes:
    parts = b"".join(struct.pack("BBB", number + 1, 0x11, 0) for number in range(components))
    return segment(kind, struct.pack(">BHHB", 8, size[1], size[0], components) + parts)


def jpeg_scan(components: Iterable[int], first: int, last: int, high_low: int, zero_bytes: int) -> bytes:
    chosen = [struct.pack("BB", number + 1, 0) for number in components]
    body = struct.pack("B", len(chosen)) + b"".join(chosen) + struct.pack("BBB", first, last, high_low)
    return segment(0xDA, body) + bytes(zero_bytes)


def jpeg_tables(ac_symbol: int = 0) -> bytes:
    one_code = bytes([1] + [0] * 15)
    return (
        segment(0xDB, b"\0" + bytes([1] * 64))
        + segment(0xC4, b"\x00" + one_code + b"\0")
        + segment(0xC4, b"\x10" + one_code + bytes([ac_symbol]))
    )


def jpeg(size: tuple[int, int], components: int = 1) -> bytes:
    blocks = -(-size[0] // 8) * -(-size[1] // 8) * components
    scan = jpeg_scan(range(components), 0, 63, 0, -(-blocks * 2 // 8))
    return b"\xff\xd8" + jpeg_tables() + jpeg_frame(size, components) + scan + b"\xff\xd9"


def jpeg_of_scans(size: tuple[int, int], scans: int, components: int = 1) -> bytes:
    """A progressive JPEG in which every scan passes over all blocks again, in runs of 16,384 blocks."""
    blocks = -(-size[0] // 8) * -(-size[1] // 8)
    start = jpeg_scan(range(components), 0, 0, 0x01, -(-blocks * components // 8))
    repeated = jpeg_scan([0], 1, 63, 0x01, -(-blocks // 16_384) * 15 // 8 + 1)
    frame = jpeg_frame(size, components, 0xC2)
    return b"\xff\xd8" + jpeg_tables(0xE0) + frame + start + repeated * scans + b"\xff\xd9"


def jpeg_behind(before: bytes) -> bytes:
    return b"\xff\xd8" + before + jpeg((64, 64))[2:]


def exif(*entries: tuple[int, int, int, int], next_at: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", next_at)


# The GPS, Exif and interoperability directories are all the first directory, which is also its own successor.
LOOPING_EXIF = exif((0x112, 3, 1, 6), (0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8), next_at=8)


def mpo(count: int, at: int = 0) -> bytes:
    """A JPEG whose index of pictures has ``count`` entries, each pointing to ``at``."""
    entries = b"".join(struct.pack("<IIIHH", 0, 1000, at, 0, 0) for _ in range(min(count, 1000)))
    head = exif((0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, count), (0xB002, 7, 16 * min(count, 1000), 50))
    return jpeg_behind(segment(0xE2, b"MPF\0" + head + entries))


hostile("jpeg_of_65500_by_65500", lambda: b"\xff\xd8" + jpeg_tables() + jpeg_frame((65_500, 65_500), 3), REJECTED)
hostile("jpeg_of_65500_by_65500_with_a_scan", lambda: jpeg((65_500, 65_500))[:-100_000], TOO_LARGE)
hostile("jpeg_of_1_by_65500", lambda: jpeg((1, 65_500)), PREPARED)
for name, components in [("grey", 1), ("cmyk", 4)]:
    hostile(
        f"jpeg_just_under_the_limit_{name}",
        lambda components=components: jpeg((SIDE, SIDE), components),
        PREPARED | TOO_LARGE,
    )
hostile("jpeg_just_under_the_limit_without_pixels", lambda: jpeg((SIDE, SIDE))[:1000], BROKEN)
hostile("jpeg_progressive_just_under_the_limit", lambda: jpeg_of_scans((SIDE, SIDE), 10, 3), ANYTHING)
hostile("jpeg_of_5000_scans_over_9_megapixels", lambda: jpeg_of_scans((3000, 3000), 5_000), ANYTHING)
hostile("jpeg_of_5000_scans_over_200_megapixels", lambda: jpeg_of_scans((SIDE, SIDE), 5_000), REJECTED)
hostile("jpeg_of_4_million_scans", lambda: jpeg_of_scans((64, 64), 4_000_000), ANYTHING)
for width, height in [(0, 0), (0, 100), (100, 0)]:
    hostile(f"jpeg_of_{width}_by_{height}", lambda size=(width, height): jpeg(size), BROKEN)
hostile("jpeg_of_255_components", lambda: jpeg((64, 64), 255), REJECTED)
hostile("jpeg_of_two_components", lambda: jpeg((64, 64), 2), REJECTED)
hostile("jpeg_of_12_bits", lambda: jpeg((64, 64)).replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc0\0\x0b\x0c"), REJECTED)
hostile(
    "jpeg_that_changes_its_size",
    lambda: jpeg_behind(jpeg_frame((64, 64))).replace(b"\xff\xda", jpeg_frame((60_000, 60_000)) + b"\xff\xda", 1),
    REJECTED,
)
hostile("jpeg_of_a_start_and_an_end", lambda: b"\xff\xd8\xff\xd9", BROKEN)
hostile("jpeg_behind_24_million_segments", lambda: jpeg_behind(segment(0xFE) * 24_000_000), PREPARED | BROKEN)
hostile("jpeg_behind_24_million_app_segments", lambda: jpeg_behind(segment(0xEF) * 24_000_000), PREPARED | BROKEN)
hostile("jpeg_behind_95_mb_of_padding", lambda: jpeg_behind(b"\xff" * 95 * MEGABYTE), PREPARED | BROKEN)
hostile("jpeg_behind_95_mb_of_escapes", lambda: jpeg_behind(b"\xff\0" * 47 * MEGABYTE), PREPARED | BROKEN)
hostile("jpeg_of_a_million_tables", lambda: jpeg_behind(jpeg_tables() * 1_000_000)[: 90 * MEGABYTE], BROKEN)
hostile("jpeg_with_95_mb_behind_it", lambda: jpeg((64, 64)) + bytes(95 * MEGABYTE), PREPARED)
hostile(
    "jpeg_with_255_parts_of_a_profile",
    lambda: jpeg_behind(
        b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((part, 255)) + bytes(65_000)) for part in range(1, 256))
    ),
    PREPARED | BROKEN,
)
hostile("jpeg_whose_exif_directories_loop", lambda: jpeg_behind(segment(0xE1, b"Exif\0\0" + LOOPING_EXIF)), PREPARED)
hostile(
    "jpeg_whose_exif_claims_4_gigabytes",
    lambda: jpeg_behind(segment(0xE1, b"Exif\0\0" + exif((0x112, 3, 2**31, 8), (0x8769, 13, 2**32 - 1, 2**32 - 1)))),
    PREPARED,
)
hostile(
    "jpeg_whose_orientation_is_a_text",
    lambda: jpeg_behind(segment(0xE1, b"Exif\0\0" + exif((0x112, 2, 4, 0x41414141)))),
    PREPARED,
)
hostile("jpeg_whose_index_has_a_billion_pictures", lambda: mpo(10**9), PREPARED)
hostile("jpeg_whose_index_points_to_itself", lambda: mpo(1000), PREPARED)
hostile("jpeg_whose_index_points_beyond_its_end", lambda: mpo(2, at=2**32 - 1), PREPARED)
hostile("jpeg_whose_index_is_cut", lambda: jpeg_behind(segment(0xE2, b"MPF\0" + exif((0xB001, 4, 1, 2)))), PREPARED)
hostile("jpeg_of_49_megapixels_without_an_end", lambda: jpeg((7_000, 7_000))[:-2], PREPARED)
hostile("jpeg_just_under_the_limit_without_an_end", lambda: jpeg((SIDE, SIDE))[:-2], PREPARED | BROKEN)
hostile("jpeg_of_1000_scans_without_an_end", lambda: jpeg_of_scans((200, 200), 999)[:-2], PREPARED | BROKEN)
hostile("jpeg_of_starts_of_scans", lambda: jpeg((64, 64))[:-2] + b"\xff\xda" * 30_000_000, ANYTHING)
hostile("jpeg_of_50_mb_of_fill", lambda: b"\xff\xd8" + b"\xff" * (50 * MEGABYTE), BROKEN)
hostile("jpeg_of_25_million_restarts", lambda: b"\xff\xd8" + b"\xff\xd0" * (25 * MEGABYTE), BROKEN)
hostile("jpeg_of_a_million_comments", lambda: jpeg_behind(segment(0xFE, b"a") * MEGABYTE), PREPARED | BROKEN)
hostile(
    "jpeg_of_a_million_comments_and_a_broken_segment",
    lambda: jpeg_behind(segment(0xFE, b"a") * MEGABYTE + segment(0xE0, b"JFIF\0")),
    PREPARED | BROKEN,
)
hostile(
    "jpeg_with_exif_data_of_65535_entries",
    lambda: jpeg_behind(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(65_000))),
    PREPARED,
)
