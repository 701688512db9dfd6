"""How long a person waits for a page of the gallery: for its first paint, and for the thumbnails of 50 photographs."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

import httpx

from bench.figures import Figure, Measurement
from bench.photographs import heic_12mp, jpeg_12mp
from bench.site import LATENCY_MS, Site, running
from local import browser
from shared.gallery import page

_PICTURES: Final = 50
_HEIC_PICTURES: Final = 4
_ROUNDS: Final = 3
_PAINTS: Final = 7
# As many as browsers ask one host for over HTTP/1.1, and what the page asks for on an ordinary screen.
_AT_ONCE: Final = 6
_SIZE: Final = 320
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def _seconds(site: Site, photograph: Path, number: int) -> list[float]:
    """How long a grid of so many takes, each time anew: nothing of it is kept."""
    data = photograph.read_bytes()
    names = [f"{photograph.stem}/{at}{photograph.suffix}" for at in range(number)]
    site.upload(dict.fromkeys(names, data))
    # The same bytes are embedded once, and nothing of that goes on meanwhile.
    site.settle(photograph.stem, "images")
    headers = {"x-functions-key": site.stack.functions_key}
    with ExitStack() as parts:
        api = httpx.Client(base_url=f"{site.stack.functions_url}/api/thumbnails/", headers=headers, timeout=60)
        parts.enter_context(api)
        threads = parts.enter_context(ThreadPoolExecutor(_AT_ONCE))

        def fetch(name: str) -> None:
            api.get(name, params={"size": _SIZE}).raise_for_status()

        taken = []
        # The first round meets a process that has decoded nothing yet.
        for _ in range(1 + _ROUNDS):
            start = time.perf_counter()
            list(threads.map(fetch, names))
            taken.append(time.perf_counter() - start)
    return taken[1:]


@cache
def _grids() -> tuple[Measurement, Measurement]:
    with running() as site:
        site.behave(latency_ms=LATENCY_MS, mode="cheap")
        jpeg = _seconds(site, jpeg_12mp(), _PICTURES)
        heic = [taken / _HEIC_PICTURES * 1000 for taken in _seconds(site, heic_12mp(), _HEIC_PICTURES)]
    return (
        Measurement.median(jpeg, f"{_AT_ONCE} at a time, {_ROUNDS} rounds"),
        Measurement.median(heic, f"{_HEIC_PICTURES} in a row, {_ROUNDS} rounds"),
    )


def _paint() -> Measurement:
    """Milliseconds to the first paint of the page in a browser that has never seen it."""
    times = []
    with running() as site, browser.running() as chromium:
        for _ in range(1 + _PAINTS):
            context = chromium.new_context()
            opened = context.new_page()
            opened.goto(f"{site.stack.functions_url}/api/gallery#key={site.stack.functions_key}")
            opened.locator("#empty").wait_for()
            times.append(float(opened.evaluate(_PAINTED)))
            context.close()
    return Measurement.median(times[1:], f"{_PAINTS} visits")


def _kilobytes() -> Measurement:
    return Measurement.once(sum(len(file.compressed) for file in page.files().values()) / 1000, "all files")


FIGURES = [
    Figure("thumbnails_50_s", "s", "lower", 2, lambda: _grids()[0]),
    Figure("thumbnail_heic_ms", "ms", "lower", None, lambda: _grids()[1]),
    Figure("gallery_paint_ms", "ms", "lower", 500, _paint),
    Figure("gallery_kb", "kB", "lower", 60, _kilobytes, counts=True),
]
