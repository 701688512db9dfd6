"""Metadata never decide whether pixels are good: broken ones are as if they were not there."""

import random
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from shared.pictures.limits import Limits
from shared.pictures.prepare import prepare
from tests.pictures.hostile.jpeg_files import segment
from tests.pictures.hostile.png_files import chunk
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

# As in the app, Pillow's warnings about broken metadata are no errors.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

UPRIGHT = [RED, GREEN, BLUE, WHITE]
TURNED = [BLUE, RED, WHITE, GREEN]  # what is stored upright, and turned right by an orientation of 6


def exif(orientation: int, order: str = ">") -> bytes:
    """EXIF data with a maker, so that no encoder drops them, and an orientation."""
    head = b"MM\0*" if order == ">" else b"II*\0"
    entries = struct.pack(order + "HHI4s", 0x10F, 2, 4, b"abc\0") + struct.pack(
        order + "HHIHxx", 0x112, 3, 1, orientation
    )
    return head + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


def xmp(orientation: int) -> bytes:
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="%d"/></x:xmpmeta>' % orientation


BROKEN = {
    "nothing": b"",
    "two bytes": b"II",
    "half a header": exif(6)[:6],
    "a header alone": exif(6)[:8],
    "half a directory": exif(6)[:15],
    "the header cut off": exif(6)[5:],
    "zeroes": bytes(38),
    "text": b"Lorem ipsum dolor sit amet",
    "Python's repr": repr(exif(6)).encode(),
    "a header in lower case": b"ii*\0" + exif(6, "<")[4:],
    "a header of BigTIFF": b"MM\0+\0\x08\0\0" + exif(6)[8:],
    "another byte order than it says": b"II*\0" + exif(6)[4:],
    "a directory beyond its end": b"II*\0\xff\xff\xff\x7f" + exif(6)[8:],
    "a directory in its header": b"MM\0*\0\0\0\0" + exif(6)[8:],
    "no orientation of the eight": exif(0),
    "an orientation that is a text": exif(6).replace(b"\x01\x12\0\3", b"\x01\x12\0\2"),
}


def within(format: str) -> Callable[[bytes], bytes]:
    """Make pictures of a format that hold a block of EXIF data as it is."""

    def make(block: bytes) -> bytes:
        # Without an orientation, so that no encoder touches it.
        maker = b"a" * 70
        whole = b"MM\0*" + struct.pack(">IHHHII4x", 8, 1, 0x10F, 2, len(maker), 26) + maker
        file = save(quarters(), format, exif=b"Exif\0\0" + whole, quality=95)
        assert file.count(whole) == 1
        return file.replace(whole, block[: len(whole)].ljust(len(whole), b"\0"))

    return make


def png_with(*chunks: bytes) -> bytes:
    whole = save(quarters(), "PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def jpeg_with(*segments: bytes, **options: object) -> bytes:
    whole = save(quarters(), "JPEG", quality=95, **options)
    return whole[:2] + b"".join(segments) + whole[2:]


def raw_profile(hexadecimal: bytes) -> bytes:
    return zlib.compress(b"\nexif\n     100\n" + hexadecimal)


def in_lines(block: bytes) -> bytes:
    text = block.hex().encode()
    return b"\n".join(text[start : start + 72] for start in range(0, len(text), 72))


HOLDERS: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": lambda block: jpeg_with(segment(0xE1, b"Exif\0\0" + block)),
    "JPEG with a density": lambda block: jpeg_with(segment(0xE1, b"Exif\0\0" + block), dpi=(72, 72)),
    "PNG": lambda block: png_with(chunk(b"eXIf", block)),
    "PNG with a raw profile": lambda block: png_with(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + raw_profile(in_lines(block)))
    ),
    "WEBP": lambda block: save(quarters(), "WEBP", lossless=True, exif=block or b"\0"),
    "HEIF": within("HEIF"),
    "AVIF": within("AVIF"),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_exif_data_say_nothing_about_pixels(holder: str, kind: str, limits: Limits) -> None:
    assert near(corners(prepare(HOLDERS[holder](BROKEN[kind]), limits)), UPRIGHT)


