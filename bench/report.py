"""The results: a table for people, and a file for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
        row = _row(_result(figure, measurement))
        colour = "green" if figure.reached(measurement) else "red"
        verdict = f"[{colour}]{row.verdict}[/{colour}]"
        table.add_row(figure.name, row.value, figure.unit, row.target, row.spread, verdict, measurement.source)
    tables.show(console, table)


def write(path: Path, results: Sequence[Result], *, keep: bool) -> None:
    """Write the figures as JSON, each with its value, unit, target and whether it is reached.

    With ``keep``, figures that the file has and that were not measured this time stay in it.
    """
    figures: dict[str, dict[str, Any]] = {}
    if keep and path.exists():
        figures = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    for figure, measurement in results:
        figures[figure.name] = _result(figure, measurement)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


def markdown(path: Path) -> str:
    """Return the figures of the file as rows for docs/performance.md."""
    figures = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    return "".join(f"| {' | '.join(_cells(name, result))} |\n" for name, result in figures.items())


def _cells(name: str, result: dict[str, Any]) -> list[str]:
    row = _row(result)
    return [f"`{name}`", f"{row.value} {result['unit']}", row.target, row.spread, result["measured"], row.verdict]


def _result(figure: Figure, measurement: Measurement) -> dict[str, Any]:
    """What the file holds of a figure."""
    return {
        "value": measurement.value,
        "unit": figure.unit,
        "better": figure.better,
        "target": figure.target,
        "ok": figure.reached(measurement),
        "spread": [measurement.low, measurement.high],
        "certain": figure.certain(measurement),
        "measured": measurement.source,
    }


class _Row(NamedTuple):
    """The same in words, for both tables."""

    value: str
    target: str
    spread: str
    verdict: str


def _row(result: dict[str, Any]) -> _Row:
    low, high = (_number(edge) for edge in result["spread"])
    spread = low if low == high else f"{low} - {high}"
    if result["target"] is None:
        return _Row(_number(result["value"]), "-", spread, "-")
    sign = "≥" if result["better"] == "higher" else "≤"
    verdict = "ok" if result["ok"] else "missed"
    if not result["certain"]:
        verdict += ", spread wider than margin"
    return _Row(_number(result["value"]), f"{sign} {_number(result['target'])}", spread, verdict)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
