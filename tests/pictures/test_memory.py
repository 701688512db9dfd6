"""Memory that pictures took is kept for the next ones, up to a limit."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is configured")

PICTURES = """
import io, resource
from PIL import Image
from shared.pictures.prepare import prepare
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
from shared.pictures.prepare import keep_large_blocks

def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

keep_large_blocks()
# Free room in the heap for small objects, as in any process that has run for a while: none may end up above the blocks.
small = [bytes(3_000) for _ in range(1_000)]
above = bytes(3_000)
del small
before = resident_pages()
blocks = [b"x" * 10 * 2**20 for _ in range(20)]
crowded = resident_pages()
del blocks
print((crowded - before) / 256, (resident_pages() - before) / 256)
"""


def measured(script: str) -> list[float]:
    """The numbers that a fresh process prints: the settings and the heap belong to the whole process."""
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return [float(number) for number in ran.stdout.split()]


def test_a_picture_reuses_the_memory_of_the_one_before() -> None:
    (page_faults,) = measured(PICTURES)
    # The picture takes 16,000 pages, and each would cost a page fault.
    assert page_faults < 1_000


def test_a_crowd_of_pictures_gives_its_memory_back_except_for_what_the_next_ones_need() -> None:
    crowded, kept = measured(CROWD)
    assert crowded > 190
    assert 90 < kept < 130
