"""Fuzz ``prepare``: any bytes end as a picture within the limits or as a failure code, without side effects.

    .venv/bin/python -m tests.pictures.fuzz.fuzz_prepare --seconds 60

It is guided by the coverage of our own code and of Pillow's Python parts (Atheris, on libFuzzer); the native decoders
are not instrumented. It starts from ``.local/fuzz/corpus``, which ``make_corpus`` creates if it is missing. Every run
adds to the corpus, so the next one continues where it ended. A finding is

- an exception other than ``PictureError``, a code outside the contract, or a result that breaks the limits, does not
  decode with a second decoder, or holds more than its pixels;
- anything that a library writes to stderr, or a warning that a user would see;
- more than 5 seconds of processor time, or more than 1 GiB of memory, for one input;
- a crash of the process.

The fuzzer then exits with a status other than 0 and leaves the input in ``.local/fuzz/`` as ``crash-…``, ``timeout-…``
or ``oom-…``. To run it again: ``.venv/bin/python -m tests.pictures.fuzz.fuzz_prepare .local/fuzz/crash-…``.
"""

import argparse
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_FOLDER = _ROOT / ".local" / "fuzz"
_MAX_SECONDS = 5
_MAX_MEMORY = 2**30
_MAX_INPUT_BYTES = 16_384
# Enough for every path through our code. The hostile tests cover the largest pictures, which take a second each.
_PIXELS, _MODEL_PIXELS, _MODEL_BYTES = 4_000_000, 20_000, 50_000


class Finding(Exception):
    """An input did what the contract does not allow."""


def main() -> None:
    """Fuzz for ``--seconds``, or prepare each of the given files once."""
    parser = argparse.ArgumentParser(description="Fuzz the preparation of pictures.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("files", nargs="*", help="inputs to run once each, instead of fuzzing")
    arguments = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("The fuzzer needs Atheris, which has wheels for Linux only: run it on Linux or in a container.")
    with atheris.instrument_imports(include=["PIL", "shared"]):
        runner = importlib.import_module("tests.pictures.hostile.runner")
        pictures = importlib.import_module("shared.pictures.convert")
        hostile = importlib.import_module("tests.pictures.hostile")
    if not (_FOLDER / "corpus").exists():
        # In a process of its own: some of the inputs that it makes and discards take a gigabyte.
        subprocess.run(
            [sys.executable, "-m", "tests.pictures.fuzz.make_corpus", str(_FOLDER / "corpus")], cwd=_ROOT, check=True
        )
    as_png = pictures.Limits(_PIXELS, _MODEL_PIXELS, _MODEL_BYTES)
    # With the app's own limit of pixels: below that, no JPEG is kept.
    as_it_is = replace(hostile.LIMITS_AS_IT_IS, image_max_pixels=_PIXELS, model_max_bytes=_MODEL_BYTES)
    preparations = (as_png, as_it_is)
    ends = {"prepared", *runner.get_args(runner.PictureCode)}
    watch = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the fuzzer runs
    stderr = os.dup(2)
    # Memory that is taken once, such as decoders' tables, counts for no input.
    runner.end_of((_FOLDER / "corpus" / "jpeg").read_bytes(), as_png)
    baseline = _peak()

    def prepare_one(data: bytes) -> None:
        sys.stderr.flush()
        os.dup2(watch.fileno(), 2)
        start = time.process_time()
        try:
            found = [runner.end_of(data, limits) for limits in preparations]
        finally:
            seconds = time.process_time() - start
            sys.stderr.flush()
            os.dup2(stderr, 2)
        for end, message in found:
            if end not in ends:
                raise Finding(f"{end}: {message}")
        if watch.seek(0, os.SEEK_END):
            watch.seek(0)
            raise Finding(f"It writes to stderr: {watch.read(1000)!r}")
        if seconds > _MAX_SECONDS * len(preparations):
            raise Finding(f"It takes {seconds:.1f} seconds.")
        if _peak() > baseline + _MAX_MEMORY:
            raise Finding(f"It takes {(_peak() - baseline) / 2**30:.1f} GiB.")

    options = [
        f"-max_total_time={arguments.seconds}",
        f"-artifact_prefix={_FOLDER}/",
        f"-timeout={4 * _MAX_SECONDS}",  # for inputs that hang without using the processor, which is measured above
        f"-rss_limit_mb={(baseline + 2 * _MAX_MEMORY) >> 20}",
        f"-max_len={_MAX_INPUT_BYTES}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, *(arguments.files or [str(_FOLDER / "corpus")])], prepare_one)
    atheris.Fuzz()


def _peak() -> int:
    """The peak memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
