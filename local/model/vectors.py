"""Vectors for the stand-in for the model: pictures and words in one space, without any learned model.

A picture is described by how much of twelve named colours it has, where its colours lie and which way its edges run; a
text by the colours that its words name and by the words themselves. That is enough for "red" to be near red pictures
and for similar pictures to be near each other. A real model knows far more.
"""

import functools
import re
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

type Floats = NDArray[np.float64]

COLOURS = {
    "red": (215, 35, 35),
    "orange": (245, 140, 30),
    "yellow": (250, 220, 50),
    "green": (60, 155, 60),
    "turquoise": (60, 195, 195),
    "blue": (45, 95, 205),
    "purple": (125, 55, 160),
    "pink": (245, 150, 185),
    "brown": (115, 70, 35),
    "black": (15, 15, 20),
    "grey": (128, 128, 128),
    "white": (248, 248, 248),
}

# The colours that other words suggest, the strongest first.
MEANINGS = {
    "apple": "red", "blood": "red", "cherry": "red", "rose": "red pink", "strawberry": "red", "tomato": "red",
    "fire": "orange red yellow", "flame": "orange yellow", "pumpkin": "orange", "sunrise": "orange pink",
    "sunset": "orange red purple", "banana": "yellow", "gold": "yellow", "lemon": "yellow", "sun": "yellow",
    "sand": "yellow brown", "forest": "green", "grass": "green", "leaf": "green", "meadow": "green",
    "tree": "green", "cyan": "turquoise", "lagoon": "turquoise", "teal": "turquoise", "lake": "blue",
    "ocean": "blue", "sea": "blue", "sky": "blue white", "water": "blue", "lavender": "purple",
    "plum": "purple", "violet": "purple", "blossom": "pink", "flamingo": "pink", "magenta": "pink purple",
    "chocolate": "brown", "coffee": "brown", "soil": "brown", "wood": "brown", "dark": "black",
    "midnight": "black blue", "night": "black blue", "fog": "grey white", "gray": "grey", "silver": "grey",
    "stone": "grey", "cloud": "white grey", "ice": "white blue", "snow": "white", "winter": "white blue",
}  # fmt: skip

_FILLERS = {
    "a", "an", "and", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "photo", "picture",
    "image", "the", "this", "to", "with",
}  # fmt: skip
_SIDE = 32  # pixels of the thumbnail that is described
_WORD_FEATURES = 64
_GRID = 4
_DIRECTIONS = 8
_FEATURES = len(COLOURS) + _GRID * _GRID * 3 + 4 * _DIRECTIONS + _WORD_FEATURES + 1
_LONGEST = 2048


def of_picture(picture: Image.Image) -> Floats:
    """Return the features of a picture, of length 1: colours, layout and edges; no words."""
    rgb = _thumbnail(picture)
    lab = _lab(rgb)
    return _features(
        colours=_colour_shares(lab),
        layout=0.5 * _layout(lab),
        edges=0.35 * _edges(lab[..., 0]),
    )


def of_text(text: str) -> Floats:
    """Return the features of a text, of length 1: the colours it names, and its words."""
    words = [word for word in re.findall(r"\w+", text.lower()) if word not in _FILLERS]
    colours = np.zeros(len(COLOURS))
    for word in words:
        for rank, colour in enumerate(_meaning(word)):
            colours[list(COLOURS).index(colour)] += 0.6**rank
    return _features(colours=_unit(colours), words=0.6 * _unit(sum(map(_word, words), np.zeros(_WORD_FEATURES))))


def of_pair(picture: Image.Image, text: str) -> Floats:
    """Return the features of a picture with a text, of length 1: half way between the two."""
    return _unit(of_picture(picture) + of_text(text))


def project(features: Floats, model: str, length: int) -> NDArray[np.float32]:
    """Return the vector of one model for these features: float32, of length 1.

    A fixed random projection, which keeps cosines to a few hundredths. Each model has its own: the vectors of two
    models have nothing in common, like real ones. A shorter vector is the beginning of a longer one.
    """
    return _unit(_projection(model)[:length] @ features).astype(np.float32)


