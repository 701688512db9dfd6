"""Whatever the order of requests, and whoever dies before any of them, the index says in the end what is stored.

``HISTORIES=500`` in the environment has so many of them made up, in place of two.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.search.manifest import IndexBlobs, ListedSegment
from shared.search.reader import Reader
from shared.search.scan import Mask
from shared.search.upkeep.obsolete import Entries
from shared.uploads.record_store import RecordStore
from tests.search.memory import MemoryBlobs
from tests.search.worlds import World

SEEDS = range(int(os.environ.get("HISTORIES", "2")))
ROUNDS = 25

type Wrong = dict[str, tuple[str | None, str | None]]


def history(world: World, *, audited: bool = False, clean: bool = False) -> Iterator[Wrong]:
    """Four processes that sync images, two that compact and one that reads, all at once; and some of them die.

    Again and again all events are delivered in the end. Yields what is found wrongly then.
    """
    world.mortality = 0.02
    reader = Reader(world.index())
    for _ in range(ROUNDS):
        world.live(
            *[world.life_of_a_server(4)] * 4,
            *[world.life_of_a_compactor(2, clean=clean)] * 2,
            world.life_of_a_reader(reader, 3),
        )
        world.settle()
        if audited:
            world.audit()
        yield from filter(None, (world.wrong(), world.wrong(reader)))


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_missing_stale_or_left_over_once_every_event_was_delivered(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(seed, monkeypatch)
    assert list(history(world, clean=seed % 2 == 0)) == []
    assert min(world.deaths, world.count("segments"), world.count("logs")) > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_where_clocks_differ_or_entries_come_late_an_audit_mends_the_rest(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(seed, monkeypatch, skew_ms=5000)
    assert list(history(world, audited=True, clean=seed % 2 == 0)) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_dead_left_is_removed_and_compacting_ends(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(seed, monkeypatch)
    list(history(world, clean=seed % 2 == 0))
    world.mortality = 0
    world.compaction().run()
    world.pass_(hours=2)
    world.audit()
    manifest = world.index().read().manifest
    assert len(manifest.logs) == 1
    assert world.paths("index/") == {
        "index/manifest.json",
        *(f"index/logs/{log.id}" for log in manifest.logs),
        *(f"index/segments/{segment.id}" for segment in manifest.segments),
    }
    assert world.wrong() == {}


def unsealed(patch: pytest.MonkeyPatch) -> None:
    """A log is removed also if somebody has appended to it meanwhile."""

    def delete_log(index: IndexBlobs, log: str, etag: str) -> None:
        index._blobs.delete_if_present(index._log(log))

    patch.setattr(IndexBlobs, "delete_log", delete_log)


def untold(patch: pytest.MonkeyPatch) -> None:
    """A sync that finds nothing to do tells the index nothing."""
    patch.setattr(RecordStore, "tell_again", lambda *_: None)


def unordered(patch: pytest.MonkeyPatch) -> None:
    """A record's number says nothing about the one before it."""
    patch.setattr("shared.uploads.record_store._next_seq", lambda found: 1)


def swapped_blindly(patch: pytest.MonkeyPatch) -> None:
    """The manifest is replaced whatever is there by now."""
    write = MemoryBlobs.write

    def blindly(blobs: MemoryBlobs, path: str, value: Any, **options: Any) -> str:
        if path.endswith("manifest.json"):
            options.pop("condition")
        return write(blobs, path, value, **options)

    patch.setattr(MemoryBlobs, "write", blindly)


def forgotten_too_early(patch: pytest.MonkeyPatch) -> None:
    """That an image is gone is forgotten though an older segment may have it."""
    obsolete = Entries.obsolete

    def all_that_is_gone(entries: Entries, segments: tuple[ListedSegment, ...], *, gone_before: int) -> list[Mask]:
        masks = obsolete(entries, segments, gone_before=gone_before)
        return [mask | (entries._read[one.id][:, 1] % 2 == 1) for one, mask in zip(segments, masks, strict=True)]

    patch.setattr(Entries, "obsolete", all_that_is_gone)


# Each with the first history in which it was seen. The others follow, since another change of the code makes others.
MISTAKES = [(unsealed, 6), (untold, 0), (unordered, 0), (swapped_blindly, 6), (forgotten_too_early, 4)]


@pytest.mark.parametrize(("mistake", "first"), MISTAKES)
def test_each_of_these_mistakes_would_be_seen(
    mistake: Callable[[pytest.MonkeyPatch], None], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    clean = mistake is forgotten_too_early
    assert any(wrong for seed in range(first, 40) for wrong in history(World(seed, monkeypatch), clean=clean))
