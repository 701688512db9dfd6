"""One stack with pictures in it and one browser for all of these tests; each has a page of its own.

Both end with these tests: as long as the browser is there, its driver's event loop runs in this thread, and a test that
starts one of its own fails.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pillow_heif
import pytest
from azure.storage.blob import BlobServiceClient
from PIL import ExifTags, Image
from playwright.sync_api import Browser, Page, expect

from local import browser as browsers
from local import stack
from local.stack import Stack
from local.upload import storage as storage_of
from tests.conftest import PATIENCE
from tests.drawing import picture

HTML = "<img src=x onerror=window.hacked=1>'\"&amp;.png"
SCRIPT = "</script><script>window.hacked=1</script>"
UNSAFE = f"unsafe/{HTML}"
COLOURS = ["red", "green", "blue", "yellow"]


def turned() -> bytes:
    """A picture that a camera held on its side: stored 120 x 80, seen 80 x 120."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.new("RGB", (120, 80), "purple").save(file, "JPEG", exif=exif)
    return file.getvalue()


def heic(colour: str) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (120, 80), colour)).save(file)
    return file.getvalue()


PICTURES = {
    **{f"colours/{colour}.png": picture(colour, (120, 80)) for colour in COLOURS},
    UNSAFE: picture("grey"),
    "turned.jpg": turned(),
}
TEXTS = {UNSAFE: SCRIPT, "colours/red.png": "a caption in red"}
BROKEN = {"broken/cut off.png": picture()[:90], f"broken/{HTML}": b"no picture"}


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack.running(logs=tmp_path_factory.mktemp("logs")) as started:
        yield started


@dataclass
class Container:
    """The images, and what the app knows of them by now."""

    storage: BlobServiceClient
    api: httpx.Client

    def upload(self, name: str, data: bytes) -> None:
        metadata = {"text": quote(TEXTS[name])} if name in TEXTS else None
        self.storage.get_blob_client("images", name).upload_blob(data, overwrite=True, metadata=metadata)

    def delete(self, name: str) -> None:
        self.storage.get_blob_client("images", name).delete_blob()

    def wait_for(self, names: set[str]) -> None:
        """Wait until exactly these images are found or have failed."""
        while self._listed("images", "results") | self._listed("failures", "failures") != names:
            pass

    def _listed(self, route: str, field: str) -> set[str]:
        answer: Any = self.api.get(route).raise_for_status().json()
        return {one["name"] for one in answer[field]}


@pytest.fixture(scope="package")
def container(running: Stack) -> Iterator[Container]:
    """The container of images, with all of the pictures embedded or failed."""
    headers = {"x-functions-key": running.functions_key}
    with (
        storage_of(running.storage_connection_string, running.ca_file) as storage,
        httpx.Client(base_url=f"{running.functions_url}/api/", headers=headers, timeout=PATIENCE) as api,
    ):
        made = Container(storage, api)
        for name, data in {**PICTURES, **BROKEN}.items():
            made.upload(name, data)
        made.wait_for({*PICTURES, *BROKEN})
        yield made


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)
    with browsers.running() as started:
        yield started


@dataclass
class Visit:
    """A person's visit. What the browser complains of, beyond what a test expects, fails the test."""

    page: Page
    host: str
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def watch(self) -> None:
        self.page.on("console", lambda message: self._complain(f"{message.type}: {message.text}", message.type))
        self.page.on("pageerror", lambda error: self._complain(f"exception: {error}"))
        self.page.on("request", lambda request: self._note(request.url))

    def unexpected(self) -> list[str]:
        return [one for one in self.complaints if not any(words in one for words in self.expected)]

    def _complain(self, text: str, kind: str = "error") -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def _note(self, url: str) -> None:
        self.asked.append(url)
        if urlsplit(url).scheme not in {"blob", "data"} and urlsplit(url).netloc != self.host:
            self.complaints.append(f"a request to another host: {url}")


@pytest.fixture
def options() -> dict[str, Any]:
    """How the browser presents itself: a test may parametrize it."""
    return {}


@pytest.fixture
def visit(chromium: Browser, running: Stack, container: Container, options: dict[str, Any]) -> Iterator[Visit]:
    """The browser before any page, without a key."""
    context = chromium.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
    context.set_default_timeout(60_000)
    made = Visit(context.new_page(), urlsplit(running.functions_url).netloc)
    made.watch()
    yield made
    hacked = made.page.evaluate("window.hacked")
    context.close()
    assert made.unexpected() == []
    assert hacked is None


@pytest.fixture
def gallery(visit: Visit, running: Stack) -> Page:
    """The gallery, opened by a link with the key, once it shows the pictures."""
    visit.page.goto(f"{running.functions_url}/api/gallery#key={running.functions_key}")
    expect(visit.page.locator("#grid li.there")).to_have_count(len(PICTURES))
    return visit.page
