"""A TIFF is decoded as its header says, or refused by the name of what it is; never with wrong pixels."""

import io
import itertools
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from shared.pictures.prepare import prepare
from tests.pictures.test_convert import (
    BLUE,
    GREEN,
    LIMITS,
    RED,
    WHITE,
    code_of,
    corners,
    near,
    pixels,
    quarters,
    save,
    stored,
)
from tests.pictures.tiff_files import (
    CIELAB,
    CMYK,
    COMPRESSIONS,
    DEFLATE,
    ICCLAB,
    LONG,
    LZMA,
    LZW,
    MIN_IS_BLACK,
    MIN_IS_WHITE,
    NONE,
    PACKBITS,
    PALETTE,
    RATIONAL,
    RGB,
    SHORT,
    UNDEFINED,
    YCBCR,
    Order,
    Samples,
    Tags,
    file_of,
    tiff,
)

HEIGHT, WIDTH = 48, 66
TILE = (32, 16)
UNASSOCIATED, ASSOCIATED, UNSPECIFIED = 2, 1, 0
EXTRA_SAMPLES, COLOUR_MAP, NEW_SUBFILE_TYPE, ORIENTATION = 338, 320, 254, 274


def shares(channels: int) -> NDArray[np.float64]:
    """From 0 to 1 to the right, to the left, down, up, and constants: every channel is another."""
    across = np.linspace(0, 1, WIDTH)[np.newaxis, :] + np.zeros((HEIGHT, 1))
    down = np.linspace(0, 1, HEIGHT)[:, np.newaxis] + np.zeros((1, WIDTH))
    return np.stack([across, 1 - across, down, 1 - down, across * 0 + 0.25, down * 0 + 0.75], axis=2)[..., :channels]


def full_range(kind: str, channels: int = 1) -> Samples:
    """``shares`` from the least to the greatest number of this type, or from 0 to 1 for floats."""
    type_ = np.dtype(kind)
    if type_.kind == "f":
        return shares(channels).astype(type_)
    info = np.iinfo(type_)
    # As floats, the greatest numbers of 64 bits would round up and out of their range.
    return (shares(channels).astype(np.longdouble) * (int(info.max) - int(info.min)) + int(info.min)).astype(type_)


def share_of_range(samples: Samples) -> NDArray[np.float64]:
    """What ``full_range`` made, as shares again: from the numbers as they were rounded to their type."""
    if samples.dtype.kind == "f":
        return samples.astype(float)
    info = np.iinfo(samples.dtype)
    return (samples.astype(float) - int(info.min)) / (int(info.max) - int(info.min))


def shown(data: bytes) -> NDArray[np.float64]:
    """What the model is sent, as rows x columns x RGB."""
    return np.asarray(pixels(prepare(data, LIMITS)).convert("RGB")).astype(float)


