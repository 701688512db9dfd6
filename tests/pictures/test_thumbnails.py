"""A thumbnail is a small upright JPEG of any picture, with nothing in it but pixels."""

import io
from typing import Any

import pytest
from PIL import ExifTags, Image

from shared.errors import PictureError
from shared.pictures.prepare import thumbnail
from tests.pictures.hostile import LIMITS
from tests.pictures.test_convert import BLUE, GREEN, RED, WHITE, near, quarters, save

MOST = LIMITS.image_max_pixels


def opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    assert image.format == "JPEG"
    image.load()
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    x, y = image.width // 4, image.height // 4
    return [image.convert("RGB").getpixel(spot) for spot in ((x, y), (3 * x, y), (x, 3 * y), (3 * x, 3 * y))]  # type: ignore[misc]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"])
def test_it_is_a_jpeg_that_a_square_of_its_size_holds_whatever_the_picture_is(format: str) -> None:
    image = opened(thumbnail(save(quarters((1200, 800)), format), MOST, 240))
    assert image.size == (240, 160)
    assert near(corners(image), [RED, GREEN, BLUE, WHITE], tolerance=16)


@pytest.mark.parametrize(("size", "wanted"), [((16, 12), (16, 12)), ((3000, 1), (64, 1)), ((1, 3000), (1, 64))])
def test_it_is_never_enlarged_and_has_a_pixel_at_least(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert opened(thumbnail(save(Image.new("RGB", size), "PNG"), MOST, 64)).size == wanted


def test_it_is_upright_and_holds_nothing_but_pixels() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "somebody"
    lying = quarters((1200, 800)).transpose(Image.Transpose.ROTATE_90)
    image = opened(thumbnail(save(lying, "JPEG", exif=exif, comment=b"secret", quality=95), MOST, 300))
    assert image.size == (300, 200)
    assert near(corners(image), [RED, GREEN, BLUE, WHITE], tolerance=16)
    assert image.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_what_is_transparent_is_white() -> None:
    assert opened(thumbnail(save(Image.new("RGBA", (80, 80)), "PNG"), MOST, 40)).getpixel((20, 20)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("data", "most", "code"),
    [
        (b"", MOST, "empty"),
        (b"no picture at all", MOST, "not_an_image"),
        (save(quarters(), "PNG")[:200], MOST, "damaged_image"),
        (save(quarters(), "JPEG")[:400], MOST, "damaged_image"),
        (save(quarters(), "PNG"), 100, "too_many_pixels"),
    ],
)
def test_what_cannot_be_embedded_has_no_thumbnail_either(data: bytes, most: int, code: Any) -> None:
    with pytest.raises(PictureError) as raised:
        thumbnail(data, most, 64)
    assert raised.value.code == code
