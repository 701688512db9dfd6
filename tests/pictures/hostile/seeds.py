"""A small valid file of every format and variant, to mutate."""

import struct
import zlib
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image

from tests.pictures.hostile.catalogue import save
from tests.pictures.hostile.gif_bmp_ico import RARE_MASKS, bit_fields, dib, gif, ico
from tests.pictures.hostile.jpeg_files import jpeg_of_scans
from tests.pictures.hostile.png_files import chunk, png
from tests.pictures.hostile.webp_files import webp_animated
from tests.pictures.rare_files import cursor, dds, icns, psd, raw_of_canon, raw_of_nikon, tga
from tests.pictures.tiff_files import DEFLATE, LZW, PACKBITS, Samples, Tags, file_of, tiff


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    colours = Image.frombytes("RGB", size, Random(1).randbytes(size[0] * size[1] * 3))
    plain = Image.linear_gradient("L").resize(size)
    if mode in {"RGBA", "LA"}:
        colours.putalpha(plain)
    if mode == "P":
        return colours.quantize(16)
    return (plain if mode in {"I;16", "I", "F", "1"} else colours).convert(mode)


SEEDS: dict[str, Callable[..., bytes]] = {
    "jpeg": lambda: save(picture(), "JPEG", exif=turned()),
    "jpeg_progressive": lambda: save(picture(), "JPEG", progressive=True),
    "jpeg_grey": lambda: save(picture("L"), "JPEG"),
    "jpeg_cmyk": lambda: save(picture("CMYK"), "JPEG"),
    "jpeg_of_scans": lambda: jpeg_of_scans((40, 30), 3, 3),
    "jpeg_that_fits": lambda: save(picture(size=(64, 64)), "JPEG", exif=turned(1), comment=b"hello"),
    "jpeg_progressive_that_fits": lambda: save(picture("L", (64, 64)), "JPEG", progressive=True),
    "mpo": lambda: save(picture(), "MPO", save_all=True, append_images=[picture("L")]),
    **{
        f"png_{mode}": lambda mode=mode: save(picture(mode), "PNG")
        for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")
    },
    "png_large": lambda: save(picture(size=(120, 90)), "PNG"),
    "png_animated": lambda: save(picture(), "PNG", save_all=True, append_images=[picture()]),
    "png_that_fits": lambda: save(picture("L", (64, 64)), "PNG", exif=turned()),
    "webp": lambda: save(picture(), "WEBP", exif=turned()),
    "webp_that_fits": lambda: save(picture(size=(64, 64)), "WEBP", exif=turned(1)),
    "webp_lossless": lambda: save(picture("RGBA"), "WEBP", lossless=True),
    "webp_animated": lambda: save(picture(), "WEBP", save_all=True, append_images=[picture("L")]),
    "gif": lambda: save(picture("P"), "GIF", comment=b"hello"),
    "gif_animated": lambda: save(picture("P"), "GIF", save_all=True, append_images=[picture("L")], transparency=3),
    **{
        f"tiff_{name}": lambda name=name, mode=mode: save(picture(mode), "TIFF", compression=name)
        for name, mode in [
            ("raw", "RGB"),
            ("tiff_lzw", "RGBA"),
            ("tiff_adobe_deflate", "RGB"),
            ("jpeg", "RGB"),
            ("packbits", "P"),
            ("group4", "1"),
            ("zstd", "L"),
            ("lzma", "I;16"),
        ]
    },
    "tiff_cmyk": lambda: save(picture("CMYK"), "TIFF"),
    "tiff_float": lambda: save(picture("F"), "TIFF", compression="tiff_adobe_deflate"),
    "tiff_pages": lambda: save(picture(), "TIFF", save_all=True, append_images=[picture("L")]),
    **{
        f"tiff_of_{name}": lambda channels=channels, options=options: tiff(samples(*channels), **options)
        for name, channels, options in [
            ("16_bit_rgb", ("u2", 3), {"compression": LZW, "photometric": 2, "predictor": 2}),
            ("16_bit_planes_big_endian", ("u2", 3), {"order": ">", "planar": True, "photometric": 2}),
            ("12_bits", ("u2", 1), {"bits": 12, "photometric": 0}),
            ("half_floats", ("f2", 1), {"compression": DEFLATE, "predictor": 3, "order": ">"}),
            ("doubles_in_tiles", ("f8", 3), {"photometric": 2, "tile": (16, 16), "big": True, "order": ">"}),
            ("signed_bytes", ("i1", 1), {"compression": PACKBITS}),
            ("lab", ("u2", 3), {"photometric": 8}),
            ("bands", ("u1", 6), {"photometric": 2, "more": {338: (3, [1, 0, 0])}, "tile": (16, 16)}),
            ("shared_colours", ("u1", 3), {"photometric": 6, "more": {530: (3, [1, 1])}}),
        ]
    },
    "tiff_thumbnail_first": lambda: thumbnail_first(),
    "tiff_webp": lambda: save_webp_in_tiff(),
    "bmp": lambda: save(picture(), "BMP"),
    "bmp_palette": lambda: save(picture("P"), "BMP"),
    "bmp_rle": lambda: bmp_rle(),
    "heic": lambda: save(picture(), "HEIF"),
    "heic_alpha": lambda: save(picture("RGBA"), "HEIF"),
    "avif": lambda: save(picture(), "AVIF"),
    "avif_alpha": lambda: save(picture("RGBA"), "AVIF"),
    "jpeg_2000": lambda: save(picture(), "JPEG2000"),
    "jpeg_2000_stream": lambda: save(picture("L"), "JPEG2000", no_jp2=True),
    "ico": lambda: save(picture("RGBA"), "ICO", sizes=[(40, 30)]),
    "ico_bitmap": lambda: save(picture("RGBA"), "ICO", sizes=[(40, 30)], bitmap_format="bmp"),
    "bmp_bit_fields": lambda: bit_fields((40, 30), 32, RARE_MASKS, picture("RGBA").tobytes()),
    "bmp_bit_fields_16": lambda: bit_fields((40, 30), 16, (0xF00, 0xF0, 0xF, 0), picture("RGBA").tobytes()),
    "ico_bitmap_and_mask": lambda: ico(dib((32, 32), 24, picture(size=(32, 40)).tobytes()), side=32, bits=24),
    "gif_uncovered": lambda: gif((40, 30), (10, 10), at=(20, 10)),
    "webp_uncovered": lambda: webp_animated((40, 30), (8, 4)),
    "jpeg_without_its_end": lambda: save(picture(), "JPEG")[:-2],
    **{
        f"png_{name}_transparent": lambda depth=depth, colour=colour: png(
            (40, 30), depth, colour, before=chunk(b"tRNS", bytes(6))
        )
        for name, depth, colour in [("grey_2", 2, 0), ("grey_16", 16, 0), ("rgb_16", 16, 2)]
    },
    "png_raw_profile": lambda: png(
        (64, 64),
        before=chunk(
            b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 9\n" + turned().tobytes().hex().encode())
        ),
    ),
    "psd": lambda: psd(picture(), compressed=True, merged=True),
    "psd_cmyk": lambda: psd(picture("CMYK"), mode=4),
    "tga": lambda: tga(picture("RGBA")),
    "tga_runs": lambda: tga(picture(), compressed=True, footer=False),
    "pcx": lambda: save(picture(), "PCX"),
    "qoi": lambda: save(picture("RGBA"), "QOI"),
    "sgi": lambda: save(picture(), "SGI"),
    "sgi_16_bit": lambda: save(picture("RGBA"), "SGI", bpc=2),
    "dds": lambda: save(picture("RGBA"), "DDS", pixel_format="DXT5"),
    "dds_numbers": lambda: dds((40, 30), 32, (255, 65_280, 0xFF0000, 0xFF000000), picture("RGBA").tobytes()),
    "xbm": lambda: save(picture("1"), "XBM"),
    "icns": lambda: icns((b"ic07", save(picture(), "PNG")), (b"ic08", save(picture("L"), "JPEG2000"))),
    "cursor": lambda: cursor(dib((32, 32), 24, picture(size=(32, 40)).tobytes()), 32),
    "jpeg_xl": lambda: save(picture(), "JXL"),
    "jpeg_xl_container": lambda: save(picture("RGBA"), "JXL", lossless=True, use_container=True),
    "raw_nikon": lambda: raw_of_nikon(picture(), orientation=6)[:20_000] + save(picture(), "JPEG"),
    "raw_canon": lambda: raw_of_canon(picture(), 8),
    "ppm": lambda: save(picture(), "PPM"),
    "pgm_16_bit": lambda: save(picture("I"), "PPM"),
    "ppm_plain": lambda: b"P3\n# shades\n4 3\n100\n" + b"0 50 100 " * 12,
    "pbm_plain": lambda: b"P1 8 4\n" + b"01010101\n" * 4,
    "pfm": lambda: b"Pf\n8 4\n-1.0\n" + struct.pack("<f", 0.5) * 32,
}


