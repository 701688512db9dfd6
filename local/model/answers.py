"""What the stand-in for the model answers: one vector for each input, whatever the format."""

import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from local.model import vectors
from local.model.models import MODELS
from local.model.requests import Numbers, Wanted

type Vector = NDArray[np.float32]

TOKENS_PER_IMAGE = 1000


def embed(wanted: Wanted, pictures: list[Image.Image | None]) -> list[Vector]:
    """Return one vector for each input, in order. `pictures` are those of the inputs, decoded."""
    space = MODELS[wanted.model].space or wanted.model
    answers = []
    for item, picture in zip(wanted.items, pictures, strict=True):
        if picture is None:
            features = vectors.of_text(item.text or "")
        elif item.text:
            features = vectors.of_pair(picture, item.text)
        else:
            features = vectors.of_picture(picture)
        answers.append(vectors.project(features, space, wanted.length))
    return answers


def checksum_vectors(body: bytes, wanted: Wanted) -> list[Vector]:
    """Return vectors that say only whether two requests were the same."""
    random = np.random.default_rng(zlib.crc32(body))
    answers = random.standard_normal((len(wanted.items), wanted.length), dtype=np.float32)
    return list(answers / np.linalg.norm(answers, axis=1, keepdims=True))


def encoded(vector: Vector, encoding: str) -> Numbers:
    """Return the numbers of a vector in this encoding: floats or integers."""
    match encoding:
        case "int8" | "uint8" | "binary" | "ubinary":
            return vectors.quantized(vector, encoding)
        case _:
            return vector


def tokens_of(wanted: Wanted) -> tuple[int, int]:
    """Return the tokens of the texts, a word each, and those of the pictures."""
    words = sum(len((item.text or "").split()) for item in wanted.items)
    return words, TOKENS_PER_IMAGE * sum(item.image is not None for item in wanted.items)
