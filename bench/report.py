"""The results: a table for people, and a file for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from bench.figures import Figure, Measurement
from local import tables

type Result = tuple[Figure, Measurement]

# Columns that all but the last column of the table need; a narrower terminal wraps the lines itself.
_LEAST = 130


def show(console: Console, results: Sequence[Result]) -> None:
    """Print one row a figure."""
    console.width = max(console.width, _LEAST)
    table = tables.table(console, "figure", "value", "unit", "target", "spread", "verdict", "measured")
    for column in table.columns[1:2] + table.columns[3:5]:
        column.justify = "right"
    for figure, measurement in results:
        table.add_row(
            figure.name,
            _number(measurement.value),
            figure.unit,
            "-" if figure.target is None else f"{'≥' if figure.better == 'higher' else '≤'} {_number(figure.target)}",
            f"{_number(measurement.low)} - {_number(measurement.high)}",
            _verdict(figure, measurement),
            measurement.source,
        )
    tables.show(console, table)


def write(path: Path, results: Sequence[Result], *, keep: bool) -> None:
    """Write the figures as JSON, each with its value, unit, target and whether it is reached.

    With ``keep``, figures that the file has and that were not measured this time stay in it.
    """
    figures: dict[str, dict[str, Any]] = {}
    if keep and path.exists():
        figures = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    for figure, measurement in results:
        figures[figure.name] = {
            "value": measurement.value,
            "unit": figure.unit,
            "better": figure.better,
            "target": figure.target,
            "ok": figure.reached(measurement),
            "spread": [measurement.low, measurement.high],
            "certain": figure.certain(measurement),
            "measured": measurement.source,
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


def markdown(path: Path) -> str:
    """Return the figures of the file as rows for docs/performance.md."""
    figures = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    return "".join(f"| {' | '.join(_cells(name, figure))} |\n" for name, figure in figures.items())


def _cells(name: str, figure: dict[str, Any]) -> list[str]:
    sign = "≥" if figure["better"] == "higher" else "≤"
    target = "-" if figure["target"] is None else f"{sign} {_number(figure['target'])}"
    low, high = (_number(edge) for edge in figure["spread"])
    verdict = "-" if figure["target"] is None else "ok" if figure["ok"] else "missed"
    if not figure["certain"]:
        verdict += ", spread wider than margin"
    value = f"{_number(figure['value'])} {figure['unit']}"
    return [f"`{name}`", value, target, low if low == high else f"{low} - {high}", figure["measured"], verdict]


def _verdict(figure: Figure, measurement: Measurement) -> str:
    verdict = "[green]ok[/green]" if figure.reached(measurement) else "[red]missed[/red]"
    return verdict if figure.certain(measurement) else f"{verdict}, spread wider than margin"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
