"""The machine that the figures were measured on, and the memory of processes on it."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Literal

_PACKAGES = ["Pillow", "pi-heif", "isal", "pybase64", "msgspec", "numpy"]


def describe() -> str:
    """Two lines: the processor, its cores and the system; the versions of Python and of the packages that matter."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}\n"
        f"{platform.python_implementation()} {platform.python_version()}, {versions}"
    )


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def memory_mib(which: Literal["VmRSS", "VmHWM"], process: Path = Path("/proc/self")) -> float:
    """The resident memory of a process in MiB, now or at its peak; not a number where Linux does not say it.

    ``VmHWM`` is of the process alone. ``ru_maxrss`` would begin at the peak of its parent.
    """
    status = process / "status"
    found = re.search(rf"{which}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")


def _processor() -> str:
    details = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", details.read_text(), re.MULTILINE) if details.exists() else None
    return name[1] if name else platform.processor() or platform.machine()
