"""JPEG 2000 with patched headers."""

from tests.pictures.hostile.catalogue import (
    BROKEN,
    REJECTED,
    SIDE,
    SMALL,
    TOO_LARGE,
    gradient,
    hostile,
    patched,
    save,
)

SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"


def jpeg_2000(image_size: tuple[int, int], box_size: tuple[int, int], tile: tuple[int, int] = (64, 48)) -> bytes:
    data = save(gradient(), "JPEG2000")
    data = patched(data, b"ihdr", *box_size[::-1])
    return patched(data, b"\xff\x51\0\x2f\0\0", *image_size, 0, 0, *tile)


hostile("jpeg_2000_of_10_gigapixels", lambda: jpeg_2000((100_000,) * 2, (100_000,) * 2, (100_000,) * 2), TOO_LARGE)
hostile("jpeg_2000_of_more_pixels_than_it_says", lambda: jpeg_2000((100_000,) * 2, (64, 48), (100_000,) * 2), REJECTED)
hostile("jpeg_2000_just_under_the_limit", lambda: jpeg_2000((SIDE, SIDE), (SIDE, SIDE), (SIDE, SIDE)), REJECTED)
hostile("jpeg_2000_of_tiny_tiles", lambda: jpeg_2000((SIDE, SIDE), (SIDE, SIDE), (1, 1)), REJECTED)
hostile("jpeg_2000_of_65025_tiles", lambda: jpeg_2000((SIDE, SIDE), (SIDE, SIDE), (56, 56)), REJECTED)
hostile("jpeg_2000_of_0_by_0", lambda: jpeg_2000((0, 0), (0, 0)), BROKEN)
hostile(
    "jpeg_2000_stream_of_10_gigapixels",
    lambda: (data := jpeg_2000((100_000,) * 2, (9, 9), (100_000,) * 2))[data.index(b"\xff\x4f\xff\x51") :],
    TOO_LARGE,
)
hostile("jpeg_2000_whose_boxes_hold_themselves", lambda: SIGNATURE + b"\0\0\0\0jp2h" * 10_000, BROKEN)
hostile("jpeg_2000_with_10_million_boxes", lambda: SIGNATURE + b"\0\0\0\x08free" * 10_000_000, BROKEN)
hostile(
    "jpeg_2000_of_more_pixels_than_its_box_says",
    lambda: patched(save(gradient((1000, 1000)), "JPEG2000"), b"ihdr", 16, 16),
    REJECTED,
    SMALL,
)
