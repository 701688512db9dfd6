"""GET /api/thumbnails: a small JPEG of any image, whatever its name, and a clear no for everything else."""

import gzip
import io

import pytest
from azure.storage.blob import ContentSettings
from PIL import Image

from shared.errors import Busy
from shared.gallery import thumbnails
from shared.gallery.thumbnails import ThumbnailRequest, Thumbnails
from shared.storage.memory_budget import MemoryBudget
from tests.conftest import Cloud
from tests.drawing import picture
from tests.gallery.asking import ask, asked_in_query, refused

NAMES = ["a b.png", "100%.png", "a#b?c&d=e.png", "é/😀+.png", "<b>&amp;'\".png", "deep/er/x..png", "..png", "//a.png"]


def size_of(jpeg: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return image.size


@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_any_name_has_a_thumbnail(cloud: Cloud, name: str) -> None:
    cloud.upload(name, picture(size=(800, 400)))
    answer = ask("thumbnail", name)
    assert (answer.status_code, answer.mimetype, answer.headers["cache-control"]) == (
        200,
        "image/jpeg",
        "private, no-cache",
    )
    assert size_of(answer.get_body()) == (256, 128)
    assert size_of(asked_in_query("thumbnail", name, size="100").get_body()) == (100, 50)


def test_a_slash_may_come_encoded_and_a_name_with_one_that_is_encoded_goes_into_the_query_string(cloud: Cloud) -> None:
    cloud.upload("a/b.png", picture(size=(80, 40)))
    cloud.upload("a%2Fb.png", picture(size=(40, 80)))
    assert size_of(ask("thumbnail", "a%2Fb.png").get_body()) == (80, 40)
    assert size_of(asked_in_query("thumbnail", "a%2Fb.png").get_body()) == (40, 80)


def test_an_image_in_an_encoded_blob_has_one_too(cloud: Cloud) -> None:
    encoded = ContentSettings(content_encoding="gzip")
    cloud.images.upload_blob("a.png", gzip.compress(picture(size=(80, 40))), content_settings=encoded)
    assert size_of(ask("thumbnail", "a.png").get_body()) == (80, 40)


def test_who_has_it_already_is_told_so_until_the_image_changes(cloud: Cloud) -> None:
    cloud.upload("a.png", picture("red"))
    etag = ask("thumbnail", "a.png").headers["etag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = ask("thumbnail", "a.png", headers={"if-none-match": known})
        assert (again.status_code, again.get_body(), again.headers["etag"]) == (304, b"", etag)
    assert ask("thumbnail", "a.png", size="32", headers={"if-none-match": etag}).status_code == 200
    cloud.upload("a.png", picture("green"))
    changed = ask("thumbnail", "a.png", headers={"if-none-match": etag})
    assert (changed.status_code, changed.headers["etag"] == etag) == (200, False)


def test_a_version_of_the_app_that_draws_otherwise_is_another_version(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.upload("a.png", picture())
    etag = ask("thumbnail", "a.png").headers["etag"]
    monkeypatch.setattr(thumbnails, "_VERSION", thumbnails._VERSION + 1)
    assert ask("thumbnail", "a.png", headers={"if-none-match": etag}).status_code == 200


@pytest.mark.parametrize("size", ["31", "1025", "", "x", "1e9", "-64"])
def test_a_size_that_nobody_needs_is_refused(cloud: Cloud, size: str) -> None:
    cloud.upload("a.png", picture())
    assert refused("thumbnail", "a.png", size=size) == (400, "invalid_request", "size")


@pytest.mark.parametrize("name", ["a/../b.png", "..", "./a.png", ""])
def test_a_name_that_urls_resolve_to_another_is_refused(cloud: Cloud, name: str) -> None:
    cloud.upload("b.png", picture())
    assert refused("thumbnail", name) == (400, "invalid_request", "name")


@pytest.mark.parametrize("name", ["nothing.png", "x" * 1025, "\0", "a" * 600 + "/" + "é" * 400])
def test_an_image_that_is_not_there_is_404(cloud: Cloud, name: str) -> None:
    cloud.upload("a.png", picture())
    assert refused("thumbnail", name) == (404, "unknown_image", "name")


def test_a_blob_that_is_no_image_by_its_name_is_404(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_NAMES", "*.jpg")
    cloud.upload("a.png", picture())
    assert refused("thumbnail", "a.png")[:2] == (404, "unknown_image")


@pytest.mark.parametrize(
    ("data", "code"), [(b"", "empty"), (b"a text", "not_an_image"), (picture()[:100], "damaged_image")]
)
def test_what_is_no_picture_cannot_be_shown(cloud: Cloud, data: bytes, code: str) -> None:
    cloud.upload("a.png", data)
    assert refused("thumbnail", "a.png") == (422, code, "name")


@pytest.mark.parametrize(
    ("setting", "code"), [("IMAGE_MAX_BYTES", "too_many_bytes"), ("IMAGE_MAX_PIXELS", "too_many_pixels")]
)
def test_the_limits_of_pictures_hold_here_too(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, setting: str, code: str
) -> None:
    monkeypatch.setenv(setting, "100")
    cloud.upload("a.png", picture(size=(800, 800)))
    assert refused("thumbnail", "a.png") == (422, code, "name")


def test_a_process_that_holds_too_many_pictures_asks_for_patience(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "_PATIENCE", 0)
    images = cloud.image_reader()
    images._budget = MemoryBudget(100)
    cloud.upload("a.png", picture())
    with images._budget.reserve(100), pytest.raises(Busy) as raised:
        Thumbnails(cloud.settings, images).make("a.png", ThumbnailRequest(), None)
    assert raised.value.retry_after > 0
