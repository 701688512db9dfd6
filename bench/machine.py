"""The machine that the figures were measured on."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

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


def _processor() -> str:
    details = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", details.read_text(), re.MULTILINE) if details.exists() else None
    return name[1] if name else platform.processor() or platform.machine()
