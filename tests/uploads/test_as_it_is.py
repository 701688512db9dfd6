"""A picture goes to a model that takes it as what it is, and its record says by which preparation."""

import hashlib
import io

import pytest
from PIL import Image

from tests.audit.audits import audit, drain
from tests.conftest import Cloud
from tests.drawing import picture

SIZE = (2000, 1500)


def photograph() -> bytes:
    exif = Image.Exif()
    exif[0x10F] = "a camera"
    file = io.BytesIO()
    Image.linear_gradient("L").resize(SIZE).convert("RGB").save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
def test_a_jpeg_is_sent_as_it_is_without_its_metadata(cloud: Cloud) -> None:
    cloud.upload("a.jpg", photograph())
    assert cloud.sync().upload("a.jpg").outcome == "embedded"
    [call] = cloud.model.calls(200)
    assert (call["image_type"], call["width"], call["height"]) == ("image/jpeg", *SIZE)
    assert call["bytes"] < len(photograph())
    record = cloud.record("a.jpg")
    assert (record["preparation"], record["media_type"]) == (3, "image/jpeg")
    assert (record["width"], record["height"]) == SIZE
    assert record["sha256"] == hashlib.sha256(photograph()).hexdigest()
    report = audit(cloud)
    assert (report.current, report.outdated) == (1, 0)


def test_a_model_that_takes_png_alone_gets_png(cloud: Cloud) -> None:
    cloud.upload("a.jpg", photograph())
    assert cloud.sync().upload("a.jpg").outcome == "embedded"
    [call] = cloud.model.calls(200)
    assert call["image_type"] == "image/png"
    assert call["width"] * call["height"] <= cloud.settings.model_max_pixels
    assert cloud.record("a.jpg")["preparation"] == 2


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
@pytest.mark.parametrize("data", [photograph(), picture(format="WEBP")])
def test_after_a_change_to_the_other_format_images_are_outdated_and_made_again_when_asked_for(
    cloud: Cloud, data: bytes
) -> None:
    before = cloud.with_settings(FOUNDRY_ENDPOINT=f"{cloud.model.url}/models")
    before.upload("a", data)
    assert before.sync().upload("a").outcome == "embedded"
    report = audit(cloud)
    assert (report.current, report.outdated, report.requested) == (0, 1, 0)
    assert audit(cloud, refresh=True).requested == 1
    drain(cloud)
    assert cloud.record("a")["preparation"] == 3
    assert [call["image_type"] == "image/png" for call in cloud.model.calls(200)] == [True, False]


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
def test_what_failed_for_one_format_is_tried_again_for_the_other(cloud: Cloud) -> None:
    before = cloud.with_settings(FOUNDRY_ENDPOINT=f"{cloud.model.url}/models")
    before.upload("a", b"no picture")
    assert before.sync().upload("a").outcome == "failed"
    assert audit(before).requested == 0
    assert audit(cloud).requested == 1
    drain(cloud)
    assert audit(cloud).failed == {"not_an_image": 1}
