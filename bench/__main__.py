"""Measure, print the table, write ``.local/bench.json``. The exit status is 1 when a figure misses its target."""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from bench import audit, body, cold_start, latency, machine, pictures, proxy, reliability, report, uploads

FIGURES = [
    *cold_start.FIGURES,
    *pictures.FIGURES,
    *body.FIGURES,
    *audit.FIGURES,
    *reliability.FIGURES,
    *proxy.FIGURES,
    *uploads.FIGURES,
    *latency.FIGURES,
]
RESULTS = Path(__file__).parent.parent / ".local" / "bench.json"


def main() -> int:
    """Run the benchmarks that the command line names, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast, how lean, beside what is usual.")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=[], help="measure these alone: names, or beginnings of names"
    )
    parser.add_argument("--table", action="store_true", help="print what was measured last, for docs/performance.md")
    arguments = parser.parse_args()
    if arguments.table:
        sys.stdout.write(report.markdown(RESULTS))
        return 0
    only = {name for argument in arguments.only for name in argument.split()}
    if unknown := {part for part in only if not any(figure.name.startswith(part) for figure in FIGURES)}:
        names = ", ".join(figure.name for figure in FIGURES)
        parser.error(f"There is no figure {', '.join(sorted(unknown))}. There are: {names}.")

    console = Console(width=None if sys.stdout.isatty() else 160)
    results = []
    load, start = machine.load(), time.monotonic()
    for figure in FIGURES:
        if not only or figure.name.startswith(tuple(only)):
            with console.status(f"Measuring {figure.name} …"):
                results.append((figure, figure.measure()))
            if not sys.stdout.isatty():
                console.print(f"{time.monotonic() - start:6.0f} s  {figure.name}", highlight=False)
    minutes = (time.monotonic() - start) / 60
    caption = (
        f"{machine.describe()}\nLoad at the start {load:.2f}, at the end {machine.load():.2f}; {minutes:.1f} minutes"
    )
    report.show(console, results, caption)
    report.write(RESULTS, results, keep=bool(only))
    return 0 if all(figure.reached(measurement) for figure, measurement in results) else 1


if __name__ == "__main__":
    sys.exit(main())
