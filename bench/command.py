"""The command line of ``python -m bench`` and ``python -m proof``."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from bench import machine, report
from bench.figures import Figure
from local import tables


def run(program: str, purpose: str, figures: Sequence[Figure], results: Path) -> int:
    """Measure the figures that the command line names, or all of them; print a table and write the results as JSON.

    Returns the exit status: 1 when a figure misses its target.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=purpose)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=[], help="measure only these: names, or beginnings of names"
    )
    parser.add_argument("--table", action="store_true", help="print the last results as rows for docs/performance.md")
    arguments = parser.parse_args()
    if arguments.table:
        if not results.exists():
            parser.error(f"There are no results in {results} yet. Run python -m {program} first.")
        sys.stdout.write(report.markdown(results))
        return 0
    only = {name for argument in arguments.only for name in argument.split()}
    if unknown := {part for part in only if not any(figure.name.startswith(part) for figure in figures)}:
        names = ", ".join(figure.name for figure in figures)
        parser.error(f"There is no figure {', '.join(sorted(unknown))}. There are: {names}.")

    console = tables.standard_output()
    load, start = machine.load(), time.monotonic()
    measured = []
    for figure, measurement in _measured([f for f in figures if not only or f.name.startswith(tuple(only))], console):
        measured.append((figure, measurement))
        if not console.is_terminal:
            console.print(f"{time.monotonic() - start:6.0f} s  {figure.name}")
    minutes = (time.monotonic() - start) / 60
    report.show(console, measured)
    console.print(machine.describe())
    console.print(f"Load average {load:.2f} before, {machine.load():.2f} after; {minutes:.1f} minutes")
    report.write(results, measured, keep=bool(only))
    return 0 if all(figure.reached(measurement) for figure, measurement in measured) else 1


def _measured(figures: Sequence[Figure], console: Console) -> Iterator[report.Result]:
    """First each figure that needs the machine for itself, then all that only count, at once."""
    for figure in figures:
        if not figure.counts:
            with console.status(f"Measuring {figure.name} …"):
                measurement = figure.measure()
            yield figure, measurement
    counting = [figure for figure in figures if figure.counts]
    if not counting:
        return
    with ThreadPoolExecutor(len(counting)) as threads:
        measuring = [threads.submit(figure.measure) for figure in counting]
        for figure, under_way in zip(counting, measuring, strict=True):
            with console.status(f"Measuring {figure.name} …"):
                measurement = under_way.result()
            yield figure, measurement
