"""A process that syncs images in several threads and compacts meanwhile, until somebody kills it."""

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from shared.application import application
from shared.parsing import learn_shapes
from shared.search import journal
from shared.search.upkeep import compaction


def main(container: str, names: list[str]) -> None:
    """Sync the images over and over, in any order, and say so each time."""
    for module in (compaction, journal):
        vars(module)["LARGE_LOG"] = 5000
    learn_shapes("shared")
    intake = application().intake

    def compact() -> None:
        while True:
            intake.queued(b'{"index": "compact"}')

    def sync() -> None:
        while True:
            intake.uploaded(container, random.choice(names))
            sys.stdout.write("synced\n")
            sys.stdout.flush()

    threading.Thread(target=compact, daemon=True).start()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(sync)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
