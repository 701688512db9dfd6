"""A profile for CMYK that comes without one: offset printing on coated paper, the usual condition of Europe."""

import functools
import itertools
import math
import struct
from collections.abc import Sequence

from shared.pictures.colour import icc

# CIE XYZ (percent, D50) of each overprint of cyan, magenta, yellow and black, from Fogra's characterisation data
# FOGRA39L (December 2006, for ISO 12647-2:2004/Amd 1:2007).
_OVERPRINTS = {
    (0, 0, 0, 0): (84.48, 87.62, 74.57),
    (0, 0, 0, 1): (2.02, 2.10, 1.73),
    (0, 0, 1, 0): (69.17, 74.16, 7.04),
    (0, 0, 1, 1): (1.84, 2.04, 0.82),
    (0, 1, 0, 0): (33.03, 16.79, 15.01),
    (0, 1, 0, 1): (1.61, 1.18, 0.89),
    (0, 1, 1, 0): (30.20, 16.02, 2.30),
    (0, 1, 1, 1): (1.56, 1.31, 0.65),
    (1, 0, 0, 0): (15.02, 22.93, 52.85),
    (1, 0, 0, 1): (0.91, 1.18, 1.79),
    (1, 0, 1, 0): (8.16, 18.42, 6.74),
    (1, 0, 1, 1): (0.89, 1.31, 0.85),
    (1, 1, 0, 0): (5.67, 4.10, 15.67),
    (1, 1, 0, 1): (0.99, 0.87, 1.08),
    (1, 1, 1, 0): (3.66, 3.80, 3.13),
    (1, 1, 1, 1): (0.93, 0.97, 0.69),
}
_PAPER, _DARKEST = _OVERPRINTS[0, 0, 0, 0], _OVERPRINTS[1, 1, 1, 1]
# Dots grow in print: how much more of the paper than half a tone of 50 % covers, of each ink, in the same data.
_GROWTH = (0.114, 0.137, 0.144, 0.172)
# Colours are computed for so many shares of each ink; the colour engine interpolates between them.
_SHARES = 9


@functools.cache
def profile() -> bytes:
    """The ICC profile, with paper as white and the darkest overprint as black.

    By Neugebauer's equations: a tone covers a share of the paper, and a colour is the mean of all overprints, each by
    its share. The 1,617 colours of the characterisation data come out 3.2 off in the mean and 8.0 at most (CIE 1976);
    by Pillow's conversion, which knows no inks, 24 and 79.
    """
    shares = [step / (_SHARES - 1) for step in range(_SHARES)]
    colours = [_printed(covered) for covered in itertools.product(shares, repeat=4)]
    curves = [icc.sixteen_bits(_covered(tone / 255, growth)) for growth in _GROWTH for tone in range(256)]
    identity = (65_536, 0, 0, 0, 65_536, 0, 0, 0, 65_536)
    head = struct.pack(">4sxxxxBBBx9iHH", b"mft2", 4, 3, _SHARES, *identity, 256, 2)
    # XYZ has 15 bits behind the point here.
    table = [round(32_768 * value) for colour in colours for value in colour]
    return icc.write(b"prtrCMYK", {b"A2B0": head + _words(curves) + _words(table) + _words([0, 65_535] * 3)})


def _covered(tone: float, growth: float) -> float:
    return tone + 4 * growth * tone * (1 - tone)


def _printed(covered: Sequence[float]) -> list[float]:
    """XYZ of paper that is covered by these shares of the inks; white paper is the connection space's white."""
    shares = [
        math.prod(share if printed else 1 - share for share, printed in zip(covered, inks, strict=True))
        for inks in _OVERPRINTS
    ]
    mixed = [math.sumprod(shares, values) for values in zip(*_OVERPRINTS.values(), strict=True)]
    return [
        max(0.0, white * (value - least) / (most - least))
        for value, least, most, white in zip(mixed, _DARKEST, _PAPER, icc.D50, strict=True)
    ]


def _words(numbers: list[int]) -> bytes:
    return struct.pack(f">{len(numbers)}H", *numbers)
