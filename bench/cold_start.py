"""How long a fresh process takes until it can embed, and how large the deployed package is.

Each stack is installed the way the platform does it, into a folder next to the app that is on ``PYTHONPATH``, and run
by the interpreter itself: nothing of the development environment is on its path.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from azure.core.exceptions import ResourceExistsError

from bench import photographs
from bench.figures import Figure, Measurement
from bench.proxy import app_settings
from bench.site import running
from bench.timing import ratio, seconds
from bench.uploads import distinct
from local import identity
from local.azurite import REPO_ROOT

_ROUNDS = 11
_STACKS = REPO_ROOT / ".local" / "bench"
_USUAL = Path(__file__).parent / "usual"
_START = {
    "ours": "import function_app; from shared.application import application; application()",
    "usual": "import cold_start",
    "floor": "import azure.functions",
}
# Everything that a first upload waits for, with all that was deferred until then. The usual code gets bytes, so for it
# the host has already read the picture.
_FIRST_IMAGE = {
    "ours": "import function_app, sys; from shared.triggers.blob_name import BlobName;"
    " function_app.embed_uploaded_image(BlobName('first', sys.argv[1]))",
    "usual": "import function_app, sys; from azure.functions.blob import InputStream;"
    " function_app.embed_uploaded_image(InputStream(data=open(sys.argv[2], 'rb').read(), name='first/' + sys.argv[1]))",
}
_IMAGE_ROUNDS = 7
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
    """Seconds of our start over seconds of the usual stack's."""
    return _ratio("ours", "usual")


def over_floor() -> Measurement:
    """Seconds of our start over seconds of ``import azure.functions`` alone."""
    return _ratio("ours", "floor")


def first_image() -> Measurement:
    """Seconds from a new process to its first image's record, over those of the usual code."""
    with running() as site, identity.running([_SETTINGS["AZURE_CLIENT_ID"]]) as tokens:
        site.behave(mode="cheap")
        picture = photographs.png_small()
        # Only these processes use this container.
        with suppress(ResourceExistsError):
            site.service.create_container("first")
        names = [f"{number}.png" for number in range(_IMAGE_ROUNDS + 1)]
        for number, name in enumerate(names):
            content = distinct(picture.read_bytes(), number)
            site.service.get_blob_client("first", name).upload_blob(content, overwrite=True)
        given = {**app_settings(site.stack, tokens), "IMAGES_CONTAINER": "first"}
        times: dict[str, list[float]] = {name: [] for name in _FIRST_IMAGE}
        for name in names:
            for stack, code in _FIRST_IMAGE.items():
                times[stack].append(seconds(partial(_run, stack, code, name, str(picture), **given)))
        written = [blob for blob in site.embeddings.list_blob_names() if blob.endswith(".png.json")]
        if len(written) != 2 * len(names):
            raise RuntimeError(f"{len(written)} records were written instead of {2 * len(names)}.")
    return ratio(times["ours"][1:], times["usual"][1:])


def package() -> Measurement:
    """Megabytes of the deployed package, unpacked."""
    files = [path for path in _package().rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    size = sum(path.stat().st_size for path in files) / 1e6
    return Measurement.once(size, f"{len(files):,} files")


@cache
def _starts() -> dict[str, list[float]]:
    """Wall-clock seconds of whole processes, the three by turns, after one untimed start of each."""
    times: dict[str, list[float]] = {name: [] for name in _START}
    for timed in [False] + [True] * _ROUNDS:
        for name, code in _START.items():
            taken = seconds(partial(_run, name, code))
            if timed:
                times[name].append(taken)
    return times


def _ratio(one: str, other: str) -> Measurement:
    return ratio(_starts()[one], _starts()[other])


def _run(name: str, code: str, *arguments: str, **settings: str) -> None:
    folder = _usual() if name == "usual" else _package()
    packages = folder / ".python_packages" / "lib" / "site-packages"
    environment = {"PATH": os.defpath, "PYTHONPATH": f"{packages}:{folder}", **_SETTINGS, **settings}
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    subprocess.run([python, "-c", code, *arguments], check=True, cwd=folder, env=environment)


@cache
def _package() -> Path:
    """The app as it is deployed, with its packages."""
    folder = _installed("package", REPO_ROOT / "requirements.txt", "--require-hashes")
    shutil.rmtree(folder / "shared", ignore_errors=True)
    shutil.copytree(REPO_ROOT / "shared", folder / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("function_app.py", "host.json", "requirements.txt"):
        shutil.copy2(REPO_ROOT / file, folder)
    return folder


@cache
def _usual() -> Path:
    """The usual stack, with its packages."""
    folder = _installed("usual", _USUAL / "requirements.txt")
    shutil.copy2(_USUAL / "cold_start.py", folder)
    shutil.copy2(_USUAL / "app" / "function_app.py", folder)
    return folder


def _installed(name: str, requirements: Path, *options: str) -> Path:
    """A folder with these packages, installed once for each version of the list."""
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
    Figure("cold_start_first_image_vs_usual", "x", "lower", None, first_image),
    Figure("package_mb", "MB", "lower", 120, package),
]
