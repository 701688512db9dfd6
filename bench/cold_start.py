"""How long a fresh process takes until it could embed, and how large what is deployed is.

Each stack is installed as the platform does it, into a folder beside the app that ``PYTHONPATH`` names, and is run by
the interpreter itself: nothing of the development environment is on its path.
"""

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from bench.figures import Figure, Measurement
from local.azurite import REPO_ROOT

_ROUNDS = 15
_STACKS = REPO_ROOT / ".local" / "bench"
_USUAL = Path(__file__).parent / "usual"
_START = {
    "ours": "import function_app; from shared.application import application; application()",
    "usual": "import cold_start",
    "floor": "import azure.functions",
}
_SETTINGS = {
    "FOUNDRY_ENDPOINT": "https://bench.services.ai.azure.com/models",
    "FOUNDRY_MODEL": "Cohere-embed-v3-english",
    "ImageStorage__blobServiceUri": "https://bench.blob.core.windows.net",
    "ImageStorage__queueServiceUri": "https://bench.queue.core.windows.net",
    "ImageStorage__credential": "managedidentity",
    "ImageStorage__clientId": "00000000-0000-0000-0000-000000000000",
    "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
}


def over_usual() -> Measurement:
    """Seconds of ours over seconds of the usual stack."""
    return _ratio("ours", "usual")


def over_floor() -> Measurement:
    """Seconds of ours over seconds of ``import azure.functions`` alone."""
    return _ratio("ours", "floor")


def package() -> Measurement:
    """Megabytes of what is deployed, unpacked."""
    files = [path for path in _package().rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    size = sum(path.stat().st_size for path in files) / 1e6
    return Measurement(size, size, size, f"{len(files):,} files")


@cache
def _seconds() -> dict[str, list[float]]:
    """Wall-clock seconds of whole processes, the three in turns, after one untimed start of each."""
    times: dict[str, list[float]] = {name: [] for name in _START}
    for timed in [False] + [True] * _ROUNDS:
        for name, code in _START.items():
            start = time.perf_counter()
            _run(name, code)
            if timed:
                times[name].append(time.perf_counter() - start)
    return times


def _ratio(one: str, other: str) -> Measurement:
    ones, others = _seconds()[one], _seconds()[other]
    low, _, high = statistics.quantiles([mine / theirs for mine, theirs in zip(ones, others, strict=True)], n=4)
    medians = statistics.median(ones), statistics.median(others)
    source = f"{medians[0] * 1000:.0f} ms / {medians[1] * 1000:.0f} ms, {_ROUNDS} rounds"
    return Measurement(medians[0] / medians[1], low, high, source)


def _run(name: str, code: str) -> None:
    folder = _usual() if name == "usual" else _package()
    packages = folder / ".python_packages" / "lib" / "site-packages"
    environment = {"PATH": os.defpath, "PYTHONPATH": f"{packages}:{folder}", **_SETTINGS}
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    subprocess.run([python, "-c", code], check=True, cwd=folder, env=environment)


@cache
def _package() -> Path:
    """The app as it is deployed, with what it needs."""
    folder = _installed("package", REPO_ROOT / "requirements.txt", "--require-hashes")
    shutil.rmtree(folder / "shared", ignore_errors=True)
    shutil.copytree(REPO_ROOT / "shared", folder / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("function_app.py", "host.json", "requirements.txt"):
        shutil.copy2(REPO_ROOT / file, folder)
    return folder


@cache
def _usual() -> Path:
    """The usual stack, with what it needs."""
    folder = _installed("usual", _USUAL / "requirements.txt")
    shutil.copy2(_USUAL / "cold_start.py", folder)
    return folder


def _installed(name: str, requirements: Path, *options: str) -> Path:
    """A folder with these packages, made once for each version of the list."""
    folder = _STACKS / f"{name}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:8]}"
    target = folder / ".python_packages" / "lib" / "site-packages"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
            str(target),
        ]
        subprocess.run([*pip, *options, "-r", str(requirements)], check=True, capture_output=True)
        (folder / "ready").touch()
    return folder


FIGURES = [
    Figure("cold_start_vs_usual", "x", "lower", 0.45, over_usual),
    Figure("cold_start_over_floor", "x", "lower", 2.6, over_floor),
    Figure("package_mb", "MB", "lower", 120, package),
]
