"""Samples of any width and kind, as numbers and as 8-bit pixels: what Pillow gets wrong or does not read at all.

Imported with the first picture that needs it: numpy takes a tenth of a second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import PictureError
from shared.pictures.tiff.chunks import bands, colour_map, decompressed, stored_bytes
from shared.pictures.tiff.pages import COLOURS, Alpha, Compression, Format, Page, Photometric, Tag

type Samples = NDArray[Any]
type Bytes = NDArray[np.uint8]

# The usual ranges of numbers that may have any, the smallest first; see :func:`scale_of`.
_USUAL_TOPS = {8: (1, 127), 16: (1, 255, 32_767)}
_USUAL_TOPS_ELSEWHERE = (1, 255, 65_535)
# Beyond these, a difference or a quotient of doubles could be too large for one.
_HUGE, _TINY = 1e150, 1e-300
# Blocks of about this many bytes are converted at once: larger ones do not fit the processor's cache.
_BLOCK_BYTES = 1_000_000
_INKS = {Photometric.MIN_IS_WHITE, Photometric.CMYK}

# White under D50, and from XYZ under it to linear sRGB: the inverse of the matrix of sRGB (IEC 61966-2-1), adapted from
# D65 by Bradford's method.
_D50 = np.array([0.96422, 1, 0.82521], np.float32)
_XYZ_TO_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]],
    np.float32,
)

_LIGHT = np.arange(65_536) / 65_535
_SRGB_CURVE = np.rint(255 * np.where(_LIGHT <= 0.0031308, _LIGHT * 12.92, 1.055 * _LIGHT ** (1 / 2.4) - 0.055)).astype(
    np.uint8
)


@dataclass(frozen=True)
class Scale:
    """What shows as 0 and as 255, of the colours and of the transparency."""

    colours: tuple[float, float]
    alpha: tuple[float, float]


def blocks(page: Page, data: bytes) -> Iterator[tuple[int, Samples]]:
    """The picture as numbers, in blocks of rows, each with its first row; rows x columns x channels.

    The channels are those that show: the colours, and the transparency if there is one.
    """
    row_bytes = page.across * page.group_row_bytes
    step = max(1, _BLOCK_BYTES // (row_bytes * min(page.planes, len(page.wanted))))
    for top, bottom in bands(page):
        read = page.wanted if page.planes > 1 else [0]
        planes = [_rows(page, data, plane, top, bottom) for plane in read]
        for start in range(0, len(planes[0]), step):
            first = top + start * page.group[1]
            if first < bottom:
                yield first, _read(page, [plane[start : start + step] for plane in planes])[: bottom - first]


def _rows(page: Page, data: bytes, plane: int, top: int, bottom: int) -> Bytes:
    """The decompressed bytes of a band of one plane, each row as wide as all chunks side by side."""
    if page.compression != Compression.NONE:
        content: bytes | memoryview = decompressed(page, data, plane, top, bottom)
        return np.frombuffer(content, np.uint8).reshape(-1, page.across * page.group_row_bytes)
    stored: Bytes = np.frombuffer(stored_bytes(page, data, plane, top, bottom), np.uint8)
    if page.across > 1:
        tiles = stored.reshape(-1, page.across, page.chunk_height // page.group[1], page.group_row_bytes)
        stored = tiles.swapaxes(1, 2)
    return stored.reshape(-1, page.across * page.group_row_bytes)


def _read(page: Page, planes: list[Bytes]) -> Samples:
    """Some rows of decompressed bytes as numbers."""
    if page.photometric == Photometric.YCBCR:
        return _upsampled(page, planes[0])
    channels = page.samples // page.planes
    read = [_numbers(page, plane, channels) for plane in planes]
    if page.planes > 1:
        return np.concatenate(read, axis=2)[:, : page.width]
    samples = read[0][:, : page.width]
    return samples if channels == len(page.wanted) else samples[..., page.wanted]


# Not even a signalling NaN is worth a line on stderr.
@np.errstate(all="ignore")
def scale_of(page: Page, parts: list[Samples]) -> Scale:
    """The range of numbers that have no fixed one: the smallest usual range that holds them all.

    Usual are 0 to 1, 255 and 65535, or the largest value that a signed number of 8 or 16 bits may have; else it is 0 to
    the largest value. Negative numbers extend it down. What is not a number (NaN) or infinite counts for nothing.
    """
    colours = COLOURS[page.photometric]
    return Scale(
        _range(page, [part[..., :colours] for part in parts]),
        _range(page, [part[..., colours:] for part in parts]) if any(page.extra) else (0, 1),
    )


def fixed_scale(page: Page) -> Scale:
    """The range that the bits of a sample give."""
    full = 0.0, float(2**page.bits - 1)
    return Scale(full, full)


@np.errstate(all="ignore")
def shown(page: Page, samples: Samples, scale: Scale) -> Image.Image:
    """These rows as a picture of 8 bits a channel, opaque on white: ``L``, ``RGB`` or ``CMYK``."""
    height, width, _ = samples.shape
    count = COLOURS[page.photometric]
    colours = samples[..., :count]
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[count]
    match page.photometric:
        case Photometric.CIELAB | Photometric.ICCLAB:
            pixels = _lab_to_rgb(page, colours)
        case Photometric.YCBCR:
            pixels = _ycbcr_to_rgb(page, colours)
        case Photometric.PALETTE:
            palette = np.array(colour_map(page), np.uint16).reshape(3, -1).T
            mode, pixels = "RGB", _eight_bits(palette, (0, 65_535))[colours[..., 0]]
        case _:
            pixels = _eight_bits(colours, scale.colours)
    if any(page.extra):
        opacity = _eight_bits(samples[..., count:], scale.alpha)
        pixels = _on_white(page, pixels, opacity, page.extra[page.wanted[count] - count])
    if page.photometric == Photometric.MIN_IS_WHITE:
        pixels = 255 - pixels
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(pixels).tobytes(), "raw", mode, 0, 1)


def _numbers(page: Page, rows: Bytes, channels: int) -> Samples:
    """One plane's rows as numbers, with the predictor undone."""
    height = len(rows)
    tiles = rows.reshape(height, page.across, -1)
    if page.predictor == 3:
        numbers = _undo_float_differences(page, tiles, channels)
    elif page.bits in {8, 16, 32, 64}:
        numbers = tiles.view(f"{page.order}u{page.bits // 8}").reshape(height, page.across, page.chunk_width, channels)
        if page.predictor == 2:
            native = numbers.astype(numbers.dtype.newbyteorder("="))
            numbers = np.cumsum(native, axis=2, dtype=native.dtype, out=native)
    else:
        numbers = _unpacked(tiles, page.bits, page.chunk_width * channels)
    kind = {Format.UNSIGNED: "u", Format.SIGNED: "i", Format.FLOAT: "f"}[Format(page.format)]
    typed = numbers.view(np.dtype(f"{kind}{numbers.itemsize}").newbyteorder(numbers.dtype.byteorder))
    return typed.reshape(height, page.across * page.chunk_width, channels)


