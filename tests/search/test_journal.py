"""The index is told of each change of a record by one append to the newest log."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.faults import StorageFaults
from shared.errors import BlobHeld, StorageError
from shared.search.entries import Entry
from shared.search.journal import Journal
from shared.search.manifest import IndexBlobs
from shared.uploads.records import entry_of
from tests.conftest import Clock, Cloud
from tests.drawing import picture
from tests.search.found import searched
from tests.search.records import delete_index, record, remove, write


def appends(sent: list[str]) -> list[str]:
    return [request for request in sent if request.endswith("comp=appendblock")]


def test_an_image_is_found_once_it_is_embedded_and_no_longer_once_it_is_gone(cloud: Cloud) -> None:
    etag = cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    assert searched(cloud) == {"a.png": etag}
    etag = cloud.upload("a.png", picture("blue"))
    cloud.sync().upload("a.png")
    assert searched(cloud) == {"a.png": etag}
    cloud.images.delete_blob("a.png")
    cloud.sync().upload("a.png")
    assert searched(cloud) == {}


def test_an_image_that_can_no_longer_be_embedded_is_no_longer_found(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    cloud.upload("a.png", b"no picture")
    assert cloud.sync().upload("a.png").outcome == "failed"
    assert searched(cloud) == {}


def test_each_change_is_one_append_and_the_manifest_is_read_once_a_process(cloud: Cloud, sent: list[str]) -> None:
    process = cloud.record_store()
    write(cloud, "a", "b", "c", process=process)
    write(cloud, "a", etag="0x2", process=process)
    assert len(appends(sent)) == 4
    assert sent.count("GET index/manifest.json") <= 3, "one before there is any, two by who makes it"
    sent.clear()
    another = cloud.record_store()
    write(cloud, "a", "b", etag="0x3", process=another)
    assert (len(appends(sent)), sent.count("GET index/manifest.json")) == (2, 1)


def test_threads_that_write_at_the_same_moment_share_an_append(
    cloud: Cloud, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = cloud.journal()
    assert journal is not None
    first_is_sent, all_wait = threading.Event(), threading.Event()
    append = IndexBlobs.append

    def held_back(index: IndexBlobs, log: str, content: bytes) -> int:
        first_is_sent.set()
        all_wait.wait()
        return append(index, log, content)

    monkeypatch.setattr(IndexBlobs, "append", held_back)
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(journal.append, Entry(name="0", seq=1))]
        first_is_sent.wait()
        waiting += [threads.submit(journal.append, Entry(name=str(number), seq=1)) for number in range(1, 8)]
        while len(journal._waiting) < 7:
            time.sleep(0.001)
        all_wait.set()
        for one in waiting:
            one.result()
    assert len(appends(sent)) == 2
    index = cloud.index_blobs()
    [log] = index.read().manifest.logs
    assert {entry.name for entries, _ in index.entries(log.id, 0) for entry in entries} == set("01234567")


def test_what_is_too_much_for_one_append_is_several(
    cloud: Cloud, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.search.journal._MAX_BLOCK", 10)
    process = cloud.record_store()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: write(cloud, name, process=process), "abcd"))
    assert len(appends(sent)) == 4
    assert set(searched(cloud)) == set("abcd")


def test_the_largest_seq_of_a_name_counts_whatever_the_order_of_appends(cloud: Cloud) -> None:
    journal = cloud.journal()
    assert journal is not None
    write(cloud, "a", "b", etag="0x1")
    store = cloud.record_store()
    old = store.find_record("a")
    write(cloud, "a", etag="0x2")
    remove(cloud, "b")
    assert old is not None
    for name in "ab":
        journal.append(record_entry(cloud, name, old.seq))
    assert searched(cloud) == {"a": "0x2"}


def record_entry(cloud: Cloud, name: str, seq: int) -> Entry:
    return entry_of(record(name, "0x1", cloud.settings.images_container), seq)


def test_each_record_has_a_larger_seq_than_the_one_before_also_if_the_clock_is_behind(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = cloud.record_store()
    write(cloud, "a")
    first = store.find_record("a")
    monkeypatch.setattr("shared.uploads.record_store.milliseconds", lambda: 1)
    write(cloud, "a", etag="0x2")
    second = store.find_record("a")
    assert first is not None
    assert second is not None
    assert second.seq == first.seq + 1
    remove(cloud, "a")
    assert searched(cloud) == {}


def test_a_record_from_before_there_was_an_index_is_as_old_as_its_blob(cloud: Cloud) -> None:
    write(cloud, "a")
    blob = cloud.embeddings.get_blob_client("Cohere-embed-v3-english/images/a.json")
    blob.set_blob_metadata({"etag": "0x1"})
    found = cloud.record_store().find_record("a")
    assert found is not None
    assert found.seq == blob.get_blob_properties().last_modified.timestamp() * 1000


@pytest.mark.parametrize(
    ("status", "code"), [(404, "BlobNotFound"), (409, "BlockCountExceedsLimit"), (409, "InvalidBlobType")]
)
def test_a_log_that_is_gone_or_full_is_followed_by_another(
    cloud: Cloud, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = cloud.record_store()
    write(cloud, "a", process=process)
    [full] = cloud.index_blobs().read().manifest.logs
    append = IndexBlobs.append

    def refused(index: IndexBlobs, log: str, content: bytes) -> int:
        if log == full.id:
            raise StorageError("no", status=status, code=code)
        return append(index, log, content)

    monkeypatch.setattr(IndexBlobs, "append", refused)
    write(cloud, "b", process=process)
    # Another process finds the new log, and makes none.
    write(cloud, "c")
    logs = cloud.index_blobs().read().manifest.logs
    assert (logs[0], len(logs)) == (full, 2)
    assert set(searched(cloud)) == set("abc")


def test_processes_that_find_a_log_full_at_once_agree_on_the_next(cloud: Cloud) -> None:
    write(cloud, "a")
    full = cloud.index_blobs().read().manifest.newest
    with ThreadPoolExecutor(6) as processes:
        chosen = set(processes.map(lambda _: cloud.index_blobs().next_log(full), range(6)))
    logs = [name for name in cloud.embeddings.list_blob_names() if "/index/logs/" in name]
    assert (len(chosen), len(logs)) == (1, 2), "what lost the race is removed"


def test_an_index_that_is_deleted_is_begun_anew_by_the_next_writer(cloud: Cloud) -> None:
    process = cloud.record_store()
    write(cloud, "a", process=process)
    delete_index(cloud)
    write(cloud, "b", process=process)
    assert set(searched(cloud)) == {"b"}


def test_a_writer_notices_within_a_minute_that_somebody_has_deleted_the_manifest_alone(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("shared.search.journal.time", clock)
    process = cloud.record_store()
    write(cloud, "a", process=process)
    cloud.embeddings.delete_blob(f"{cloud.folder}/index/manifest.json")
    for name, seconds in (("b", 59), ("c", 2), ("d", 0)):
        clock.pass_(seconds)
        write(cloud, name, process=process)
    assert set(searched(cloud)) == {"d"}, "an audit brings back the rest"


def test_if_the_append_fails_the_sync_fails_and_its_next_delivery_mends_it(
    behind: Cloud, faults: StorageFaults, clock: Clock
) -> None:
    sync = behind.sync()
    behind.upload("first.png", picture("blue"))
    sync.upload("first.png")
    etag = behind.upload("a.png", picture())
    faults.begin("503", requests="PUT .*/index/logs/.*comp=appendblock")
    with pytest.raises(StorageError):
        sync.upload("a.png")
    assert behind.record("a.png") is not None
    assert "a.png" not in searched(behind)
    faults.end()
    assert sync.upload("a.png").outcome == "unchanged"
    assert searched(behind)["a.png"] == etag
    assert len(behind.model.calls()) == 2


def test_an_index_that_somebody_holds_is_named_and_the_image_waits(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(*_: object) -> int:
        raise BlobHeld("blob_immutable", "it is held", status=409, code="BlobImmutableDueToPolicy")

    monkeypatch.setattr(IndexBlobs, "append", held)
    cloud.upload("a.png", picture())
    report = cloud.sync().upload("a.png")
    assert (report.outcome, report.code) == ("deferred", "blob_immutable")


@pytest.mark.usefixtures("_small_logs")
def test_a_writer_asks_for_compaction_each_time_that_a_log_has_grown_by_so_much(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    index = cloud.index_blobs()
    journal = Journal(index, lambda: asked.append(len(asked)))
    monkeypatch.setattr("shared.search.journal._LOOK_SECONDS", float("inf"))
    for number in range(20):
        journal.append(record_entry(cloud, f"{number:02}", 1))
    [log] = index.read().manifest.logs
    found = index.log_properties(log.id)
    assert found is not None
    assert len(asked) == found.size // 600 > 1


@pytest.mark.usefixtures("_small_logs")
def test_a_writer_leaves_a_log_that_is_long_and_no_longer_the_newest(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.search.journal._LOOK_SECONDS", -1)
    index, process = cloud.index_blobs(), cloud.record_store()
    write(cloud, *"abcdef", process=process)
    next_log = index.next_log(index.read().manifest.newest)
    write(cloud, "g", "h", process=process)
    assert [entry.name for entries, _ in index.entries(next_log, 0) for entry in entries] == ["h"]


def test_a_manifest_that_cannot_be_read_is_named_and_replaced(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    write(cloud, "a")
    manifest = cloud.embeddings.get_blob_client("Cohere-embed-v3-english/index/manifest.json")
    for content in (b"{", b'{"schema": 99, "folder": "Cohere-embed-v3-english"}', b'{"schema": 1, "folder": "other"}'):
        manifest.upload_blob(content, overwrite=True)
        caplog.clear()
        write(cloud, "b")
        assert set(searched(cloud)) == {"b"}
        [line] = [line for line in caplog.messages if "manifest.json is not as the app writes it" in line]
        assert "call reconcile" in line


def test_without_search_nothing_is_kept(cloud: Cloud) -> None:
    cloud = cloud.with_settings(SEARCH="off")
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    cloud.sync().upload("a.png")
    cloud.images.delete_blob("a.png")
    cloud.sync().upload("a.png")
    assert [name for name in cloud.embeddings.list_blob_names() if "/index/" in name] == []
    cloud.reconcile()
    assert cloud.intake() is not None


def test_whoever_writes_records_does_not_import_numpy() -> None:
    code = "import sys, shared.application; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
