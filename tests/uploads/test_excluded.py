"""What is no image leaves no trace: markers of folders, and blobs whose names ``IMAGE_NAMES`` excludes."""

import pytest

from tests.audit.audits import audit, drain, embed
from tests.conftest import Cloud
from tests.drawing import picture
from tests.queue_messages import queued


def test_a_marker_of_a_folder_gets_no_record_and_no_failure(cloud: Cloud) -> None:
    cloud.upload("trip", b"", hdi_isfolder="true")
    cloud.sync().upload("trip")
    assert cloud.records() == []
    report = audit(cloud)
    assert (report.images, report.orphaned, report.requested) == (0, 0, 0)


def test_the_failure_of_a_marker_from_before_is_removed_once_and_for_all(cloud: Cloud) -> None:
    cloud.upload("trip", b"")
    assert cloud.sync().upload("trip").code == "empty"
    cloud.images.get_blob_client("trip").set_blob_metadata({"Hdi_isfolder": "true"})
    assert audit(cloud).orphaned == 1
    drain(cloud)
    assert cloud.failure("trip") is None
    assert audit(cloud).requested == 0


PATTERNS = "*.JPG, photos/*, [ab]?.png"


@pytest.mark.parametrize("name", ["a.jpg", "x/y/A.Jpg", "photos/film.mov", "photos/2026/b", "a1.png", "B2.PNG"])
def test_a_blob_whose_name_matches_a_pattern_is_an_image(cloud: Cloud, name: str) -> None:
    cloud = cloud.with_settings(IMAGE_NAMES=PATTERNS)
    cloud.upload(name, picture())
    assert cloud.sync().upload(name).outcome == "embedded"


@pytest.mark.parametrize("name", ["a.jpeg", "a.jpg.txt", "old photos/a", "c1.png", "a12.png", "notes.txt"])
def test_a_blob_whose_name_matches_no_pattern_gets_no_record_and_no_failure(cloud: Cloud, name: str) -> None:
    cloud = cloud.with_settings(IMAGE_NAMES=PATTERNS)
    cloud.upload(name, b"no picture")
    assert cloud.sync().upload(name).outcome == "ignored"
    assert cloud.records() == []
    assert cloud.model.calls() == []


def test_an_audit_counts_what_is_excluded_apart_and_requests_none_of_it(cloud: Cloud) -> None:
    cloud = cloud.with_settings(IMAGE_NAMES="*.png")
    for name in ("a.png", "notes.txt", "x/film.mov"):
        cloud.upload(name, picture())
    report = audit(cloud)
    assert (report.images, report.missing, report.excluded, report.ignored) == (1, 1, 2, 0)
    assert [message["name"] for message in queued(cloud, cloud.backlog)] == ["a.png"]


def test_a_record_from_before_the_pattern_is_orphaned_and_removed(cloud: Cloud) -> None:
    embed(cloud, "a.png", "b.bmp")
    narrowed = cloud.with_settings(IMAGE_NAMES="*.png")
    report = audit(narrowed)
    assert (report.images, report.current, report.orphaned, report.excluded) == (1, 1, 1, 1)
    drain(narrowed)
    assert (narrowed.record("a.png") is None, narrowed.record("b.bmp")) == (False, None)
    assert audit(narrowed).orphaned == 0
