"""`python -m local.screenshot FILE`: the gallery with the samples in it, as the README shows it."""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from local import browser, stack
from local.upload import files_of, storage, upload

_WORDS = "an orange sunset"
_SIZE = (1200, 618)
_MAX_BYTES = 300_000


def main(file: Path) -> int:
    """Start everything, upload the samples, search them, and write what a person sees. Returns the exit status."""
    root, files = files_of(None)
    with stack.running() as running, storage(running.storage_connection_string, running.ca_file) as service:
        upload(service.get_container_client("images"), root, files, lambda done: None)
        with browser.running() as chromium:
            page = chromium.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]})
            page.goto(f"{running.functions_url}/api/gallery#key={running.functions_key}")
            content = _searched(page, len(files) - 1)
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").save(file, optimize=True)
    size = file.stat().st_size
    print(f"{file}: {size:,} bytes")
    return 0 if size <= _MAX_BYTES else 1


def _searched(page: Page, pictures: int) -> bytes:
    page.locator(f"#grid li[aria-setsize='{pictures}']").first.wait_for()
    page.locator("#words").fill(_WORDS)
    page.keyboard.press("Enter")
    page.locator("#grid .score").first.wait_for()
    expect(page.locator("#grid li:not(.there)")).to_have_count(0)
    page.mouse.move(0, 0)
    page.locator("#words").blur()
    page.wait_for_timeout(800)
    return page.screenshot()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
