"""No upload kills the process: each ends as a picture within the limits or a code, in 5 seconds and a gigabyte."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import IO, cast

import pytest
from PIL import Image

from shared.errors import PictureError
from shared.pictures.prepare import prepare
from tests.pictures.hostile import INPUTS, LIMITS
from tests.pictures.hostile.catalogue import save
from tests.pictures.hostile.runner import SECONDS, Result

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Result]]:
    """A runner, which prepares the input of a name in a process of its own."""
    said = tmp_path_factory.mktemp("hostile") / "stderr"
    with (
        said.open("w") as stderr,
        subprocess.Popen(
            # All warnings, so that one which is shown only once a place is heard from every input.
            [sys.executable, "-W", "always", "-m", "tests.pictures.hostile.runner"],
            cwd=_ROOT,
            # An arena for every thread would be address space that nobody uses.
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as runner,
    ):
        names, results = cast(IO[str], runner.stdin), cast(IO[str], runner.stdout)

        def run(name: str) -> Result:
            names.write(f"{name}\n")
            names.flush()
            result: Result = json.loads(results.readline())
            return result

        yield run
        names.close()
        assert (runner.wait(), said.read_text()) == (0, "")


@pytest.mark.parametrize("name", INPUTS)
def test_a_hostile_file_ends_as_a_picture_within_the_limits_or_a_code(name: str, run: Callable[[str], Result]) -> None:
    result = run(name)
    assert result["name"] == name
    assert result["end"] in INPUTS[name].ends, result
    assert result["status"] == 0, result
    assert result["stderr"] == ""
    assert result["seconds"] <= SECONDS, result


def noise(size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.frombytes("RGB", size, Random(1).randbytes(size[0] * size[1] * 3))


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "jpeg"}),
        ("BMP", {}),
        ("AVIF", {}),
        ("HEIF", {}),
        ("MPO", {}),
        ("JPEG2000", {}),
        ("ICO", {"sizes": [(96, 64)]}),
        ("PPM", {}),
    ],
)
def test_a_file_cut_anywhere_is_the_whole_picture_or_a_code_and_stderr_stays_empty(
    format: str, options: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    data = save(noise(), format, **options)
    whole = prepare(data, LIMITS).file
    cuts = {*range(0, 40, 3), *range(0, len(data), len(data) // 30), *range(len(data) - 13, len(data))}
    wrong = [cut for cut in sorted(cuts) if not is_whole_or_rejected(data[:cut], whole)]
    assert wrong == [], f"of {len(data)} bytes"
    assert capfd.readouterr().err == ""


def is_whole_or_rejected(data: bytes, whole: bytes) -> bool:
    try:
        return prepare(data, LIMITS).file == whole
    except PictureError as error:
        return error.code in {"empty", "damaged_image", "not_an_image"}


def test_the_hostile_files_reach_every_code_of_the_contract() -> None:
    codes = {"prepared", "empty", "not_an_image", "unsupported_format", "damaged_image", "too_many_pixels"}
    assert set().union(*(hostile.ends for hostile in INPUTS.values())) == codes
