"""Profiles for what AVIF, HEIC and PNG say of their colours in numbers: the code points of ITU-T H.273."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.pictures.colour import icc

type Matrix = Sequence[Sequence[float]]
type Point = tuple[float, float]


class _Space(NamedTuple):
    """CIE 1931 x and y of the primaries and of white."""

    red: Point
    green: Point
    blue: Point
    white: Point


_D65 = (0.3127, 0.3290)
# H.273, table 2. What is not listed counts as sRGB: it is unspecified, or television's, which every viewer shows so.
_SRGB = _Space((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
_SPACES = {
    9: _Space((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),  # BT.2020
    11: _Space((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),  # DCI-P3
    12: _Space((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),  # Display P3
}
# Between the responses of the eye's receptors and XYZ (Bradford, as in ICC.1:2010, annex E).
_RECEPTORS = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))

# A white page has 203 cd/m2 where there is more range than a screen's (BT.2408). Lights may have 1,000 here.
_WHITE, _BRIGHTEST = 203, 1_000
# Below this share of white nothing is compressed.
_KNEE = 0.3
_CURVE_POINTS = 4_096


@functools.cache
def profile_of(primaries: int, transfer: int) -> bytes | None:
    """The ICC profile for these code points; ``None`` if they mean sRGB.

    The profile's curve compresses what has more range than a screen (PQ and HLG). Up to 0.3 of white nothing changes;
    from there a hyperbola leads to 1,000 cd/m2, which becomes a screen's white.
    """
    space = _SPACES.get(primaries, _SRGB)
    light = _LIGHTS.get(transfer, _srgb_light)
    if space is _SRGB and light is _srgb_light:
        return None
    steps = _CURVE_POINTS - 1
    curve = icc.curve([light(step / steps) for step in range(steps + 1)])
    colours = zip(*_to_d50(space), strict=True)
    tags = {name: icc.xyz(colour) for name, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours, strict=True)}
    return icc.write(b"mntrRGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def _srgb_light(signal: float) -> float:
    return signal / 12.92 if signal <= 0.04045 else ((signal + 0.055) / 1.055) ** 2.4


def _pq_light(signal: float) -> float:
    """By SMPTE ST 2084."""
    root = signal ** (32 / 2523)
    light = (max(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
    return _compressed(light * 10_000 / _WHITE)


def _hlg_light(signal: float) -> float:
    """By BT.2100 for a screen of 1,000 cd/m2, with the system gamma on each channel."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = signal * signal / 3 if signal <= 0.5 else (math.exp((signal - c) / a) + b) / 12
    return _compressed(scene**1.2 * _BRIGHTEST / _WHITE)


def _compressed(light: float) -> float:
    """Light in shares of white as 0 to 1."""
    if light <= _KNEE:
        return light
    over, most = light - _KNEE, _BRIGHTEST / _WHITE - _KNEE
    return min(1.0, _KNEE + over / (1 + over * (1 / (1 - _KNEE) - 1 / most)))


# H.273, table 3. The others count as sRGB, as above.
_LIGHTS: dict[int, Callable[[float], float]] = {
    4: lambda signal: signal**2.2,
    5: lambda signal: signal**2.8,
    8: lambda signal: signal,
    16: _pq_light,
    18: _hlg_light,
}


def _to_d50(space: _Space) -> Matrix:
    """The matrix from linear RGB of this space to XYZ under D50."""
    white = _column(_xyz(space.white))
    corners = list(zip(*(_xyz(point) for point in (space.red, space.green, space.blue)), strict=True))
    to_xyz = _product(corners, _diagonal(_product(_inverse(corners), white)))
    seen, wanted = _product(_RECEPTORS, white), _product(_RECEPTORS, _column(icc.D50))
    gains = _diagonal([[want / see] for [want], [see] in zip(wanted, seen, strict=True)])
    return _product(_product(_inverse(_RECEPTORS), _product(gains, _RECEPTORS)), to_xyz)


def _xyz(point: Point) -> Sequence[float]:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _column(values: Sequence[float]) -> Matrix:
    return [[value] for value in values]


def _diagonal(column: Matrix) -> Matrix:
    return [[value if row == at else 0.0 for at in range(len(column))] for row, [value] in enumerate(column)]


def _product(left: Matrix, right: Matrix) -> Matrix:
    columns = list(zip(*right, strict=True))
    return [[math.sumprod(row, column) for column in columns] for row in left]


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    adjugate = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    determinant = math.sumprod(matrix[0], [row[0] for row in adjugate])
    return [[value / determinant for value in row] for row in adjugate]
