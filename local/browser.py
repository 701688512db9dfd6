"""The browser in which the gallery is tested and photographed: Chromium or Chrome, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")


class NoBrowser(Exception):
    """There is no browser here that Playwright can drive. The message says what to install."""


@contextmanager
def running() -> Iterator[Browser]:
    """Start the browser, without a window, and end it."""
    # Root may not use the browser's own sandbox; it sees nothing but pages of this machine.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_path(), args=["--disable-gpu", *sandbox])
        try:
            yield browser
        finally:
            browser.close()


def _path() -> str:
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    message = "There is no Chromium or Chrome on PATH, which the gallery is tested in: apt-get install chromium"
    raise NoBrowser(message)
