"""Logs become segments and small segments larger ones, whoever writes meanwhile, and whoever else does the same."""

import base64
import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.errors import StorageError
from shared.operations.watch import WatchReport
from shared.search import segment
from shared.search.manifest import IndexBlobs, ListedSegment, Manifest
from shared.search.upkeep.compaction import Compaction, mergeable
from shared.storage.blobs import JsonBlobs
from shared.triggers.intake import read_queued
from tests.audit.audits import drain
from tests.conftest import Cloud
from tests.queue_messages import queued
from tests.search.found import searched
from tests.search.records import remove, write

pytestmark = pytest.mark.usefixtures("_small_logs")


def manifest(cloud: Cloud) -> Manifest:
    return cloud.index_blobs().read().manifest


def rotate(cloud: Cloud) -> None:
    cloud.index_blobs().next_log(manifest(cloud).newest)


def segments(cloud: Cloud, count: int) -> None:
    """So many segments of an image each."""
    for number in range(count):
        write(cloud, f"{number:02}")
        rotate(cloud)
        cloud.compaction().run()


def blobs(cloud: Cloud, kind: str) -> set[str]:
    return {name.rpartition("/")[2] for name in cloud.embeddings.list_blob_names() if f"/index/{kind}/" in name}


def test_a_long_log_is_replaced_by_a_new_one_and_becomes_a_segment(cloud: Cloud) -> None:
    write(cloud, *"abcdefgh")
    long = manifest(cloud).newest
    cloud.compaction().run()
    after = manifest(cloud)
    assert [log.start for log in after.logs] == [0]
    assert after.newest != long
    assert [one.rows for one in after.segments] == [8]
    assert blobs(cloud, "logs") == {after.newest}
    assert set(searched(cloud)) == set("abcdefgh")


