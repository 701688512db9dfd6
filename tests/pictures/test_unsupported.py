"""A good file in a format that is not decoded is named, and never called damaged or no picture."""

import gzip
import struct

import pytest

from shared.errors import PictureError
from shared.pictures.prepare import prepare
from tests.pictures.hostile.jpeg_files import jpeg_frame, jpeg_scan, jpeg_tables, segment
from tests.pictures.hostile.png_files import chunk
from tests.pictures.test_convert import LIMITS, code_of, quarters, save
from tests.pictures.test_transparency import bmp

SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


def refusal(data: bytes) -> PictureError:
    with pytest.raises(PictureError) as raised:
        prepare(data, LIMITS)
    return raised.value


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


FILMS = {
    "mov": box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"wide") + box(b"mdat", bytes(400)),
    "mov of old": box(b"moov", bytes(100)),
    "mov that starts with its pictures": struct.pack(">I", 10_000) + b"mdat" + bytes(100),
    "mov that starts with room": box(b"free", bytes(20)) + box(b"mdat", bytes(100)),
    "mp4": box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41") + box(b"moov", bytes(100)),
    "m4v": box(b"ftyp", b"M4V \0\0\0\0M4V mp42isom"),
    "m4a": box(b"ftyp", b"M4A \0\0\0\0M4A mp42isom"),
    "3gp": box(b"ftyp", b"3gp4\0\0\0\0isom3gp4"),
    "avi": b"RIFF\0\1\0\0AVI LIST" + bytes(100),
    "wav": b"RIFF\0\1\0\0WAVEfmt " + bytes(100),
    "webm": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x84webm" + bytes(100),
    "mkv": b"\x1a\x45\xdf\xa3\xa3B\x86\x81\1B\x82\x88matroska" + bytes(100),
    "wmv": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c" + bytes(100),
    "mpg": b"\0\0\1\xba" + bytes(100),
    "ts": (b"G" + bytes(187)) * 5,
    "m2ts": (bytes(4) + b"G" + bytes(187)) * 5,
    "mp3": b"ID3\3\0\0\0\0\0\0" + bytes(100),
    "mp3 without a tag": b"\xff\xfb\x90\x64" + bytes(100),
    "aac": b"\xff\xf1\x50\x80" + bytes(100),
    "ogg": b"OggS\0\2" + bytes(100),
    "flac": b"fLaC\0\0\0\x22" + bytes(100),
    "flv": b"FLV\1\5\0\0\0\x09" + bytes(100),
    "aiff": b"FORM\0\0\0\x40AIFFCOMM" + bytes(100),
}


@pytest.mark.parametrize("kind", FILMS)
def test_a_film_or_sound_is_called_what_it_is(kind: str) -> None:
    error = refusal(FILMS[kind])
    assert error.code == "unsupported_format"
    assert "film or a sound recording" in str(error)


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_a_cut_heic_or_avif_is_no_film(format: str) -> None:
    data = save(quarters(), format)
    for cut in (12, 16, 24, 40, len(data) - 40):
        assert code_of(data[:cut]) == "damaged_image", cut


