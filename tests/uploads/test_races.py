"""Whoever changes an image meanwhile, and however many sync it at once, its record matches it in the end."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from shared.storage.images import Image as StoredImage
from shared.storage.images import Images
from tests.conftest import Cloud
from tests.drawing import picture
from tests.uploads.interfering import interfered


def test_the_newest_image_wins_when_two_writers_race(cloud: Cloud) -> None:
    cloud.upload("a.png", picture("red"))

    def overwritten_and_embedded() -> None:
        cloud.upload("a.png", picture("blue"))
        cloud.sync().upload("a.png")

    interfered(cloud, overwritten_and_embedded).upload("a.png")
    assert cloud.record("a.png")["sha256"] == hashlib.sha256(picture("blue")).hexdigest()
    assert len(cloud.model.calls()) == 2


def test_an_image_overwritten_during_its_embedding_is_embedded_again_even_without_an_event(cloud: Cloud) -> None:
    cloud.upload("a.png", picture("red"))
    interfered(cloud, lambda: cloud.upload("a.png", picture("blue"))).upload("a.png")
    assert cloud.record("a.png")["sha256"] == hashlib.sha256(picture("blue")).hexdigest()


def test_an_image_deleted_during_its_embedding_leaves_no_record(cloud: Cloud) -> None:
    for data in (picture("red"), b"words"):
        cloud.upload("a.png", data)
        report = interfered(cloud, lambda: cloud.images.delete_blob("a.png")).upload("a.png")
        assert report.outcome == "removed"
        assert cloud.records() == []


def test_a_late_failure_of_an_old_version_does_not_remain_next_to_the_new_record(cloud: Cloud) -> None:
    cloud.upload("a.png", b"words")

    def fixed_and_embedded() -> None:
        cloud.upload("a.png", picture())
        cloud.sync().upload("a.png")

    interfered(cloud, fixed_and_embedded).upload("a.png")
    assert cloud.record("a.png") is not None
    assert cloud.failure("a.png") is None


def test_an_image_changed_before_its_download_is_synced_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.upload("a.png", picture("red"))
    download = Images.download
    changed: list[str] = []

    def change_first(reader: Images, image: StoredImage, **options: Any) -> AbstractContextManager[bytes]:
        if not changed:
            changed.append(cloud.upload("a.png", picture("blue")))
        return download(reader, image, **options)

    monkeypatch.setattr(Images, "download", change_first)
    assert cloud.sync().upload("a.png").outcome == "embedded"
    assert cloud.record("a.png")["etag"] == changed[0]


def test_many_threads_that_sync_one_image_agree(cloud: Cloud) -> None:
    sync = cloud.sync()
    colours = ["red", "green", "blue", "yellow", "white", "black"]

    def overwrite_and_sync(colour: str) -> None:
        cloud.upload("a.png", picture(colour))
        sync.upload("a.png")

    threads = [threading.Thread(target=overwrite_and_sync, args=(colour,)) for colour in colours]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    etag = cloud.images.get_blob_client("a.png").get_blob_properties().etag.strip('"')
    assert cloud.record("a.png")["etag"] == etag


def test_an_event_delivered_several_times_at_once_costs_one_call(cloud: Cloud) -> None:
    cloud.model.behave(latency_ms=100)
    cloud.upload("a.png", picture())
    sync = cloud.sync()
    with ThreadPoolExecutor(4) as threads:
        reports = list(threads.map(sync.upload, ["a.png"] * 4))
    assert sorted(report.outcome for report in reports) == ["embedded", "unchanged", "unchanged", "unchanged"]
    assert len(cloud.model.calls()) == 1
    assert sync._turns == {}


def test_an_embedding_is_not_lost_if_the_process_dies_before_the_record_is_written(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())

    def dies() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interfered(cloud, dies).upload("a.png")
    assert cloud.record("a.png") is None
    assert cloud.sync().upload("a.png").outcome == "copied"
    assert len(cloud.model.calls(200)) == 1


def test_the_report_of_an_image_that_is_mended_during_its_sync_names_no_failure(cloud: Cloud) -> None:
    cloud.upload("a.png", b"no picture")
    report = interfered(cloud, lambda: cloud.upload("a.png", picture())).upload("a.png")
    assert (report.outcome, report.code, report.message) == ("embedded", None, None)
