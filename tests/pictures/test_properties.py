"""Valid pictures, mutated, cut and spliced, end as a picture within the limits or one of the contract's codes."""

import logging
import os
import struct
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import PictureCode
from shared.pictures.limits import Limits
from tests.pictures.hostile import catalogue
from tests.pictures.hostile.runner import end_of
from tests.pictures.hostile.seeds import SEEDS

# Small, so that mutated sizes stay quick to decode and every limit is reached.
LIMITS = Limits(image_max_pixels=1_000_000, model_max_pixels=5_000, model_max_bytes=12_000)
# With the app's own limit of pixels: below that, no JPEG is kept.
LIMITS_AS_IT_IS = replace(catalogue.LIMITS_AS_IT_IS, image_max_pixels=1_000_000, model_max_bytes=12_000)
ENDS = {"prepared", *get_args(PictureCode)}


def bounded(examples: int) -> settings:
    """The same examples in every run."""
    return settings(derandomize=True, database=None, deadline=None, max_examples=examples)


_SEEDS = {name: make() for name, make in SEEDS.items()}
either_limits = st.sampled_from([LIMITS, LIMITS_AS_IT_IS])
seeds = st.sampled_from(sorted(_SEEDS)).map(lambda name: _SEEDS[name])
# Values at which lengths, sizes, counts and offsets tend to break.
numbers = st.sampled_from([0, 1, 2, 7, 8, 255, 256, 1000, 32_767, 32_768, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1])
orders = st.sampled_from(["<H", ">H", "<I", ">I"])


@st.composite
def positions(draw: st.DrawFn, length: int) -> int:
    """A position in a file, most often among its first bytes, where its structure is."""
    return draw(st.one_of(st.integers(0, min(length, 120)), st.integers(0, length)))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file with a few bytes or numbers replaced, removed, inserted or repeated."""
    data = bytearray(draw(seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(positions(len(data)))
        end = min(len(data), at + draw(st.integers(1, 40)))
        match draw(st.sampled_from(["number", "byte", "remove", "insert", "repeat"])):
            case "number":
                order = draw(orders)
                number = struct.pack(order, draw(numbers) & (0xFFFF if order[1] == "H" else 0xFFFFFFFF))
                data[at : at + len(number)] = number
            case "byte":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "remove":
                del data[at:end]
            case "insert":
                data[at:at] = draw(st.binary(max_size=12))
            case _:
                data[at:at] = data[at:end]
    return bytes(data)


@st.composite
def cut(draw: st.DrawFn) -> bytes:
    """The start of a valid file."""
    data = draw(seeds)
    return data[: draw(positions(len(data)))]


@st.composite
def spliced(draw: st.DrawFn) -> bytes:
    """The start of one valid file and the end of another, or one inside another."""
    one, other = draw(seeds), draw(seeds)
    start = draw(positions(len(one)))
    rest = one[draw(positions(len(one))) :] if draw(st.booleans()) else b""
    return one[:start] + other[draw(positions(len(other))) :] + rest


@contextmanager
def silence() -> Iterator[None]:
    """Fail if any library warns, logs at WARNING or above, or writes to standard error."""
    handler = BufferingHandler(1000)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with tempfile.TemporaryFile() as file, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            os.dup2(file.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(original, 2)
            file.seek(0)
            written = file.read().decode(errors="replace")
    finally:
        os.close(original)
        logging.getLogger().removeHandler(handler)
    assert written == ""
    # The app turns Pillow's own warnings off, and pytest turns them on again.
    assert [str(warning.message) for warning in caught if Path(warning.filename).parent.name != "PIL"] == []
    assert [record.getMessage() for record in handler.buffer] == []


def assert_prepared_or_rejected(data: bytes, limits: Limits) -> None:
    with silence():
        end, message = end_of(data, limits)
    assert end in ENDS, message


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("limits", [LIMITS, LIMITS_AS_IT_IS], ids=["as PNG", "as it is"])
def test_every_seed_is_a_picture(name: str, limits: Limits) -> None:
    with silence():
        assert end_of(_SEEDS[name], limits) == ("prepared", "")


@bounded(1000)
@given(mutated(), either_limits)
def test_a_mutated_picture_is_prepared_or_rejected(data: bytes, limits: Limits) -> None:
    assert_prepared_or_rejected(data, limits)


@bounded(200)
@given(cut(), either_limits)
def test_a_cut_picture_is_prepared_or_rejected(data: bytes, limits: Limits) -> None:
    assert_prepared_or_rejected(data, limits)


@bounded(400)
@given(spliced(), either_limits)
def test_a_spliced_picture_is_prepared_or_rejected(data: bytes, limits: Limits) -> None:
    assert_prepared_or_rejected(data, limits)


@bounded(100)
@given(st.binary(max_size=200), either_limits)
def test_any_bytes_are_prepared_or_rejected(data: bytes, limits: Limits) -> None:
    assert_prepared_or_rejected(data, limits)
