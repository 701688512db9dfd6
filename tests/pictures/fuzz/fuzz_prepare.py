"""Fuzz ``prepare``: any bytes end as a picture within the limits or as a failure code, and nothing else happens.

    .venv/bin/python -m tests.pictures.fuzz.fuzz_prepare --seconds 60

Coverage of our own code and of Pillow's Python parts guides it (Atheris, on libFuzzer); the native decoders are run as
they are. It starts from ``.local/fuzz/corpus``, which ``make_corpus`` makes where it is missing and every run adds to,
so that each goes on where the last one ended. A finding is

- an exception that is no ``PictureError``, a code outside the contract, or a result that breaks the limits, does not
  decode with a second decoder, or carries more than its pixels;
- anything written to stderr by a library, or a warning that a user would see;
- more than 5 seconds of processor time, or more than 1 GiB of memory, for one input;
- a crash of the process.

Its input is then in ``.local/fuzz/`` as ``crash-…``, ``timeout-…`` or ``oom-…``, and the exit status is not 0. To run
one again: ``.venv/bin/python -m tests.pictures.fuzz.fuzz_prepare .local/fuzz/crash-…``.
"""

import argparse
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_FOLDER = _ROOT / ".local" / "fuzz"
_SECONDS = 5
_BYTES = 2**30
_LONGEST = 16_384
# Enough for every path through our code; the largest pictures are the hostile tests' part, each would take a second.
_PIXELS, _MODEL_PIXELS, _MODEL_BYTES = 4_000_000, 20_000, 50_000


class Finding(Exception):
    """What an input did that the contract does not allow."""


def main() -> None:
    """Fuzz for so many seconds, or prepare the files given, once each."""
    parser = argparse.ArgumentParser(description="Fuzz the preparation of pictures.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("files", nargs="*", help="inputs to run again instead")
    arguments = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("The fuzzer needs Atheris, which has wheels for Linux only: run it there, or in a container.")
    with atheris.instrument_imports(include=["PIL", "shared"]):
        runner = importlib.import_module("tests.pictures.hostile.runner")
        pictures = importlib.import_module("shared.pictures.convert")
    if not (_FOLDER / "corpus").exists():
        # In a process of its own: some of what it makes, and throws away, is a gigabyte.
        subprocess.run(
            [sys.executable, "-m", "tests.pictures.fuzz.make_corpus", str(_FOLDER / "corpus")], cwd=_ROOT, check=True
        )
    limits = pictures.Limits(_PIXELS, _MODEL_PIXELS, _MODEL_BYTES)
    ends = {"prepared", *runner.get_args(runner.PictureCode)}
    watch = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the fuzzer runs
    stderr = os.dup(2)
    # What is taken for good before the first input, decoders' tables and all, is nobody's fault.
    runner.end_of((_FOLDER / "corpus" / "jpeg").read_bytes(), limits)
    usual = _peak()

    def prepare_one(data: bytes) -> None:
        sys.stderr.flush()
        os.dup2(watch.fileno(), 2)
        start = time.process_time()
        try:
            end, message = runner.end_of(data, limits)
        finally:
            seconds = time.process_time() - start
            sys.stderr.flush()
            os.dup2(stderr, 2)
        if end not in ends:
            raise Finding(f"{end}: {message}")
        if watch.seek(0, os.SEEK_END):
            watch.seek(0)
            raise Finding(f"It says on stderr: {watch.read(1000)!r}")
        if seconds > _SECONDS:
            raise Finding(f"It takes {seconds:.1f} seconds.")
        if _peak() > usual + _BYTES:
            raise Finding(f"It takes {(_peak() - usual) / 2**30:.1f} GiB.")

    options = [
        f"-max_total_time={arguments.seconds}",
        f"-artifact_prefix={_FOLDER}/",
        f"-timeout={4 * _SECONDS}",  # for what hangs without working; work is measured above
        f"-rss_limit_mb={(usual + 2 * _BYTES) >> 20}",
        f"-max_len={_LONGEST}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, *(arguments.files or [str(_FOLDER / "corpus")])], prepare_one)
    atheris.Fuzz()


def _peak() -> int:
    """The most memory that this process ever held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
