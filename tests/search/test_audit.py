"""An audit compares the index with the records by listings alone, and mends it. The records are the truth."""

import time
from typing import Any

import pytest

from shared.audit import workers
from shared.audit.index.states import States, hash_of
from shared.audit.report import IndexReport
from shared.uploads.record_store import RecordStore
from tests.audit.audits import audit, drain, embed, in_steps, take_steps
from tests.conftest import Cloud
from tests.drawing import picture
from tests.operations.asking import status
from tests.search.found import searched
from tests.search.records import delete_index, record, write

SPACE = "Cohere-embed-v3-english"


@pytest.fixture
def images(cloud: Cloud) -> list[str]:
    """Some images with their records, as they are found."""
    names = ["a", "b", "c", "trip/d", "trip/e"]
    store = cloud.record_store()
    for name in names:
        write(cloud, name, etag=cloud.upload(name, b""), process=store)
    return names


def found_index(cloud: Cloud, **request: Any) -> IndexReport:
    report = audit(cloud, **request)
    assert report.index is not None
    return report.index


def untold(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """New records that nothing has told the index of."""
    with monkeypatch.context() as patch:
        patch.setattr(RecordStore, "_tell", lambda *_: None)
        write(cloud, *names, etag="0x99")


def removed_untold(cloud: Cloud, *names: str) -> None:
    """Records that are gone, without the index having been told."""
    for name in names:
        cloud.embeddings.delete_blob(f"{SPACE}/images/{name}.json")


def test_of_an_index_that_is_right_nothing_is_read_but_the_index(
    cloud: Cloud, images: list[str], sent: list[str]
) -> None:
    assert found_index(cloud) == IndexReport(images=5, missing=0, extra=0, segments=0)
    assert [request for request in sent if "/images/" in request and request.startswith("GET")] == []
    assert [request for request in sent if request.endswith("comp=appendblock")] == []


def test_records_that_the_index_does_not_know_or_not_in_their_last_version_are_told(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    untold(cloud, monkeypatch, "a", "new")
    assert "new" not in searched(cloud)
    index = found_index(cloud)
    assert (index.images, index.missing, index.extra) == (6, 2, 0)
    found = searched(cloud)
    assert found["a"] == found["new"] == "0x99"
    assert found_index(cloud).missing == 0


def test_names_that_have_no_record_any_more_are_gone(cloud: Cloud, images: list[str]) -> None:
    removed_untold(cloud, "b", "trip/e")
    index = found_index(cloud)
    assert (index.images, index.missing, index.extra) == (3, 0, 2)
    assert set(searched(cloud)) == {"a", "c", "trip/d"}
    assert found_index(cloud).extra == 0


def test_an_index_that_is_lost_is_made_again_without_the_model_in_steps_of_bounded_size(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{letter}{number}" for letter in "abcd" for number in range(2)]
    embed(cloud, *names)
    before = searched(cloud)
    delete_index(cloud)
    calls = len(cloud.model.calls())
    in_steps(monkeypatch)
    monkeypatch.setattr(workers, "_THREADS", 2)
    first = found_index(cloud)
    assert 0 < first.missing < 8
    shown = status(cloud)["running_audit"]["index"]
    assert shown["images"] == shown["missing"] == first.missing
    assert take_steps(cloud) >= 2
    assert searched(cloud) == before
    last = cloud.stored("reports/latest.json")["index"]
    assert (last["images"], last["missing"], last["extra"]) == (8, 8, 0)
    assert len(cloud.model.calls()) == calls
    assert not [name for name in cloud.embeddings.list_blob_names() if name.endswith(".listed")]


def test_extra_names_are_found_over_all_steps_of_an_audit(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    removed_untold(cloud, "a", "trip/e")
    in_steps(monkeypatch)
    audit(cloud)
    assert take_steps(cloud) >= 2
    assert cloud.stored("reports/latest.json")["index"]["extra"] == 2
    assert set(searched(cloud)) == {"b", "c", "trip/d"}


def test_if_it_is_not_known_which_records_earlier_steps_have_listed_no_name_is_extra(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    removed_untold(cloud, "trip/e")
    in_steps(monkeypatch)
    audit(cloud)
    for name in list(cloud.embeddings.list_blob_names()):
        if name.endswith(".listed"):
            cloud.embeddings.delete_blob(name)
    take_steps(cloud)
    assert cloud.stored("reports/latest.json")["index"]["extra"] == 0
    assert "trip/e" in searched(cloud)


@pytest.mark.parametrize("order", ["UTF-16", "folders first"])
def test_an_audit_that_starts_over_in_another_order_counts_nothing_twice(
    cloud: Cloud, images: list[str], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    untold(cloud, monkeypatch, "\U0001f600", "ﬁ")
    for name in ("\U0001f600", "ﬁ"):
        cloud.images.upload_blob(name, b"")
    removed_untold(cloud, "a")
    index = found_index(cloud)
    assert (index.images, index.extra) == (6, 1)
    assert {"\U0001f600", "ﬁ"} <= set(searched(cloud))


def test_an_audit_of_a_prefix_mends_there_and_takes_nothing_else_for_extra(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    untold(cloud, monkeypatch, "a", "trip/d")
    removed_untold(cloud, "b", "trip/e")
    index = found_index(cloud, prefix="trip/")
    assert (index.missing, index.extra) == (1, 0)
    found = searched(cloud)
    assert found["trip/d"] == "0x99" != found["a"]
    assert {"b", "trip/e"} <= set(found)


def test_a_dry_run_counts_and_mends_nothing(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    untold(cloud, monkeypatch, "a")
    removed_untold(cloud, "b")
    sent.clear()
    index = found_index(cloud, dry_run=True)
    assert (index.missing, index.extra) == (1, 1)
    assert [request for request in sent if request.startswith(("PUT", "DELETE")) and "/index/" in request] == []


def test_what_a_later_tombstone_covers_gets_a_larger_number(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes the one whose clock is ahead has removed the image, and the other has embedded it again."""
    ahead = int(time.time() * 1000) + 60_000
    with monkeypatch.context() as patch:
        patch.setattr("shared.uploads.record_store.milliseconds", lambda: ahead)
        store = cloud.record_store()
        found = store.find_record("a")
        assert found is not None
        store.remove_record("a", found)
    write(cloud, "a", etag="0x99")
    assert "a" not in searched(cloud)
    assert found_index(cloud).missing == 1
    assert searched(cloud)["a"] == "0x99"
    found = cloud.record_store().find_record("a")
    assert found is not None
    assert found.seq == ahead + 1
    assert (found.image_etag, found.container) == ("0x99", cloud.settings.images_container)
    assert found_index(cloud).missing == 0
    write(cloud, "a", etag="0x100")
    assert searched(cloud)["a"] == "0x100"


def test_records_from_before_there_was_an_index_are_found_after_an_audit(cloud: Cloud) -> None:
    old = cloud.with_settings(SEARCH="off")
    embed(old, "a", "b")
    for name in "ab":
        blob = cloud.embeddings.get_blob_client(f"{SPACE}/images/{name}.json")
        metadata = {key: value for key, value in blob.get_blob_properties().metadata.items() if key != "seq"}
        blob.set_blob_metadata(metadata)
    assert searched(cloud) == {}
    assert found_index(cloud).missing == 2
    assert set(searched(cloud)) == {"a", "b"}
    assert found_index(cloud) == IndexReport(images=2)
    cloud.upload("a", picture("blue"))
    cloud.sync().upload("a")
    assert searched(cloud)["a"] == cloud.record("a")["etag"]


def test_an_image_with_a_name_too_long_for_its_record_s_key_is_compared_as_well(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "x" * 1024
    cloud.images.upload_blob(name, b"")
    write(cloud, name)
    assert found_index(cloud) == IndexReport(images=1)
    untold(cloud, monkeypatch, name)
    assert found_index(cloud).missing == 1
    assert searched(cloud) == {name: "0x99"}
    cloud.embeddings.delete_blob(next(path for path in cloud.records() if "/images/" in path))
    assert found_index(cloud).extra == 1
    assert searched(cloud) == {}


def test_what_is_in_segments_is_compared_without_its_vectors(cloud: Cloud, images: list[str], sent: list[str]) -> None:
    index = cloud.index_blobs()
    index.next_log(index.read().manifest.newest)
    cloud.compaction().run()
    removed_untold(cloud, "a")
    [segment] = index.read().manifest.segments
    read = States(index, SPACE)
    read.refresh()
    assert read.count() == 5
    assert read.of(hash_of("a.json")) % 2 == 0
    report = found_index(cloud)
    assert (report.images, report.extra, report.segments) == (4, 1, 1)
    assert set(searched(cloud)) == {"b", "c", "trip/d", "trip/e"}
    assert segment.rows == 5


def test_a_segment_that_is_damaged_is_no_longer_listed_and_what_it_held_comes_back(
    cloud: Cloud, images: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    index = cloud.index_blobs()
    index.next_log(index.read().manifest.newest)
    cloud.compaction().run()
    [segment] = index.read().manifest.segments
    blob = cloud.embeddings.get_blob_client(f"{SPACE}/index/segments/{segment.id}")
    blob.upload_blob(b"\0" * segment.bytes, overwrite=True)
    assert found_index(cloud).missing == 5
    assert index.read().manifest.segments == ()
    assert set(searched(cloud)) == set(images)
    assert [line for line in caplog.messages if segment.id in line]


def test_a_log_that_somebody_else_wrote_to_is_left_and_what_it_held_comes_back(cloud: Cloud, images: list[str]) -> None:
    index = cloud.index_blobs()
    log = index.read().manifest.newest
    assert log is not None
    index.append(log, b"no entry")
    write(cloud, "late")
    assert searched(cloud) == {}
    assert found_index(cloud).missing == 6
    assert set(searched(cloud)) == {*images, "late"}
    drain(cloud)
    assert log not in {one.id for one in index.read().manifest.logs}


def test_records_of_another_app_are_none_of_this_one_s_index(cloud: Cloud, images: list[str]) -> None:
    other = record("foreign", "0x1", "other-images")
    cloud.blobs().write(f"{SPACE}/images/foreign.json", other, metadata={"images_container": "other-images"})
    assert found_index(cloud).missing == 0
    assert "foreign" not in searched(cloud)


def test_a_record_that_cannot_be_read_is_not_found(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # An odd number, so that the second in which the blob is written below is another one.
    with monkeypatch.context() as patch:
        patch.setattr("shared.uploads.record_store.milliseconds", lambda: int(time.time() * 1000) | 1)
        write(cloud, "a", etag="0x2")
    cloud.embeddings.get_blob_client(f"{SPACE}/images/a.json").upload_blob(b"{", overwrite=True)
    audit(cloud)
    assert set(searched(cloud)) == {"b", "c", "trip/d", "trip/e"}


def test_a_record_whose_vector_has_no_direction_is_not_found(cloud: Cloud, images: list[str]) -> None:
    store = cloud.record_store()
    store.write_record(record("a", "0x2", cloud.settings.images_container, [0.0] * 8), store.find_record("a"))
    assert "a" not in searched(cloud)
    before = store.find_record("a")
    assert found_index(cloud).missing == 0
    assert store.find_record("a") == before


def test_many_records_that_are_young_are_compared_with_what_the_index_says_by_then(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.audit.index.check._MAX_YOUNG", 2)
    refresh = States.refresh
    refreshed: list[int] = []

    def early(states: States) -> None:
        """The first read is from before all entries."""
        refreshed.append(1)
        if len(refreshed) > 1:
            refresh(states)

    monkeypatch.setattr(States, "refresh", early)
    assert found_index(cloud) == IndexReport(images=5)


def test_without_search_the_report_says_nothing_of_an_index(cloud: Cloud, images: list[str]) -> None:
    off = cloud.with_settings(SEARCH="off")
    assert audit(off).index is None
    assert status(off)["index"] is None


def test_the_status_shows_the_index_now(cloud: Cloud, images: list[str]) -> None:
    index = cloud.index_blobs()
    shown = status(cloud)["index"]
    assert (shown["segments"], shown["rows"]) == (0, 0)
    assert shown["log_bytes"] > 500
    index.next_log(index.read().manifest.newest)
    cloud.compaction().run()
    shown = status(cloud)["index"]
    assert shown.pop("room_for_images") > 0
    assert shown == {"segments": 1, "rows": 5, "log_bytes": 0}


def test_what_nothing_lists_is_removed_after_an_hour_and_what_others_put_there_stays(
    cloud: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlisted = {f"{SPACE}/index/{kind}/{int(time.time() * 1000)}-0123456789ab" for kind in ("logs", "segments")}
    others = {f"{SPACE}/index/notes.txt", f"{SPACE}/index/logs/mine"}
    for path in unlisted | others:
        cloud.embeddings.upload_blob(path, b"")

    def left() -> set[str]:
        return set(cloud.embeddings.list_blob_names()) & (unlisted | others)

    audit(cloud)
    assert left() == unlisted | others
    monkeypatch.setattr("shared.audit.index.check.milliseconds", lambda: int(time.time() * 1000) + 3_700_000)
    audit(cloud, prefix="a")
    audit(cloud, dry_run=True)
    assert left() == unlisted | others
    audit(cloud)
    assert left() == others
    assert set(searched(cloud)) == set(images)


def test_an_audit_asks_for_compaction_where_it_is_due(cloud: Cloud, images: list[str]) -> None:
    cloud.index_blobs().next_log(cloud.index_blobs().read().manifest.newest)
    audit(cloud)
    assert {"index": "compact"}.items() <= drain(cloud)[-1].items()
    assert len(cloud.index_blobs().read().manifest.logs) == 1
