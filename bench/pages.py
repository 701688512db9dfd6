"""Puts figures into the pages that name them, from the results of the last run: ``python -m bench.pages``.

In a page such a figure stands between two comments, ``<!--name kind-->94 ms<!--/-->``. Its kind is ``value``, or of a
comparison ``ratio`` (how many times as long the other takes) or ``ours`` (what ours takes).
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from local.azurite import REPO_ROOT

PAGES = [REPO_ROOT / "README.md", *sorted((REPO_ROOT / "docs").glob("*.md"))]
RESULTS = REPO_ROOT / ".local/bench.json"
FIGURE = re.compile(r"<!--(\w+) (value|ratio|ours)-->(.*?)<!--/-->")
_OURS = re.compile(r" / ([\d.,]+) (\w+)")


def filled(page: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with the figures that were measured; all others stay as they are."""

    def fill(found: re.Match[str]) -> str:
        name, kind, before = found.groups()
        said = _said(results[name], kind) if name in results else before
        return f"<!--{name} {kind}-->{said}<!--/-->"

    return FIGURE.sub(fill, page)


def _said(result: Mapping[str, Any], kind: str) -> str:
    """A figure as a sentence has it: two digits that count."""
    if kind == "ours":
        ours = _OURS.search(result["measured"])
        if ours is None:
            raise ValueError(f"{result['measured']!r} compares nothing")
        return f"{_rounded(float(ours[1].replace(',', '')))} {ours[2]}"
    return _rounded(result["value"]) if kind == "ratio" else f"{_rounded(result['value'])} {result['unit']}"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def main() -> int:
    """Fill in every page."""
    if not RESULTS.exists():
        sys.stderr.write(f"There are no results in {RESULTS} yet: run make bench first.\n")
        return 1
    results = msgspec.json.decode(RESULTS.read_bytes(), type=dict[str, dict[str, Any]])
    for page in PAGES:
        page.write_text(filled(page.read_text(), results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