@pytest.mark.parametrize("holder", [holder for holder in HOLDERS if holder not in {"HEIF", "AVIF"}])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_same_exif_data_unbroken_turn_the_picture(holder: str, order: str, limits: Limits) -> None:
    assert near(corners(prepare(HOLDERS[holder](exif(6, order)), limits)), TURNED)


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"zTXt", b"Raw profile type exif\0\0" + raw_profile(b"this is not hexadecimal zz\n" * 8)),
        chunk(b"zTXt", b"Raw profile type exif\0\0no deflate"),
        chunk(b"zTXt", b"Raw profile type exif\0\7" + raw_profile(b"00")),
        chunk(b"tEXt", b"Raw profile type exif\0"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0no deflate"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0"),
        chunk(b"iCCP", b"no profile\0\7nothing"),
        chunk(b"iCCP", b""),
        chunk(b"pHYs", b"\0"),
        chunk(b"tIME", b"yesterday"),
        chunk(b"sRGB", b""),
        chunk(b"gAMA", b""),
        chunk(b"cHRM", b"1"),
        chunk(b"acTL", b"1") + chunk(b"fcTL", b"1"),
        chunk(b"tEXt", b"a cut-off or wrong checksum")[:-4] + bytes(4),
        chunk(b"pHYs", bytes(9))[:-1] + b"\0",
        chunk(b"zzzz", b"unknown")[:-4] + bytes(4),
    ],
)
def test_a_broken_chunk_of_a_png_that_is_not_critical_is_as_if_it_were_not_there(text: bytes) -> None:
    assert prepare(png_with(text), LIMITS).file == save(quarters(), "PNG")
    after = save(quarters(), "PNG").replace(chunk(b"IEND"), text + chunk(b"IEND"))
    assert prepare(after, LIMITS).file == save(quarters(), "PNG")


def test_a_png_without_its_end_is_whole() -> None:
    whole = save(quarters(), "PNG")
    for cut in (1, 7, 12):
        assert prepare(whole[:-cut], LIMITS).file == whole
    assert code_of(whole[:-13]) == "damaged_image"


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_wrong_checksum_of_a_critical_chunk_is_damage(kind: bytes) -> None:
    data = bytearray(save(quarters().quantize(8), "PNG"))
    at = data.index(kind)
    data[at + 4 + int.from_bytes(data[at - 4 : at])] ^= 1
    assert code_of(bytes(data)) == "damaged_image"


