"""AVIF and HEIC with patched headers, and HEIC built from its parts, as items made of items."""

import struct

from tests.pictures.hostile.catalogue import (
    ANYTHING,
    BROKEN,
    REJECTED,
    SIDE,
    SMALL,
    gradient,
    hostile,
    patched,
    save,
)


def claiming(format: str, claimed: tuple[int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture of ``size`` whose header claims another."""
    return patched(save(gradient(size), format), b"ispe\0\0\0\0", *claimed)


hostile("avif_of_900_megapixels", lambda: claiming("AVIF", (30_000, 30_000)), REJECTED)
hostile("avif_of_10_gigapixels", lambda: claiming("AVIF", (100_000, 100_000)), REJECTED)
hostile("avif_just_under_the_limit", lambda: claiming("AVIF", (SIDE, SIDE)), REJECTED)
hostile("avif_of_0_by_0", lambda: claiming("AVIF", (0, 0)), BROKEN)
hostile("heic_of_10_gigapixels", lambda: claiming("HEIF", (100_000, 100_000)), REJECTED)
hostile("heic_just_under_the_limit", lambda: claiming("HEIF", (SIDE, SIDE)), ANYTHING)
hostile("heic_of_0_by_0", lambda: claiming("HEIF", (0, 0)), ANYTHING)
hostile("heic_of_more_pixels_than_it_says", lambda: claiming("HEIF", (16, 16), (256, 256)), REJECTED, SMALL)
hostile("avif_of_more_pixels_than_it_says", lambda: claiming("AVIF", (16, 16), (256, 256)), ANYTHING, SMALL)


def box(kind: bytes, *parts: bytes | bytearray) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def full(kind: bytes, version: int, *parts: bytes | bytearray) -> bytes:
    return box(kind, bytes((version, 0, 0, 0)), *parts)


def heif(items: list[tuple[bytes, bytes, list[int], tuple[int, int]]], properties: bytes = b"") -> bytes:
    """A HEIC of these items: kind, data, the items that it is made of (``dimg``), size. The first is the picture.

    Items are numbered from 1. ``properties`` (a decoder's configuration) belong to every item not made of others.
    """
    store = bytearray()
    locations = bytearray()
    derived = bytearray()
    associations = bytearray()
    sizes: list[tuple[int, int]] = []
    entries = bytearray()
    for number, (kind, data, made_of, size) in enumerate(items, start=1):
        entries += full(b"infe", 2, struct.pack(">HH", number, 0), kind, b"\0")
        locations += struct.pack(">HHHHII", number, 1, 0, 1, len(store), len(data))
        store += data
        if made_of:
            derived += box(b"dimg", struct.pack(f">HH{len(made_of)}H", number, len(made_of), *made_of))
        if size not in sizes:
            sizes.append(size)
        indexes = [sizes.index(size) + 2] + ([1] if not made_of and properties else [])
        associations += struct.pack(f">HB{len(indexes)}B", number, len(indexes), *indexes)
    meta = full(
        b"meta",
        0,
        full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
        full(b"pitm", 0, struct.pack(">H", 1)),
        full(b"iinf", 0, struct.pack(">H", len(items)), entries),
        full(b"iref", 0, derived) if derived else b"",
        box(
            b"iprp",
            box(
                b"ipco",
                properties or full(b"free", 0),
                *(full(b"ispe", 0, struct.pack(">II", *size)) for size in sizes),
            ),
            full(b"ipma", 0, struct.pack(">I", len(items)), associations),
        ),
        full(b"iloc", 1, struct.pack(">BBH", 0x44, 0, len(items)), locations),
        box(b"idat", store),
    )
    return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + meta


def hevc_tile() -> tuple[bytes, bytes]:
    """The decoder configuration and the encoded pixels of a 64 x 64 HEIC."""
    data = save(gradient((64, 64)), "HEIF", quality=10)
    at = data.index(b"hvcC") - 4
    configuration = data[at : at + struct.unpack_from(">I", data, at)[0]]
    at = data.index(b"mdat") - 4
    return configuration, data[at + 8 : at + struct.unpack_from(">I", data, at)[0]]


def grid(rows: int, columns: int, size: tuple[int, int]) -> bytes:
    return struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *size)


def heic_grid(rows: int, columns: int, size: tuple[int, int]) -> bytes:
    """A grid that shows one small tile everywhere."""
    configuration, tile = hevc_tile()
    return heif(
        [(b"grid", grid(rows, columns, size), [2] * rows * columns, size), (b"hvc1", tile, [], (64, 64))], configuration
    )


def heic_nested(depth: int) -> bytes:
    """Grids of 16 x 16 grids, nested ``depth`` times: 256 to the power of ``depth`` tiles."""
    configuration, tile = hevc_tile()
    grids = [(b"grid", grid(16, 16, (SIDE, SIDE)), [number + 2] * 256, (SIDE, SIDE)) for number in range(depth)]
    return heif([*grids, (b"hvc1", tile, [], (64, 64))], configuration)


hostile("heic_of_one_tile_shown_once", lambda: heic_grid(1, 1, (64, 64)), ANYTHING)
hostile("heic_of_one_tile_shown_65025_times", lambda: heic_grid(221, 221, (SIDE, SIDE)), ANYTHING)
hostile("heic_of_one_tile_shown_on_gigapixels", lambda: heic_grid(255, 255, (60_000, 60_000)), REJECTED)
hostile("heic_of_grids_of_grids", lambda: heic_nested(5), REJECTED)
hostile("heic_that_is_its_own_tile", lambda: heif([(b"grid", grid(1, 1, (64, 64)), [1], (64, 64))]), REJECTED)
hostile("heic_whose_items_loop", lambda: heif([(b"iden", b"", [2], (64, 64)), (b"iden", b"", [1], (64, 64))]), REJECTED)
hostile("heic_of_65535_items", lambda: heif([(b"hvc1", b"", [], (64, 64))] * 65_535), REJECTED)
hostile(
    "heic_of_2_million_entries_of_exif_data",
    lambda: save(gradient(), "HEIF") + b"infe\x02\0\0\0\0\0\0\0Exif" * 2_000_000,
    ANYTHING,
)
hostile("avif_of_the_starts_of_entries", lambda: save(gradient(), "AVIF") + b"infe\x02" * 10_000_000, ANYTHING)
