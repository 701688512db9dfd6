"""Exports while storage fails, processes die, answers are lost and messages come twice: each row once, no half part."""

import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.errors import StorageError
from shared.exports.export import Exports
from shared.exports.report import ExportRequest, Manifest
from shared.exports.store import ExportStore
from shared.settings import Settings, read_settings
from shared.storage.space import Space
from shared.uploads.record_store import RecordStore
from tests.exports.conftest import PartReader
from tests.search.memory import MemoryBlobs
from tests.search.records import record
from tests.test_settings import KEYLESS

NAMES = sorted(f"{letter}{end}" for letter in "abcdefgh" for end in ("", "-", "/x"))


class Died(BaseException):
    """The process was killed."""


@dataclass
class Message:
    """A message of the queue. Only who took it last can delete it."""

    export: str
    taken: int = 0


class World:
    """Records, and processes that take the messages of an export."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self.blobs = MemoryBlobs()
        self.messages: list[Message] = []
        self._chance = random.Random(seed)
        self._depth = 0
        store = RecordStore(self.space(), self.blobs, None)
        for name in NAMES:
            store.write_record(record(name, "0x1", settings.images_container, [float(len(name)), 1.0]), None)

    def space(self) -> Space:
        return Space(self.settings, self.blobs)

    def exports(self) -> Exports:
        records = RecordStore(self.space(), self.blobs, None)
        queues = SimpleNamespace(send=lambda message: self.messages.append(Message(message.export)))
        return Exports(self.settings, self.space(), records, ExportStore(self.space(), self.blobs), cast(Any, queues))

    def make(self) -> Manifest:
        """Make an export, whatever happens: a message comes again until its process has ended well."""
        report = self.exports().start(ExportRequest())
        self.blobs.before, self.blobs.is_lost = self._fail, lambda: self._chance.random() < 0.05
        turns = 0
        while self.messages:
            turns += 1
            assert turns < 5_000, "it does not end"
            self._take()
        self.blobs.before, self.blobs.is_lost = lambda verb, path: None, lambda: False
        found = self.blobs.read(f"{report.folder}/manifest.json", Manifest)
        assert found is not None, "nobody goes on with it"
        return found

    def _take(self) -> None:
        message = self._chance.choice(self.messages)
        message.taken = receipt = message.taken + 1
        try:
            self.exports().resume(message.export)
        except (StorageError, Died):
            return
        if message.taken == receipt:
            self.messages = [one for one in self.messages if one is not message]

    def _fail(self, verb: str, path: str) -> None:
        """Before each request: storage may fail, the process die, or another one take the same message meanwhile."""
        lot = self._chance.random()
        if lot < 0.03:
            raise StorageError("503", status=503)
        if lot < 0.06 and "/images/" not in path:
            raise Died
        if lot < 0.1 and "/images/" not in path and not self._depth and self.messages:
            self._depth += 1
            try:
                self._take()
            finally:
                self._depth -= 1


@pytest.mark.parametrize("seed", range(8))
def test_every_row_is_made_once_and_no_half_part_is_listed(
    monkeypatch: pytest.MonkeyPatch, part_reader: PartReader, seed: int
) -> None:
    monkeypatch.setattr("shared.exports.export._RUN_NAMES", 5)
    monkeypatch.setattr("shared.exports.export._PART_ROWS", 4)
    monkeypatch.setattr("shared.exports.table._GROUP_ROWS", 3)
    monkeypatch.setattr("shared.exports.export._STEP_SECONDS", -1 if seed % 2 else 100)
    world = World(read_settings(KEYLESS), seed)
    manifest = world.make()
    folder = f"{world.space().folder()}/exports/{manifest.id}"
    parts = [world.blobs.stored[f"{folder}/{part.name}"].content for part in manifest.parts]
    assert [row["name"] for row in part_reader.rows(parts)] == NAMES
    assert [len(content) for content in parts] == [part.bytes for part in manifest.parts]
    assert len({part.name for part in manifest.parts}) == len(manifest.parts)
    assert f"{world.space().folder()}/exports/running.json" not in world.blobs.stored
