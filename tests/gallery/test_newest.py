"""GET /api/images: what was embedded last, in pages, without a listing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import Cloud
from tests.drawing import picture
from tests.gallery.asking import answered, refused
from tests.search import records


def names(**parameters: str) -> list[str]:
    return [image["name"] for image in answered("newest_images", **parameters)["results"]]


def test_the_newest_come_first_with_the_facts_of_their_records(cloud: Cloud) -> None:
    sync = cloud.sync()
    for name in ("old.png", "new #1.png"):
        cloud.upload(name, picture(), text="a text")
        sync.upload(name)
    found: Any = answered("newest_images")
    assert {image["name"] for image in found["results"]} == {"old.png", "new #1.png"}
    for image in found["results"]:
        record = cloud.record(image["name"])
        assert image == {key: record[key] for key in image}
    assert (found["space"], found["next"], found["index"]["images"]) == (cloud.folder, None, 2)
    soon = (datetime.fromisoformat(found["results"][0]["embedded_at"]) + timedelta(minutes=1)).isoformat()
    assert names(since=soon) == []


def test_pages_have_each_image_once_and_filters_hold_on_all(cloud: Cloud) -> None:
    records.write(cloud, *(f"trip/{number}.png" for number in range(5)), "else.png")
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        found = answered("newest_images", prefix="trip/", top="2", **after)
        seen += [image["name"] for image in found["results"]]
        if found["next"] is None:
            break
        after = {"after": found["next"]}
    assert seen == [f"trip/{number}.png" for number in range(5)]
    assert names(since=(records.EMBEDDED_AT + timedelta(seconds=1)).isoformat()) == []
    assert names(since=records.EMBEDDED_AT.astimezone(UTC).isoformat(), top="1") == ["else.png"]


def test_an_app_without_images_has_none(cloud: Cloud) -> None:
    assert names() == []


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("top", "0"),
        ("top", "101"),
        ("top", "x"),
        ("since", "yesterday"),
        ("since", "2026-11-22"),
        ("after", "AAAA"),
        ("after", "ü"),
    ],
)
def test_a_wrong_parameter_is_named(cloud: Cloud, parameter: str, value: str) -> None:
    assert refused("newest_images", **{parameter: value}) == (400, "invalid_request", parameter)


def test_without_search_there_is_no_list(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH", "off")
    assert refused("newest_images") == (404, "search_off", None)