def samples(kind: str, channels: int) -> Samples:
    steps = np.linspace(0, 1 if kind[0] == "f" else np.iinfo(kind).max, 30 * 40 * channels)
    return steps.reshape(30, 40, channels).astype(kind)


def grey_page(side: int, kind: int) -> tuple[Tags, list[bytes]]:
    numbers = {254: kind, 256: side, 257: side, 258: 8, 259: 1, 262: 1, 277: 1, 278: side}
    return {tag: (4, [number]) for tag, number in numbers.items()}, [bytes(range(side)) * side]


def thumbnail_first() -> bytes:
    return file_of([grey_page(8, 1), grey_page(40, 0)], order=">")


def save_webp_in_tiff() -> bytes:
    numbers = {256: [40], 257: [30], 258: [8, 8, 8], 259: [50_001], 262: [2], 277: [3], 278: [30]}
    return file_of([({tag: (3, values) for tag, values in numbers.items()}, [save(picture(), "WEBP")])])


def turned(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    exif[0x8769] = {0x9000: b"0230"}
    return exif


def bmp_rle() -> bytes:
    """A BMP with runs, a row of literal pixels, a jump, and the codes for end of row and end of picture."""
    data = bytearray(save(picture("P"), "BMP"))
    struct.pack_into("<I", data, 30, 1)
    start = data[: struct.unpack_from("<I", data, 10)[0]]
    return bytes(start) + b"\x10\x05\x10\x07\x08\x01\0\0" * 29 + b"\0\x04\1\2\3\4\0\x02\x04\0\x20\x03\0\0\0\x01"
