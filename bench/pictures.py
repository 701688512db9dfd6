"""How long a picture takes to prepare, in how much memory, and how similar the result is to the usual one.

Both sides of every comparison start with the file's bytes in memory and end with those of the file that is sent, at the
same limit of pixels (``MODEL_MAX_PIXELS``). Ours is the app's ``prepare`` with all of its checks; the usual code is
:func:`bench.usual.pictures.prepare`, which has none. What a model gets that takes JPEG is compared with what one gets
that takes PNG alone.
"""

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from PIL import Image

from bench import memory, photographs
from bench.app import LIMITS, LIMITS_OF_COHERE
from bench.figures import Figure, Measurement
from bench.similarity import ssim
from bench.timing import speed_up
from bench.usual import pictures as usual
from local.model import vectors
from shared.pictures.limits import Limits
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
        value = ssim(Image.open(io.BytesIO(prepared.file)), expected)
        return Measurement.once(value, f"{size[0]} x {size[1]} pixels, {len(prepared.file):,} bytes")

    return measure


def _kept_speed() -> Measurement:
    data = photographs.jpeg_12mp().read_bytes()
    return speed_up(
        lambda: prepare(data, LIMITS_OF_COHERE), lambda: prepare(data, LIMITS), rounds=15, clock=time.process_time
    )


def _request_size() -> Measurement:
    """Of a JPEG that has to be scaled and turned, so that it is written anew in both cases."""
    data = photographs.jpeg_12mp_turned().read_bytes()
    as_png, as_jpeg = (len(prepare(data, limits).file) for limits in (LIMITS, LIMITS_OF_COHERE))
    return Measurement.once(as_png / as_jpeg, f"{as_png / 1e6:.3g} MB / {as_jpeg / 1e6:.3g} MB")


def _similarity_of_kept() -> Measurement:
    """The smallest SSIM of what is sent as JPEG to what is sent as PNG, with the cosines of the stand-in's vectors.

    A JPEG that is kept has the original's size. For the SSIM it is scaled here, as the model would.
    """
    pictures = {"kept": photographs.jpeg_12mp(), "turned": photographs.jpeg_12mp_turned()}
    values, said = [], []
    for name, picture in pictures.items():
        as_png, as_jpeg = (_sent(picture, limits) for limits in (LIMITS, LIMITS_OF_COHERE))
        values.append(ssim(as_jpeg.resize(as_png.size, Image.Resampling.LANCZOS), as_png))
        one, other = (vectors.project(vectors.of_picture(image), "bench", 1024) for image in (as_jpeg, as_png))
        said.append(f"{name} {values[-1]:.4f} (cosine {float(one @ other):.6f})")
    return Measurement.once(min(values), ", ".join(said))


def _sent(picture: Path, limits: Limits) -> Image.Image:
    return Image.open(io.BytesIO(prepare(picture.read_bytes(), limits).file))


def _memory() -> Measurement:
    return memory.peak_of_child(photographs.jpeg_24mp(), repetitions=3)


FIGURES = [
    Figure("prepare_jpeg_12mp_vs_usual", "x", "higher", 8, _speed(photographs.jpeg_12mp, rounds=9)),
    Figure("prepare_jpeg_24mp_vs_usual", "x", "higher", 8, _speed(photographs.jpeg_24mp, rounds=9)),
    Figure("prepare_heic_12mp_vs_usual", "x", "higher", 1.8, _speed(photographs.heic_12mp, rounds=7)),
    Figure("prepare_png_small_vs_usual", "x", "higher", 15, _speed(photographs.png_small, rounds=51)),
    Figure("prepare_jpeg_12mp_kept_vs_png", "x", "higher", 3, _kept_speed),
    Figure("prepare_two_threads", "x", "higher", 1.5, _two_threads),
    Figure("prepare_ssim_12mp", "SSIM", "higher", 0.98, _similarity(photographs.jpeg_12mp)),
    Figure("prepare_ssim_24mp", "SSIM", "higher", 0.98, _similarity(photographs.jpeg_24mp)),
    Figure("request_mb_12mp_vs_png", "x", "higher", 3.5, _request_size),
    Figure("similarity_of_kept", "SSIM", "higher", 0.98, _similarity_of_kept),
    Figure("rss_mb_prepare_16x24mp", "MiB", "lower", 1024, _memory),
]
