"""No upload kills the process: each ends as a picture within the limits or a code, in 5 seconds and a gigabyte."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from shared.errors import PictureError
from shared.pictures.prepare import prepare
from tests.pictures.hostile import INPUTS, LIMITS
from tests.pictures.hostile.catalogue import save
from tests.pictures.hostile.runner import SECONDS, Result

_ROOT = Path(__file__).parents[2]
_RUNNERS = 2


def run(names: list[str]) -> list[Result]:
    """Have a runner prepare the inputs of these names, each in a process of its own."""
    done = subprocess.run(
        # Always: by default a warning is shown once per line of code, so only the first input would show it.
        [sys.executable, "-W", "always", "-m", "tests.pictures.hostile.runner", *names],
        cwd=_ROOT,
        # Arenas reserve address space, which the limit counts.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stderr == ""
    results: list[Result] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["name"] for result in results] == names
    return results


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    names = list(INPUTS)
    with ThreadPoolExecutor(_RUNNERS) as pool:
        shares = pool.map(run, [names[number::_RUNNERS] for number in range(_RUNNERS)])
        return {result["name"]: result for share in shares for result in share}


@pytest.mark.parametrize("name", INPUTS)
def test_a_hostile_file_ends_as_a_picture_within_the_limits_or_a_code(name: str, results: dict[str, Result]) -> None:
    result = results[name]
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
    whole = prepare(data, LIMITS).png
    cuts = {*range(0, 40, 3), *range(0, len(data), len(data) // 30), *range(len(data) - 13, len(data))}
    wrong = [cut for cut in sorted(cuts) if not is_whole_or_rejected(data[:cut], whole)]
    assert wrong == [], f"of {len(data)} bytes"
    assert capfd.readouterr().err == ""


def is_whole_or_rejected(data: bytes, whole: bytes) -> bool:
    try:
        return prepare(data, LIMITS).png == whole
    except PictureError as error:
        return error.code in {"empty", "damaged_image", "not_an_image"}


def test_the_hostile_files_reach_every_code_of_the_contract() -> None:
    codes = {"prepared", "empty", "not_an_image", "unsupported_format", "damaged_image", "too_many_pixels"}
    assert set().union(*(hostile.ends for hostile in INPUTS.values())) == codes
