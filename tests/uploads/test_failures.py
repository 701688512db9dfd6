"""A failure record is true of the image as it is now, never lies next to an embedding, and counts its own attempts."""

import pytest

from tests.conftest import Cloud
from tests.drawing import picture
from tests.model.replay import answering
from tests.uploads.interfering import interfered


@pytest.mark.either_format
def test_a_sync_that_fails_after_another_embedded_the_image_leaves_no_failure(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    with answering(cloud, 400, {"error": {"code": "content_filter", "message": "filtered"}}) as refusing:
        refused = interfered(refusing, lambda: cloud.sync().upload("a.png"))
        assert refused.upload("a.png").outcome != "failed"
    assert cloud.record("a.png") is not None
    assert cloud.failure("a.png") is None


def test_attempts_are_counted_for_each_code_by_itself(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.upload("a.png", b"words")
    sync = cloud.sync()
    for _ in range(3):
        sync.upload("a.png")
    failure = cloud.failure("a.png")
    assert (failure["code"], failure["attempts"]) == ("not_an_image", 3)
    sync.crashed("a.png")
    crashed = cloud.failure("a.png")
    assert (crashed["code"], crashed["attempts"]) == ("crashed", 1)
    assert crashed["first_seen"] == failure["first_seen"]
    sync.crashed("a.png")
    assert cloud.failure("a.png")["attempts"] == 2


def test_a_failure_record_that_cannot_be_read_is_replaced(cloud: Cloud) -> None:
    cloud.upload("a.png", b"no picture")
    sync = cloud.sync()
    sync.upload("a.png")
    cloud.embeddings.upload_blob(f"{cloud.folder}/failures/a.png.json", b"\xff", overwrite=True)
    assert sync.upload("a.png").outcome == "failed"
    assert (cloud.failure("a.png")["code"], cloud.failure("a.png")["attempts"]) == ("not_an_image", 1)


@pytest.mark.either_format
@pytest.mark.parametrize("body", [b"<html>Bad Request</html>", b'{"message": "API version not supported"}'])
def test_a_400_for_everything_records_nothing_and_removes_nothing(cloud: Cloud, body: bytes) -> None:
    cloud.upload("old.png", picture())
    cloud.sync().upload("old.png")
    record = cloud.record("old.png")
    cloud.upload("old.png", picture("blue"))
    cloud.upload("new.png", picture("green"))
    with answering(cloud, 400, body, takes_harmless=False) as refusing:
        broken = refusing.sync()
        assert [broken.upload(name).outcome for name in ("old.png", "new.png")] == ["deferred", "deferred"]
    assert cloud.record("old.png") == record
    assert [name for name in cloud.records() if "/failures/" in name] == []
    assert cloud.sync().upload("old.png").outcome == "embedded"
