"""What is transparent is white, in whatever way a format says it; what only looks like transparency is not."""

import io
import struct
import zlib

import png as pypng
import pytest
from PIL import Image

from shared.pictures.limits import Limits
from shared.pictures.prepare import prepare
from tests.pictures.hostile.gif_bmp_ico import ico
from tests.pictures.hostile.png_files import chunk
from tests.pictures.test_convert import LIMITS, WHITE, code_of, pixels, quarters, save

BLACK, RED, BLUE, FAINT = (0, 0, 0), (255, 0, 0), (0, 0, 255), (60, 120, 180)


def png(size: tuple[int, int], depth: int, colour: int, row: bytes, transparent: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + row) * size[1]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", transparent) + rows + chunk(b"IEND")


def colours(data: bytes, limits: Limits = LIMITS) -> list[tuple[int, ...]]:
    """The colours of the middle row, each once, from left to right."""
    image = pixels(prepare(data, limits)).convert("RGB")
    row = [image.getpixel((x, image.height // 2)) for x in range(image.width)]
    return list(dict.fromkeys(row))  # type: ignore[arg-type]


def grey(value: int) -> tuple[int, int, int]:
    return value, value, value


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_shade_of_grey_becomes_white_at_every_depth(depth: int, limits: Limits) -> None:
    largest = (1 << depth) - 1
    # Half of the row in one shade, half in the next; in 16 bits, 8 would see no difference between them.
    shades = (0, largest) if depth == 1 else (largest // 3, largest // 3 + 1)
    row = b"".join(value.to_bytes(2) if depth == 16 else bytes([value]) for value in shades for _ in range(32))
    if depth < 8:
        row = bytes(
            sum(row[start + at] << (8 - depth * (at + 1)) for at in range(8 // depth))
            for start in range(0, 64, 8 // depth)
        )
    for clear, opaque in (shades, shades[::-1]):
        found = colours(png((64, 64), depth, 0, row, struct.pack(">H", clear)), limits)
        expected = [WHITE, grey(opaque * 255 // largest)]
        assert sorted(found) == sorted(dict.fromkeys(expected)), (clear, opaque)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_becomes_white_at_every_depth(depth: int, limits: Limits) -> None:
    size = depth // 8
    one, other = (10, 20, 30), (10, 20, 31)
    if depth == 16:
        one, other = (0x1020, 0x3040, 0x5060), (0x1020, 0x3040, 0x5061)
    row = b"".join(value.to_bytes(size) for colour in (one, other) for _ in range(32) for value in colour)
    data = png((64, 64), depth, 2, row, struct.pack(">3H", *one))
    assert colours(data, limits) == [WHITE, tuple(value >> (depth - 8) for value in other)]


def test_only_the_bits_that_a_depth_has_count_in_the_transparent_colour(limits: Limits) -> None:
    row = bytes([0xFF]) * 32 + bytes([0x00]) * 32
    assert colours(png((64, 64), 8, 0, row, b"\xab\x00"), limits) == [WHITE]
    assert colours(png((64, 64), 8, 2, bytes([7, 8, 9]) * 32 + bytes(96), b"\xff\7\xff\x08\xff\x09"), limits) == [
        WHITE,
        BLACK,
    ]


@pytest.mark.parametrize(("colour", "transparent"), [(0, b"\1"), (2, b"\0\1"), (2, b""), (6, b"\0\0"), (4, b"\0\0")])
def test_transparency_that_its_kind_of_picture_cannot_have_says_nothing(
    colour: int, transparent: bytes, limits: Limits
) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = (bytes(channels - 1) + b"\xff") * 64 if colour > 2 else bytes(channels * 64)
    assert colours(png((64, 64), 8, colour, row, transparent), limits) == [BLACK]


def test_a_large_picture_in_16_bits_is_as_transparent_as_a_small_one(limits: Limits) -> None:
    one = struct.pack(">3H", 0x1020, 0x3040, 0x5060) * 1500
    other = struct.pack(">3H", 0x1021, 0x3040, 0x5060) * 1500
    data = png((3000, 1000), 16, 2, one + other, struct.pack(">3H", 0x1020, 0x3040, 0x5060))
    image = pixels(prepare(data, limits))
    assert image.width < 3000
    assert image.getpixel((10, 10)) == WHITE
    assert image.getpixel((image.width - 10, image.height - 10)) == (0x10, 0x30, 0x50)


def test_a_second_decoder_agrees_on_a_transparent_colour_in_16_bits() -> None:
    shades = [[(x * 997 + y * 13) % 65_536 for x in range(64)] for y in range(64)]
    file = io.BytesIO()
    clear = shades[5][7]
    pypng.Writer(64, 64, greyscale=True, bitdepth=16, transparent=clear).write(file, shades)
    found = pixels(prepare(file.getvalue(), LIMITS)).convert("L")
    _, _, rows, _ = pypng.Reader(bytes=file.getvalue()).asRGBA()
    for y, row in enumerate(rows):
        for x in range(64):
            alpha, value = row[4 * x + 3], row[4 * x]
            assert abs(found.getpixel((x, y)) - (value / 257 if alpha else 255)) <= 1  # type: ignore[operator]


def gif(canvas: tuple[int, int], box: tuple[int, int, int, int], *, clear: bool = False, grey: bool = False) -> bytes:
    """A GIF whose first frame fills a box in red, on a canvas with a background in blue."""
    left, top, right, bottom = box
    size = right - left, bottom - top
    inner = Image.new("P", size, 0)
    table = bytes([0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255]) if grey else bytes((*RED, *BLUE)) + bytes(6)
    inner.putpalette(table)
    file = io.BytesIO()
    inner.save(file, "GIF", optimize=False)
    frame = file.getvalue()
    at = frame.index(b"\x2c")
    flags = frame[at + 9]
    data = frame[at + 10 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0) :]
    control = b"!\xf9\x04\x01\0\0\x03\0" if clear else b""
    header = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x91, 1, 0) + table
    return header + control + b"\x2c" + struct.pack("<HHHHB", left, top, *size, 0) + data


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 32, 32), (64, 64)),
        ((16, 16, 48, 48), (64, 64)),
        ((48, 48, 80, 80), (80, 80)),
        ((0, 40, 64, 64), (64, 64)),
        ((20, 0, 84, 64), (84, 64)),
    ],
)
@pytest.mark.parametrize("clear", [False, True])
def test_what_the_first_frame_of_a_gif_does_not_cover_is_white(
    box: tuple[int, int, int, int], size: tuple[int, int], clear: bool, limits: Limits
) -> None:
    image = pixels(prepare(gif((64, 64), box, clear=clear), limits)).convert("RGB")
    # A first frame that is partly outside of the canvas enlarges it.
    assert image.size == size
    for x in range(0, size[0], 3):
        for y in range(0, size[1], 3):
            inside = box[0] <= x < box[2] and box[1] <= y < box[3]
            assert image.getpixel((x, y)) == (RED if inside else WHITE), (x, y)


def test_what_a_grey_gif_does_not_cover_is_white(limits: Limits) -> None:
    assert colours(gif((64, 64), (0, 0, 32, 64), grey=True), limits) == [BLACK, WHITE]


def test_what_a_large_gif_does_not_cover_is_white_in_every_band(limits: Limits) -> None:
    image = pixels(prepare(gif((2400, 3000), (500, 1000, 1500, 2000)), limits)).convert("RGB")
    scale = image.width / 2400
    for x, y in [(10, 10), (490, 1500), (1510, 1500), (1000, 990), (1000, 2010), (2390, 2990)]:
        assert image.getpixel((int(x * scale), int(y * scale))) == WHITE, (x, y)
    for x, y in [(510, 1010), (1490, 1990), (1000, 1500)]:
        assert image.getpixel((int(x * scale), int(y * scale))) == RED, (x, y)


@pytest.mark.parametrize("frames", [1, 2])
def test_what_the_first_frame_of_an_animated_webp_does_not_cover_is_white(frames: int, limits: Limits) -> None:
    still = save(Image.new("RGB", (20, 30), "red"), "WEBP", lossless=True)[12:]

    def part(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    def number(value: int) -> bytes:
        return value.to_bytes(3, "little")

    frame = number(10 // 2) + number(20 // 2) + number(19) + number(29) + number(100) + b"\0" + still
    body = part(b"VP8X", b"\2\0\0\0" + number(79) + number(59)) + part(b"ANIM", b"\xff\0\0\xff\0\0")
    body += part(b"ANMF", frame) * frames
    image = pixels(prepare(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, limits))
    assert image.getpixel((20, 35)) == RED
    assert [image.getpixel(at) for at in ((5, 5), (40, 35), (20, 55), (75, 55))] == [WHITE] * 4


def bmp(
    bits: int,
    masks: tuple[int, int, int, int],
    row: bytes,
    *,
    rows: int = 64,
    header: int = 108,
    compression: int = 3,
    top_down: bool = False,
) -> bytes:
    """A BMP of this row, again and again, with the masks in its header, or behind it where that is too short."""
    width = len(row) * 8 // bits
    body = (row + bytes(-len(row) % 4)) * rows
    info = struct.pack("<IiiHHII", header, width, -rows if top_down else rows, 1, bits, compression, len(body))
    info += struct.pack("<iiII", 2835, 2835, 0, 0)
    behind = 4 if compression == 6 else 3 if header == 40 else (header - 40) // 4
    info += struct.pack("<4I", *masks)[: 4 * min(4, behind)]
    info = info.ljust(max(header, len(info)), b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body


MASKS: dict[str, tuple[int, tuple[int, int, int, int]]] = {
    "5-5-5": (16, (0x7C00, 0x03E0, 0x001F, 0)),
    "5-6-5": (16, (0xF800, 0x07E0, 0x001F, 0)),
    "5-6-5, blue first": (16, (0x001F, 0x07E0, 0xF800, 0)),
    "1-5-5-5": (16, (0x7C00, 0x03E0, 0x001F, 0x8000)),
    "5-5-5-1": (16, (0xF800, 0x07C0, 0x003E, 0x0001)),
    "4-4-4": (16, (0x0F00, 0x00F0, 0x000F, 0)),
    "4-4-4-4": (16, (0x0F00, 0x00F0, 0x000F, 0xF000)),
    "3-3-2": (16, (0x00E0, 0x001C, 0x0003, 0)),
    "8-8-8": (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    "8-8-8, red lowest": (32, (0xFF, 0xFF00, 0xFF0000, 0)),
    "8-8-8, the lowest byte unused": (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
    "8-8-8-8": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "8-8-8-8, red lowest": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "8-8-8-8, alpha lowest": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "8-8-8-8, green first": (32, (0xFF00, 0xFF, 0xFF000000, 0xFF0000)),
    "10-10-10": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
    "2-10-10-10": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    "11-11-10": (32, (0xFFE00000, 0x1FFC00, 0x3FF, 0)),
    "16-8-8": (32, (0xFFFF0000, 0xFF00, 0xFF, 0)),
    "red alone": (32, (0xFF0000, 0, 0, 0)),
}


def packed(colour: tuple[int, int, int, int], masks: tuple[int, int, int, int]) -> int:
    number = 0
    for value, mask in zip(colour, masks, strict=True):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            number |= round(value * (mask >> shift) / 255) << shift
    return number


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("top_down", [False, True])
def test_bit_fields_of_a_bmp_may_have_any_order_and_width(kind: str, top_down: bool, limits: Limits) -> None:
    bits, masks = MASKS[kind]
    shown = [(255, 0, 0, 255), (0, 0, 255, 0), (0, 255, 0, 255), (200, 100, 50, 255)]
    row = b"".join(packed(colour, masks).to_bytes(bits // 8, "little") * 17 for colour in shown)
    headers = [(108, 3), (124, 3), (56, 3)] + ([] if masks[3] else [(40, 3), (52, 3)]) + [(40, 6)]
    for header, compression in headers:
        data = bmp(bits, masks, row, header=header, compression=compression, top_down=top_down)
        image = pixels(prepare(data, limits))
        assert image.size == (68, 64)
        for index, (*colour, alpha) in enumerate(shown):
            expected = colour if alpha or not masks[3] else WHITE
            found = image.getpixel((17 * index + 8, 32))
            for value, wanted, mask in zip(found, expected, masks, strict=False):  # type: ignore[arg-type]
                step = 255 / max(1, mask.bit_count() and (1 << mask.bit_count()) - 1) / 2 + 1
                assert abs(value - (wanted if mask else 0)) <= step, (header, compression, index, found)


def test_the_first_row_of_a_bmp_of_bit_fields_is_at_its_bottom_unless_it_says_otherwise(limits: Limits) -> None:
    red, green = (packed(colour, MASKS["10-10-10"][1]) for colour in ((255, 0, 0, 0), (0, 255, 0, 0)))
    body = struct.pack("<I", red) * 64 * 32 + struct.pack("<I", green) * 64 * 32
    for top_down, expected in ((False, (0, 255, 0)), (True, (255, 0, 0))):
        data = bmp(32, MASKS["10-10-10"][1], bytes(256), top_down=top_down)
        assert pixels(prepare(data[: -len(body)] + body, limits)).getpixel((5, 5)) == expected


def test_a_large_bmp_of_bit_fields_is_scaled(limits: Limits) -> None:
    bits, masks = MASKS["2-10-10-10"]
    row = struct.pack("<I", packed((200, 100, 50, 255), masks)) * 1200 + bytes(4 * 1200)
    image = pixels(prepare(bmp(bits, masks, row, rows=2000), limits))
    assert image.getpixel((10, 10)) == (200, 100, 50)
    assert image.getpixel((image.width - 10, 10)) == WHITE


@pytest.mark.parametrize("kind", ["8-8-8-8", "8-8-8-8, red lowest", "8-8-8-8, alpha lowest", "1-5-5-5", "2-10-10-10"])
@pytest.mark.parametrize("header", [56, 108, 124])
def test_alpha_that_is_zero_everywhere_in_a_bmp_means_none(kind: str, header: int, limits: Limits) -> None:
    bits, masks = MASKS[kind]
    row = packed((*FAINT, 0), masks).to_bytes(bits // 8, "little") * 64
    [found] = colours(bmp(bits, masks, row, header=header), limits)
    assert all(abs(value - wanted) <= 5 for value, wanted in zip(found, FAINT, strict=True))


@pytest.mark.parametrize("kind", ["8-8-8-8", "1-5-5-5"])
def test_one_opaque_pixel_makes_the_alpha_of_a_bmp_count(kind: str, limits: Limits) -> None:
    bits, masks = MASKS[kind]
    row = packed((*BLUE, 0), masks).to_bytes(bits // 8, "little") * 63
    row += packed((*RED, 255), masks).to_bytes(bits // 8, "little")
    assert colours(bmp(bits, masks, row), limits) == [WHITE, RED]


def icon_bitmap(row: bytes, bits: int, mask_row: bytes | None, *, palette: bytes = b"", side: int = 64) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, side, 2 * side, 1, bits, 0, 0, 0, 0, len(palette) // 4, 0)
    return header + palette + row * side + (b"" if mask_row is None else mask_row * side)


HALF = bytes([0xFF] * 4 + [0] * 4)
FAINT_BYTES = bytes(FAINT[::-1])


@pytest.mark.parametrize(
    ("picture", "bits", "expected"),
    [
        (icon_bitmap((FAINT_BYTES + b"\0") * 64, 32, bytes(8)), 32, [FAINT]),
        (icon_bitmap((FAINT_BYTES + b"\0") * 64, 32, None), 32, [FAINT]),
        (icon_bitmap((FAINT_BYTES + b"\0") * 64, 32, HALF), 32, [WHITE, FAINT]),
        (icon_bitmap((FAINT_BYTES + b"\0") * 32 + (FAINT_BYTES + b"\xff") * 32, 32, bytes(8)), 32, [WHITE, FAINT]),
        (icon_bitmap((FAINT_BYTES + b"\xff") * 64, 32, HALF), 32, [FAINT]),
        (icon_bitmap(FAINT_BYTES * 64, 24, HALF), 24, [WHITE, FAINT]),
        (icon_bitmap(FAINT_BYTES * 64, 24, bytes(8)), 24, [FAINT]),
        (icon_bitmap(bytes([0x01] * 32), 4, HALF, palette=bytes(4) + FAINT_BYTES + b"\0"), 4, [WHITE, BLACK, FAINT]),
        (icon_bitmap(b"\xff" * 8, 1, HALF, palette=bytes(4) + FAINT_BYTES + b"\0"), 1, [WHITE, FAINT]),
        (save(Image.new("RGBA", (64, 64), (*FAINT, 0)), "PNG"), 32, [WHITE]),
        (save(Image.new("RGB", (64, 64), FAINT), "PNG"), 32, [FAINT]),
    ],
)
def test_an_icon_is_as_transparent_as_its_alpha_or_its_mask_says(
    picture: bytes, bits: int, expected: list[tuple[int, ...]], limits: Limits
) -> None:
    prepared = prepare(ico(picture, bits=bits), limits)
    assert prepared.media_type == "image/x-icon"
    assert colours(ico(picture, bits=bits), limits) == expected


def test_of_pictures_of_one_size_an_icon_is_the_one_with_most_colours(limits: Limits) -> None:
    few = icon_bitmap(b"\xff" * 8, 1, bytes(8), palette=bytes(8))
    many = icon_bitmap((FAINT_BYTES + b"\xff") * 64, 32, bytes(8))
    start = 6 + 16 * 2
    entries = b"".join(
        struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, bits, len(picture), at)
        for bits, picture, at in ((1, few, start), (32, many, start + len(few)))
    )
    assert colours(struct.pack("<HHH", 0, 1, 2) + entries + few + many, limits) == [FAINT]


def test_a_picture_in_an_icon_with_broken_metadata_is_whole() -> None:
    picture = save(quarters((64, 64)), "PNG")
    broken = picture[:33] + chunk(b"eXIf", b"no TIFF") + chunk(b"pHYs", b"") + picture[33:]
    assert prepare(ico(broken), LIMITS).file == prepare(ico(picture), LIMITS).file


def test_an_icon_without_a_picture_is_damaged() -> None:
    assert code_of(ico(b"")) in {"damaged_image", "not_an_image"}
    assert code_of(ico(icon_bitmap(b"", 32, None)[:20])) == "damaged_image"
