"""Formats of editors, games, icons and cameras come out as their own programs show them."""

import importlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from shared.pictures.colour.code_points import profile_of
from shared.pictures.prepare import prepare
from tests.pictures.hostile.gif_bmp_ico import dib
from tests.pictures.rare_files import apple_rle, cursor, dds, icns, psd, raw_of_canon, raw_of_nikon, tga
from tests.pictures.test_convert import BLUE, GREEN, LIMITS, RED, WHITE, code_of, corners, near, quarters, save, stored
from tests.pictures.tiff_files import file_of

# Registers JPEG XL with Pillow, to write it.
importlib.import_module("pillow_jxl")
UPRIGHT = [RED, GREEN, BLUE, WHITE]
SIZE = quarters().size


def numbers(order: str) -> bytes:
    return quarters().convert("RGBA").tobytes("raw", order)


FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PSD": ("image/vnd.adobe.photoshop", lambda: psd(quarters())),
    "PSD in runs": ("image/vnd.adobe.photoshop", lambda: psd(quarters(), compressed=True, merged=True)),
    "PSD with a palette": ("image/vnd.adobe.photoshop", lambda: psd(quarters().quantize(8), mode=2)),
    "TGA": ("image/x-tga", lambda: tga(quarters())),
    "TGA from its bottom": ("image/x-tga", lambda: tga(quarters(), flags=0)),
    "TGA in runs": ("image/x-tga", lambda: tga(quarters(), compressed=True)),
    "TGA without its end": ("image/x-tga", lambda: tga(quarters(), footer=False)),
    "TGA with an id": ("image/x-tga", lambda: save(quarters(), "TGA", id_section=b"made by hand")),
    "PCX": ("image/vnd.zbrush.pcx", lambda: save(quarters(), "PCX")),
    "QOI": ("image/qoi", lambda: save(quarters(), "QOI")),
    "QOI with alpha": ("image/qoi", lambda: save(quarters().convert("RGBA"), "QOI")),
    "SGI": ("image/sgi", lambda: save(quarters(), "SGI")),
    "SGI of 16 bits": ("image/sgi", lambda: save(quarters(), "SGI", bpc=2)),
    "DDS": ("image/vnd.ms-dds", lambda: dds(SIZE, 32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), numbers("RGBA"))),
    "DDS of blocks": ("image/vnd.ms-dds", lambda: save(quarters(), "DDS", pixel_format="DXT1")),
    "DDS of three bytes": (
        "image/vnd.ms-dds",
        lambda: dds(SIZE, 24, (0xFF0000, 0xFF00, 0xFF, 0), quarters().tobytes("raw", "BGR")),
    ),
    "ICNS": (
        "image/icns",
        lambda: icns((b"ic08", save(quarters((16, 16)), "PNG")), (b"ic07", save(quarters(), "PNG"))),
    ),
    "ICNS of JPEG 2000": ("image/icns", lambda: icns((b"ic08", save(quarters(), "JPEG2000")))),
    "ICNS of pixels": (
        "image/icns",
        lambda: icns(
            (b"it32", bytes(4) + b"".join(apple_rle(band.tobytes()) for band in quarters((128, 128)).split())),
            (b"t8mk", b"\xff" * 128 * 128),
        ),
    ),
    "cursor": (
        "image/x-win-bitmap",
        lambda: cursor(dib((64, 64), 24, quarters((64, 64)).tobytes("raw", "BGR", 0, -1)), 64),
    ),
    "JPEG XL": ("image/jxl", lambda: save(quarters(), "JXL", quality=95)),
    "JPEG XL in a container": ("image/jxl", lambda: save(quarters(), "JXL", lossless=True, use_container=True)),
    "raw of Nikon": ("image/x-dcraw", lambda: raw_of_nikon(quarters())),
    "raw of Canon": ("image/x-dcraw", lambda: raw_of_canon(quarters())),
    "raw of Fujifilm": (
        "image/x-dcraw",
        lambda: b"FUJIFILMCCD-RAW 0201FF" + bytes(126) + save(quarters(), "JPEG", quality=95) + bytes(999),
    ),
    "DNG": ("image/x-dcraw", lambda: raw_of_nikon(quarters(), order="<", dng=True)),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_picture_is_that_which_its_programs_show(kind: str) -> None:
    media_type, make = FILES[kind]
    prepared = prepare(make(), LIMITS)
    assert near(corners(prepared), UPRIGHT, 20)
    assert prepared.media_type == media_type