def as_rgb(expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of white as 0 to 255."""
    return np.broadcast_to(expected * 255, (HEIGHT, WIDTH, 3))


def differs(data: bytes, expected: NDArray[np.float64], tolerance: float = 1.5) -> bool:
    """Colours, transparency and what they make together are each rounded to 8 bits."""
    found = shown(data)
    return found.shape != expected.shape or float(np.abs(found - expected).max()) > tolerance


# What the channels of a layout are: how they are stored, and the picture they make, by shares of the full range.
LAYOUTS: dict[str, tuple[int, int, list[int], Any]] = {
    "grey": (MIN_IS_BLACK, 1, [], lambda s: s),
    "grey, white is 0": (MIN_IS_WHITE, 1, [], lambda s: 1 - s),
    "grey with alpha": (MIN_IS_BLACK, 2, [UNASSOCIATED], lambda s: s[..., :1] * s[..., 1:] + 1 - s[..., 1:]),
    "RGB": (RGB, 3, [], lambda s: s),
    "RGB with alpha": (RGB, 4, [UNASSOCIATED], lambda s: s[..., :3] * s[..., 3:] + 1 - s[..., 3:]),
    "RGB with infrared": (RGB, 4, [UNSPECIFIED], lambda s: s[..., :3]),
    "RGB times alpha": (RGB, 4, [ASSOCIATED], lambda s: np.minimum(1, s[..., :3] + 1 - s[..., 3:])),
    "RGB and three bands": (RGB, 6, [UNSPECIFIED] * 3, lambda s: s[..., :3]),
}
TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
# tifffile alone, without its compiled companion, decodes these, but not the differences of floats.
SECOND_DECODER = [NONE, DEFLATE, PACKBITS, LZMA]


@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", TYPES)
def test_no_combination_has_a_wrong_pixel(kind: str, order: Order, compression: int) -> None:
    wrong = []
    predictors = [1] if compression == NONE else [1, 2, 3] if kind[0] == "f" else [1, 2]
    for name, predictor, tile, planar, big in itertools.product(
        LAYOUTS, predictors, [None, TILE], [False, True], [False, True]
    ):
        photometric, channels, extra, picture = LAYOUTS[name]
        if (planar and channels == 1) or (big and (tile or predictor > 1)):
            continue
        more = {EXTRA_SAMPLES: (SHORT, extra)} if extra else {}
        samples = full_range(kind, channels)
        data = tiff(
            samples,
            order=order,
            big=big,
            compression=compression,
            tile=tile,
            planar=planar,
            predictor=predictor,
            photometric=photometric,
            more=more,
        )
        case = f"{name}, predictor {predictor}, {'tiles' if tile else 'strips'}, {planar=}, {big=}"
        if differs(data, as_rgb(picture(share_of_range(samples)))):
            wrong.append(case)
        if compression in SECOND_DECODER and predictor < 3 and not np.array_equal(read_by_tifffile(data), samples):
            wrong.append(f"the second decoder disagrees about what the file holds: {case}")
    assert wrong == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_compression_of_numbers_of_8_and_16_bits(order: Order, compression: int) -> None:
    for kind, tile, planar in itertools.product(["u1", "u2"], [None, TILE], [False, True]):
        samples = full_range(kind, 3)
        data = tiff(samples, order=order, compression=compression, tile=tile, planar=planar, photometric=RGB)
        assert not differs(data, as_rgb(share_of_range(samples))), (kind, tile, planar)
        if compression in SECOND_DECODER:
            assert np.array_equal(read_by_tifffile(data), samples)


def read_by_tifffile(data: bytes) -> Samples:
    page = tifffile.TiffFile(io.BytesIO(data)).pages.first
    found: Samples = page.asarray()
    if page.planarconfig == 2 and found.ndim == 3:
        found = np.moveaxis(found, 0, -1)
    return found.reshape(HEIGHT, WIDTH, -1)


@pytest.mark.parametrize("compression", [NONE, LZW])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [MIN_IS_BLACK, MIN_IS_WHITE])
@pytest.mark.parametrize("bits", [*range(1, 8), *range(9, 16)])
def test_grey_of_any_number_of_bits_spans_black_to_white(
    bits: int, photometric: int, order: Order, compression: int
) -> None:
    samples = np.rint(shares(1) * (2**bits - 1)).astype("u2")
    expected = samples / (2**bits - 1)
    for tile in (None, TILE):
        data = tiff(samples, bits=bits, order=order, compression=compression, tile=tile, photometric=photometric)
        assert not differs(data, as_rgb(1 - expected if photometric == MIN_IS_WHITE else expected)), tile


@pytest.mark.parametrize("reversed_bits", [False, True])
@pytest.mark.parametrize("compression", [NONE, LZW])
def test_the_order_of_bits_is_as_the_header_says(compression: int, reversed_bits: bool) -> None:
    mirror = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
    for kind, bits in (("u1", 1), ("u1", 0), ("u2", 12), ("u2", 0)):
        largest = 2 ** (bits or 8 * np.dtype(kind).itemsize) - 1
        samples = np.rint(shares(1) * largest).astype(kind)
        data = tiff(samples.astype("u2") if bits else samples, bits=bits, compression=compression)
        if reversed_bits:
            page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
            chunks = [
                data[start : start + size].translate(mirror)
                for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)
            ]
            width = bits or 8 * np.dtype(kind).itemsize
            tags = {256: (LONG, [WIDTH]), 257: (LONG, [HEIGHT]), 278: (LONG, [10])}
            data = file_of(
                [
                    (
                        tags
                        | {
                            tag: (SHORT, [value])
                            for tag, value in {258: width, 259: compression, 262: MIN_IS_BLACK, 266: 2, 277: 1}.items()
                        },
                        chunks,
                    )
                ]
            )
        assert not differs(data, as_rgb(samples / largest)), (kind, bits)


@pytest.mark.parametrize(
    ("kind", "value", "shown_as"),
    [
        ("i1", 127, 255),
        ("i2", 32_767, 255),
        ("i2", 3_000, 23),
        ("u4", 4_000_000_000, 255),
        ("u4", 200, 200),
        ("f8", 1e300, 255),
        ("f8", 0.5, 128),
    ],
)
def test_numbers_of_no_fixed_range_take_the_smallest_usual_one(kind: str, value: float, shown_as: int) -> None:
    samples = np.full((HEIGHT, WIDTH, 1), value, kind)
    assert not differs(tiff(samples), np.full((HEIGHT, WIDTH, 3), float(shown_as)))


def test_what_is_not_a_number_is_black_and_leaves_the_rest_as_it_is() -> None:
    samples = full_range("f4")
    expected = shares(1).copy()
    samples[:9, :9], expected[:9, :9] = np.nan, 0
    samples[20:29, :9], expected[20:29, :9] = np.inf, 1
    samples[40:49, :9], expected[40:49, :9] = -np.inf, 0
    assert not differs(tiff(samples), as_rgb(expected))
    assert code_of(tiff(np.full_like(samples, np.nan))) == "damaged_image"


def test_a_signalling_nan_is_black_too() -> None:
    samples = np.full((HEIGHT, WIDTH, 1), 0x3FF0_0000_0000_0000, "u8")
    samples[:9, :9] = 0x7FF0_0000_0000_0001
    assert shown(tiff(samples.view("f8")))[4, 4].tolist() == [0, 0, 0]


@pytest.mark.parametrize("step", [1, 256])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_palette_of_16_or_of_8_bits(order: Order, step: int) -> None:
    samples = np.rint(shares(1) * 255).astype("u1")
    ramp = [value * step for value in range(256)]
    more = {COLOUR_MAP: (SHORT, [*ramp, *reversed(ramp), *[0] * 256])}
    expected = np.concatenate([samples, 255 - samples, samples * 0], axis=2).astype(float)
    for tile in (None, TILE):
        assert not differs(tiff(samples, order=order, photometric=PALETTE, more=more, tile=tile), expected)
    with_alpha = np.concatenate([samples, samples * 0], axis=2)
    data = tiff(with_alpha, order=order, photometric=PALETTE, more=more | {EXTRA_SAMPLES: (SHORT, [UNASSOCIATED])})
    assert not differs(data, np.full((HEIGHT, WIDTH, 3), 255.0))


def test_a_palette_that_is_too_short_is_damage() -> None:
    data = tiff(full_range("u1"), photometric=PALETTE, more={COLOUR_MAP: (SHORT, [0] * 30)})
    assert code_of(data) == "damaged_image"
    assert code_of(tiff(full_range("u1"), photometric=PALETTE)) == "damaged_image"


# CIE L*, a*, b* under D50 of colours in sRGB, from the definitions: by the matrix of sRGB adapted by Bradford's method.
LAB_COLOURS = [
    ((100, 0, 0), (255, 255, 255)),
    ((53.585, 0, 0), (128, 128, 128)),
    ((54.22, 38.20, 46.25), (200, 100, 50)),
    ((48.56, -5.04, -38.22), (60, 120, 180)),
]


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("photometric", "bits"), [(CIELAB, 8), (CIELAB, 16), (ICCLAB, 8), (ICCLAB, 16)])
@pytest.mark.parametrize(("lab", "rgb"), LAB_COLOURS)
def test_lab_of_8_and_16_bits(
    lab: tuple[float, ...], rgb: tuple[int, ...], photometric: int, bits: int, order: Order, planar: bool
) -> None:
    lightest = {(CIELAB, 8): 255, (CIELAB, 16): 65_535, (ICCLAB, 8): 255, (ICCLAB, 16): 65_280}[photometric, bits]
    unit = 1 if bits == 8 else 256
    offset = 128 * unit if photometric == ICCLAB else 0
    stored = [lab[0] / 100 * lightest, *(value * unit + offset for value in lab[1:])]
    whole = [round(value) % 2**bits for value in stored]
    samples = np.broadcast_to(np.array(whole, f"u{bits // 8}"), (HEIGHT, WIDTH, 3))
    data = tiff(samples, photometric=photometric, order=order, planar=planar)
    assert near(corners(prepare(data, LIMITS)), [rgb] * 4, tolerance=3)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_cmyk_of_8_and_16_bits_in_pixels_or_planes_is_the_same(kind: str, planar: bool) -> None:
    inks = full_range(kind, 4)
    inks[..., 3] //= 2
    known = save(Image.fromarray(np.rint(inks / (257 if kind == "u2" else 1)).astype("u1"), "CMYK"), "TIFF")
    data = tiff(inks, photometric=CMYK, planar=planar, compression=LZW)
    assert not differs(data, shown(known), tolerance=2)


def ycbcr(compression: int, group: tuple[int, int], order: Order, more: dict[int, Any] | None = None) -> bytes:
    """Pixels of Y 76, Cb 85 and Cr 255 in the left half, which is red, and Y 29, Cb 255, Cr 107, blue, in the other."""
    across, down = group
    side = 64
    left = bytes([76] * (across * down) + [85, 255])
    right = bytes([29] * (across * down) + [255, 107])
    strip = (left * (side // 2 // across) + right * (side // 2 // across)) * (16 // down)
    tags: dict[int, Any] = {256: (LONG, [side]), 257: (LONG, [side]), 278: (LONG, [16]), 530: (SHORT, list(group))}
    numbers = {258: [8, 8, 8], 259: [compression], 262: [YCBCR], 277: [3]}
    tags |= {tag: (SHORT, values) for tag, values in numbers.items()}
    return file_of([(tags | (more or {}), [COMPRESSIONS[compression](strip)] * 4)], order=order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("group", [(1, 1), (2, 1), (2, 2), (4, 2), (4, 4)])
@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE])
def test_ycbcr_that_shares_colours_between_pixels(compression: int, group: tuple[int, int], order: Order) -> None:
    red, blue = (254, 0, 0), (0, 0, 254)
    found = corners(prepare(ycbcr(compression, group, order), LIMITS))
    assert near(found, [red, blue, red, blue], tolerance=3)


@pytest.mark.parametrize("compression", [NONE, LZW])
def test_ycbcr_whose_last_group_of_rows_is_not_full(compression: int) -> None:
    strip = (bytes([76] * 4) + bytes([85, 255])) * 35 * 32
    tags: dict[int, Any] = {256: (LONG, [69]), 257: (LONG, [63]), 278: (LONG, [63]), 530: (SHORT, [2, 2])}
    numbers = {258: [8, 8, 8], 259: [compression], 262: [YCBCR], 277: [3]}
    tags |= {tag: (SHORT, values) for tag, values in numbers.items()}
    prepared = prepare(file_of([(tags, [COMPRESSIONS[compression](strip)])]), LIMITS)
    assert (prepared.width, prepared.height) == (69, 63)
    assert near([tuple(band[0] for band in pixels(prepared).getextrema())], [(254, 0, 0)], tolerance=3)  # type: ignore[index]


@pytest.mark.parametrize("tag", [256, 258, 259, 262, 277])
def test_a_field_that_decides_about_pixels_and_cannot_be_read_is_damage(tag: int) -> None:
    data = bytearray(tiff(full_range("u1")))
    row = data.index(struct.pack("<H", tag), 8)
    for kind in (2, 12):
        data[row + 2 : row + 4] = struct.pack("<H", kind)
        assert code_of(bytes(data)) == "damaged_image"


def test_a_strip_whose_size_is_missing_ends_with_the_file() -> None:
    samples = full_range("u2")
    for compression in (NONE, LZW):
        data = bytearray(tiff(samples[:10], compression=compression))
        row = data.index(struct.pack("<HHI", 279, LONG, 1))
        data[row : row + 2] = struct.pack("<H", 280)
        prepared = prepare(bytes(data), LIMITS)
        assert (prepared.original_width, prepared.original_height) == (WIDTH, 10)


def test_ycbcr_of_video_range_and_coefficients_of_its_own() -> None:
    def fractions(*values: int) -> bytes:
        return b"".join(struct.pack("<II", value, 1000) for value in values)

    # With these, Y 76 is (76 - 16) * 255 / 219, and Cr 255 adds (255 - 128) * 127 / 112 * 2 * (1 - 0.2126) to it.
    more = {
        529: (RATIONAL, fractions(212, 715, 73)),
        532: (RATIONAL, fractions(16_000, 235_000, 128_000, 240_000, 128_000, 240_000)),
    }
    found = corners(prepare(ycbcr(NONE, (2, 2), "<", more), LIMITS))
    assert near(found[:1], [(255, 11, 0)], tolerance=2)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("tiled", [False, True])
def test_webp_inside_of_tiff(tiled: bool, mode: str, lossless: bool) -> None:
    image = quarters((64, 48)).convert(mode)
    boxes = [(x, y, x + 32, y + 16) for y in range(0, 48, 16) for x in (0, 32)]
    if not tiled:
        boxes = [(0, 0, 64, 32), (0, 32, 64, 48)]
    chunks = [save(image.crop(box), "WEBP", lossless=lossless, quality=95, exact=True) for box in boxes]
    tags: dict[int, Any] = {256: (LONG, [64]), 257: (LONG, [48]), 258: (SHORT, [8] * len(mode)), 259: (SHORT, [50_001])}
    tags |= {262: (SHORT, [RGB]), 277: (SHORT, [len(mode)])}
    tags |= {322: (LONG, [32]), 323: (LONG, [16])} if tiled else {278: (LONG, [32])}
    tags |= {EXTRA_SAMPLES: (SHORT, [UNASSOCIATED])} if mode == "RGBA" else {}
    assert near(corners(prepare(file_of([(tags, chunks)]), LIMITS)), [RED, GREEN, BLUE, WHITE], tolerance=20)


def test_jpeg_in_planes_is_put_together() -> None:
    bands = quarters((64, 48)).split()
    chunks = [save(band, "JPEG", quality=95) for band in bands]
    tags: dict[int, Any] = {256: (LONG, [64]), 257: (LONG, [48]), 258: (SHORT, [8, 8, 8]), 259: (SHORT, [7])}
    tags |= {262: (SHORT, [RGB]), 277: (SHORT, [3]), 278: (LONG, [48]), 284: (SHORT, [2])}
    assert near(corners(prepare(file_of([(tags, chunks)]), LIMITS)), [RED, GREEN, BLUE, WHITE], tolerance=20)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_older_kind_of_jpeg_in_tiff(order: Order) -> None:
    jpeg = save(quarters((64, 48)), "JPEG", quality=95, subsampling=0)
    tags: dict[int, Any] = {256: (LONG, [64]), 257: (LONG, [48]), 258: (SHORT, [8, 8, 8]), 259: (SHORT, [6])}
    tags |= {262: (SHORT, [YCBCR]), 277: (SHORT, [3]), 278: (LONG, [48]), 530: (SHORT, [1, 1])}
    tags |= {512: (SHORT, [1]), 513: (LONG, [0]), 514: (LONG, [len(jpeg)])}
    data = bytearray(file_of([(tags, [jpeg])], order=order))
    row = data.index(struct.pack(f"{order}HHI", 513, LONG, 1))
    struct.pack_into(f"{order}I", data, row + 8, data.index(jpeg))
    assert near(corners(prepare(bytes(data), LIMITS)), [RED, GREEN, BLUE, WHITE], tolerance=20)


def page_of(value: int, side: int, kind: int, more: dict[int, Any] | None = None) -> tuple[Any, list[bytes]]:
    tags = {256: (LONG, [side]), 257: (LONG, [side]), 278: (LONG, [side]), NEW_SUBFILE_TYPE: (LONG, [kind])}
    numbers = {258: 8, 259: NONE, 262: MIN_IS_BLACK, 277: 1}
    tags |= {tag: (SHORT, [number]) for tag, number in numbers.items()}
    return tags | (more or {}), [bytes([value]) * side * side]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kinds", "meant"),
    [([0, 0], 0), ([1, 0], 1), ([1, 1, 0], 2), ([4, 2], 1), ([5, 1], 0), ([2, 2], 0)],
    ids=["full", "thumbnail first", "two thumbnails first", "mask first", "no full page", "a page of many"],
)
def test_the_first_page_in_full_size_is_meant(kinds: list[int], meant: int, order: Order, big: bool) -> None:
    pages = [page_of(50 + 10 * number, 64 + number, kind) for number, kind in enumerate(kinds)]
    prepared = prepare(file_of(pages, order=order, big=big), LIMITS)
    assert (prepared.original_width, prepared.original_height) == (64 + meant, 64 + meant)
    assert pixels(prepared).getextrema() == (50 + 10 * meant, 50 + 10 * meant)


def test_a_page_within_the_first_is_meant_if_all_others_are_thumbnails() -> None:
    full = file_of([page_of(200, 80, 0)])
    first, [chunk] = page_of(50, 16, 1, {330: (LONG, [0])})
    small = file_of([(first, [chunk])])
    # The page of the other file, with its offsets moved to where it is put.
    moved = bytearray(full[8:])
    at = len(small)
    for tag in (273,):
        row = moved.index(struct.pack("<HHI", tag, LONG, 1))
        [offset] = struct.unpack_from("<I", moved, row + 8)
        struct.pack_into("<I", moved, row + 8, offset - 8 + at)
    data = small.replace(struct.pack("<HHII", 330, LONG, 1, 0), struct.pack("<HHII", 330, LONG, 1, at)) + bytes(moved)
    assert pixels(prepare(data, LIMITS)).getextrema() == (200, 200)


def test_a_thumbnail_does_not_stand_in_for_a_page_that_is_cut_off() -> None:
    data = file_of([page_of(50, 16, 1), page_of(60, 64, 0)])
    whole = prepare(data, LIMITS)
    assert whole.original_width == 64
    assert code_of(data[: len(data) - 64 * 64 - 40]) == "damaged_image"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_every_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    samples = np.asarray(stored(orientation)).astype(kind) * (1 if kind == "u1" else 257)
    prepared = prepare(tiff(samples, photometric=RGB, more={ORIENTATION: (SHORT, [orientation])}), LIMITS)
    assert (prepared.width, prepared.height, prepared.original_width, prepared.original_height) == (120, 80, 120, 80)
    assert near(corners(prepared), [RED, GREEN, BLUE, WHITE])


BAD_METADATA: dict[str, Tags] = {
    "an orientation there is not": {ORIENTATION: (SHORT, [77])},
    "an orientation of many bytes": {ORIENTATION: (UNDEFINED, b"Horizontal")},
    "EXIF beyond the end": {34_665: (LONG, [10**9])},
    "GPS in the header": {34_853: (LONG, [0])},
    "XMP that is none": {700: (1, b"<x:xmpmeta" * 9)},
    "a profile that is none": {34_675: (UNDEFINED, b"not a profile")},
    "text of whole numbers": {270: (LONG, [1, 2, 3])},
    "resolution of nothing": {282: (RATIONAL, bytes(8)), 283: (RATIONAL, bytes(8))},
    "Photoshop's, empty": {34_377: (UNDEFINED, bytes(5))},
}


@pytest.mark.parametrize("name", BAD_METADATA)
def test_broken_metadata_says_nothing_about_pixels(name: str) -> None:
    orders: list[Order] = ["<", ">"]
    for order, compression in itertools.product(orders, (NONE, LZW)):
        samples = np.asarray(quarters())
        data = tiff(samples, order=order, compression=compression, photometric=RGB, more=BAD_METADATA[name])
        assert near(corners(prepare(data, LIMITS)), [RED, GREEN, BLUE, WHITE]), (order, compression)


def test_a_profile_cut_off_by_the_end_of_the_file_is_left_out() -> None:
    data = tiff(np.asarray(quarters()), photometric=RGB, more={34_675: (UNDEFINED, bytes(20))})
    row = data.index(struct.pack("<HHI", 34_675, UNDEFINED, 20))
    broken = data[: row + 4] + struct.pack("<II", 10**6, len(data) - 3) + data[row + 12 :]
    assert near(corners(prepare(broken, LIMITS)), [RED, GREEN, BLUE, WHITE])


def tags_of(**changes: Any) -> bytes:
    """A TIFF of grey whose tags are changed: ``t262=32803`` says that it is camera raw."""
    more = {
        int(name[1:]): (SHORT, values if isinstance(values, list) else [values]) for name, values in changes.items()
    }
    return tiff(full_range("u1"), more=more)


def without_first_strip() -> bytes:
    """As GDAL leaves out what is empty: without an offset and a size."""
    data = bytearray(tiff(full_range("u1")))
    for tag in (273, 279):
        [at] = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", tag, LONG, 5)) + 8)
        data[at : at + 4] = bytes(4)
    return bytes(data)


UNSUPPORTED = {
    "six bands of which none is called red": (
        tiff(full_range("u1", 6), more={EXTRA_SAMPLES: (SHORT, [0] * 5)}),
        ["8-bit unsigned grey with 6 channels", "red, green and blue"],
    ),
    "LogLuv": (tags_of(t262=32_845, t259=34_676), ["LogLuv"]),
    "JPEG 2000": (tags_of(t259=33_005), ["JPEG 2000"]),
    "JPEG XL": (tags_of(t259=50_002), ["JPEG XL"]),
    "LERC": (tags_of(t259=34_887), ["LERC"]),
    "a compression without a name": (tags_of(t259=12_345), ["12345"]),
    "complex numbers": (tags_of(t258=64, t339=6), ["format 6"]),
    "24-bit numbers": (tags_of(t258=24), ["24-bit"]),
    "12-bit signed": (tags_of(t258=12, t339=2), ["12-bit signed"]),
    "channels of different widths": (
        tiff(full_range("u1", 3), photometric=RGB, more={258: (SHORT, [5, 6, 5])}),
        ["mixed-bit"],
    ),
    "inks that are not CMYK": (
        tiff(full_range("u1", 4), photometric=CMYK, more={332: (SHORT, [2])}),
        ["CMYK", "inks"],
    ),
    "12-bit JPEG": (tags_of(t258=12, t259=7), ["12-bit", "JPEG"]),
    "transparent Lab": (
        tiff(full_range("u1", 4), photometric=CIELAB, more={EXTRA_SAMPLES: (SHORT, [2])}),
        ["CIELAB", "transparency"],
    ),
    "differences of 12-bit numbers": (tags_of(t258=12, t259=5, t317=2), ["12-bit", "predictor (2)"]),
    "a fax of 8 bits": (tags_of(t259=4), ["8-bit", "FAX"]),
    "strips that are not there": (without_first_strip(), ["not in the file"]),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_decoded_is_refused_by_its_name(name: str) -> None:
    data, words = UNSUPPORTED[name]
    with pytest.raises(Exception, match="cannot be decoded") as caught:
        prepare(data, LIMITS)
    assert getattr(caught.value, "code", "") == "unsupported_format"
    assert [word for word in words if word not in str(caught.value)] == []


def test_numpy_is_imported_with_the_first_picture_that_needs_it_and_not_before() -> None:
    script = """
import sys
from shared.pictures.prepare import prepare
from shared.pictures.limits import Limits
limits = Limits(200_000_000, 2_458_624, 5_000_000)
for path in sys.argv[1:]:
    prepare(open(path, "rb").read(), limits)
    print("numpy" in sys.modules)
"""
    plain, deep = tiff(full_range("u1", 3), photometric=RGB, tile=TILE, compression=LZW), tiff(full_range("u2"))
    with_files = subprocess.run(
        [sys.executable, "-c", script, "/dev/stdin"], input=plain, capture_output=True, check=True
    )
    assert with_files.stdout == b"False\n"
    with_files = subprocess.run(
        [sys.executable, "-c", script, "/dev/stdin"], input=deep, capture_output=True, check=True
    )
    assert with_files.stdout == b"True\n"
