"""The inputs: pictures with the statistics of photographs, made from fixed seeds and kept in ``.local/bench/``.

The cost of a picture depends on how well it compresses. A photograph's spectrum falls with the frequency
(Field, "Relations between the statistics of natural images and the response properties of cortical cells", 1987),
things in front of others give it edges ("dead leaves", Lee, Mumford and Huang, 2001), the lens softens it by about a
pixel, and the sensor adds noise that the camera's processing has smeared over neighbouring pixels.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFilter

# Raise the number whenever the pictures change.
_FOLDER: Final = Path(__file__).parent.parent / ".local" / "bench" / "photographs-1"
_NOISE: Final = 3.0
_LENS_PIXELS: Final = 0.8


def jpeg_12mp() -> Path:
    """A JPEG of 4000 x 3000 pixels, quality 90, 4:2:0, about 2.7 MB."""
    return _kept("12mp.jpg", lambda: _jpeg(_photograph(4000, 3000, seed=1)))


def jpeg_12mp_turned() -> Path:
    """The same, turned on its side by its EXIF data."""
    return _kept("12mp-turned.jpg", lambda: _jpeg(_photograph(4000, 3000, seed=1), orientation=6))


def jpeg_24mp() -> Path:
    """A JPEG of 6000 x 4000 pixels, quality 90, 4:2:0, about 5.2 MB, that its EXIF data turns on its side."""
    return _kept("24mp.jpg", lambda: _jpeg(_photograph(6000, 4000, seed=2), orientation=6))


def heic_12mp() -> Path:
    """A HEIC of 4000 x 3000 pixels, quality 60, one tile."""
    return _kept("12mp.heic", lambda: _heic(_photograph(4000, 3000, seed=3)))


def png_small() -> Path:
    """An RGB PNG of 512 x 512 pixels."""
    return _kept("small.png", lambda: _png(_photograph(2000, 1500, seed=4).resize((512, 512)), compress_level=6))


def png_5mb() -> Path:
    """A PNG of just under 5,000,000 bytes."""
    return _kept("5mb.png", lambda: _png(_photograph(1290, 1290, seed=5), compress_level=0))


def _kept(name: str, draw: Callable[[], bytes]) -> Path:
    path = _FOLDER / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{name}.{os.getpid()}")
        unfinished.write_bytes(draw())
        unfinished.replace(path)
    return path


def _jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


def _heic(image: Image.Image) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=60)
    return file.getvalue()


def _png(image: Image.Image, compress_level: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


def _photograph(width: int, height: int, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    # Parts of a photograph are sky, skin or out of focus, others grass: texture is strong in places.
    strength = _stretched(np.exp(0.8 * _natural(random, width // 8, height // 8, fall=2.0)), width, height)
    light = 0.1 * strength * _natural(random, width, height, fall=1.1)
    # Colour varies less than light, and more slowly.
    warmth, tint = (_natural(random, width // 2, height // 2, fall=1.5) for _ in range(2))
    scene = np.asarray(_leaves(random, width, height), dtype=np.float32)
    channels = []
    for channel, (warm, tinted) in enumerate(((0.08, 0.02), (0.0, -0.03), (-0.08, 0.02))):
        colour = _stretched(warm * warmth + tinted * tint, width, height)
        channels.append(scene[..., channel] * np.exp(light + colour))
    sharp = Image.fromarray(np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8))
    seen = np.asarray(sharp.filter(ImageFilter.GaussianBlur(_LENS_PIXELS)), dtype=np.float32)
    return Image.fromarray(np.clip(seen + _sensor_noise(random, width, height) + 0.5, 0, 255).astype(np.uint8))


def _natural(random: np.random.Generator, width: int, height: int, fall: float) -> NDArray[np.float32]:
    """A field of mean 0 and variance 1 whose amplitudes fall with that power of the frequency."""
    spectrum = np.fft.rfft2(random.standard_normal((height, width), dtype=np.float32))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    spectrum /= frequency**fall
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
    return np.asarray(field / field.std(), dtype=np.float32)


def _leaves(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Things in front of each other: many small ones, few large ones, in muted colours."""
    image = Image.new("RGB", (width, height), (128, 132, 138))
    pen = ImageDraw.Draw(image)
    # The number of discs falls with the cube of the radius, which looks the same at every scale.
    for radius in np.sort(height / 120 / np.sqrt(random.uniform(0.001, 1, 900)))[::-1]:
        x, y = random.uniform(0, width), random.uniform(0, height)
        flatness, value = random.uniform(0.4, 1), random.uniform(40, 215)
        colour = tuple(int(np.clip(value + shift, 0, 255)) for shift in random.normal(0, 18, 3))
        box = (x - radius, y - radius * flatness, x + radius, y + radius * flatness)
        if random.uniform() < 0.5:
            pen.ellipse(box, fill=colour)
        else:
            pen.rectangle(box, fill=colour)
    return image


def _stretched(field: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC))


def _sensor_noise(random: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Noise of the same strength everywhere, in part common to the channels, smeared over neighbours."""
    own, common = (random.standard_normal((height, width, channels), dtype=np.float32) for channels in (3, 1))
    noise = own + common
    smeared = sum(np.roll(noise, shift, axis=(0, 1)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1)))
    return np.asarray(smeared * (_NOISE / np.std(smeared)), dtype=np.float32)
