"""The stand-in's vectors put similar things near each other, and the same thing always in the same place."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from local.model import vectors

MODEL = "Cohere-embed-v3-english"


def disc(colour: str, ground: str = "white", size: int = 200) -> Image.Image:
    picture = Image.new("RGB", (size, size), ground)
    ImageDraw.Draw(picture).ellipse((size // 4, size // 4, size * 3 // 4, size * 3 // 4), fill=colour)
    return picture


def closeness(a: vectors.Floats, b: vectors.Floats, model: str = MODEL, length: int = 1024) -> float:
    return float(vectors.project(a, model, length) @ vectors.project(b, model, length))


PICTURES = {
    colour: vectors.of_picture(disc(colour)) for colour in ("red", "green", "blue", "yellow", "purple", "black")
}


@pytest.mark.parametrize("length", [256, 512, 1024, 1536])
def test_a_vector_has_the_length_asked_for_and_norm_one(length: int) -> None:
    vector = vectors.project(PICTURES["red"], "embed-v-4-0", length)

    assert vector.shape == (length,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("length", [256, 1024])
@pytest.mark.parametrize("colour", list(PICTURES))
def test_a_colour_word_is_nearest_to_the_picture_of_that_colour(colour: str, length: int) -> None:
    text = vectors.of_text(f"a {colour} circle")

    nearest = max(PICTURES, key=lambda name: closeness(text, PICTURES[name], length=length))

    assert nearest == colour


@pytest.mark.parametrize(("word", "colour"), [("sea", "blue"), ("grass", "green"), ("roses", "red")])
def test_a_thing_stands_for_its_colour(word: str, colour: str) -> None:
    nearest = max(PICTURES, key=lambda name: closeness(vectors.of_text(word), PICTURES[name]))

    assert nearest == colour


def test_the_same_picture_in_another_size_is_nearer_than_another_picture() -> None:
    same = closeness(PICTURES["red"], vectors.of_picture(disc("red", size=700)))

    assert same > 0.98
    assert same > closeness(PICTURES["red"], PICTURES["blue"]) + 0.1


def test_a_pair_lies_between_its_picture_and_its_text() -> None:
    picture, text = PICTURES["green"], vectors.of_text("a lighthouse")
    pair = vectors.of_pair(disc("green"), "a lighthouse")

    assert closeness(pair, picture) > closeness(text, picture)
    assert closeness(pair, text) > closeness(picture, text)


def test_texts_with_words_in_common_are_nearer_than_others() -> None:
    text = vectors.of_text("the old lighthouse")

    assert closeness(text, vectors.of_text("a lighthouse")) > closeness(text, vectors.of_text("a bicycle")) + 0.3


def test_transparent_parts_count_as_white() -> None:
    transparent = Image.new("RGBA", (100, 100), (255, 0, 0, 0))

    white = vectors.of_picture(Image.new("RGB", (100, 100), "white"))

    assert closeness(vectors.of_picture(transparent), white) == pytest.approx(1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_png_has_a_vector(mode: str) -> None:
    picture = (
        Image.new("I;16", (20, 10), 65535) if mode == "I;16" else Image.new("RGB", (20, 10), "white").convert(mode)
    )

    assert closeness(vectors.of_picture(picture), vectors.of_text("white")) > 0.5


@pytest.mark.parametrize("text", ["", "of the", "🙂"])
def test_a_text_that_says_nothing_still_has_a_vector(text: str) -> None:
    vector = vectors.project(vectors.of_text(text), MODEL, 1024)

    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_vectors_of_two_models_have_nothing_to_do_with_each_other() -> None:
    one, other = (vectors.project(PICTURES["red"], model, 1024) for model in (MODEL, "embed-v-4-0"))

    assert abs(float(one @ other)) < 0.15


def test_a_shorter_vector_points_the_way_a_longer_one_begins() -> None:
    short, long = (vectors.project(PICTURES["red"], "embed-v-4-0", length) for length in (256, 1536))

    assert short == pytest.approx(long[:256] / np.linalg.norm(long[:256]), abs=1e-6)


@pytest.mark.parametrize(
    ("encoding", "length", "lowest", "highest"),
    [("int8", 1024, -128, 127), ("uint8", 1024, 0, 255), ("binary", 128, -128, 127), ("ubinary", 128, 0, 255)],
)
def test_integers_lie_within_their_eight_bits_and_use_most_of_them(
    encoding: str, length: int, lowest: int, highest: int
) -> None:
    numbers = vectors.quantized(vectors.project(PICTURES["red"], MODEL, 1024), encoding)

    assert numbers.shape == (length,)
    assert lowest <= numbers.min() < lowest + 50
    assert highest - 50 < numbers.max() <= highest


@pytest.mark.parametrize(("signed", "unsigned"), [("int8", "uint8"), ("binary", "ubinary")])
def test_unsigned_integers_are_the_signed_ones_plus_128(signed: str, unsigned: str) -> None:
    vector = vectors.project(PICTURES["red"], MODEL, 1024)

    assert (vectors.quantized(vector, signed) + 128).tolist() == vectors.quantized(vector, unsigned).tolist()


def test_eight_signs_are_one_integer_the_first_of_them_first() -> None:
    vector = np.array([1, -1, -1, -1, -1, -1, -1, 1], np.float32)

    assert vectors.quantized(vector, "ubinary").tolist() == [0b1000_0001]


def test_integers_point_the_way_the_floats_do() -> None:
    vector = vectors.project(PICTURES["red"], MODEL, 1024)
    integers = vectors.quantized(vector, "int8").astype(float)

    assert float(integers @ vector / np.linalg.norm(integers)) > 0.999


def test_another_process_gets_the_same_vector() -> None:
    program = (
        "from local.model import vectors;"
        f"print(*vectors.project(vectors.of_text('a red lighthouse'), {MODEL!r}, 1024)[:8].tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    here = vectors.project(vectors.of_text("a red lighthouse"), MODEL, 1024)[:8]
    assert [float(number) for number in printed.split()] == here.tolist()
