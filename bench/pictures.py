"""How long a picture takes to prepare, in how much memory, and how similar the result is to the usual one.

Both sides of every comparison start with the file's bytes in memory and end with a PNG's bytes in memory, at the same
limit of pixels (``MODEL_MAX_PIXELS``). Ours is the app's ``prepare`` with all of its checks; the usual code is
:func:`bench.usual.pictures.prepare`, which has none.
"""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from PIL import Image

from bench import memory, photographs
from bench.app import LIMITS
from bench.figures import Figure, Measurement
from bench.similarity import ssim
from bench.timing import speed_up
from bench.usual import pictures as usual
from shared.pictures.prepare import prepare


def _speed(picture: Callable[[], Path], rounds: int) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        data = picture().read_bytes()
        return speed_up(lambda: prepare(data, LIMITS), lambda: usual.prepare(data, LIMITS.model_max_pixels), rounds)

    return measure


def _two_threads() -> Measurement:
    """Pictures a second on two threads over pictures a second on one, eight 12-megapixel JPEGs each.

    The source also has the gain of two threads at hashing, which shares nothing, before and after: less than 2 means
    that something else was running on the cores.
    """
    data = photographs.jpeg_12mp().read_bytes()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:

        def gain(work: Callable[[bytes], object], rounds: int) -> Measurement:
            return speed_up(lambda: list(two.map(work, [data] * 8)), lambda: list(one.map(work, [data] * 8)), rounds)

        def hashing_gain() -> float:
            return gain(lambda picture: [sha256(picture) for _ in range(20)], rounds=3).value

        before = hashing_gain()
        prepared = gain(lambda picture: prepare(picture, LIMITS), rounds=7)
        after = hashing_gain()
    return replace(prepared, source=f"{prepared.source}; hashing gains {before:.2f}, then {after:.2f}")


def _similarity(picture: Callable[[], Path]) -> Callable[[], Measurement]:
    """SSIM of the luma, against the usual steps (upright, LANCZOS) at exactly the size that ours chose.

    The two may round a side differently. A picture one pixel wider has a slightly different scale, and its pixels would
    be compared with their neighbours.
    """

    def measure() -> Measurement:
        data = picture().read_bytes()
        prepared = prepare(data, LIMITS)
        size = (prepared.width, prepared.height)
        expected = usual.upright(data).resize(size, Image.Resampling.LANCZOS)
        value = ssim(Image.open(io.BytesIO(prepared.png)), expected)
        return Measurement.once(value, f"{size[0]} x {size[1]} pixels, {len(prepared.png):,} bytes")

    return measure


def _memory() -> Measurement:
    return memory.peak_of_child(photographs.jpeg_24mp(), repetitions=3)


FIGURES = [
    Figure("prepare_jpeg_12mp_vs_usual", "x", "higher", 8, _speed(photographs.jpeg_12mp, rounds=9)),
    Figure("prepare_jpeg_24mp_vs_usual", "x", "higher", 8, _speed(photographs.jpeg_24mp, rounds=9)),
    Figure("prepare_heic_12mp_vs_usual", "x", "higher", 1.8, _speed(photographs.heic_12mp, rounds=7)),
    Figure("prepare_png_small_vs_usual", "x", "higher", 15, _speed(photographs.png_small, rounds=51)),
    Figure("prepare_two_threads", "x", "higher", 1.5, _two_threads),
    Figure("prepare_ssim_12mp", "SSIM", "higher", 0.98, _similarity(photographs.jpeg_12mp)),
    Figure("prepare_ssim_24mp", "SSIM", "higher", 0.98, _similarity(photographs.jpeg_24mp)),
    Figure("rss_mb_prepare_16x24mp", "MiB", "lower", 1024, _memory),
]