@pytest.mark.parametrize(
    "broken",
    [
        segment(0xE0, b"JFIF\0"),
        segment(0xEE, b"Adobe"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\1\1no profile"),
        segment(0xE2, b"MPF\0nothing"),
        segment(0xE2, b"MPF\0" + exif(6)),
        segment(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\1a"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff\xfe<"),
        segment(0xFE, b""),
    ],
)
def test_a_broken_segment_of_a_jpeg_that_holds_no_pixels_is_as_if_it_were_not_there(
    broken: bytes, limits: Limits
) -> None:
    assert near(corners(prepare(jpeg_with(broken), limits)), UPRIGHT)
    turned = jpeg_with(segment(0xE1, b"Exif\0\0" + exif(6)), broken)
    assert near(corners(prepare(turned, limits)), TURNED)


def test_broken_tags_of_a_tiff_that_are_not_about_pixels_are_as_if_they_were_not_there() -> None:
    for tag, kind, value in [
        (ExifTags.IFD.Exif, 4, 0x7FFFFFFF),
        (ExifTags.IFD.GPSInfo, 4, 8),
        (ExifTags.Base.Orientation, 2, "six"),
        (ExifTags.Base.Orientation, 3, 0),
        (700, 7, b"\xff\xfe<x:xmp"),
        (34675, 7, b"no profile"),
        (34675, 3, 7),
        (33723, 4, 7),
        (34377, 7, b"8BIM"),
    ]:
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags.tagtype[tag] = kind
        tags[tag] = value
        prepared = prepare(save(quarters(), "TIFF", tiffinfo=tags), LIMITS)
        assert prepared.file == prepare(save(quarters(), "BMP"), LIMITS).file, tag


@pytest.mark.parametrize("holder", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("block", "says", "expected"),
    [
        (b"", 6, TURNED),
        (b"no TIFF", 6, TURNED),
        (exif(1), 6, UPRIGHT),
        (exif(1).replace(b"\x01\x12", b"\x01\x1a"), 6, UPRIGHT),
        (exif(6), 1, TURNED),
        (exif(6), 3, TURNED),
    ],
)
def test_xmp_never_outvotes_exif_data_that_can_be_read(
    holder: str, block: bytes, says: int, expected: list[tuple[int, ...]], limits: Limits
) -> None:
    if holder == "JPEG":
        parts = [segment(0xE1, b"Exif\0\0" + block)] if block else []
        data = jpeg_with(*parts, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(says)))
    elif holder == "PNG":
        parts = [chunk(b"eXIf", block)] if block else []
        data = png_with(*parts, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(says)))
    else:
        data = save(quarters(), "WEBP", lossless=True, exif=block, xmp=xmp(says))
    assert near(corners(prepare(data, limits)), expected)


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
@pytest.mark.parametrize("container", range(1, 9))
def test_heic_and_avif_are_turned_as_their_container_says(format: str, container: int, limits: Limits) -> None:
    turn = Image.Exif()
    turn[ExifTags.Base.Orientation] = container
    # The encoders write the container's turn from these, and keep or drop the EXIF data: another tag becomes the second
    # orientation afterwards.
    turn[0x10F] = "abc"
    turn[0x13C] = 3
    data = save(stored(container), format, exif=turn.tobytes(), xmp=xmp(container), quality=95)
    data = data.replace(xmp(container), xmp(container % 8 + 1))
    data = data.replace(b"\x01\x3c\0\3\0\0\0\1", b"\x01\x12\0\3\0\0\0\1")
    assert near(corners(prepare(data, limits)), UPRIGHT)


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_a_container_that_says_nothing_says_upright(format: str) -> None:
    data = save(quarters(), format, xmp=xmp(1), quality=95)
    data = data.replace(xmp(1), xmp(6))
    assert near(corners(prepare(data, LIMITS)), UPRIGHT)


JPEGS: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: save(noise(), "JPEG"),
    "progressive": lambda: save(noise(), "JPEG", progressive=True),
    "grey": lambda: save(noise().convert("L"), "JPEG"),
    "CMYK": lambda: save(noise().convert("CMYK"), "JPEG"),
    "without subsampling": lambda: save(noise(), "JPEG", subsampling=0),
    "with restarts": lambda: save(noise(), "JPEG", restart_marker_rows=1),
    "with a thumbnail": lambda: with_a_thumbnail(save(noise(), "JPEG")),
}


def noise() -> Image.Image:
    return Image.frombytes("L", (200, 140), random.Random(1).randbytes(200 * 140)).convert("RGB")


def with_a_thumbnail(data: bytes) -> bytes:
    return data[:2] + segment(0xE1, b"Exif\0\0" + exif(1) + save(quarters((60, 40)), "JPEG")) + data[2:]


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_without_its_end_marker_is_whole(kind: str) -> None:
    data = JPEGS[kind]()
    for cut in (1, 2):
        assert prepare(data[:-cut], LIMITS).file == prepare(data, LIMITS).file


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("missing", [6, 20, 100, 1000])
def test_a_jpeg_with_pixels_missing_is_damaged(kind: str, missing: int, limits: Limits) -> None:
    assert code_of(JPEGS[kind]()[:-missing], limits) == "damaged_image"


def test_a_jpeg_with_whole_scans_missing_is_damaged(limits: Limits) -> None:
    data = save(noise(), "JPEG", progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] in {b"\xff\xda", b"\xff\xc4"}]
    assert len(scans) > 10
    for scan in scans[1:]:
        assert code_of(data[:scan], limits) == "damaged_image"


def test_a_jpeg_without_its_end_that_is_too_large_to_look_at_twice_is_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.pictures.opening._MAX_PIXELS_WITHOUT_END", 200 * 140 - 1)
    assert code_of(JPEGS["baseline"]()[:-2]) == "damaged_image"


def test_no_setting_of_pillow_takes_half_a_picture_for_whole() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert pixels(prepare(JPEGS["baseline"](), LIMITS)).size == (200, 140)
