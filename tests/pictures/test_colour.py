"""Colours reach the model as sRGB: by what the file says, not by a profile's name, and as inks are printed."""

import io
import struct

import pytest
from PIL import Image, ImageCms

from shared.pictures.colour import icc
from shared.pictures.colour.code_points import profile_of
from shared.pictures.colour.srgb import is_srgb
from shared.pictures.limits import Limits
from shared.pictures.prepare import prepare
from tests.pictures.hostile.png_files import chunk, png
from tests.pictures.test_convert import code_of, near, pixels, save

SRGB, LINEAR, PQ, HLG, BT709_CURVE, UNSPECIFIED = 13, 8, 16, 18, 1, 2
BT709, BT2020, DCI_P3, DISPLAY_P3 = 1, 9, 11, 12


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (64, 64), colour if len(colour) > 1 else colour[0])


def shown(data: bytes, limits: Limits) -> tuple[int, ...]:
    """The colour in the middle, as RGB."""
    picture = pixels(prepare(data, limits)).convert("RGB")
    return picture.getpixel((picture.width // 2, picture.height // 2))  # type: ignore[return-value]


def with_code_points(kind: str, colour: tuple[int, ...], primaries: int, transfer: int) -> bytes:
    if kind == "PNG":
        data = save(flat(colour), "PNG")
        return data[:33] + chunk(b"cICP", bytes([primaries, transfer, 0, 1])) + data[33:]
    options = {"subsampling": "4:4:4"} if kind == "AVIF" else {"chroma": 444}
    data = save(flat(colour), kind, quality=-1 if kind == "HEIF" else 100, **options)
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


# By hand. White is white, and equal amounts of red, green and blue stay grey: only the curve counts.
# Linear: 55 / 255 = 0.2157 of the light is (1.055 * 0.2157 ^ (1 / 2.4) - 0.055) * 255 = 128.
# PQ: 128 / 255 is 94.0 cd/m2 (ST 2084), 0.4632 of white; over the knee of 0.3 that becomes 0.3 + 0.1632 / (1 + 0.1632 *
# (1 / 0.7 - 1 / 4.626)) = 0.4362, as sRGB 176. 1,000 cd/m2 is the signal 0.7518: 192, and above all is white.
# HLG: 0.75 of the signal is white (BT.2100); at 191 / 255 that is 0.984, which becomes 0.673, as sRGB 214.
GREYS = [
    (LINEAR, 55, 128),
    (PQ, 128, 176),
    (PQ, 192, 255),
    (PQ, 255, 255),
    (HLG, 191, 214),
    (HLG, 255, 255),
    (SRGB, 128, 128),
    (BT709_CURVE, 128, 128),
    (UNSPECIFIED, 128, 128),
]


@pytest.mark.parametrize("kind", ["PNG", "HEIF", "AVIF"])
@pytest.mark.parametrize(("transfer", "signal", "expected"), GREYS)
def test_greys_follow_the_curve_that_code_points_name(
    kind: str, transfer: int, signal: int, expected: int, limits: Limits
) -> None:
    data = with_code_points(kind, (signal,) * 3, BT709, transfer)
    assert near([shown(data, limits)], [(expected,) * 3], 2)


# By hand: the published matrices to linear sRGB have in their first columns, for red, 1.2249 -0.0420 -0.0196 (Display
# P3) and 1.6605 -0.1246 -0.0182 (BT.2020). With (0.5776, 0.1274, 0.0319) of light, signals of 200, 100 and 50, that is
# 0.6788, 0.1085, 0.0129 and 0.8841, 0.0704, 0.0123, as sRGB:
COLOURS = [(BT709, (200, 100, 50)), (DISPLAY_P3, (215, 93, 31)), (BT2020, (241, 76, 29))]


@pytest.mark.parametrize("kind", ["PNG", "HEIF", "AVIF"])
@pytest.mark.parametrize(("primaries", "expected"), COLOURS)
def test_colours_follow_the_primaries_that_code_points_name(
    kind: str, primaries: int, expected: tuple[int, ...], limits: Limits
) -> None:
    assert near([shown(with_code_points(kind, (200, 100, 50), primaries, SRGB), limits)], [expected], 3)


@pytest.mark.parametrize("primaries", [BT2020, DCI_P3, DISPLAY_P3])
def test_white_is_white_in_every_space(primaries: int, limits: Limits) -> None:
    assert shown(with_code_points("PNG", (255, 255, 255), primaries, SRGB), limits) == (255, 255, 255)


def test_code_points_count_before_the_profile_of_a_png_and_after_that_of_an_avif(limits: Limits) -> None:
    wide = profile_of(BT2020, SRGB)
    data = save(flat((200, 100, 50)), "PNG", icc_profile=wide)
    stated = data[:33] + chunk(b"cICP", bytes([BT709, SRGB, 0, 1])) + data[33:]
    assert shown(stated, limits) == (200, 100, 50)
    profile = profile_of(DISPLAY_P3, SRGB)
    both = save(flat((200, 100, 50)), "AVIF", quality=100, subsampling="4:4:4", icc_profile=profile)
    assert near([shown(both, limits)], [(215, 93, 31)], 3)


def named(profile: bytes, name: bytes) -> bytes:
    """The profile with another description."""
    at = profile.index(b"desc\0\0\0\0", 132) + 8
    return profile[:at] + struct.pack(">I", len(name) + 1) + name + b"\0" + profile[at + 4 + len(name) + 1 :]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_srgb_in_a_profile_s_name_says_nothing(format: str, limits: Limits) -> None:
    linear = profile_of(BT709, LINEAR)
    assert linear
    profile = named(linear, b"GIMP built-in Linear sRGB")
    assert "Linear sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    assert near([shown(save(flat((55, 55, 55)), format, icc_profile=profile), limits)], [(128,) * 3], 2)


def test_srgb_under_another_name_passes_through_untouched(limits: Limits) -> None:
    signals = [step / 1023 for step in range(1024)]
    curve = icc.curve([x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in signals])
    colours = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))  # sRGB, under D50
    tags = {name: icc.xyz(colour) for name, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours, strict=True)}
    profile = icc.write(b"mntrRGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))
    assert is_srgb(profile)
    data = save(flat((200, 100, 50)), "PNG", icc_profile=profile)
    assert shown(data, limits) == (200, 100, 50)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_grey_picture_with_a_profile_of_colours_follows_its_curve(format: str, limits: Limits) -> None:
    data = save(flat((55,), "L"), format, icc_profile=profile_of(BT709, LINEAR))
    assert near([shown(data, limits)], [(128,) * 3], 2)


def test_a_profile_larger_than_those_that_are_remembered_counts_too(limits: Limits) -> None:
    linear = profile_of(BT709, LINEAR)
    assert linear
    padded = linear + bytes(100_000)
    profile = len(padded).to_bytes(4) + padded[4:]
    assert near([shown(save(flat((55, 55, 55)), "PNG", icc_profile=profile), limits)], [(128,) * 3], 2)


# What graphics editors show with the profile "Coated FOGRA39", relative to the paper and with the darkest as black.
INKS = [
    ((0, 0, 0, 0), (255, 255, 255)),
    ((255, 0, 0, 0), (0, 158, 224)),
    ((0, 255, 0, 0), (230, 0, 126)),
    ((0, 0, 255, 0), (255, 237, 0)),
    ((0, 255, 255, 0), (227, 6, 19)),
    ((255, 0, 255, 0), (0, 150, 64)),
    ((255, 255, 0, 0), (49, 39, 131)),
    ((0, 0, 0, 255), (29, 29, 27)),
    ((0, 0, 0, 128), (157, 157, 156)),
    ((255, 255, 255, 255), (0, 0, 0)),
]


@pytest.mark.parametrize(("inks", "expected"), INKS)
@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_shown_as_it_is_printed(
    format: str, inks: tuple[int, ...], expected: tuple[int, ...], limits: Limits
) -> None:
    options = {"quality": 100} if format == "JPEG" else {}
    assert near([shown(save(flat(inks, "CMYK"), format, **options), limits)], [expected], 7)


def test_cmyk_with_the_profile_of_another_colour_space_counts_as_without(limits: Limits) -> None:
    data = save(flat((255, 0, 0, 0), "CMYK"), "TIFF", icc_profile=profile_of(DISPLAY_P3, SRGB))
    assert near([shown(data, limits)], [(0, 158, 224)], 7)


@pytest.mark.parametrize("broken", [b"", b"\0" * 128, b"no profile", b"acsp" * 100])
@pytest.mark.parametrize("cut", [None, 200, 131])
def test_a_broken_profile_says_nothing(broken: bytes, cut: int | None, limits: Limits) -> None:
    profile = broken if cut is None else (profile_of(BT709, LINEAR) or b"")[:cut]
    assert shown(save(flat((200, 100, 50)), "PNG", icc_profile=profile), limits) == (200, 100, 50)


def test_a_png_with_two_headers_is_damaged() -> None:
    data = png((64, 64))
    assert code_of(data[:33] + data[8:]) == "damaged_image"


def test_a_png_whose_end_is_broken_does_not_pass_through_untouched(limits: Limits) -> None:
    data = save(flat((200, 100, 50)), "PNG")
    assert prepare(data, limits).file == data
    assert prepare(data[:-1] + b"!", limits).file == data
