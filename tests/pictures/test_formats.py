"""Formats and variants that people really upload: each is decoded to the right pixels."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pillow_heif
import png as pypng
import pytest
from PIL import Image, PngImagePlugin

from shared.pictures.limits import Limits
from shared.pictures.prepare import prepare
from tests.pictures.test_convert import BLUE, GREEN, LIMITS, RED, WHITE, corners, near, pixels, quarters, save

ALL = [RED, GREEN, BLUE, WHITE]


def rows_of(image: Image.Image) -> list[list[int]]:
    width = image.width * len(image.getbands())
    flat = list(image.tobytes())
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def written_by_pypng(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    deep = options.get("bitdepth") == 16
    rows = [[value * 257 if deep else value for value in row] for row in rows_of(image)]
    pypng.Writer(*image.size, **options).write(file, rows)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"greyscale": False, "interlace": True}),
        ("RGB", {"greyscale": False, "bitdepth": 16}),
        ("RGBA", {"greyscale": False, "alpha": True, "bitdepth": 16, "interlace": True}),
        ("RGBA", {"greyscale": False, "alpha": True}),
    ],
)
def test_png_of_every_depth_and_interlace(mode: str, options: dict[str, Any]) -> None:
    assert corners(prepare(written_by_pypng(quarters().convert(mode), **options), LIMITS)) == [
        (255, 0, 0),
        (0, 128, 0),
        (0, 0, 255),
        (255, 255, 255),
    ]


def test_png_with_megabytes_of_text_is_still_a_picture() -> None:
    recipe = PngImagePlugin.PngInfo()
    recipe.add_text("workflow", "word " * 1_000_000, zip=True)
    assert prepare(save(quarters(), "PNG", pnginfo=recipe), LIMITS).file == save(quarters(), "PNG")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_png_of_few_bits_spans_black_to_white(bits: int) -> None:
    file = io.BytesIO()
    largest = 2**bits - 1
    pypng.Writer(80, 60, greyscale=True, bitdepth=bits).write(file, [[0] * 40 + [largest] * 40] * 60)
    assert pixels(prepare(file.getvalue(), LIMITS)).getextrema() == (0, 255)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_png_of_few_bits_keeps_its_colours(bits: int) -> None:
    file = io.BytesIO()
    pypng.Writer(80, 60, palette=[(255, 0, 0), (0, 0, 255)], bitdepth=bits).write(file, [[0] * 40 + [1] * 40] * 60)
    red, blue = (255, 0, 0), (0, 0, 255)
    assert corners(prepare(file.getvalue(), LIMITS)) == [red, blue, red, blue]


@pytest.mark.parametrize("options", [{"quality": 95}, {"quality": -1}])
def test_heic_is_decoded(options: dict[str, Any], limits: Limits) -> None:
    prepared = prepare(save(quarters(), "HEIF", **options), limits)
    assert prepared.media_type == "image/heic"
    assert near(corners(prepared), ALL)


def test_heic_of_ten_bits_or_with_alpha() -> None:
    deep = pillow_heif.from_bytes("RGB;16", (80, 60), struct.pack("<3H", 65535, 32768, 0) * 4800)
    file = io.BytesIO()
    deep.save(file, quality=-1)
    assert near(corners(prepare(file.getvalue(), LIMITS)), [(255, 128, 0)] * 4)
    clear = Image.new("RGBA", (80, 60), (255, 0, 0, 0))
    assert corners(prepare(save(clear, "HEIF", quality=-1), LIMITS)) == [WHITE] * 4


def test_a_multi_picture_jpeg_is_its_first_picture(limits: Limits) -> None:
    data = save(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (120, 80))], quality=95)
    prepared = prepare(data, limits)
    assert prepared.media_type == "image/jpeg"
    assert near(corners(prepared), ALL)


def test_jpeg_in_grey(limits: Limits) -> None:
    prepared = prepare(save(Image.new("L", (80, 60), 77), "JPEG"), limits)
    assert pixels(prepared).mode == "L"
    assert pixels(prepared).getextrema() == (77, 77)


@pytest.mark.parametrize("compression", ["jpeg", "packbits", "tiff_deflate", "zstd", "lzma", "tiff_lzw"])
def test_tiff_of_every_compression(compression: str, limits: Limits) -> None:
    assert near(corners(prepare(save(quarters(), "TIFF", compression=compression), limits)), ALL, tolerance=20)


def test_tiff_of_a_fax() -> None:
    fax = Image.new("1", (80, 60), 1)
    fax.paste(0, (0, 0, 40, 60))
    black, white = (0, 0, 0), (255, 255, 255)
    assert corners(prepare(save(fax, "TIFF", compression="group4"), LIMITS)) == [black, white, black, white]


def test_tiff_in_lab() -> None:
    data = save(Image.new("LAB", (80, 60), (255, 128, 128)), "TIFF")
    assert near(corners(prepare(data, LIMITS)), [WHITE] * 4)


def tiff(order: str, tiled: bool, bits: int = 8) -> bytes:
    """A hand-written TIFF of 64 x 48 grey pixels: big- or little-endian, in one strip or in tiles of 16 x 16."""
    width, height, side = 64, 48, 16
    value = 200 if bits == 8 else 200 * 257
    pixel = struct.pack(order + ("B" if bits == 8 else "H"), value)
    blocks = [pixel * side * side] * (width // side * height // side) if tiled else [pixel * width * height]
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1}
    entries |= {322: side, 323: side} if tiled else {278: height}
    offsets_tag, counts_tag = (324, 325) if tiled else (273, 279)
    count = len(entries) + 2
    arrays = 8 + 2 + 12 * count + 4
    first = arrays + 8 * len(blocks)
    offsets = [first + sum(map(len, blocks[:index])) for index in range(len(blocks))]
    directory = [struct.pack(order + "HHII", tag, 4, 1, number) for tag, number in entries.items()]
    for tag, numbers, at in (
        (offsets_tag, offsets, arrays),
        (counts_tag, list(map(len, blocks)), arrays + 4 * len(blocks)),
    ):
        where = at if len(blocks) > 1 else numbers[0]
        directory.append(struct.pack(order + "HHII", tag, 4, len(blocks), where))
    directory.sort(key=lambda entry: struct.unpack(order + "H", entry[:2])[0])
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "IH", 8, count)
    tables = struct.pack(order + f"{len(blocks)}I", *offsets) + struct.pack(
        order + f"{len(blocks)}I", *map(len, blocks)
    )
    return head + b"".join(directory) + struct.pack(order + "I", 0) + tables + b"".join(blocks)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_either_byte_order_in_strips_or_tiles(order: str, tiled: bool, bits: int) -> None:
    prepared = prepare(tiff(order, tiled, bits), LIMITS)
    assert pixels(prepared).getextrema() == (200, 200)


def test_a_many_page_tiff_is_its_first_page() -> None:
    data = save(quarters(), "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))] * 3)
    assert near(corners(prepare(data, LIMITS)), ALL)


def test_an_icon_is_its_largest_picture() -> None:
    data = save(quarters((128, 128)), "ICO", sizes=[(16, 16), (128, 128), (32, 32)])
    prepared = prepare(data, LIMITS)
    assert (prepared.width, prepared.height) == (128, 128)
    assert near(corners(prepared), ALL)


@pytest.mark.parametrize("largest", [100, 255, 1000, 65535])
def test_portable_pixmaps_of_any_range(largest: int) -> None:
    size = "H" if largest > 255 else "B"
    body = struct.pack(f">{80 * 60 * 3}{size}", *([largest, largest // 2, 0] * 4800))
    data = b"P6\n# a comment\n80 60\n%d\n" % largest + body
    assert near(corners(prepare(data, LIMITS)), [(255, 127, 0)] * 4, tolerance=2)
    plain = b"P3\n80 60\n%d\n" % largest + b" ".join(b"%d %d 0" % (largest, largest // 2) for _ in range(4800))
    assert near(corners(prepare(plain, LIMITS)), [(255, 127, 0)] * 4, tolerance=2)


def test_a_dark_grey_map_of_sixteen_bits_stays_dark() -> None:
    data = b"P5 80 60 65535\n" + struct.pack(">H", 200) * 4800
    assert pixels(prepare(data, LIMITS)).getextrema() == (0, 0)


def display_p3() -> bytes:
    """An ICC profile with Display P3's primaries and a gamma of 2.2, laid out as the specification says."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    name = b"P3 of the tests\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.5151, 0.2412, -0.0011),
        b"gXYZ": xyz(0.2919, 0.6922, 0.0419),
        b"bXYZ": xyz(0.1572, 0.0666, 0.7841),
        b"rTRC": gamma,
        b"gTRC": gamma,
        b"bTRC": gamma,
        b"cprt": b"text\0\0\0\0none\0",
    }
    table, body, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", offset + len(body), len(content))
        body += content
    size = struct.pack(">I", offset + len(body))
    head = (
        size
        + bytes(4)
        + b"\x02\x10\0\0mntrRGB XYZ "
        + bytes(12)
        + b"acsp"
        + bytes(28)
        + b"".join(map(number, (0.9642, 1.0, 0.8249)))
    )
    return head.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("format", ["JPEG", "PNG", "HEIF", "WEBP", "TIFF", "AVIF"])
