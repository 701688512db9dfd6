"""What pictures take of memory is kept for the next ones, up to a limit."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")

PICTURES = """
import io, resource
from PIL import Image
from shared.pictures.convert import prepare
from shared.pictures.limits import Limits

file = io.BytesIO()
Image.effect_noise((4000, 3000), 50).convert("RGB").save(file, "JPEG")
limits = Limits(image_max_pixels=200_000_000, model_max_pixels=2_458_624, model_max_bytes=20_000_000)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    prepare(file.getvalue(), limits)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
CROWD = """
from pathlib import Path
from shared.pictures.memory import keep_large_blocks

def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

keep_large_blocks()
# Room in the heap for what is small, as there is in a process that has been running: it must not lie behind the blocks.
small = [bytes(3_000) for _ in range(1_000)]
behind = bytes(3_000)
del small
before = resident_pages()
blocks = [b"x" * 10 * 2**20 for _ in range(20)]
crowded = resident_pages()
del blocks
print((crowded - before) / 256, (resident_pages() - before) / 256)
"""


def measured(script: str) -> list[float]:
    """The numbers that a fresh process prints: the settings are the whole process's, and so is its heap."""
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return [float(number) for number in ran.stdout.split()]


def test_a_picture_is_prepared_in_the_memory_of_the_last_one() -> None:
    (page_faults,) = measured(PICTURES)
    # Its memory is 16,000 pages, which would be fetched from the kernel one by one.
    assert page_faults < 1_000


def test_what_a_crowd_of_pictures_took_is_given_back_but_for_the_next_ones() -> None:
    crowded, kept = measured(CROWD)
    assert crowded > 190
    assert 90 < kept < 130
