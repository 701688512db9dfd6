"""How many names an audit checks a second, and how much memory it needs.

The three listings are made up, page by page, as the audit reads them: what is measured is the merge, the checks and the
set of used contents, not storage. The time to make the pages is subtracted.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Generator

from bench.figures import Figure, Measurement
from bench.machine import memory_mib
from bench.timing import seconds
from shared.audit.merge import Merge
from shared.audit.reconcile import classify
from shared.audit.report import Audit, AuditReport
from shared.audit.used_contents import UsedContents
from shared.clock import now
from shared.pictures.limits import PREPARATION_AS_PNG
from shared.storage.listing import Listed, Page

_NAMES = 1_000_000
_TIMED_NAMES = 400_000
_PAGE = 5_000
_ROUNDS = 3
# An odd number spreads the counter over all bits, as a hash does.
_SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835


def _image(number: int) -> Listed:
    return Listed(f"folder-{number // 1000:06}/image-{number:08}.jpg", f"0x8D{number:012X}", {})


def _record(number: int) -> Listed:
    image = _image(number)
    metadata = {
        "etag": image.etag,
        "preparation": str(PREPARATION_AS_PNG),
        "sha256": f"{number * _SPREAD % 2**256:064x}",
        "content": f"{number * _SPREAD % 2**128:032x}",
        "tokens": "1000",
    }
    return Listed(f"{image.name}.json", "0x1", metadata)


def _failure(number: int) -> Listed:
    image = _image(number)
    return Listed(
        f"{image.name}.json",
        "0x1",
        {"etag": "0x0", "preparation": str(PREPARATION_AS_PNG), "code": "gave_up", "attempts": "1"},
    )


def _pages(make: Callable[[int], Listed], names: int) -> Generator[Page]:
    for start in range(0, names, _PAGE):
        yield Page("", [make(number) for number in range(start, start + _PAGE)], "")


def _audit(names: int) -> Audit:
    audit = Audit(report=AuditReport(started_at=now()))
    used = UsedContents()
    listings = [_pages(make, names) for make in (_image, _record, _failure)]
    merge = Merge(*listings, cursor=audit.cursor, order=0, folder="model")
    for found in merge.until(time.monotonic() + 3600):
        if found.record is not None:
            used.add(found.record.metadata["content"])
        classify(found, audit, PREPARATION_AS_PNG)
    if audit.report.current != names:
        raise RuntimeError(f"The audit found {audit.report.current:,} of {names:,} images current, not all of them.")
    return audit


def _make_pages(names: int) -> None:
    for make in (_image, _record, _failure):
        for _ in _pages(make, names):
            pass


def _names_per_s() -> Measurement:
    names = _TIMED_NAMES
    rates = [3 * names / (seconds(lambda: _audit(names)) - seconds(lambda: _make_pages(names))) for _ in range(_ROUNDS)]
    return Measurement.median(rates, f"3 listings of {names:,} names, {_ROUNDS} rounds")


def _memory() -> Measurement:
    command = [sys.executable, "-m", "bench.audit"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measurement.once(float(run.stdout), f"3 listings of {_NAMES:,} names")


FIGURES = [
    Figure("reconcile_names_per_s", "names/s", "higher", 200_000, _names_per_s),
    Figure("reconcile_rss_mb", "MiB", "lower", 64, _memory),
]

if __name__ == "__main__":
    before = memory_mib("VmRSS")
    _audit(_NAMES)
    sys.stdout.write(f"{memory_mib('VmHWM') - before}\n")
