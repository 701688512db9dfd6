"""GET /api/failures: which images have no embedding and why, by code and prefix, in pages."""

import pytest

from shared.gallery import failures
from shared.gallery.failures import Failures, FailuresRequest
from tests.conftest import Cloud
from tests.gallery.asking import answered, ask, refused

LONG = "trip/" + "x" * 1019


def fail(cloud: Cloud, *names: str, data: bytes = b"no picture") -> None:
    sync = cloud.sync()
    for name in names:
        cloud.upload(name, data)
        sync.upload(name)


def names(**parameters: str) -> list[str]:
    return [failure["name"] for failure in answered("failures", **parameters)["failures"]]


def test_each_failure_is_its_record(cloud: Cloud) -> None:
    fail(cloud, "<b>#1.png", LONG)
    fail(cloud, "empty.png", data=b"")
    found = answered("failures")
    assert found["next"] is None
    by_name = {failure["name"]: failure for failure in found["failures"]}
    assert by_name.keys() == {"<b>#1.png", LONG, "empty.png"}
    assert by_name["empty.png"] == cloud.failure("empty.png")
    assert by_name["empty.png"]["code"] == "empty"
    assert names(code="empty") == ["empty.png"]
    assert names(code="not_an_image", prefix="trip/") == [LONG]
    assert names(prefix="nowhere/") == []


def test_pages_have_each_failure_once_also_when_some_are_gone_by_then(cloud: Cloud) -> None:
    everything = [f"{number}.png" for number in range(7)]
    fail(cloud, *everything)
    first = answered("failures", top="3")
    assert [one["name"] for one in first["failures"]] == everything[:3]
    cloud.embeddings.delete_blob(f"{cloud.folder}/failures/{everything[2]}.json")
    second = answered("failures", top="3", after=first["next"])
    assert [one["name"] for one in second["failures"]] == everything[3:6]
    assert names(top="3", after=second["next"]) == everything[6:]


def test_a_page_ends_after_some_listings_however_few_it_found(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 2)
    monkeypatch.setattr(failures, "_MAX_LISTINGS", 2)
    fail(cloud, *(f"{number}.png" for number in range(5)))
    fail(cloud, "9.png", data=b"")
    store = Failures(cloud.record_store())
    seen, request = [], FailuresRequest(code="empty")
    for _ in range(2):
        page = store.find(request)
        seen.append([one.name for one in page.failures])
        request = FailuresRequest(code="empty", after=page.next)
    assert (seen, page.next) == ([[], ["9.png"]], None)


def test_an_app_that_never_failed_has_no_failures_and_claims_nothing(cloud: Cloud) -> None:
    assert names() == []
    assert list(cloud.embeddings.list_blob_names()) == []


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("code", "bad"), ("prefix", "\x01"), ("prefix", "x" * 901), ("top", "101"), ("after", "AAAA")],
)
def test_a_wrong_parameter_is_named(cloud: Cloud, parameter: str, value: str) -> None:
    assert refused("failures", **{parameter: value}) == (400, "invalid_request", parameter)


def test_a_space_that_cannot_be_read_is_an_operator_s_business(cloud: Cloud) -> None:
    cloud.embeddings.upload_blob(f"{cloud.folder}/space.json", b"[]")
    assert ask("failures").status_code == 502