def _undo_float_differences(page: Page, tiles: Bytes, channels: int) -> Samples:
    """Floats as Adobe's predictor 3 stores them: differences of bytes, the highest byte of all numbers first."""
    height, across, _ = tiles.shape
    size = page.bits // 8
    summed = np.cumsum(tiles.reshape(height, across, -1, channels), axis=2, dtype=np.uint8)
    by_number = summed.reshape(height, across, size, -1).swapaxes(2, 3)
    return np.ascontiguousarray(by_number).view(f">u{size}")


def _unpacked(tiles: Bytes, bits: int, count: int) -> Samples:
    """Whole numbers of any width up to 16 bits, packed with the highest bit first, whatever the byte order."""
    height, across, row = tiles.shape
    groups = -(-count // 8)
    # Eight numbers take ``bits`` bytes. Two bytes more, so that three can be read from each.
    padded = np.zeros((height, across, groups * bits + 2), np.uint8)
    padded[..., :row] = tiles[..., : groups * bits]
    numbers = np.empty((height, across, groups, 8), np.uint16)
    for place in range(8):
        at, skipped = divmod(place * bits, 8)
        first, second, third = (
            padded[..., at + offset : at + offset + (groups - 1) * bits + 1 : bits].astype(np.uint32)
            for offset in range(3)
        )
        numbers[..., place] = (first << 16 | second << 8 | third) >> (24 - skipped - bits) & (1 << bits) - 1
    return numbers.reshape(height, across, -1)[..., :count]


def _range(page: Page, parts: list[Samples]) -> tuple[float, float]:
    lows, highs = [], []
    for part in parts:
        low, high = float(part.min()), float(part.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = part[np.isfinite(part)]
            if not finite.size:
                continue
            low, high = float(finite.min()), float(finite.max())
        lows.append(low)
        highs.append(high)
    if not lows:
        raise PictureError("damaged_image", "The picture has no values but NaN and infinite ones.")
    low, high = min(lows), max(highs)
    signed = _USUAL_TOPS.get(page.bits, _USUAL_TOPS_ELSEWHERE)
    tops = signed if page.format == Format.SIGNED else _USUAL_TOPS_ELSEWHERE
    top = next((usual for usual in tops if low >= 0 and high <= usual), high)
    return min(0.0, low), top


def _eight_bits(samples: Samples, span: tuple[float, float]) -> Bytes:
    """Numbers in this range as 0 to 255, rounded. NaN is 0, as black as infinitely little."""
    bottom, top = span
    if samples.dtype == np.uint8 and span == (0, 255):
        return samples
    values: NDArray[np.floating] = samples.astype(np.float32 if samples.dtype.itemsize <= 2 else np.float64)
    if not -_HUGE < bottom <= top < _HUGE:
        values, bottom, top = values / _HUGE, bottom / _HUGE, top / _HUGE
    if bottom:
        np.subtract(values, bottom, out=values)
    # A picture of one number alone has no range.
    np.multiply(values, 255 / max(top - bottom, _TINY), out=values)
    if samples.dtype.kind == "f":
        values[np.isnan(values)] = 0
        np.clip(values, 0, 255, out=values)
    np.add(values, 0.5, out=values)
    return values.astype(np.uint8)


def _on_white(page: Page, pixels: Bytes, opacity: Bytes, kind: int) -> Bytes:
    """Transparent pixels over white paper. Associated means that the colours are multiplied by it already."""
    ink = page.photometric in _INKS  # no ink is white
    if kind == Alpha.ASSOCIATED:
        return pixels if ink else np.minimum(pixels.astype(np.uint16) + (255 - opacity), 255).astype(np.uint8)
    darkness = pixels if ink else 255 - pixels
    visible = ((darkness.astype(np.uint16) * opacity + 127) // 255).astype(np.uint8)
    return visible if ink else 255 - visible


def _lab_to_rgb(page: Page, samples: Samples) -> Bytes:
    """SRGB from CIE or ICC encoding of L*a*b* under D50, of 8 or 16 bits.

    CIELAB has signed a and b, the whole numbers in the upper byte; L is 100 at the largest value. ICC's a and b have an
    offset of 128 instead, and with 16 bits L is 100 at 0xFF00 (TIFF 6.0, section 23; ICC.1:2010, 6.3.4.2 and Annex A).
    """
    signed = page.photometric == Photometric.CIELAB
    unit = 1 if page.bits == 8 else 256
    full = 255 if page.bits == 8 else 65_535 if signed else 65_280
    # Whichever way the file calls its numbers, the bits are the same.
    bits = samples.view(np.dtype(f"u{samples.dtype.itemsize}").newbyteorder(samples.dtype.byteorder)).astype(np.float32)
    half = np.float32(128 * unit)
    lightness = bits[..., 0] * np.float32(100 / full)
    a, b = (
        (np.where(channel >= half, channel - 2 * half, channel) if signed else channel - half) / np.float32(unit)
        for channel in (bits[..., 1], bits[..., 2])
    )
    middle = (lightness + 16) / 116
    shares = np.stack([middle + a / 500, middle, middle - b / 200], axis=2)
    cubes = shares * shares * shares
    xyz = np.where(shares > np.float32(6 / 29), cubes, (shares - np.float32(4 / 29)) * np.float32(108 / 841)) * _D50
    light = np.clip(xyz @ _XYZ_TO_SRGB.T, 0, 1)
    rgb: Bytes = _SRGB_CURVE.take((light * np.float32(65_535)).astype(np.uint16))
    return rgb


def _upsampled(page: Page, rows: Bytes) -> Samples:
    """YCbCr whose groups of pixels share one Cb and Cr, as rows x columns x 3."""
    across, down = page.group
    groups = rows.reshape(len(rows), -1, across * down + 2)
    height, width, _ = groups.shape
    luma = groups[..., :-2].reshape(height, width, down, across).transpose(0, 2, 1, 3)
    colours = groups[:, np.newaxis, :, np.newaxis, -2:]
    pixels = np.empty((height, down, width, across, 3), np.uint8)
    pixels[..., 0] = luma
    pixels[..., 1:] = colours
    return pixels.reshape(height * down, width * across, 3)[:, : page.width]


def _ycbcr_to_rgb(page: Page, samples: Samples) -> Bytes:
    """By TIFF 6.0, section 21, with the file's coefficients and reference values or the usual ones."""
    told = page.fractions(Tag.YCBCR_COEFFICIENTS)
    red, green, blue = told if len(told) == 3 and told[1] > 0 else (0.299, 0.587, 0.114)
    told = page.fractions(Tag.REFERENCE_BLACK_WHITE)
    black_white = told if len(told) == 6 else (0, 255, 128, 255, 128, 255)
    luma, blueness, redness = (
        (samples[..., index].astype(np.float32) - low) * np.float32(full / ((high - low) or 1))
        for index, (low, high, full) in enumerate(
            zip(black_white[::2], black_white[1::2], (255, 127, 127), strict=True)
        )
    )
    r = luma + redness * (2 - 2 * red)
    b = luma + blueness * (2 - 2 * blue)
    g = (luma - red * r - blue * b) / green
    return np.clip(np.rint(np.stack([r, g, b], axis=2)), 0, 255).astype(np.uint8)
