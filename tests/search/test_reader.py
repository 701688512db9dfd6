"""What a searching process reads of the index, and what it does where that is slow, damaged, gone or too large."""

import threading
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from local.faults import StorageFaults
from shared.errors import IndexUnavailable, StorageError
from shared.search import reader as reader_module
from shared.search.entries import Entry
from shared.search.index import Index
from shared.search.manifest import IndexBlobs, ListedSegment, Manifest
from shared.search.reader import Reader
from shared.search.segment import build
from shared.storage.blobs import JsonBlobs
from shared.uploads.records import entry_of
from tests.conftest import PATIENCE, Clock, Cloud
from tests.search.found import found, searched
from tests.search.records import delete_index, record, remove, write

FOLDER = "Cohere-embed-v3-english/index"


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is read again at once."""
    monkeypatch.setattr(reader_module, "_FRESH_SECONDS", -1)


def compacted(cloud: Cloud, *names: str) -> ListedSegment:
    """A segment of records of these images."""
    write(cloud, *names)
    index = cloud.index_blobs()
    index.next_log(index.read().manifest.newest)
    cloud.compaction().run()
    return index.read().manifest.segments[-1]


def test_a_space_without_an_index_has_no_images(cloud: Cloud) -> None:
    reader = cloud.reader()
    assert reader.as_of is None
    assert len(reader.current()) == 0
    assert reader.as_of is not None
    assert cloud.records() == [], "a reader claims nothing and writes nothing"


@pytest.mark.usefixtures("always")
def test_what_is_written_and_removed_is_seen_by_the_next_search(cloud: Cloud) -> None:
    reader = cloud.reader()
    assert found(reader.current()) == {}
    write(cloud, "a", "b")
    assert found(reader.current()) == {"a": "0x1", "b": "0x1"}
    compacted(cloud, "c")
    write(cloud, "a", etag="0x2")
    remove(cloud, "c")
    assert found(reader.current()) == {"a": "0x2", "b": "0x1"} == searched(cloud)


def test_storage_is_asked_every_two_seconds_at_most(
    cloud: Cloud, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloud, "a")
    clock = Clock()
    monkeypatch.setattr(reader_module, "time", clock)
    reader = cloud.reader()
    reader.current()
    sent.clear()
    clock.pass_(1.9)
    reader.current()
    assert sent == []
    clock.pass_(0.2)
    reader.current()
    [log] = cloud.index_blobs().read().manifest.logs
    assert sent[:2] == ["GET index/manifest.json", f"GET index/logs/{log.id}"]


@pytest.mark.usefixtures("always")
def test_only_what_is_new_is_read(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    read_range = JsonBlobs.read_range

    def noted(blobs: JsonBlobs, path: str, start: int, size: int, **options: Any) -> bytes | None:
        content = read_range(blobs, path, start, size, **options)
        read.append(f"{path.split('/')[-2]} {len(content or b'') > 0}")
        return content

    compacted(cloud, "a")
    write(cloud, "b")
    reader = cloud.reader()
    reader.current()
    monkeypatch.setattr(JsonBlobs, "read_range", noted)
    reader.current()
    assert read == ["logs False"]
    write(cloud, "c")
    read.clear()
    reader.current()
    assert read == ["logs True"]
    compacted(cloud)
    read.clear()
    assert set(found(reader.current())) == set("abc")
    assert sorted(read) == ["logs False", "segments True"]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("ending", ["nothing", "416"])
def test_the_end_of_a_log_is_nothing_in_azurite_and_416_in_azure(
    cloud: Cloud, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloud, "a")
    reader = cloud.reader()
    reader.current()
    if ending == "416":
        rest = reader._blobs._blobs._rest
        find = rest.find

        def refused(method: str, url: str, **options: Any) -> Any:
            answer = find(method, url, **options)
            if "/logs/" in url and answer is not None and not answer.data:
                raise StorageError("no", status=416, code="InvalidRange")
            return answer

        monkeypatch.setattr(rest, "find", refused)
    assert set(found(reader.current())) == {"a"}
    write(cloud, "b")
    assert set(found(reader.current())) == {"a", "b"}


def test_a_large_segment_is_read_in_ranges_at_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    compacted(cloud, *"abcd")
    monkeypatch.setattr(reader_module, "_RANGE", 100)
    ranges: set[str] = set()
    read_segment = IndexBlobs.read_segment

    def noted(index: IndexBlobs, listed: ListedSegment, start: int, size: int, **options: Any) -> bytes:
        ranges.add(threading.current_thread().name)
        return read_segment(index, listed, start, size, **options)

    monkeypatch.setattr(IndexBlobs, "read_segment", noted)
    assert set(searched(cloud)) == set("abcd")
    assert len(ranges) > 1


@pytest.mark.parametrize("free", [2**40, 0])
def test_a_segment_is_in_a_file_if_the_disk_has_room_and_else_in_memory(
    cloud: Cloud, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compacted(cloud, *"abcd")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    reader = cloud.reader()
    assert set(found(reader.current())) == set("abcd")
    [held] = reader._held.values()
    assert (held.in_memory == cloud.index_blobs().read().manifest.segments[0].bytes) == (free == 0)


def test_a_disk_that_is_full_after_all_is_no_error(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    compacted(cloud, "a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    assert set(searched(cloud)) == {"a"}
    monkeypatch.setattr("shutil.disk_usage", full)
    assert set(searched(cloud)) == {"a"}


def test_an_index_that_an_instance_cannot_hold_is_an_error_that_names_the_way_out(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    compacted(cloud, "a")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    monkeypatch.setattr(reader_module, "_memory", lambda: 1000)
    with pytest.raises(IndexUnavailable, match="room for 500: raise INSTANCE_MEMORY_MB") as raised:
        cloud.reader().current()
    assert (raised.value.code, raised.value.retry_after) == ("index_too_large", 300)


@pytest.mark.parametrize("memory", [2**29, 2**31])
@pytest.mark.parametrize("disk", [0, 2**30, 2**40])
def test_the_status_says_before_it_happens_how_many_images_an_instance_can_hold(
    cloud: Cloud, memory: int, disk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=disk))
    monkeypatch.setattr(reader_module, "_memory", lambda: memory)
    reader = cloud.reader()

    def of(images: int) -> Manifest:
        large = ListedSegment(id="large", rows=images, bytes=2_300 * images, dimensions=1024)
        return Manifest(folder="", segments=(large,))

    room = reader.room_for_images(of(100))
    assert room is not None
    reader._check_room(of(room - 100), 0)
    with pytest.raises(IndexUnavailable):
        reader._check_room(of(room + 100), 0)


def test_what_a_process_has_mapped_already_takes_none_of_that_room(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 2**30
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    compacted(cloud, "a")
    reader, manifest = cloud.reader(), cloud.index_blobs().read().manifest
    before = reader.room_for_images(manifest)
    reader.current()
    free -= manifest.segments[0].bytes
    assert reader.room_for_images(manifest) == before


def test_before_the_first_segment_the_length_of_the_vectors_tells_about_how_many(cloud: Cloud) -> None:
    reader, manifest = cloud.reader(), cloud.index_blobs().read().manifest
    assert reader.room_for_images(manifest) is None
    space = cloud.space()
    space.folder()
    space.confirm(None, 1024)
    estimate = cloud.reader().room_for_images(manifest)
    segment = ListedSegment(id="", rows=100_000, bytes=250_000_000, dimensions=1024)
    measured = reader.room_for_images(msgspec.structs.replace(manifest, segments=(segment,)))
    assert estimate == pytest.approx(measured, rel=0.05)


def test_so_is_a_log_that_nobody_compacts(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cloud, *"abcd")
    monkeypatch.setattr(reader_module, "_memory", lambda: 100)
    with pytest.raises(IndexUnavailable, match="must be in memory"):
        cloud.reader().current()


def test_the_memory_of_an_instance_is_what_its_container_allows(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(reader_module, "_MEMORY_LIMITS", (limit, tmp_path / "missing"))
    limit.write_text("max\n")
    everything = reader_module._memory()
    limit.write_text("1000\n")
    assert reader_module._memory() == 1000 < everything


def spoilt(cloud: Cloud, segment: ListedSegment, how: str) -> None:
    blob = cloud.embeddings.get_blob_client(f"{FOLDER}/segments/{segment.id}")
    content = blob.download_blob().readall()
    match how:
        case "missing":
            blob.delete_blob()
        case "cut off":
            blob.upload_blob(content[:-64], overwrite=True)
        case "damaged":
            blob.upload_blob(content[:-1] + bytes([content[-1] ^ 1]), overwrite=True)
        case "of another model":
            index = cloud.index_blobs()
            other = [ListedSegment(id=segment.id, rows=1, bytes=len(content), dimensions=9)]
            index.change(lambda now: type(now)(folder=now.folder, logs=now.logs, segments=(*other, *now.segments[1:])))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("how", ["missing", "cut off", "damaged", "of another model"])
def test_a_segment_that_is_not_as_it_was_written_is_left_out_with_one_line(
    cloud: Cloud, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    space = cloud.space()
    space.folder()
    space.confirm(None, 8)
    bad = compacted(cloud, "a")
    compacted(cloud, "b")
    write(cloud, "c")
    spoilt(cloud, bad, how)
    reader = cloud.reader()
    for _ in range(3):
        assert set(found(reader.current())) == {"b", "c"}
    [line] = [line for line in caplog.messages if bad.id in line]
    assert "left out of searches" in line


@pytest.mark.usefixtures("always")
def test_a_log_that_somebody_else_wrote_to_is_left_out_with_one_line(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    write(cloud, "a")
    reader = cloud.reader()
    reader.current()
    index = cloud.index_blobs()
    [log] = index.read().manifest.logs
    index.append(log.id, b"no entry")
    for _ in range(3):
        assert set(found(reader.current())) == {"a"}
    assert len([line for line in caplog.messages if log.id in line]) == 1


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("step", ["manifest", "log", "segment"])
def test_what_is_compacted_between_two_reads_of_one_search_is_found(
    cloud: Cloud, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloud, "a")
    reader = cloud.reader()
    reader.current()
    write(cloud, "b")
    compacted(cloud, "c")
    before = {"manifest": "read_newer", "log": "entries", "segment": "read_segment"}[step]
    original = getattr(IndexBlobs, before)

    def outrun(index: IndexBlobs, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(IndexBlobs, before, original)
        compacted(cloud, "d")
        for segment in index.read().manifest.segments[:-1]:
            assert segment is not None
        return original(index, *arguments, **options)

    monkeypatch.setattr(IndexBlobs, before, outrun)
    assert set(found(reader.current())) >= {"a", "b", "c"}
    assert set(found(reader.current())) == {"a", "b", "c", "d"}


@pytest.mark.usefixtures("always")
def test_a_merged_segment_that_an_audit_has_removed_meanwhile_is_not_missed(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compacted(cloud, "a")
    reader = cloud.reader()
    version = cloud.index_blobs().read()
    monkeypatch.setattr("shared.search.upkeep.compaction._FANOUT", 2)
    compacted(cloud, "b")
    cloud.embeddings.delete_blob(f"{FOLDER}/segments/{first.id}")
    read_newer = IndexBlobs.read_newer

    def outdated(index: IndexBlobs, known: str, **options: Any) -> Any:
        monkeypatch.setattr(IndexBlobs, "read_newer", read_newer)
        return version

    monkeypatch.setattr(IndexBlobs, "read_newer", outdated)
    assert set(found(reader.current())) == {"a", "b"}


@pytest.mark.usefixtures("always")
def test_an_index_that_is_deleted_is_empty_and_one_that_comes_back_is_read(cloud: Cloud) -> None:
    compacted(cloud, "a")
    reader = cloud.reader()
    assert set(found(reader.current())) == {"a"}
    delete_index(cloud)
    assert found(reader.current()) == {}
    write(cloud, "b")
    assert set(found(reader.current())) == {"b"}


def test_vectors_of_another_length_than_the_space_s_are_not_found(cloud: Cloud) -> None:
    space = cloud.space()
    space.folder()
    space.confirm(None, 8)
    write(cloud, "a", "b")
    store = cloud.record_store()
    odd = record("b", "0x2", cloud.settings.images_container, [1.0] * 9)
    store.write_record(odd, store.find_record("b"))
    assert searched(cloud) == {"a": "0x1"}
    compacted(cloud)
    assert searched(cloud) == {"a": "0x1"}


def test_segments_of_a_space_whose_length_of_vectors_nothing_says_are_compared_with_the_first(cloud: Cloud) -> None:
    compacted(cloud, "a")
    store = cloud.record_store()
    store.write_record(record("b", "0x1", cloud.settings.images_container, [1.0] * 9), None)
    compacted(cloud, "c")
    index = cloud.index_blobs()
    first, second = index.read().manifest.segments
    odd = index.write_segment(build([odd_entry("d")], dimensions=9), dimensions=9)
    index.change(lambda now: type(now)(folder=now.folder, logs=now.logs, segments=(first, second, odd)))
    assert searched(cloud) == {"a": "0x1", "c": "0x1"}


def odd_entry(name: str) -> Entry:
    return entry_of(record(name, "0x1", "", [1.0] * 9), 1)


class Held:
    """A reader whose reads a test lets go on, or fail."""

    def __init__(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reader: Reader = cloud.reader()
        self.reads = 0
        self.go_on = threading.Event()
        self.error: Exception | None = None
        news = Reader._news

        def held(reader: Reader) -> Index:
            self.reads += 1
            assert self.go_on.wait(PATIENCE)
            if self.error:
                raise self.error
            return news(reader)

        monkeypatch.setattr(Reader, "_news", held)


def test_searches_at_the_same_moment_share_one_read(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cloud, "a")
    held = Held(cloud, monkeypatch)
    results: list[Index] = []
    searches = [threading.Thread(target=lambda: results.append(held.reader.current())) for _ in range(5)]
    for search in searches:
        search.start()
    held.go_on.set()
    for search in searches:
        search.join()
    assert (len(results), held.reads) == (5, 1)


def test_who_waits_too_long_for_the_first_read_is_told_when_to_ask_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloud, "a")
    held = Held(cloud, monkeypatch)
    monkeypatch.setattr(reader_module, "_FIRST_WAIT", 0.01)
    for _ in range(2):
        with pytest.raises(IndexUnavailable) as raised:
            held.reader.current()
        assert (raised.value.code, raised.value.retry_after) == ("index_loading", 5)
    held.go_on.set()
    monkeypatch.setattr(reader_module, "_FIRST_WAIT", PATIENCE)
    assert set(found(held.reader.current())) == {"a"}
    assert held.reads == 1, "who gave up has not stopped it"


@pytest.mark.parametrize("slow", [True, False])
def test_while_storage_does_not_answer_searches_see_what_is_held_for_a_minute(
    cloud: Cloud, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloud, "a")
    clock = Clock()
    monkeypatch.setattr(reader_module, "time", clock)
    held = Held(cloud, monkeypatch)
    held.go_on.set()
    held.reader.current()
    as_of = held.reader.as_of
    held.error = StorageError("Storage is down.")
    if slow:
        held.go_on.clear()
        monkeypatch.setattr(reader_module, "_WAIT", 0.01)
    clock.pass_(59)
    assert set(found(held.reader.current())) == {"a"}
    assert held.reader.as_of == as_of
    clock.pass_(2)
    with pytest.raises(IndexUnavailable if slow else StorageError):
        held.reader.current()
    held.error = None
    held.go_on.set()
    monkeypatch.setattr(reader_module, "_WAIT", PATIENCE)
    assert set(found(held.reader.current())) == {"a"}


def test_a_storage_error_at_the_first_read_is_that_of_the_search_and_the_next_one_reads_again(
    behind: Cloud, faults: StorageFaults
) -> None:
    write(behind, "a")
    reader = behind.reader()
    faults.begin("no_role", requests="GET .*manifest")
    with pytest.raises(StorageError, match="AuthorizationPermissionMismatch"):
        reader.current()
    faults.end()
    assert set(found(reader.current())) == {"a"}


def test_a_search_of_any_vector_works_once_there_are_images(cloud: Cloud) -> None:
    write(cloud, "a")
    [hit] = cloud.reader().current().search([1.0] * 8, top=1)
    assert (hit.name, hit.facts.etag) == ("a", "0x1")
