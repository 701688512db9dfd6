"""WebP built from its chunks."""

import struct

from PIL import Image

from tests.pictures.hostile.catalogue import (
    ANYTHING,
    BROKEN,
    PREPARED,
    REJECTED,
    SIDE,
    SMALL,
    TOO_LARGE,
    gradient,
    hostile,
    save,
)


def webp_of(kind: bytes, body: bytes) -> bytes:
    part = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(part) + 4) + b"WEBP" + part


def webp_lossless(size: tuple[int, int]) -> bytes:
    """All pixels of one colour, whose codes take no bits: a bomb in 30 bytes."""
    bits = 0x2F | size[0] - 1 << 8 | size[1] - 1 << 22 | 1 << 36
    # No transform, no cache, no groups; then five codes, each "simple, one symbol of one bit, zero".
    at = 8 + 14 + 14 + 1 + 3 + 3
    for code in range(5):
        bits |= 1 << at + 4 * code
    return webp_of(b"VP8L", bits.to_bytes(30, "little"))


hostile("webp_of_268_megapixels_in_50_bytes", lambda: webp_lossless((16_383, 16_383)), TOO_LARGE)
hostile("webp_just_under_the_limit_in_50_bytes", lambda: webp_lossless((SIDE, SIDE)), PREPARED | TOO_LARGE)
hostile("webp_of_100_megapixels_in_50_bytes", lambda: webp_lossless((10_000, 10_000)), PREPARED | TOO_LARGE)
hostile(
    "webp_lossy_of_16383_by_16383",
    lambda: webp_of(b"VP8 ", b"\x30\x01\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + bytes(100)),
    TOO_LARGE,
)
hostile(
    "webp_of_a_canvas_of_16777216_squared",
    lambda: webp_of(b"VP8X", b"\x02\0\0\0" + b"\xff" * 6) + webp_lossless((9, 9))[12:],
    REJECTED,
)
hostile(
    "webp_of_a_canvas_of_20000_by_20000",
    lambda: webp_of(b"VP8X", b"\x02\0\0\0" + b"\x1f\x4e\0" * 2) + webp_lossless((9, 9))[12:],
    REJECTED,
)
hostile(
    "webp_of_100000_frames",
    lambda: save(
        gradient((16, 16)),
        "WEBP",
        save_all=True,
        append_images=[Image.new("RGB", (16, 16), (n % 256, 0, 0)) for n in range(3000)],
    ),
    PREPARED,
)


def webp_animated(canvas: tuple[int, int], at: tuple[int, int] = (0, 0), flags: int = 2) -> bytes:
    """A frame of 16 x 16 on a canvas."""

    def number(value: int) -> bytes:
        return value.to_bytes(3, "little")

    still = webp_lossless((16, 16))[12:]
    frame = number(at[0] // 2) + number(at[1] // 2) + number(15) * 2 + bytes(4) + still
    head = webp_of(b"VP8X", bytes((flags, 0, 0, 0)) + number(canvas[0] - 1) + number(canvas[1] - 1))[12:]
    parts = head + webp_of(b"ANIM", bytes(6))[12:] + webp_of(b"ANMF", frame)[12:]
    return b"RIFF" + struct.pack("<I", len(parts) + 4) + b"WEBP" + parts


hostile("webp_of_a_small_frame_on_49_megapixels", lambda: webp_animated((7_000, 7_000)), ANYTHING)
hostile("webp_of_a_frame_outside_of_its_canvas", lambda: webp_animated((100, 100), (2**24, 2**24)), ANYTHING)
hostile("webp_of_a_frame_without_animation", lambda: webp_animated((100, 100), flags=0), ANYTHING)
hostile("webp_of_a_header_only", lambda: b"RIFF\x04\0\0\0WEBP", BROKEN)
hostile(
    "webp_of_more_pixels_than_it_says",
    lambda: webp_of(b"VP8X", b"\0\0\0\0" + b"\x0f\0\0" * 2) + webp_lossless((1000, 1000))[12:],
    REJECTED,
    SMALL,
)