@pytest.mark.parametrize(("block", "blocks"), [(115, 2), (100, 3), (2**20, 0)])
def test_a_large_segment_is_sent_in_blocks_of_which_one_is_held_at_a_time(
    cloud: Cloud, block: int, blocks: int, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [b"a" * 150, b"b" * 50, b"", b"c" * 30]
    path = f"{cloud.space().folder()}/index/segments/large"
    monkeypatch.setattr("shared.storage.blobs._BLOCK", block)
    cloud.blobs().write_parts(path, parts)
    assert cloud.embeddings.download_blob(path).readall() == b"".join(parts)
    assert sum("comp=block&" in request for request in sent) == blocks


def test_the_manifest_and_its_files_are_as_documented(cloud: Cloud) -> None:
    write(cloud, *"abcdefgh")
    cloud.compaction().run()
    write(cloud, "i")
    stored = cloud.stored("index/manifest.json")
    [log], [listed_] = stored["logs"], stored["segments"]
    assert stored == {"schema": 1, "folder": "Cohere-embed-v3-english", "logs": [log], "segments": [listed_]}
    assert log == {"id": log["id"], "from": 0}
    path = f"Cohere-embed-v3-english/index/segments/{listed_['id']}"
    size = cloud.embeddings.get_blob_client(path).get_blob_properties().size
    assert listed_ == {"id": listed_["id"], "rows": 8, "bytes": size, "dimensions": 8}
    log_blob = cloud.embeddings.get_blob_client(f"Cohere-embed-v3-english/index/logs/{log['id']}")
    assert log_blob.get_blob_properties().blob_type == "AppendBlob"


def test_a_short_log_stays_as_it_is(cloud: Cloud, sent: list[str]) -> None:
    write(cloud, "a")
    sent.clear()
    compaction = cloud.compaction()
    compaction.ask_if_due()
    compaction.run()
    assert not any(request.startswith(("PUT", "DELETE")) for request in sent)
    assert queued(cloud) == []


def test_of_each_name_the_segment_has_the_last_entry(cloud: Cloud) -> None:
    write(cloud, *"abc")
    write(cloud, "a", etag="0x2")
    remove(cloud, "b")
    rotate(cloud)
    cloud.compaction().run()
    assert [one.rows for one in manifest(cloud).segments] == [3], "one of them says that b is gone"
    assert searched(cloud) == {"a": "0x2", "c": "0x1"}


def test_what_a_long_log_holds_is_moved_in_pieces(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.search.upkeep.compaction._MAX_READ", 1)
    monkeypatch.setattr("shared.search.manifest._PIECE", 500)
    names = [f"{number:02}" for number in range(20)]
    write(cloud, *names, process=cloud.record_store())
    rotate(cloud)
    made: list[int] = []
    write_segment = IndexBlobs.write_segment

    def counted(index: IndexBlobs, *arguments: Any, **options: Any) -> ListedSegment:
        made.append(1)
        return write_segment(index, *arguments, **options)

    monkeypatch.setattr(IndexBlobs, "write_segment", counted)
    cloud.compaction().run()
    assert len(made) > 3
    assert set(searched(cloud)) == set(names)


def test_four_segments_of_a_size_become_one_and_it_lists_no_other(cloud: Cloud) -> None:
    segments(cloud, 3)
    remove(cloud, "00")
    assert len(manifest(cloud).segments) == 3
    rotate(cloud)
    cloud.compaction().run()
    [merged] = manifest(cloud).segments
    assert merged.rows == 3, "that an image is gone is kept, since an older entry of it may come late"
    assert set(searched(cloud)) == {"01", "02"}


def listed(*rows: int, dimensions: int = 8) -> list[ListedSegment]:
    return [ListedSegment(id=str(at), rows=count, bytes=count, dimensions=dimensions) for at, count in enumerate(rows)]


def test_segments_are_merged_by_size_the_smallest_first_and_none_becomes_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def merged(*rows: int) -> list[int]:
        return [one.rows for one in mergeable(listed(*rows))]

    monkeypatch.setattr("shared.search.upkeep.compaction._SMALL", 1000)
    assert merged(1, 2, 3) == []
    assert merged(1, 2, 3, 999, 1000) == [1, 2, 3, 999]
    assert merged(5000, 4000, 9000, 1, 15_999, 2) == [4000, 5000, 9000, 15_999]
    assert merged(30_000, 30_000, 30_000, 30_000) == [30_000] * 3
    assert merged(60_000, 60_000, 60_000, 60_000) == []
    assert mergeable(listed(1, 1) + listed(1, 1, dimensions=9)) == []
    monkeypatch.setattr("shared.search.upkeep.compaction._MAX_BYTES", 5)
    assert merged(1, 2, 2, 2) == [1, 2, 2]


def test_however_many_images_there_are_segments_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.search.upkeep.compaction._SMALL", 1000)
    rows: list[int] = []
    for _ in range(1_000_000 // 1900):
        rows.append(1900)
        while group := mergeable(listed(*rows)):
            for one in group:
                rows.remove(one.rows)
            rows.append(sum(one.rows for one in group))
    assert sum(rows) > 990_000
    assert len(rows) <= 30


def test_many_compactors_at_once_do_no_harm(cloud: Cloud) -> None:
    for number in range(5):
        write(cloud, *(f"{number}{letter}" for letter in "abc"))
        rotate(cloud)
    with ThreadPoolExecutor(5) as processes:
        list(processes.map(lambda _: cloud.compaction().run(), range(5)))
    cloud.compaction().run()
    after = manifest(cloud)
    assert len(searched(cloud)) == 15
    assert sum(one.rows for one in after.segments) == 15, "nothing is listed twice"
    assert blobs(cloud, "logs") == {after.newest}


def test_in_one_process_one_compacts_at_a_time(cloud: Cloud, sent: list[str]) -> None:
    write(cloud, *"abcdefgh")
    compaction = cloud.compaction()
    with compaction._running:
        sent.clear()
        compaction.run()
        assert sent == []
    compaction.run()
    assert manifest(cloud).segments


def seals(cloud: Cloud, meanwhile: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact while a writer appends to the log right before it is deleted."""
    delete_log = IndexBlobs.delete_log

    def interrupted(index: IndexBlobs, *arguments: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(IndexBlobs, "delete_log", delete_log)
            meanwhile()
        delete_log(index, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(IndexBlobs, "delete_log", interrupted)
        cloud.compaction().run()


def appended_to_a_log_that_is_being_sealed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What is found after somebody who still had the old manifest has appended to a log at the last moment."""
    slow = cloud.record_store()
    write(cloud, "a", process=slow)
    rotate(cloud)
    seals(cloud, lambda: write(cloud, "b", process=slow), monkeypatch)
    cloud.compaction().run()
    return set(searched(cloud))


def test_an_entry_appended_at_the_last_moment_is_not_lost(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    assert appended_to_a_log_that_is_being_sealed(cloud, monkeypatch) == {"a", "b"}


def test_it_would_be_lost_if_the_log_were_deleted_whatever_was_appended(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = JsonBlobs.delete
    monkeypatch.setattr(JsonBlobs, "delete", lambda blobs, path, condition: delete(blobs, path, condition={}))
    assert appended_to_a_log_that_is_being_sealed(cloud, monkeypatch) == {"a"}


def test_a_log_that_others_still_append_to_is_left_for_later(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = cloud.record_store()
    write(cloud, "a", process=slow)
    rotate(cloud)
    seals(cloud, lambda: write(cloud, "b", process=slow), monkeypatch)
    assert len(manifest(cloud).logs) == 2
    assert cloud.queues().pending() == 1
    assert queued(cloud) == [], "the message is hidden for a few seconds"


def test_a_listed_log_that_is_gone_is_taken_out(cloud: Cloud) -> None:
    write(cloud, "a")
    old = manifest(cloud).newest
    rotate(cloud)
    write(cloud, "b")
    cloud.embeddings.delete_blob(f"Cohere-embed-v3-english/index/logs/{old}")
    assert set(searched(cloud)) == {"b"}
    cloud.compaction().run()
    assert old not in {log.id for log in manifest(cloud).logs}


def test_a_merge_counts_only_if_all_that_it_read_is_still_listed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    segments(cloud, 3)
    write(cloud, "03")
    rotate(cloud)
    merge = segment.merge

    def outrun(*arguments: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(segment, "merge", merge)
            cloud.compaction().run()
        return merge(*arguments, **options)

    monkeypatch.setattr(segment, "merge", outrun)
    cloud.compaction().run()
    [merged] = manifest(cloud).segments
    assert merged.rows == 4
    assert len(blobs(cloud, "segments")) == 5, "the four stay for those who read them; what lost the race is removed"


def test_a_damaged_segment_is_taken_out_once_it_is_to_be_merged(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    segments(cloud, 3)
    broken = manifest(cloud).segments[0]
    cloud.embeddings.delete_blob(f"Cohere-embed-v3-english/index/segments/{broken.id}")
    write(cloud, "03")
    rotate(cloud)
    cloud.compaction().run()
    assert broken not in manifest(cloud).segments
    assert [line for line in caplog.messages if "is missing" in line and "next audit" in line]


def test_a_log_that_somebody_else_wrote_to_is_left_out_from_there_on(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    index = cloud.index_blobs()
    write(cloud, "a")
    log = manifest(cloud).newest
    assert log is not None
    rotate(cloud)
    cloud.compaction()._move(manifest(cloud).logs[0], 10_000, manifest(cloud))
    index.append(log, b"no entry")
    cloud.compaction().run()
    assert len(manifest(cloud).logs) == 1
    assert set(searched(cloud)) == {"a"}
    assert [line for line in caplog.messages if f"The rest of the log {log}" in line]


def test_a_message_works_for_a_while_and_asks_for_another(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for letter in "abc":
        write(cloud, letter)
        rotate(cloud)
    monkeypatch.setattr("shared.search.upkeep.compaction._STEP_SECONDS", -1)
    cloud.compaction().run()
    assert manifest(cloud).logs[0].start > 0
    messages = drain(cloud)
    assert len(messages) > 3
    assert len(manifest(cloud).logs) == 1
    assert set(searched(cloud)) == set("abc")


def test_the_message_says_which_app_it_is_for_and_another_puts_it_back(cloud: Cloud) -> None:
    cloud.compaction().ask()
    container = cloud.settings.images_container
    [message] = queued(cloud)
    assert message == {"index": "compact", "container": container, "space": "Cohere-embed-v3-english"}
    body = json.dumps({**message, "container": "others"}).encode()
    cloud.queue.clear_messages()
    cloud.intake().queued(body)
    assert cloud.queues().pending() == 1
    assert [type(read).__name__ for read in read_queued(body)] == ["CompactionRequest"]
    assert [type(read).__name__ for read in read_queued(b'{"name": "\\"index\\" \\"audit\\""}')] == ["EmbeddingRequest"]


def test_a_message_about_the_index_that_makes_no_sense_is_dropped(cloud: Cloud) -> None:
    cloud.intake().queued(base64.b64encode(b'{"index": "expand"}'))
    [dropped] = [name for name in cloud.records() if "/dropped/" in name]
    assert "index" in json.loads(cloud.embeddings.download_blob(dropped).readall())["reason"]


def test_the_platform_giving_up_is_one_line(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.intake().failed_request(b'{"index": "compact"}')
    assert [line for line in caplog.messages if "gave up on compacting" in line]


def test_a_storage_error_fails_the_message(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    compaction = cloud.compaction()
    write(cloud, "a")
    cloud.embeddings.delete_container()
    with pytest.raises(Exception, match="ContainerNotFound"):
        compaction.run()
    assert json.loads(caplog.messages[-1])["outcome"] == "error"


def test_without_search_a_message_does_nothing(cloud: Cloud) -> None:
    write(cloud, *"abcdefgh")
    cloud.with_settings(SEARCH="off").intake().queued(b'{"index": "compact"}')
    assert manifest(cloud).segments == ()


@pytest.mark.parametrize("due", [False, True])
def test_the_watch_asks_where_there_is_something_to_do(cloud: Cloud, due: bool) -> None:
    write(cloud, *("abcdefgh" if due else "a"))
    cloud.queue.clear_messages()
    watch(cloud)
    assert [message["index"] for message in queued(cloud)] == ["compact"] * due


def test_the_watch_goes_on_if_storage_does_not_say_whether_there_is(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise StorageError("Storage is down.")

    monkeypatch.setattr(IndexBlobs, "read", down)
    assert watch(cloud).problems == []


def watch(cloud: Cloud) -> WatchReport:
    checks = cast(Any, SimpleNamespace(run_now=list))
    return cloud.watch(checks)()


def test_writers_and_compactors_at_once_lose_nothing(cloud: Cloud) -> None:
    writing = threading.Event()

    def compact() -> None:
        while not writing.is_set():
            cloud.compaction().run()

    with ThreadPoolExecutor(6) as threads:
        compactors = [threads.submit(compact) for _ in range(2)]
        store = cloud.record_store()
        written = [
            threads.submit(write, cloud, *(f"{thread}{letter}" for letter in "abcdefgh"), process=process)
            for thread, process in enumerate([store, store, cloud.record_store()])
        ]
        for one in written:
            one.result()
        writing.set()
        for one in compactors:
            one.result()
    assert len(searched(cloud)) == 24


def test_compaction_is_called_by_the_message_of_a_writer(cloud: Cloud) -> None:
    write(cloud, *"abcdefgh", process=cloud.record_store())
    assert {"index": "compact"}.items() <= drain(cloud)[0].items()
    assert isinstance(cloud.compaction(), Compaction)
    assert manifest(cloud).segments
