"""A picture goes to the model as what it is where the model takes it, and with nothing but its pixels."""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageStat, TiffImagePlugin

from shared.pictures import jpeg
from shared.pictures.colour.code_points import profile_of
from shared.pictures.prepare import prepare
from tests.pictures.hostile import LIMITS, LIMITS_AS_IT_IS
from tests.pictures.hostile.catalogue import save
from tests.pictures.hostile.jpeg_files import segment
from tests.pictures.rare_files import raw_of_nikon
from tests.pictures.test_convert import code_of, pixels

# As in the app, Pillow's warnings about broken metadata are no errors.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SECRET = b"52.5170 N 13.3889 E"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
END = b"\xff\xd9"


def photograph(size: tuple[int, int] = (120, 80), mode: str = "RGB") -> Image.Image:
    """Soft colours with noise: nothing that PNG compresses well."""
    coarse = size[0] // 8 + 1, size[1] // 8 + 1
    random = Random(1)
    scene = Image.frombytes("RGB", coarse, random.randbytes(coarse[0] * coarse[1] * 3)).resize(size)
    noise = Image.frombytes("RGB", size, random.randbytes(size[0] * size[1] * 3))
    return Image.blend(scene, noise, 0.1).convert(mode)


def drawing(size: tuple[int, int] = (400, 300), mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for step in range(0, 300, 20):
        pen.text((step, step), f"number {step}", fill="black")
        pen.ellipse((step, 50, step + 90, 140), outline="red", fill=None if step % 40 else "orange")
    return image.convert(mode)


def decoded(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


def segments(file: bytes) -> Iterator[tuple[int, bytes]]:
    """What a JPEG says besides its values: markers and contents, read without the app's help."""
    assert file.startswith(b"\xff\xd8")
    at = 2
    while at < len(file):
        assert file[at] == 0xFF
        marker = file[at + 1]
        if marker == 0xD9:
            assert at + 2 == len(file)
            return
        end = at + 2 + int.from_bytes(file[at + 2 : at + 4])
        yield marker, file[at + 4 : end]
        while marker == 0xDA and (file[end] != 0xFF or file[end + 1] in {0, *range(0xD0, 0xD8)}):
            end += 1
        at = end


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x10F] = SECRET.decode()
    tags[0x112] = 1
    tags[0x8825] = {1: "N", 2: (52.0, 31.0, 1.2), 29: SECRET.decode()}
    return tags.tobytes() + save(photograph((40, 30)), "JPEG", comment=SECRET)


# All that says more than pixels do, each with where a person was.
SAYING = {
    "EXIF data": segment(0xE1, exif()),
    "EXIF data twice": segment(0xE1, exif()) * 2,
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>" + SECRET),
    "more XMP": segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + SECRET),
    "IPTC": segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\x1c\x1c\2\5\0\x14" + SECRET),
    "a comment": segment(0xFE, SECRET),
    "a profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + SRGB + SECRET),
    "a table of pictures": segment(0xE2, b"MPF\0" + SECRET),
    "a maker's segment": segment(0xEB, SECRET),
    "JFIF with a thumbnail": segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\1\7" + SECRET + bytes(2)),
    "an extension of JFIF": segment(0xE0, b"JFXX\0\x10" + SECRET),
    "JFIF of Casio": segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0" + SECRET),
    "Adobe and more": segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + SECRET),
    "fill": b"\xff" * 20 + segment(0xFE, SECRET),
}
JPEGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "with its own tables": {"optimize": True},
    "without subsampling": {"subsampling": 0},
    "with restarts": {"restart_marker_rows": 1},
    "with restarts in many scans": {"restart_marker_blocks": 3, "progressive": True},
    "in RGB": {"keep_rgb": True},
    "of the best quality": {"quality": 100},
}


