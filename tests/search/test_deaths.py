"""Whatever write a process dies before, what comes next mends the index: a redelivery, a compactor, or an audit."""

import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.search.upkeep.compaction import Compaction
from shared.uploads.record_store import RecordStore
from tests.audit.audits import audit, drain, later
from tests.conftest import Cloud
from tests.drawing import picture
from tests.search.deaths import at_each_write
from tests.search.found import searched
from tests.search.records import delete_index, remove, write

ROOT = Path(__file__).parent.parent.parent
# No two pictures are the same.
_widths = itertools.count(8)


def new(cloud: Cloud, name: str) -> None:
    cloud.upload(name, picture(size=(next(_widths), 9)))


def overwritten(cloud: Cloud, name: str) -> None:
    new(cloud, name)
    cloud.sync().upload(name)
    new(cloud, name)


def broken(cloud: Cloud, name: str) -> None:
    new(cloud, name)
    cloud.sync().upload(name)
    cloud.upload(name, b"no picture")


def deleted(cloud: Cloud, name: str) -> None:
    new(cloud, name)
    cloud.sync().upload(name)
    cloud.images.delete_blob(name)


def stored(cloud: Cloud) -> dict[str, str]:
    """The image versions that there are records of."""
    blobs = cloud.embeddings.list_blobs(name_starts_with="Cohere-embed-v3-english/images/", include=["metadata"])
    return {blob.name.split("/", 2)[2].removesuffix(".json"): blob.metadata["etag"] for blob in blobs}


def wrong_after(
    cloud: Cloud,
    change: Callable[[Cloud, str], None],
    mend: Callable[[Cloud, list[str]], object],
    patch: pytest.MonkeyPatch,
) -> list[str]:
    """The writes before which a sync was killed, each of an image of its own, and after which the index stays wrong.

    ``mend`` is given the names of all these images.
    """
    names = iter("abcdefghijkl")
    died_before: dict[str, str] = {}
    name = ""

    def prepare() -> None:
        nonlocal name
        name = next(names)
        change(cloud, name)

    for write_ in at_each_write(patch, prepare, lambda: cloud.sync().upload(name)):
        died_before[name] = write_
    assert any("/index/logs/" in write_ for write_ in died_before.values())
    mend(cloud, list(died_before))
    seen, kept = searched(cloud), stored(cloud)
    return [
        write_
        for name, write_ in died_before.items()
        if seen.get(name) != kept.get(name) or (name in seen) != (change in {new, overwritten})
    ]


def redeliver(cloud: Cloud, names: list[str]) -> None:
    """The events of these images come again."""
    sync = cloud.sync()
    for name in names:
        sync.upload(name)


def mend_by_audit(cloud: Cloud, names: list[str]) -> None:
    """No event comes again."""
    audit(cloud)
    drain(cloud)


