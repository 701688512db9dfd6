"""The vectors kept for images of the same bytes: those in use stay, the others go after a night."""

from typing import Any

import pytest

from shared.audit.used_contents import UsedContents
from tests.audit.audits import audit, drain, embed, in_steps, later, take_steps
from tests.conftest import Cloud
from tests.drawing import picture


def contents(cloud: Cloud) -> list[str]:
    return [name for name in cloud.embeddings.list_blob_names() if "/contents/" in name]


def test_a_vector_that_no_record_uses_is_removed_by_the_next_day_s_audit(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(cloud, "a.png", "b.png")
    cloud.images.delete_blob("a.png")
    audit(cloud)
    drain(cloud)
    audit(cloud)
    later(monkeypatch, hours=1)
    assert audit(cloud).contents == 2
    later(monkeypatch, hours=24)
    report = audit(cloud)
    assert (report.contents, report.contents_removed) == (1, 1)
    assert len(contents(cloud)) == 1


def test_a_vector_that_is_used_again_is_kept(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cloud, "a.png")
    cloud.images.delete_blob("a.png")
    cloud.sync().upload("a.png")
    audit(cloud)
    cloud.upload("b.png", picture(size=(16, 16)))
    assert cloud.sync().upload("b.png").outcome == "copied"
    later(monkeypatch, hours=24)
    assert audit(cloud).contents_removed == 0
    cloud.images.delete_blob("b.png")
    cloud.sync().upload("b.png")
    later(monkeypatch, hours=48)
    assert audit(cloud).contents_removed == 0, "it has not been unused for a night yet"


@pytest.mark.parametrize("request_", [{"dry_run": True}, {"prefix": "b"}])
def test_a_dry_run_or_an_audit_of_a_prefix_removes_no_vector(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any]
) -> None:
    embed(cloud, "a.png")
    cloud.images.delete_blob("a.png")
    cloud.sync().upload("a.png")
    for days in range(3):
        later(monkeypatch, days=days)
        assert audit(cloud, **request_).contents_removed == 0
    assert len(contents(cloud)) == 1


def test_the_vectors_in_use_are_remembered_over_all_steps_of_an_audit(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = ["a", "b", "c", "d", "e", "f", "g"]
    embed(cloud, *everything)
    cloud.images.delete_blob("c")
    cloud.sync().upload("c")
    in_steps(monkeypatch)
    for hours in (0, 24):
        later(monkeypatch, hours=hours)
        audit(cloud)
        assert take_steps(cloud) >= 2
    assert len(contents(cloud)) == 6
    assert [name for name in cloud.embeddings.list_blob_names() if name.endswith(".filter")] == []


def test_if_the_filter_is_lost_no_vector_is_removed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cloud, "a", "b", "c", "d", "e")
    in_steps(monkeypatch)
    audit(cloud)
    for name in list(cloud.embeddings.list_blob_names()):
        if name.endswith(".filter"):
            cloud.embeddings.delete_blob(name)
    take_steps(cloud)
    assert cloud.stored("reports/latest.json")["contents"] == 0
    assert len(contents(cloud)) == 5


def test_the_filter_holds_every_key_added_and_claims_few_others() -> None:
    used = UsedContents()
    keys = [f"{(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128:032x}" for number in range(40_000)]
    for key in keys[:20_000]:
        used.add(key)
    assert all(key in used for key in keys[:20_000])
    assert sum(key in used for key in keys[20_000:]) <= 2
