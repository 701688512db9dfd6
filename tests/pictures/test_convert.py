"""Any picture becomes an upright PNG within the limits, or one of the contract's failure codes."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageCms, ImageDraw, PngImagePlugin

from shared.errors import PictureError
from shared.pictures.limits import Limits, Prepared
from shared.pictures.prepare import prepare

pillow_heif.register_heif_opener()

LIMITS = Limits(image_max_pixels=200_000_000, model_max_pixels=2_458_624, model_max_bytes=5_000_000)
RED, GREEN, BLUE, WHITE = (254, 0, 0), (0, 128, 1), (0, 0, 254), (255, 255, 255)


def quarters(size: tuple[int, int] = (120, 80)) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right: every turn shows."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    middle_x, middle_y = size[0] // 2, size[1] // 2
    draw.rectangle((0, 0, middle_x - 1, middle_y - 1), fill="red")
    draw.rectangle((middle_x, 0, size[0], middle_y - 1), fill="green")
    draw.rectangle((0, middle_y, middle_x - 1, size[1]), fill="blue")
    return image


def save(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pixels(prepared: Prepared) -> Image.Image:
    image = Image.open(io.BytesIO(prepared.file))
    assert image.get_format_mimetype() == prepared.file_type
    image.load()
    assert image.size == (prepared.width, prepared.height)
    return image


def corners(prepared: Prepared) -> list[tuple[int, ...]]:
    image = pixels(prepared).convert("RGB")
    x, y = image.width // 4, image.height // 4
    spots = [(x, y), (3 * x, y), (x, 3 * y), (3 * x, 3 * y)]
    return [tuple(image.getpixel(spot)) for spot in spots]  # type: ignore[arg-type]


def near(found: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]], tolerance: int = 12) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(abs(a - b) <= tolerance for one, other in pairs for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("format", "options", "media_type"),
    [
        ("JPEG", {"quality": 95}, "image/jpeg"),
        ("JPEG", {"quality": 95, "progressive": True}, "image/jpeg"),
        ("PNG", {}, "image/png"),
        ("WEBP", {"lossless": True}, "image/webp"),
        ("WEBP", {"quality": 95}, "image/webp"),
        ("GIF", {}, "image/gif"),
        ("TIFF", {}, "image/tiff"),
        ("TIFF", {"compression": "tiff_lzw"}, "image/tiff"),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, "image/tiff"),
        ("BMP", {}, "image/bmp"),
        ("AVIF", {"quality": 95}, "image/avif"),
        ("JPEG2000", {}, "image/jp2"),
        ("PPM", {}, "image/x-portable-pixmap"),
        ("ICO", {"sizes": [(120, 80)]}, "image/x-icon"),
    ],
)
def test_the_format_is_told_by_content_and_the_pixels_are_kept(
    format: str, options: dict[str, Any], media_type: str, limits: Limits
) -> None:
    prepared = prepare(save(quarters(), format, **options), limits)
    assert prepared.media_type == media_type
    assert (prepared.original_width, prepared.original_height) == (120, 80)
    assert near(corners(prepared), [RED, GREEN, BLUE, WHITE])


def stored(orientation: int) -> Image.Image:
    """The four quarters as a camera stores them with this EXIF orientation."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return quarters().transpose(undo[orientation]) if orientation in undo else quarters()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_every_orientation_comes_out_upright(format: str, orientation: int, limits: Limits) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {} if format in {"PNG", "TIFF"} else {"quality": 95}
    prepared = prepare(save(stored(orientation), format, exif=exif.tobytes(), **options), limits)
    assert (prepared.width, prepared.height) == (120, 80)
    assert near(corners(prepared), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_white(mode: str, limits: Limits) -> None:
    image = Image.new("RGBA", (80, 80), (255, 0, 0, 0)).convert(mode)
    assert corners(prepare(save(image, "PNG"), limits)) == [WHITE] * 4


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(format: str, limits: Limits) -> None:
    image = quarters().quantize(8)
    red = image.getpixel((30, 20))
    assert near(corners(prepare(save(image, format, transparency=red), limits)), [WHITE, GREEN, BLUE, WHITE])


def test_a_transparent_colour_of_a_png_becomes_white(limits: Limits) -> None:
    image = Image.new("RGB", (80, 80), "red")
    assert corners(prepare(save(image, "PNG", transparency=(255, 0, 0)), limits)) == [WHITE] * 4


def test_sixteen_bits_are_scaled_not_clipped(limits: Limits) -> None:
    image = Image.new("I;16", (80, 80), 32768)
    for format in ("PNG", "TIFF"):
        assert pixels(prepare(save(image, format), limits)).getextrema() in {(127, 127), (128, 128)}


@pytest.mark.parametrize(("value", "shown"), [(0.5, 127), (128.0, 128), (32768.0, 127)])
def test_floats_are_scaled_by_the_smallest_usual_range_that_holds_them(
    value: float, shown: int, limits: Limits
) -> None:
    image = Image.new("F", (80, 80), value)
    low, high = pixels(prepare(save(image, "TIFF"), limits)).getextrema()
    assert low == high
    assert abs(int(low) - shown) <= 1  # type: ignore[arg-type]


def test_values_that_are_not_finite_are_damage() -> None:
    assert code_of(save(Image.new("F", (80, 80), float("nan")), "TIFF")) == "damaged_image"


def test_black_and_white_is_grey(limits: Limits) -> None:
    assert corners(prepare(save(Image.new("1", (80, 80), 1), "TIFF"), limits)) == [WHITE] * 4


def test_a_colour_profile_is_applied_and_dropped() -> None:
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    data = save(quarters(), "PNG", icc_profile=lab_like.tobytes())
    assert b"iCCP" not in prepare(data, LIMITS).file
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert corners(prepare(save(quarters(), "PNG", icc_profile=srgb), LIMITS)) == corners(
        prepare(save(quarters(), "PNG"), LIMITS)
    )


def test_an_unusable_profile_is_ignored(limits: Limits) -> None:
    prepared = prepare(save(quarters(), "PNG", icc_profile=b"no profile"), limits)
    assert near(corners(prepared), [RED, GREEN, BLUE, WHITE])


def test_an_animation_is_its_first_frame(limits: Limits) -> None:
    frames = [quarters(), Image.new("RGB", (120, 80), "black")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = save(frames[0], format, save_all=True, append_images=frames[1:])
        assert near(corners(prepare(data, limits)), [RED, GREEN, BLUE, WHITE], tolerance=40)


def test_a_png_that_fits_passes_through_byte_for_byte(limits: Limits) -> None:
    for mode in ("RGB", "L", "RGBA"):
        data = save(quarters().convert(mode), "PNG")
        assert prepare(data, limits).file == data


def test_a_png_that_fits_loses_its_metadata_and_keeps_its_compressed_pixels() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("where", "a secret place")
    plain = save(quarters(), "PNG")
    assert prepare(save(quarters(), "PNG", pnginfo=text) + b"trailing bytes", LIMITS).file == plain


def test_a_png_with_data_after_its_pixels_is_encoded_again(limits: Limits) -> None:
    data = save(quarters(), "PNG")
    start, end = data.index(b"IDAT") + 4, data.index(b"IEND") - 8
    pixels_and_more = data[start:end] + b"smuggled"
    chunk = b"IDAT" + pixels_and_more
    odd = data[: start - 8] + struct.pack(">I", len(pixels_and_more)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    prepared = prepare(odd + data[end + 4 :], limits)
    assert b"smuggled" not in prepared.file
    assert pixels(prepared).tobytes() == quarters().tobytes()


def test_a_png_with_a_palette_or_of_one_bit_is_encoded_again() -> None:
    for image in (quarters().quantize(8), quarters().convert("1")):
        prepared = prepare(save(image, "PNG"), LIMITS)
        assert pixels(prepared).mode in {"RGB", "L"}


def test_a_large_picture_is_scaled_into_the_pixel_limit_and_keeps_its_shape() -> None:
    prepared = prepare(save(quarters((4000, 3000)), "JPEG", quality=90), LIMITS)
    assert prepared.width * prepared.height <= LIMITS.model_max_pixels
    assert prepared.width * prepared.height > 0.99 * LIMITS.model_max_pixels
    assert abs(prepared.width / prepared.height - 4 / 3) < 0.002
    assert near(corners(prepared), [RED, GREEN, BLUE, WHITE])


def test_a_png_with_too_many_bytes_is_scaled_down_further() -> None:
    noise = Image.effect_noise((1200, 900), 120).convert("RGB")
    limits = Limits(200_000_000, 2_458_624, model_max_bytes=200_000)
    prepared = prepare(save(noise, "BMP"), limits)
    assert 100_000 < len(prepared.file) <= 200_000
    assert abs(prepared.width / prepared.height - 4 / 3) < 0.02


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (56, 55), (1, 400)])
def test_a_tiny_picture_is_enlarged_to_the_model_s_minimum(size: tuple[int, int], limits: Limits) -> None:
    prepared = prepare(save(Image.new("RGB", size, "red"), "PNG"), limits)
    assert prepared.width * prepared.height >= 3136
    assert corners(prepared) == [(255, 0, 0)] * 4


@pytest.mark.parametrize("size", [(1, 3_000_000), (3_000_000, 1), (60_000, 50)])
def test_a_picture_of_extreme_shape_still_fits(size: tuple[int, int], limits: Limits) -> None:
    prepared = prepare(save(Image.new("L", size, 9), "PNG"), limits)
    assert 3136 <= prepared.width * prepared.height <= limits.model_max_pixels


def code_of(data: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(PictureError) as raised:
        prepare(data, limits)
    assert str(raised.value)
    return raised.value.code


def test_no_bytes_are_an_empty_picture() -> None:
    assert code_of(b"") == "empty"


@pytest.mark.parametrize("data", [b"hello", b"<html><body>", b"\0" * 100_000, b"{}", b"PK\3\4" + b"x" * 100])
def test_other_bytes_are_not_an_image(data: bytes) -> None:
    assert code_of(data) == "not_an_image"


@pytest.mark.parametrize(
    "data",
    [b"%PDF-1.7\n", b"%!PS-Adobe", b"<svg/>", b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="x">'],
)
def test_documents_and_drawings_are_an_unsupported_format(data: bytes) -> None:
    assert code_of(data) == "unsupported_format"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_picture_is_damaged(format: str, part: float, limits: Limits) -> None:
    data = save(Image.effect_noise((300, 200), 90).convert("RGB"), format)
    assert code_of(data[: int(len(data) * part)], limits) in {"damaged_image", "not_an_image"}


def test_a_png_with_a_flipped_bit_in_its_pixels_is_damaged() -> None:
    data = bytearray(save(quarters(), "PNG"))
    data[data.index(b"IDAT") + 30] ^= 1
    assert code_of(bytes(data)) == "damaged_image"


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims far more pixels than its few bytes hold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_too_many_pixels_are_rejected_by_the_header() -> None:
    assert code_of(bomb(20_000, 20_000)) == "too_many_pixels"
    assert code_of(save(quarters(), "PNG"), Limits(9_599, 2_458_624, 5_000_000)) == "too_many_pixels"


@pytest.mark.parametrize("make", [lambda: quarters(), lambda: quarters().convert("L")])
def test_pillow_reads_the_same_pixels_from_the_png_we_write(make: Callable[[], Image.Image]) -> None:
    image = make()
    assert pixels(prepare(save(image, "BMP"), LIMITS)).tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(40, 40), (400, 300), (2000, 1500)])
def test_a_png_with_one_wrong_byte_is_damaged_whatever_its_size(size: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, "PNG")
    data = bytearray(file.getvalue())
    data[len(data) * 3 // 4] ^= 1
    with pytest.raises(PictureError) as raised:
        prepare(bytes(data), LIMITS)
    assert raised.value.code == "damaged_image"