def kept_jpeg(data: bytes, original: Image.Image | None = None) -> bytes:
    """The file that the model gets, which decodes to the same pixels and says nothing else."""
    prepared = prepare(data, LIMITS_AS_IT_IS)
    assert prepared.file_type == "image/jpeg"
    shown = pixels(prepared)
    assert shown.tobytes() == (original or decoded(data)).tobytes()
    assert SECRET not in prepared.file
    for marker, content in segments(prepared.file):
        assert marker in {0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE}
        assert marker != 0xE0 or content == JFIF[4:]
        assert marker != 0xEE or content in {b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\1"}
    return prepared.file


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_keeps_its_pixels_and_nothing_else(kind: str, mode: str) -> None:
    data = save(photograph(mode=mode), "JPEG", **JPEGS[kind])
    said = data[:2] + b"".join(SAYING.values()) + data[2:]
    # Without JFIF and Adobe in what is said: those would change how the file's own colours are read.
    own = b"".join(part for name, part in SAYING.items() if not name.startswith(("JFIF", "Adobe")))
    assert kept_jpeg(data[:2] + own + data[2:] + SECRET, decoded(data)) == kept_jpeg(data)
    kept_jpeg(said)


@pytest.mark.parametrize("name", SAYING)
@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_what_a_jpeg_says_leaves_it_wherever_it_stands(name: str, kind: str) -> None:
    data = save(photograph(), "JPEG", **JPEGS[kind])
    marks = [at for at in range(len(data)) if data[at : at + 2] in {b"\xff\xda", b"\xff\xc4", b"\xff\xd9"}]
    # Behind the first scan nothing tells the colours any more.
    for at in (2, *marks):
        assert kept_jpeg(data[:at] + SAYING[name] + data[at:]) == kept_jpeg(data)


@pytest.mark.parametrize(
    "trailer",
    [
        SECRET,
        b"\0\0\0\x18ftypmp42" + SECRET,
        save(photograph((40, 30)), "JPEG", comment=SECRET),
        b"\0" * 4096 + b"SEFH" + SECRET + b"SEFT",
        b"\xff" * 50 + END + SECRET + END,
    ],
)
def test_what_stands_behind_a_jpeg_stays_behind(trailer: bytes) -> None:
    data = save(photograph(), "JPEG")
    assert kept_jpeg(data + trailer) == kept_jpeg(data)


def test_of_a_multi_picture_jpeg_the_others_stay_behind() -> None:
    other = photograph((240, 160)).rotate(180)
    data = save(photograph(), "MPO", save_all=True, append_images=[other], exif=exif())
    assert decoded(data).format == "MPO"
    assert len(kept_jpeg(data)) < len(data) / 3


@pytest.mark.parametrize("before", [0xC4, 0xDA])
def test_bytes_between_the_segments_of_a_jpeg_are_a_reason_to_encode_it_again(before: int) -> None:
    data = save(photograph(), "JPEG", progressive=True)
    at = data.index(bytes((0xFF, before)))
    prepared = prepare(data[:at] + SECRET + data[at:], LIMITS_AS_IT_IS)
    assert SECRET not in prepared.file
    assert prepared.file_type == "image/jpeg"


def test_a_jpeg_without_an_end_is_encoded_again_since_what_is_there_instead_may_say_something() -> None:
    data = save(photograph(), "JPEG")
    for cut in (1, 2):
        prepared = prepare(data[:-cut], LIMITS_AS_IT_IS)
        assert prepared.file == jpeg.write(decoded(data))
    assert SECRET not in prepare(data[:-2] + SECRET, LIMITS_AS_IT_IS).file


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        (b"", "RGB"),
        (JFIF, "YCbCr"),
        (segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"), "RGB"),
        (segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"), "YCbCr"),
        (segment(0xEE, b"Adobe\0\x64\0\0\0\0\2"), "YCbCr"),
        (segment(0xEE, b"Adobe\0\x64\0\0\0\0\0") + JFIF, "YCbCr"),
        (JFIF + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"), "YCbCr"),
        (segment(0xE0, b"JFIF\0"), "RGB"),
        (segment(0xEE, b"Adobe"), "RGB"),
    ],
)
def test_a_jpeg_keeps_its_colour_space(said: bytes, mode: str) -> None:
    """By the names of its channels, "RGB", unless one of these says otherwise."""
    data = save(photograph(), "JPEG", keep_rgb=True)
    own = b"".join(data[at : at + 16] for at in [data.index(b"\xff\xee")])
    bare = data.replace(own, b"")
    file = bare[:2] + said + bare[2:]
    # Pillow cannot open the two that are cut off, which say nothing.
    shown = decoded(bare if len(said) < 10 else file)
    assert kept_jpeg(file, shown)
    off = ImageStat.Stat(ImageChops.difference(shown, photograph())).mean
    assert (max(off) < 10) == (mode == "RGB")


def cmyk() -> bytes:
    return save(photograph(mode="CMYK"), "JPEG", quality=95)


def wide() -> bytes:
    return save(photograph(), "JPEG", quality=95, icc_profile=profile_of(12, 13))


@pytest.mark.parametrize("make", [cmyk, wide])
def test_a_jpeg_in_other_colours_than_srgb_is_converted(make: Callable[[], bytes]) -> None:
    prepared = prepare(make(), LIMITS_AS_IT_IS)
    expected = pixels(prepare(make(), LIMITS))
    assert pixels(prepared).mode == "RGB"
    assert prepared.file == jpeg.write(expected)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_jpeg_that_is_not_upright_is_turned_and_written_with_nothing_but_its_pixels(orientation: int) -> None:
    tags = Image.Exif()
    tags[0x112] = orientation
    tags[0x10F] = SECRET.decode()
    data = save(photograph(), "JPEG", quality=95, exif=tags, comment=SECRET, dpi=(300, 300), icc_profile=SRGB)
    prepared = prepare(data, LIMITS_AS_IT_IS)
    assert prepared.file == jpeg.write(pixels(prepare(data, LIMITS)))
    assert {marker for marker, _ in segments(prepared.file)} == {0xC0, 0xC4, 0xDA, 0xDB, 0xE0}
    assert SECRET not in prepared.file


@pytest.mark.parametrize(
    ("format", "size"),
    [
        *product(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "HEIF", "AVIF", "JPEG2000", "JXL"], [(30, 20), (120, 80)]),
        *product(["JPEG", "TIFF"], [(1600, 1540)]),
    ],
)
def test_of_whatever_format_and_size_nothing_leaves_but_pixels(format: str, size: tuple[int, int]) -> None:
    image = photograph((120, 80)).resize(size)
    options: dict[str, Any] = {"exif": exif(), "xmp": b"<x>" + SECRET + b"</x>", "icc_profile": SRGB, "comment": SECRET}
    if format in {"GIF", "JPEG2000"}:
        options = {"comment": SECRET}
    elif format == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[315] = tags[270] = SECRET.decode()
        options = {"tiffinfo": tags}
    elif format in {"HEIF", "AVIF", "JXL"}:
        del options["comment"]
    data = save(image, format, **options)
    assert SECRET in data
    for limits in (LIMITS, LIMITS_AS_IT_IS):
        prepared = prepare(data, limits)
        assert SECRET not in prepared.file
        assert not {*pixels(prepared).info} & {"exif", "xmp", "icc_profile", "comment", "dpi"}
        assert prepared.file_type in limits.image_types


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_that_lacks_its_last_bytes_is_damaged_also_where_others_follow(kind: str) -> None:
    data = save(photograph(), "JPEG", **JPEGS[kind])
    for missing in (20, 200, len(data) // 2):
        assert code_of(data[:-missing], LIMITS_AS_IT_IS) == "damaged_image"
    thumbnail = segment(0xE1, exif())
    assert code_of(data[:2] + thumbnail + data[2:-200], LIMITS_AS_IT_IS) == "damaged_image"


def test_a_jpeg_with_a_table_that_is_none_is_damaged() -> None:
    data = save(photograph(), "JPEG")
    for marker in (0xC4, 0xDB):
        at = data.index(bytes((0xFF, marker))) + 4
        broken = data[:at] + b"\xff" * 20 + data[at + 20 :]
        assert code_of(broken, LIMITS_AS_IT_IS) == "damaged_image"


@pytest.mark.parametrize(("size", "kept"), [((56, 55), False), ((56, 56), True), ((2000, 1500), True)])
def test_a_jpeg_is_kept_if_the_model_has_no_need_to_enlarge_it(size: tuple[int, int], kept: bool) -> None:
    data = save(photograph(size), "JPEG")
    prepared = prepare(data, LIMITS_AS_IT_IS)
    assert ((prepared.width, prepared.height) == size) == kept
    if kept:
        kept_jpeg(data)


def test_a_jpeg_with_more_pixels_than_an_operator_allows_is_scaled() -> None:
    data = save(photograph((2000, 1500)), "JPEG")
    prepared = prepare(data, replace(LIMITS_AS_IT_IS, model_max_pixels=2_000_000))
    assert prepared.file_type == "image/jpeg"
    assert 1_980_000 < prepared.width * prepared.height <= 2_000_000
    small = save(photograph((400, 300)), "JPEG")
    assert prepare(small, replace(LIMITS_AS_IT_IS, model_max_pixels=120_000)).file == kept_jpeg(small)


def test_a_jpeg_with_more_pixels_than_services_decode_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.pictures.convert._MAX_SCALED_BY_MODEL", 2_999_999)
    prepared = prepare(save(photograph((2000, 1500)), "JPEG"), LIMITS_AS_IT_IS)
    assert prepared.width * prepared.height <= LIMITS.model_max_pixels


def test_a_jpeg_with_too_many_bytes_is_written_anew_until_it_has_few_enough() -> None:
    data = save(photograph((600, 400)), "JPEG", quality=100)
    own = len(kept_jpeg(data))
    assert len(prepare(data, replace(LIMITS_AS_IT_IS, model_max_bytes=own)).file) == own
    prepared = prepare(data, replace(LIMITS_AS_IT_IS, model_max_bytes=own - 1))
    assert (prepared.file_type, prepared.width) == ("image/jpeg", 600)
    prepared = prepare(data, replace(LIMITS_AS_IT_IS, model_max_bytes=20_000))
    assert 10_000 < len(prepared.file) <= 20_000
    assert prepared.width < 600


def test_bytes_that_stay_behind_do_not_count() -> None:
    data = save(photograph(), "JPEG")
    limits = replace(LIMITS_AS_IT_IS, model_max_bytes=len(data) + 100)
    assert prepare(data + SECRET * 10_000, limits).file == kept_jpeg(data)


@pytest.mark.parametrize("options", [{"quality": 80}, {"lossless": True}, {"quality": 80, "method": 0}])
@pytest.mark.parametrize("metadata", [{}, {"exif": exif(), "xmp": SECRET, "icc_profile": SRGB}])
@pytest.mark.parametrize("size", [(120, 80), (121, 81), (600, 500)])
def test_a_webp_keeps_its_pixels_and_nothing_else(
    options: dict[str, Any], metadata: dict[str, bytes], size: tuple[int, int]
) -> None:
    data = save(photograph((120, 80)).resize(size), "WEBP", **options, **metadata)
    prepared = prepare(data + SECRET, LIMITS_AS_IT_IS)
    assert prepared.file_type == "image/webp"
    assert pixels(prepared).tobytes() == decoded(data).tobytes()
    assert SECRET not in prepared.file
    assert prepared.file[:4] + prepared.file[8:15] == b"RIFFWEBPVP8"
    length = int.from_bytes(prepared.file[16:20], "little")
    assert len(prepared.file) == 20 + length + length % 2 == 8 + int.from_bytes(prepared.file[4:8], "little")


def test_an_animated_transparent_turned_or_large_webp_is_converted() -> None:
    tags = Image.Exif()
    tags[0x112] = 6
    clear = photograph()
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    for data in (
        save(photograph(), "WEBP", save_all=True, append_images=[drawing((120, 80))]),
        save(clear, "WEBP"),
        save(clear, "WEBP", lossless=True),
        save(photograph(), "WEBP", exif=tags.tobytes()),
        save(photograph(), "WEBP", lossless=True, icc_profile=profile_of(12, 13)),
        save(photograph((120, 80)).resize((1600, 1550)), "WEBP"),
        save(photograph((50, 50)), "WEBP"),
    ):
        prepared = prepare(data, LIMITS_AS_IT_IS)
        assert prepared.file_type == "image/jpeg"
        assert prepared.file == jpeg.write(pixels(prepare(data, LIMITS)))


@pytest.mark.parametrize("options", [{"quality": 80}, {"lossless": True}])
def test_a_cut_webp_is_damaged_also_if_its_header_was_mended(options: dict[str, Any]) -> None:
    data = save(photograph(), "WEBP", **options)
    for cut in (len(data) // 2, len(data) - 30):
        assert code_of(data[:cut], LIMITS_AS_IT_IS) == "damaged_image"
        mended = b"RIFF" + struct.pack("<I", cut - 8) + data[8:16] + struct.pack("<I", cut - 20) + data[20:cut]
        assert code_of(mended, LIMITS_AS_IT_IS) == "damaged_image"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("format", ["BMP", "TIFF"])
def test_photographs_are_written_as_jpeg_and_drawings_as_png(mode: str, format: str) -> None:
    data = save(photograph((400, 300), mode), format)
    prepared = prepare(data, LIMITS_AS_IT_IS)
    assert prepared.file_type == "image/jpeg"
    off = ImageChops.difference(pixels(prepared).convert("L"), pixels(prepare(data, LIMITS)).convert("L"))
    assert ImageStat.Stat(off).mean[0] < 3
    drawn = save(drawing(mode=mode), format)
    assert prepare(drawn, LIMITS_AS_IT_IS) == prepare(drawn, LIMITS)


def test_a_picture_that_is_too_long_for_jpeg_is_written_as_png() -> None:
    data = save(Image.frombytes("L", (70_000, 1), Random(1).randbytes(70_000)), "TIFF")
    assert prepare(data, LIMITS_AS_IT_IS).file_type == "image/png"


def test_a_gif_is_converted() -> None:
    assert prepare(save(drawing(), "GIF"), LIMITS_AS_IT_IS).file_type == "image/png"


def test_the_jpeg_in_a_raw_file_is_kept() -> None:
    data = raw_of_nikon(photograph((400, 300)))
    prepared = prepare(data, LIMITS_AS_IT_IS)
    assert (prepared.media_type, prepared.file_type) == ("image/x-dcraw", "image/jpeg")
    assert prepared.file[-1000:] in data


def test_what_a_model_that_takes_png_alone_gets_is_png_and_another_preparation() -> None:
    for data in (save(photograph(), "JPEG"), save(photograph(), "WEBP"), save(photograph(), "BMP")):
        assert prepare(data, LIMITS).file_type == "image/png"
    assert (LIMITS.preparation, LIMITS_AS_IT_IS.preparation) == (2, 3)