@pytest.mark.parametrize("kind", [kind for kind in FILES if "raw" not in kind and kind != "DNG"])
def test_a_cut_file_is_damaged(kind: str) -> None:
    data = FILES[kind][1]()
    assert code_of(data[: len(data) // 2]) in {"damaged_image", "not_an_image"}


def test_the_bits_that_are_set_in_an_xbm_are_black() -> None:
    rows = ", ".join(["0xff, 0x00"] * 16)
    data = f"/* two halves */\n#define a_width 16\n#define a_height 16\nstatic char a_bits[] = {{\n{rows}}};\n".encode()
    prepared = prepare(data, LIMITS)
    assert corners(prepared) == [(0, 0, 0), (255, 255, 255)] * 2
    assert prepared.media_type == "image/x-xbitmap"


def test_the_fourth_channel_of_a_psd_is_no_transparency() -> None:
    picture = quarters()
    picture.putalpha(0)
    assert near(corners(prepare(psd(picture), LIMITS)), UPRIGHT)


def test_a_psd_in_cmyk_has_its_inks_inverted() -> None:
    cyan = Image.new("CMYK", (64, 64), (0, 255, 255, 255))
    assert near(corners(prepare(psd(cyan, mode=4), LIMITS)), [(0, 158, 224)] * 4, 7)


def test_the_profile_of_a_psd_counts() -> None:
    data = psd(Image.new("RGB", (64, 64), (55, 55, 55)), profile=profile_of(1, 8) or b"")
    assert near(corners(prepare(data, LIMITS)), [(128, 128, 128)] * 4, 2)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (psd(quarters(), version=2), "PSB"),
        (psd(quarters(), bits=16), "16 bits"),
        (psd(quarters(), mode=9), "colour mode 9"),
        (psd(quarters(), merged=False), "no flattened picture"),
        (dds((8, 8), 8, (0xE0, 0x1C, 3, 0), bytes(64)), "DDS of 8 bits"),
        (raw_of_nikon(quarters()).partition(b"\xff\xd8\xff")[0], "raw file without a JPEG"),
        (b"FUJIFILMCCD-RAW 0201FF" + save(quarters((32, 32)), "JPEG") * 9, "raw file without a JPEG"),
    ],
    ids=["large PSD", "deep PSD", "Lab PSD", "PSD of layers", "DDS of 8 bits", "raw without JPEG", "raw of tiles"],
)
def test_what_is_not_decoded_is_named(data: bytes, word: str) -> None:
    with pytest.raises(Exception, match=word) as raised:
        prepare(data, LIMITS)
    assert raised.value.code == "unsupported_format"  # type: ignore[attr-defined]


def test_a_dds_in_numbers_of_odd_widths_is_scaled() -> None:
    red_of_5, green_of_6 = struct.pack("<H", 0xF800), struct.pack("<H", 0x07E0)
    data = dds((80, 60), 16, (0xF800, 0x07E0, 0x1F, 0), (red_of_5 * 40 + green_of_6 * 40) * 60)
    assert corners(prepare(data, LIMITS)) == [(255, 0, 0), (0, 255, 0)] * 2


@pytest.mark.parametrize(
    "make", [tga, lambda image: dds(SIZE, 32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), image.tobytes())]
)
def test_alpha_that_is_zero_everywhere_is_none(make: Callable[[Image.Image], bytes]) -> None:
    picture = quarters()
    picture.putalpha(0)
    assert near(corners(prepare(make(picture), LIMITS)), UPRIGHT)


@pytest.mark.parametrize(
    "make", [tga, lambda image: save(image, "QOI"), lambda image: save(image, "JXL", lossless=True)]
)
def test_what_is_transparent_is_white(make: Callable[[Image.Image], bytes]) -> None:
    picture = quarters()
    picture.putalpha(255)
    picture.paste((0, 0, 0, 0), (0, 0, SIZE[0] // 2, SIZE[1]))
    assert near(corners(prepare(make(picture), LIMITS)), [WHITE, GREEN, WHITE, WHITE], 20)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("make", [raw_of_nikon, raw_of_canon])
def test_a_photograph_in_a_raw_file_is_turned_as_the_file_says(make: Callable[..., bytes], orientation: int) -> None:
    assert near(corners(prepare(make(stored(orientation), orientation=orientation), LIMITS)), UPRIGHT, 20)


def test_what_the_photograph_says_itself_counts_before_its_raw_file() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    jpeg = save(stored(6), "JPEG", quality=95, exif=exif.tobytes())
    metadata = file_of([({274: (3, [3])}, [])])
    assert near(corners(prepare(b"IIRO" + metadata[4:] + jpeg, LIMITS)), UPRIGHT, 20)


def test_of_several_jpegs_in_a_raw_file_the_largest_is_the_photograph() -> None:
    small = save(Image.new("RGB", (60, 40), "black"), "JPEG")
    data = b"FUJIFILMCCD-RAW 0201FF" + small + save(quarters(), "JPEG", quality=95) + small
    assert near(corners(prepare(data, LIMITS)), UPRIGHT, 20)


def test_a_jpeg_xl_that_was_a_jpeg_is_that_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    jpeg = save(stored(6), "JPEG", quality=95, exif=exif.tobytes())
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg)
    out = io.BytesIO()
    Image.open(file).save(out, "JXL", lossless_jpeg=True)
    assert prepare(out.getvalue(), LIMITS).file == prepare(jpeg, LIMITS).file


def test_a_jpeg_xl_of_16_bits_is_scaled_and_its_profile_counts() -> None:
    # Whoever writes it says that its numbers are linear light: 0.61 of it is 205.
    picture = Image.new("I;16", (64, 64), 40_000)
    assert near(corners(prepare(save(picture, "JXL", lossless=True), LIMITS)), [(205, 205, 205)] * 4, 1)
