"""Segments lose what has no effect any more, so that what was deleted does not stay in the index for ever."""

import random
from collections.abc import Generator

import pytest

from shared.clock import milliseconds
from shared.search.entries import Entry, encode
from shared.search.manifest import IndexBlobs, ListedSegment, Manifest
from shared.search.upkeep import compaction as compaction_module
from shared.search.upkeep.compaction import Compaction
from shared.search.upkeep.obsolete import Entries
from tests.audit.audits import audit, drain
from tests.conftest import Cloud
from tests.queue_messages import queued
from tests.search.found import searched
from tests.search.images import entry, gone
from tests.search.records import remove, write

pytestmark = pytest.mark.usefixtures("_small_logs")
_DAY = 24 * 3_600_000


def manifest(cloud: Cloud) -> Manifest:
    return cloud.index_blobs().read().manifest


def compact(cloud: Cloud) -> None:
    """Make what was written last a segment."""
    cloud.index_blobs().next_log(manifest(cloud).newest)
    cloud.compaction().run()


def clean(cloud: Cloud) -> list[int]:
    """Let segments lose what is obsolete; returns how many entries each has then."""
    cloud.compaction().run(clean=True)
    return [one.rows for one in manifest(cloud).segments]


def later(monkeypatch: pytest.MonkeyPatch, *, days: float) -> None:
    """All that follows happens so many days from now."""
    for module in ("search.manifest", "search.upkeep.compaction"):
        monkeypatch.setattr(f"shared.{module}.milliseconds", lambda: milliseconds() + round(days * _DAY))


def test_a_segment_of_which_more_than_half_is_obsolete_is_written_anew_without_that(cloud: Cloud) -> None:
    write(cloud, *"abcdef")
    compact(cloud)
    write(cloud, "a", "b", etag="0x2")
    remove(cloud, "c")
    compact(cloud)
    assert clean(cloud) == [6, 3], "half of the first is not enough"
    remove(cloud, "d")
    compact(cloud)
    assert sorted(clean(cloud)) == [1, 2, 3]
    assert searched(cloud) == {"a": "0x2", "b": "0x2", "e": "0x1", "f": "0x1"}
    assert clean(cloud) == clean(cloud), "it has an end"


def test_what_an_old_segment_has_of_deleted_images_is_dropped_though_it_is_little(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloud, *"abcdef")
    compact(cloud)
    remove(cloud, "a")
    compact(cloud)
    for days, left in ((13, [6, 1]), (15, [5])):
        later(monkeypatch, days=days)
        assert clean(cloud) == left
        assert set(searched(cloud)) == set("bcdef")


def test_a_segment_of_which_nothing_is_left_is_not_listed_any_more(cloud: Cloud) -> None:
    write(cloud, *"abc")
    compact(cloud)
    write(cloud, *"abc", etag="0x2")
    compact(cloud)
    assert clean(cloud) == [3]
    assert searched(cloud) == dict.fromkeys("abc", "0x2")


def late(cloud: Cloud, name: str) -> None:
    """An entry of the first version of an image, from somebody who was slow to tell it."""
    index = cloud.index_blobs()
    log = index.read().manifest.newest
    assert log is not None
    index.append(log, encode([entry(name, 1, [1] * 8)]))


def test_that_an_image_is_gone_is_kept_while_a_segment_has_something_older_of_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_module, "_LATE_MS", -60_000)
    write(cloud, *"abcdef")
    compact(cloud)
    remove(cloud, "a")
    compact(cloud)
    assert clean(cloud) == [6, 1]
    assert set(searched(cloud)) == set("bcdef")
    monkeypatch.setattr(compaction_module, "_OBSOLETE_SHARE", 0)
    assert clean(cloud) == [5]
    assert set(searched(cloud)) == set("bcdef")


@pytest.mark.parametrize("hours", [0.9, 1.1])
def test_it_is_kept_while_there_is_a_log_that_something_older_may_be_appended_to(
    cloud: Cloud, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_module, "_OBSOLETE_SHARE", 0)
    write(cloud, "a", "b")
    remove(cloud, "a")
    with monkeypatch.context() as patch:
        later(patch, days=hours / 24)
        compact(cloud)
    assert clean(cloud) == ([2] if hours < 1 else [1])
    late(cloud, "a")
    # An hour after its record was written nobody appends an entry any more.
    assert ("a" in searched(cloud)) == (hours > 1)