OTHERS = {
    "PDF": [b"%PDF-1.7\n", b"\xef\xbb\xbf%PDF-1.4\n", b"\n%PDF-1.4"],
    "PostScript": [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6\x20\0\0\0"],
    "FITS": [b"SIMPLE  =                    T / conforms" + b" " * 2839],
    "DICOM": [bytes(128) + b"DICM\2\0\0\0UL\4\0"],
    "JPEG XR": [b"II\xbc\1\x08\0\0\0"],
    "HDR": [b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n"],
    "OpenEXR": [b"\x76\x2f\x31\x01\2\0\0\0" + bytes(100)],
    "XPM": [b"/* XPM */\nstatic char *a[] = {"],
    "GIMP": [b"gimp xcf v011\0"],
    "metafile": [b"\xd7\xcd\xc6\x9a" + bytes(100), b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60)],
    "DjVu": [b"AT&TFORM\0\0\1\0DJVU"],
    "raw file": [
        b"FUJIFILMCCD-RAW 0201",
        b"IIRO\x08\0\0\0" + bytes(100),
        b"IIU\0\x18\0\0\0" + bytes(100),
        box(b"ftyp", b"crx \0\0\0\1crx isom") + bytes(100),
    ],
    "SVG": [
        f"<?xml version='1.0'?>\n<!-- {'a comment ' * 500} -->\n{SVG}".encode(),
        f"\ufeff<?xml version='1.0'?>{SVG}".encode(),
        f"\ufeff<?xml version='1.0' encoding='UTF-16'?>{SVG}".encode("utf-16-le"),
        f"\ufeff{SVG}".encode("utf-16-be"),
        SVG.encode("utf-16-le"),
        gzip.compress(f"<?xml version='1.0'?>{SVG}".encode()),
        b'<!DOCTYPE svg PUBLIC "a" "b" [\n<!ENTITY x "a <b> \']">\n%y;\n]>\n' + SVG.encode(),
        b'<s:svg xmlns:s="http://www.w3.org/2000/svg"/>',
        b"<svg>",
    ],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_pictures_and_documents_in_other_formats_are_named(kind: str) -> None:
    for data in OTHERS[kind]:
        error = refusal(data)
        assert (error.code, kind in str(error)) == ("unsupported_format", True), (data[:40], error)


@pytest.mark.parametrize(
    "data",
    [
        f"<html><body>{SVG}</body></html>".encode(),
        f"a text about {SVG}".encode(),
        gzip.compress(b"no drawing"),
        b"\x1f\x8b" + bytes(20),
        gzip.compress(SVG.encode())[:12],
        b"Great, milkfree and caffeine free",
        b"\0\0\2\0" + bytes(100),
        bytes(200),
    ],
    # Not by their bytes: gzip writes the time into them, and each of the suite's processes must find the same names.
    ids=["a page", "a text", "gzip of a text", "broken gzip", "cut gzip", "words", "no cursor", "zeros"],
)
def test_what_is_no_picture_stays_no_picture(data: bytes) -> None:
    assert code_of(data) == "not_an_image"


def test_apples_variant_of_png_is_named() -> None:
    whole = save(quarters(), "PNG")
    error = refusal(whole[:8] + chunk(b"CgBI", b"\x50\0\x20\x02") + whole[8:])
    assert (error.code, "CgBI" in str(error)) == ("unsupported_format", True)


@pytest.mark.parametrize(
    ("kind", "bits", "channels"), [(0xC3, 8, 1), (0xC1, 12, 1), (0xF7, 8, 3), (0xC0, 8, 2), (0xC5, 8, 3)]
)
def test_rare_kinds_of_jpeg_are_named(kind: int, bits: int, channels: int) -> None:
    frame = bytearray(jpeg_frame((64, 64), channels, kind))
    frame[4] = bits
    before = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + b"\xff"
    data = b"\xff\xd8" + before + jpeg_tables() + bytes(frame) + jpeg_scan(range(channels), 0, 63, 0, 100) + b"\xff\xd9"
    error = refusal(data)
    assert (error.code, "JPEG" in str(error)) == ("unsupported_format", True)


@pytest.mark.parametrize(
    "data",
    [
        bmp(32, (0xF0F000, 0xFF, 0, 0), bytes(256)),  # ones that do not stand side by side
        bmp(16, (0xFF0000, 0xFF00, 0xFF, 0), bytes(256)),  # beyond the bits
        bmp(24, (0xFF, 0xFF00, 0xFF0000, 0), bytes(192)),
        bmp(2, (0, 0, 0, 0), bytes(256), compression=0),
        bmp(64, (0, 0, 0, 0), bytes(512), compression=0),
        bmp(24, (0, 0, 0, 0), save(quarters(), "JPEG"), compression=4),
        bmp(24, (0, 0, 0, 0), save(quarters(), "PNG"), compression=5),
        bmp(1, (0, 0, 0, 0), bytes(64), compression=3, header=64),
    ],
)
def test_rare_kinds_of_bmp_are_named(data: bytes) -> None:
    error = refusal(data)
    assert (error.code, "BMP" in str(error)) == ("unsupported_format", True)
