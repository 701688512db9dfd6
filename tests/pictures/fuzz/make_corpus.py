"""The seed corpus of the fuzzer: a small valid file of every kind, and the hostile ones that are small.

``python -m tests.pictures.fuzz.make_corpus FOLDER`` writes them. The same files every time, so an older corpus
only grows.
"""

import sys
from pathlib import Path

from tests.pictures.hostile import INPUTS
from tests.pictures.hostile.seeds import SEEDS

LARGEST = 16_384


def make_corpus(folder: Path) -> int:
    """Write the seeds into ``folder``, one file each, and return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = SEEDS | {name: hostile.make for name, hostile in INPUTS.items()}
    written = 0
    for name, make in makers.items():
        # One at a time: some are a gigabyte.
        if len(data := make()) <= LARGEST:
            (folder / name).write_bytes(data)
            written += 1
    return written


if __name__ == "__main__":
    sys.exit(None if make_corpus(Path(sys.argv[1])) else "There are no seeds.")