def test_a_log_that_is_old_is_followed_by_another_though_it_is_short(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloud, "a", "b")
    remove(cloud, "b")
    old = manifest(cloud).newest
    for days in (13, 15):
        later(monkeypatch, days=days)
        clean(cloud)
        assert (manifest(cloud).newest == old) == (days == 13)
    assert [one.rows for one in manifest(cloud).segments] == [2]
    assert set(searched(cloud)) == {"a"}


@pytest.mark.parametrize("seed", range(10))
def test_obsolete_is_all_that_changes_nothing_for_any_search(seed: int) -> None:
    rng = random.Random(seed)
    parts: list[list[Entry]] = []
    for _ in range(4):
        names = rng.sample("abcdefgh", rng.randint(1, 8))
        some = [
            gone(one, rng.randrange(9)) if rng.random() < 0.4 else entry(one, rng.randrange(9), [1]) for one in names
        ]
        parts.append(some)
    listed = tuple(ListedSegment(id=str(at), rows=len(part), bytes=0, dimensions=1) for at, part in enumerate(parts))
    entries = Entries(_Stated({one.id: part for one, part in zip(listed, parts, strict=True)}))
    for one in listed:
        entries.read(one)
    gone_before = rng.randrange(9)
    found = entries.obsolete(listed, gone_before=gone_before)
    places = [
        (one.seq, one.facts is None, part, row, one.name)
        for part, some in enumerate(parts)
        for row, one in enumerate(_ordered(some))
    ]
    for seq, is_gone, part, row, name in places:
        others = [place for place in places if place[4] == name and place[2:4] != (part, row)]
        is_last = all((seq, is_gone, part) > place[:3] for place in others)
        assert found[part][row] == (not is_last or (is_gone and not others and seq < gone_before))


def _ordered(some: list[Entry]) -> list[Entry]:
    return sorted(some, key=lambda one: (one.facts is None, one.name))


class _Stated(IndexBlobs):
    """Segments that only say what they state."""

    def __init__(self, parts: dict[str, list[Entry]]) -> None:
        self._parts = parts

    def states(self, listed: ListedSegment) -> Generator[tuple[str, int, bool]]:
        for one in _ordered(self._parts[listed.id]):
            yield one.name, one.seq, one.facts is None


def test_what_is_found_damaged_meanwhile_is_no_longer_listed(cloud: Cloud) -> None:
    write(cloud, "a")
    compact(cloud)
    write(cloud, "b")
    compact(cloud)
    [broken, whole] = manifest(cloud).segments
    cloud.embeddings.delete_blob(f"Cohere-embed-v3-english/index/segments/{broken.id}")
    clean(cloud)
    assert manifest(cloud).segments == (whole,)


def test_a_segment_that_somebody_else_replaced_meanwhile_stays_as_they_made_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloud, *"abc")
    compact(cloud)
    write(cloud, "a", "b", etag="0x2")
    compact(cloud)
    reduce = Compaction._reduce

    def outrun(compaction: Compaction, *arguments: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Compaction, "_reduce", reduce)
            clean(cloud)
        reduce(compaction, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Compaction, "_reduce", outrun)
    assert sorted(clean(cloud)) == [1, 2]
    assert searched(cloud) == {"a": "0x2", "b": "0x2", "c": "0x1"}


def test_an_audit_of_everything_asks_for_it_where_there_are_segments(cloud: Cloud) -> None:
    write(cloud, *"abc")
    audit(cloud)
    assert [message for message in queued(cloud) if message.get("clean")] == []
    compact(cloud)
    write(cloud, *"abc", etag="0x2")
    compact(cloud)
    cloud.queue.clear_messages()
    audit(cloud, prefix="a")
    assert [message for message in queued(cloud) if message.get("clean")] == []
    audit(cloud)
    [message] = [message for message in drain(cloud) if "index" in message]
    assert message["clean"] is True
    assert [one.rows for one in manifest(cloud).segments] == [3]


def test_a_process_that_compacts_already_puts_it_off(cloud: Cloud) -> None:
    write(cloud, "a")
    compaction = cloud.compaction()
    with compaction._running:
        cloud.queue.clear_messages()
        compaction.run(clean=True)
    assert cloud.queues().pending() == 1
    assert queued(cloud) == [], "the message is hidden for a minute"