@pytest.mark.parametrize("change", [new, overwritten, broken, deleted])
def test_a_writer_that_dies_before_any_write_is_mended_by_the_redelivery_of_its_event(
    cloud: Cloud, change: Callable[[Cloud, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong_after(cloud, change, redeliver, monkeypatch) == []


@pytest.mark.parametrize("change", [new, broken, deleted])
def test_it_would_not_be_if_a_sync_that_finds_nothing_to_do_told_the_index_nothing(
    cloud: Cloud, change: Callable[[Cloud, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordStore, "tell_again", lambda *_: None)
    wrong = wrong_after(cloud, change, redeliver, monkeypatch)
    assert any("/index/logs/" in write_ for write_ in wrong)


def test_what_has_been_as_it_is_for_an_hour_is_not_told_again(
    cloud: Cloud, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new(cloud, "a")
    cloud.sync().upload("a")
    written_at = int(time.time() * 1000)
    for minutes, appends in ((59, 1), (61, 0)):
        now = written_at + minutes * 60_000
        monkeypatch.setattr("shared.uploads.record_store.milliseconds", lambda now=now: now)
        sent.clear()
        assert cloud.sync().upload("a").outcome == "unchanged"
        assert len([request for request in sent if request.endswith("comp=appendblock")]) == appends
        assert ("GET images/a.json" in sent) == bool(appends)


@pytest.mark.parametrize("change", [new, overwritten, broken, deleted])
def test_the_next_audit_mends_it_where_no_event_comes_again(
    cloud: Cloud, change: Callable[[Cloud, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong_after(cloud, change, mend_by_audit, monkeypatch) == []


@pytest.mark.usefixtures("_small_logs")
def test_a_compactor_that_dies_before_any_write_loses_nothing_and_the_next_one_finishes(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.search.upkeep.compaction._OBSOLETE_SHARE", 0)
    write(cloud, *"abcd")
    done: list[str] = []
    for step in ("_empty", "_merge", "_reduce"):
        noted(step, done, monkeypatch)

    def prepare() -> None:
        write(cloud, "a", f"new {len(unsent)}", etag=f"0x{len(unsent)}")
        remove(cloud, "b")
        cloud.index_blobs().next_log(cloud.index_blobs().read().manifest.newest)
        write(cloud, "b")

    unsent: list[str] = []
    for write_ in at_each_write(monkeypatch, prepare, lambda: cloud.compaction().run(clean=True)):
        unsent.append(write_.split("/")[-2])
        assert searched(cloud) == stored(cloud), f"it died before {write_}"
    assert searched(cloud) == stored(cloud)
    assert {"logs", "segments", "index"} <= set(unsent)
    assert set(done) == {"_empty", "_merge", "_reduce"}
    later_audit(cloud, monkeypatch)
    manifest = cloud.index_blobs().read().manifest
    listed = {f"index/logs/{log.id}" for log in manifest.logs}
    listed |= {f"index/segments/{segment.id}" for segment in manifest.segments}
    blobs = {name.partition("/")[2] for name in cloud.embeddings.list_blob_names() if "/index/" in name}
    assert blobs == {"index/manifest.json"} | listed
    assert searched(cloud) == stored(cloud)


def noted(step: str, done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note each time that a compactor takes this step."""
    original = getattr(Compaction, step)

    def take(*arguments: object) -> None:
        done.append(step)
        original(*arguments)

    monkeypatch.setattr(Compaction, step, take)


def later_audit(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit two hours from now."""
    with monkeypatch.context() as patch:
        later(patch, hours=2)
        patch.setattr("shared.audit.index.check.milliseconds", lambda: int(time.time() * 1000) + 2 * 3_600_000)
        audit(cloud)


def test_an_audit_that_dies_before_any_write_is_followed_by_one_that_mends_the_rest(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        new(cloud, name)
        cloud.sync().upload(name)

    def prepare() -> None:
        delete_index(cloud)
        new(cloud, "extra")
        cloud.sync().upload("extra")
        cloud.images.delete_blob("extra")
        cloud.embeddings.delete_blob("Cohere-embed-v3-english/images/extra.json")
        assert set(searched(cloud)) == {"extra"}

    for write_ in at_each_write(monkeypatch, prepare, lambda: audit(cloud)):
        later_audit(cloud, monkeypatch)
        assert searched(cloud) == stored(cloud), f"it died before {write_}"
    assert searched(cloud) == stored(cloud)


def test_a_process_that_is_killed_again_and_again_loses_nothing(cloud: Cloud) -> None:
    """It syncs in several threads, and compacts meanwhile; what it had in hand is delivered again."""
    chance = random.Random(0)
    names = [f"{number:02}.png" for number in range(16)]
    for name in names:
        new(cloud, name)
    sync = cloud.sync()
    for name in names[:4]:
        sync.upload(name)
        cloud.images.delete_blob(name)
    for _ in range(2):
        kill(cloud.settings.images_container, chance.sample(names, len(names)), after=chance.randint(5, 25))
    for name in names:
        sync.upload(name)
    assert set(searched(cloud)) == set(names[4:])
    assert searched(cloud) == stored(cloud)
    cloud.compaction().run()
    assert searched(cloud) == stored(cloud)


def kill(container: str, names: list[str], *, after: int) -> None:
    """Kill a process that syncs these images once it has synced so many."""
    command = [sys.executable, "-m", "tests.search.victim", container, *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        for _ in range(after):
            assert process.stdout.readline() == b"synced\n"
        process.send_signal(signal.SIGKILL)
