"""What is large is held by so many bytes at once, whoever asks; many bombs at a time fit into an instance."""

import gzip
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from azure.storage.blob import ContentSettings

from local.azurite import REPO_ROOT
from shared.storage.memory_budget import MemoryBudget
from tests.conftest import PATIENCE, Cloud

BOMBS = 12
MIB = 2**20
SYNC_ALL = """
import sys
from concurrent.futures import ThreadPoolExecutor
from bench.machine import memory_mib
from shared.application import application
names = [f"{number}.png" for number in range(int(sys.argv[1]))]
with ThreadPoolExecutor(16) as threads:
    reports = list(threads.map(lambda name: application().intake._sync.upload(name), names))
print({report.code for report in reports}, round(memory_mib("VmHWM")))
"""


def test_many_gzip_bombs_at_once_leave_the_process_far_below_its_memory(cloud: Cloud) -> None:
    bomb = gzip.compress(bytes(99 * MIB), compresslevel=1)
    for number in range(BOMBS):
        settings = ContentSettings(content_encoding="gzip")
        cloud.images.upload_blob(f"{number}.png", bomb + bytes([number]), content_settings=settings)
    command = [sys.executable, "-c", SYNC_ALL, str(BOMBS)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPO_ROOT, check=False)
    codes, _, peak = ended.stdout.strip().rpartition(" ")
    assert codes == "{'not_an_image'}", ended.stderr
    assert int(peak) < 700, f"{peak} MiB, of the 2,048 MB that an instance has"


def test_a_reservation_waits_until_it_fits() -> None:
    budget = MemoryBudget(100)
    order: list[str] = []
    waits = threading.Event()
    wait = budget._changed.wait

    def noted_wait(timeout: float | None = None) -> bool:
        # The budget is locked until the wait has begun.
        waits.set()
        return wait(timeout)

    budget._changed.wait = noted_wait  # type: ignore[method-assign] # it is how a test knows that a thread waits

    def large() -> None:
        with budget.reserve(80):
            order.append("large")

    with budget.reserve(60):
        assert not budget.try_reserve(41)
        assert budget.try_reserve(40)
        thread = threading.Thread(target=large)
        thread.start()
        assert waits.wait(PATIENCE)
        order.append("small")
        budget.release(40)
    thread.join()
    assert order == ["small", "large"]


def test_what_is_larger_than_all_there_is_has_it_all_to_itself() -> None:
    budget = MemoryBudget(100)
    held: list[int] = []

    def huge(_: int) -> None:
        with budget.reserve(10**9):
            held.append(budget._free)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(huge, range(8)))
    assert held == [0] * 8
    assert budget._free == 100
