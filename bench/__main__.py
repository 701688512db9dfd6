"""Measure how fast and how lean the app is. The exit status is 1 when a figure misses its target."""

import sys

from bench import (
    audit,
    body,
    cold_start,
    command,
    exports,
    gallery,
    indexing,
    latency,
    pictures,
    proxy,
    search,
    texts,
    uploads,
)
from local.azurite import REPO_ROOT

FIGURES = [
    *cold_start.FIGURES,
    *pictures.FIGURES,
    *body.FIGURES,
    *audit.FIGURES,
    *proxy.FIGURES,
    *texts.FIGURES,
    *uploads.FIGURES,
    *latency.FIGURES,
    *search.FIGURES,
    *indexing.FIGURES,
    *gallery.FIGURES,
    *exports.FIGURES,
]

if __name__ == "__main__":
    purpose = "Measure how fast and how lean the app is, next to what people use instead."
    sys.exit(command.run("bench", purpose, FIGURES, REPO_ROOT / ".local" / "bench.json"))
