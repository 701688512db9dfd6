"""The seed corpus of the fuzzer: a small valid file of every kind, and the small ones among the hostile files.

``python -m tests.pictures.fuzz.make_corpus FOLDER`` writes them. It writes the same files every time, so an older
corpus only grows.
"""

import sys
from pathlib import Path

from tests.pictures.hostile import INPUTS
from tests.pictures.hostile.seeds import SEEDS

MAX_BYTES = 16_384


def make_corpus(folder: Path) -> int:
    """Write each seed to a file in ``folder``; return how many were written."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = SEEDS | {name: hostile.make for name, hostile in INPUTS.items()}
    written = 0
    for name, make in makers.items():
        # One at a time: some take a gigabyte.
        if len(data := make()) <= MAX_BYTES:
            (folder / name).write_bytes(data)
            written += 1
    return written


if __name__ == "__main__":
    sys.exit(None if make_corpus(Path(sys.argv[1])) else "There are no seeds.")