def test_wide_gamut_colours_are_converted_to_srgb(format: str, limits: Limits) -> None:
    # The expected colour is P3 (0.8, 0.4, 0.2) at gamma 2.2 in sRGB's primaries and curve, by the two matrices.
    options = {} if format in {"PNG", "TIFF"} else {"lossless": True} if format == "WEBP" else {"quality": 98}
    data = save(Image.new("RGB", (80, 60), (204, 102, 51)), format, icc_profile=display_p3(), **options)
    assert near(corners(prepare(data, limits)), [(221, 94, 24)] * 4, tolerance=5)


def test_no_location_camera_or_profile_reaches_the_model() -> None:
    exif = Image.Exif()
    exif[271] = "SecretCamera"
    exif.get_ifd(34853)[1] = "N"
    for format in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"):
        data = save(quarters(), format, exif=exif.tobytes(), icc_profile=display_p3())
        assert b"SecretCamera" in data
        written = prepare(data, LIMITS).file
        assert b"SecretCamera" not in written
        assert {kind for kind, _ in pypng.Reader(bytes=written).chunks()} == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.parametrize(
    "make", [quarters, lambda: quarters().convert("L"), lambda: Image.new("RGB", (1, 5000), "red")]
)
def test_a_second_decoder_reads_the_same_pixels_from_the_png_we_write(make: Callable[[], Image.Image]) -> None:
    image = make()
    width, height, rows, _ = pypng.Reader(bytes=prepare(save(image, "TIFF"), LIMITS).file).asDirect()
    assert (width, height) == image.size
    assert b"".join(bytes(row) for row in rows) == image.tobytes()


def test_sixteen_large_photographs_at_once_take_less_than_a_gigabyte() -> None:
    script = """
import io, threading
from PIL import Image, PngImagePlugin
from shared.pictures.prepare import prepare
from shared.pictures.limits import Limits
file = io.BytesIO()
Image.effect_noise((6000, 4000), 40).convert("RGB").save(file, "JPEG", quality=85)
open("/proc/self/clear_refs", "w").write("5")
limits = Limits(200_000_000, 2_458_624, 5_000_000)
threads = [threading.Thread(target=prepare, args=(bytes(file.getbuffer()), limits)) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    peak_kb = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout)
    assert peak_kb < 1024 * 1024