def quantized(vector: NDArray[np.float32], encoding: str) -> NDArray[np.int16]:
    """Return a vector as integers: int8 and uint8 have one a number, binary and ubinary one for the signs of eight.

    The scale depends on the length alone, so that vectors stay comparable: int8 holds numbers of up to four times the
    usual size. Unsigned is signed plus 128, as in Cohere's models.
    """
    if encoding in {"binary", "ubinary"}:
        unsigned = np.packbits(vector > 0).astype(np.int16)
    else:
        unsigned = np.clip(np.rint(vector * (127 * len(vector) ** 0.5 / 4)), -128, 127).astype(np.int16) + 128
    return unsigned if encoding.startswith("u") else unsigned - 128


def _features(
    *, colours: Floats, layout: Floats | None = None, edges: Floats | None = None, words: Floats | None = None
) -> Floats:
    blocks = [
        colours,
        np.zeros(_GRID * _GRID * 3) if layout is None else layout,
        np.zeros(4 * _DIRECTIONS) if edges is None else edges,
        np.zeros(_WORD_FEATURES) if words is None else words,
        np.array([0.1]),  # the same in every vector, so that none is zero
    ]
    return _unit(np.concatenate(blocks))


def _thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGBA")
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    white = Image.new("RGBA", small.size, "white")
    return np.asarray(Image.alpha_composite(white, small.convert("RGBA")).convert("RGB"))


def _lab(rgb: NDArray[np.uint8]) -> Floats:
    """CIE L*a*b* (D65), each divided by 100: distances in it are roughly what the eye sees."""
    xyz = _LINEAR[rgb] @ _RGB_TO_XYZ.T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    lab: Floats = np.stack([1.16 * y - 0.16, 5 * (x - y), 2 * (y - z)], axis=-1)
    return lab


_LEVELS = np.arange(256) / 255
_LINEAR: Floats = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)
_RGB_TO_XYZ = np.array(  # sRGB; rows divided by the white point
    [[0.433953, 0.376219, 0.189828], [0.212671, 0.715160, 0.072169], [0.017758, 0.109477, 0.872765]]
)
_ANCHORS = _lab(np.array(list(COLOURS.values()), dtype=np.uint8))
_OFFSETS = np.linspace(-1, 1, _SIDE)
_CENTRED: Floats = np.exp(-(_OFFSETS[:, None] ** 2 + _OFFSETS[None, :] ** 2))


def _colour_shares(lab: Floats) -> Floats:
    """How much of each named colour there is, the middle counting more; the root makes small parts count."""
    distances = ((lab[:, :, None, :] - _ANCHORS) ** 2).sum(axis=-1)
    nearness = np.exp(-distances / (2 * 0.15**2)) + 1e-9
    shares = nearness / nearness.sum(axis=-1, keepdims=True)
    return np.sqrt((shares * _CENTRED[:, :, None]).sum(axis=(0, 1)) / _CENTRED.sum())


def _layout(lab: Floats) -> Floats:
    cell = _SIDE // _GRID
    means = lab.reshape(_GRID, cell, _GRID, cell, 3).mean(axis=(1, 3))
    return _unit((means - [0.5, 0.0, 0.0]).ravel())


def _edges(lightness: Floats) -> Floats:
    """Edge strength by direction, in each quarter of the picture."""
    down, right = np.gradient(lightness)
    direction = (np.arctan2(down, right) % np.pi / np.pi * _DIRECTIONS).astype(int) % _DIRECTIONS
    half = np.arange(_SIDE) // (_SIDE // 2)
    place = (half[:, None] * 2 + half[None, :]) * _DIRECTIONS + direction
    return _unit(np.bincount(place.ravel(), np.hypot(down, right).ravel(), minlength=4 * _DIRECTIONS))


def _meaning(word: str) -> list[str]:
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in COLOURS:
            return [form]
        if form in MEANINGS:
            return MEANINGS[form].split()
    return []


@functools.lru_cache(maxsize=4096)
def _word(word: str) -> Floats:
    return _signs(word, (_WORD_FEATURES,))


@functools.cache
def _projection(model: str) -> Floats:
    return _signs(model, (_LONGEST, _FEATURES))


def _signs(name: str, shape: tuple[int, ...]) -> Floats:
    """Draw +1 and -1, always the same for a name, on every platform."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return random.integers(0, 2, shape).astype(np.float64) * 2 - 1


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector
