"""The hostile inputs, the ends that each may come to, and what the makers of several formats share.

The limits are the app's defaults. They allow 200 megapixels, so "just under the limit" is 14142 x 14142, which the app
must survive and not only reject. If a picture of that size may not decode within a gigabyte, ``too_many_pixels`` is
right as well.
"""

import importlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import pillow_heif
from PIL import Image

from shared.known_models import COHERE_PATH, image_types
from shared.pictures.limits import Limits

LIMITS = Limits(image_max_pixels=200_000_000, model_max_pixels=2_458_624, model_max_bytes=5_000_000)
LIMITS_AS_IT_IS = replace(LIMITS, image_types=image_types(COHERE_PATH))
SMALL = Limits(image_max_pixels=10_000, model_max_pixels=10_000, model_max_bytes=1_000_000)

SIDE = 14_142  # the largest square within LIMITS
MEGABYTE = 1_000_000
HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>"

PREPARED = frozenset({"prepared"})
TOO_LARGE = frozenset({"too_many_pixels"})
BROKEN = frozenset({"damaged_image", "not_an_image"})
NO_IMAGE = frozenset({"not_an_image"})
DOCUMENT = frozenset({"unsupported_format"})
REJECTED = BROKEN | TOO_LARGE | DOCUMENT
ANYTHING = REJECTED | PREPARED


@dataclass(frozen=True)
class Hostile:
    """``make()`` returns the bytes; ``ends`` are the ends that it may come to: ``prepared`` or failure codes."""

    make: Callable[..., bytes]
    ends: frozenset[str]
    limits: Limits = LIMITS


INPUTS: dict[str, Hostile] = {}


def hostile(name: str, make: Callable[..., bytes], ends: frozenset[str], limits: Limits = LIMITS) -> None:
    assert name not in INPUTS
    INPUTS[name] = Hostile(make, ends, limits)


def save(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    if format == "JXL":
        importlib.import_module("pillow_jxl")
    if format == "HEIF":
        pillow_heif.from_pillow(image).save(file, **options)
    else:
        image.save(file, format, **options)
    return file.getvalue()


def gradient(size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert("RGB")


def zeroes_deflated(count: int) -> bytes:
    """``count`` zero bytes as a zlib stream, made without compressing them all: one compressed block, repeated."""
    block = 1 << 20
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    repeated = deflate.compress(bytes(block)) + deflate.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    last = rest.compress(bytes(count % block)) + rest.flush()
    # Adler-32 of zeroes: the first sum stays 1, the second one counts them.
    return b"\x78\xda" + repeated * (count // block) + last + struct.pack(">I", (count % 65_521) << 16 | 1)


def patched(data: bytes, before: bytes, *numbers: int) -> bytes:
    """``data`` with the big-endian 32-bit numbers after ``before`` replaced by ``numbers``."""
    at = data.index(before) + len(before)
    packed = struct.pack(f">{len(numbers)}I", *numbers)
    return data[:at] + packed + data[at + len(packed) :]
