"""A world of a few images, processes that sync them, and compactors: whoever has the next turn is drawn by lot.

Each storage request is a turn. So any order in which the requests of concurrent processes can reach storage may come
up, and comes up again with the same seed. A process may die before any of its requests, and an answer may be lost.
"""

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.audit.index.check import IndexCheck
from shared.audit.report import Audit, AuditReport
from shared.audit.report_store import ReportStore
from shared.audit.workers import Workers
from shared.search.journal import Journal
from shared.search.manifest import IndexBlobs
from shared.search.reader import Reader
from shared.search.upkeep.compaction import Compaction
from shared.settings import read_settings
from shared.storage.images import Image
from shared.storage.space import Space
from shared.uploads.record_store import RecordStore
from shared.uploads.records import EmbeddingRecord
from shared.uploads.requests import EmbeddingRequest
from shared.uploads.sync import Sync
from tests.search.found import found
from tests.search.memory import MemoryBlobs
from tests.search.records import record

_SETTINGS = read_settings(
    {
        "FOUNDRY_ENDPOINT": "http://localhost/models",
        "FOUNDRY_MODEL": "Cohere-embed-v3-english",
        "ImageStorage__blobServiceUri": "http://localhost",
        "ImageStorage__queueServiceUri": "http://localhost",
        "ImageStorage__credential": "managedidentity",
        "ImageStorage__clientId": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    }
)
_STARTED_AT = datetime(2026, 11, 22, tzinfo=UTC)
# Seconds after which whoever has the turn will never give it back, however busy the machine is.
_PATIENCE = 1000.0


class Died(BaseException):
    """The process was killed."""


class World:
    """Images, their records and their index. ``events`` are the names of images that still must be synced."""

    def __init__(self, seed: int, patch: pytest.MonkeyPatch, *, skew_ms: int = 0) -> None:
        self.chance = random.Random(seed)
        self.blobs = MemoryBlobs()
        self.images: dict[str, str] = {}
        self.events: list[str] = []
        self.deaths = self.changes = 0
        self.mortality = 0.0
        self.seen: set[str] = set()
        self._skew_ms = skew_ms
        self._now = int(_STARTED_AT.timestamp() * 1000)
        self._turns = _Turns(self.chance)
        self._skews: dict[int, int] = {}
        self.blobs.before = self._before
        self.blobs.is_lost = lambda: self._turns.is_actor() and self.chance.random() < self.mortality
        for module in (
            "search.manifest",
            "search.upkeep.compaction",
            "uploads.record_store",
            "uploads.sync",
            "audit.index.check",
        ):
            patch.setattr(f"shared.{module}.milliseconds", self._milliseconds)
        # A second is 50 requests.
        time = SimpleNamespace(monotonic=lambda: self._now / 50, sleep=lambda seconds: None)
        for module in ("races", "search.journal", "search.upkeep.compaction"):
            patch.setattr(f"shared.{module}.time", time)
        random_id = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"{self.chance.getrandbits(128):032x}"))
        patch.setattr("shared.search.manifest.uuid", random_id)
        patch.setattr("shared.search.journal.LARGE_LOG", 1200)
        patch.setattr("shared.search.upkeep.compaction.LARGE_LOG", 1200)
        patch.setattr("shared.search.upkeep.compaction._SMALL", 4)
        # Longer than any process is kept waiting between two of its turns.
        patch.setattr("shared.search.upkeep.compaction._LATE_MS", 2000)
        # Some change and their syncs.
        patch.setattr("shared.search.upkeep.compaction._OLD_MS", 500)
        # Log lines of thousands of syncs.
        patch.setattr(logging.getLogger("image_embeddings"), "disabled", True)

    def live(self, *lives: Callable[[], None]) -> None:
        """Let these lives go on at once, each in a thread of its own, until all have ended."""
        self._turns.run(lives)

    def life_of_a_server(self, changes: int) -> Callable[[], None]:
        """Changes images and syncs what events name, again and again; dies now and then, and another comes up."""

        def live() -> None:
            sync = self.sync()
            for _ in range(changes):
                self.change()
                for _ in range(self.chance.randint(0, 2)):
                    if not self.deliver(sync):
                        sync = self.sync()

        return live

    def life_of_a_compactor(self, rounds: int, *, clean: bool = False) -> Callable[[], None]:
        """Compacts again and again, and dies now and then; with ``clean`` it cleans every other time."""

        def live() -> None:
            for _ in range(rounds):
                with self._mortal():
                    self.compaction().run(clean=clean and self.chance.random() < 0.5)

        return live

    def life_of_a_reader(self, reader: Reader, rounds: int) -> Callable[[], None]:
        """Reads what is new, again and again."""

        def live() -> None:
            for _ in range(rounds):
                with self._mortal():
                    reader._news()

        return live

    def change(self) -> None:
        """Write or delete an image, and tell of it once or twice."""
        name = self.chance.choice("abcdefghijkl")
        self.changes += 1
        if self.chance.random() < 0.3:
            self.images.pop(name, None)
        else:
            self.images[name] = f"0x{self.changes:X}"
        self.events += [name] * self.chance.randint(1, 2)

    def deliver(self, sync: Sync) -> bool:
        """Sync what one of the events names; returns whether the process survives. If not, the event comes again."""
        if not self.events:
            return True
        name = self.events.pop(self.chance.randrange(len(self.events)))
        try:
            sync.request(EmbeddingRequest(name=name))
        except Died:
            self.events.append(name)
            return False
        return True

    def settle(self) -> None:
        """Deliver what is left to deliver; nobody dies any more."""
        mortality, self.mortality = self.mortality, 0
        sync = self.sync()
        while self.events:
            self.deliver(sync)
        self.mortality = mortality

    def audit(self) -> None:
        """Compare the index with the records, and correct it."""
        audit = Audit(report=AuditReport(started_at=_STARTED_AT), step=1)
        check = IndexCheck(
            self.records(),
            self._reports(),
            self.index(),
            self._journal(),
            self.compaction(),
            Reader(self.index()),
        )
        comparison = check.begin(audit)
        with Workers() as workers:
            for page in self.records().list_records("", ""):
                for record in page.blobs:
                    comparison.see(record, workers)
            comparison.compare_young(workers)
            assert comparison.correct_extra(workers, float("inf"))
        check.end(audit)

    def wrong(self, reader: Reader | None = None) -> dict[str, tuple[str | None, str | None]]:
        """The images that are not found as they are: what is stored and what is found of each."""
        reader = reader or Reader(self.index())
        seen = found(reader._news())
        names = sorted({*seen, *self.images})
        return {
            name: (self.images.get(name), seen.get(name)) for name in names if self.images.get(name) != seen.get(name)
        }

    def paths(self, folder: str) -> set[str]:
        """The blobs in a folder of the space."""
        space = f"{self.space().folder()}/"
        return {path.removeprefix(space) for path in self.blobs.stored if path.startswith(space + folder)}

    def count(self, kind: str) -> int:
        """How many logs or segments there have been."""
        return len({path for path in self.seen if f"/index/{kind}/" in path})

    def pass_(self, *, hours: float) -> None:
        """Let time pass."""
        self._now += round(hours * 3_600_000)

    def space(self) -> Space:
        return Space(_SETTINGS, self.blobs)

    def index(self) -> IndexBlobs:
        return IndexBlobs(self.space(), self.blobs)

    def records(self) -> RecordStore:
        return RecordStore(self.space(), self.blobs, self._journal())

    def compaction(self) -> Compaction:
        return Compaction(_SETTINGS, self.index(), cast(Any, _NoQueues()))

    def sync(self) -> Sync:
        images = SimpleNamespace(find=self._find)
        embedder = SimpleNamespace(embed=self._embed)
        quota = SimpleNamespace(why_wait=lambda **_: None)
        parts = (self.records(), cast(Any, embedder), cast(Any, _NoRequests()), cast(Any, quota))
        return Sync(_SETTINGS, cast(Any, images), *parts)

    def _journal(self) -> Journal:
        return Journal(self.index(), lambda: None)

    def _reports(self) -> ReportStore:
        return ReportStore(self.space(), self.blobs)

    def _find(self, name: str, *, with_content: bool = False) -> Image | None:
        self._before("HEAD", name)
        etag = self.images.get(name)
        return None if etag is None else Image(name, "", etag, 1, {})

    def _embed(self, image: Image, *_: object) -> EmbeddingRecord:
        return record(image.name, image.etag, _SETTINGS.images_container)

    def _before(self, verb: str, path: str) -> None:
        self.seen.add(path)
        if self._turns.is_actor():
            self._turns.wait()
            if self.chance.random() < self.mortality:
                self.deaths += 1
                raise Died
        self._now += 1

    def _milliseconds(self) -> int:
        """The time on the clock of this process."""
        thread = threading.get_ident()
        return self._now + self._skews.setdefault(thread, self.chance.randint(-self._skew_ms, self._skew_ms))

    def _mortal(self) -> suppress:
        return suppress(Died)


class _NoQueues:
    def send(self, *_: object, **__: object) -> None:
        """Nobody waits for a message."""


class _NoRequests:
    def put_later(self, *_: object) -> float:
        """A sync that lost too many races is due again."""
        raise Died


class _Turns:
    """Threads of which one runs at a time, from one turn to its next."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._mine = threading.local()
        self._back = threading.Semaphore(0)

    def run(self, lives: tuple[Callable[[], None], ...]) -> None:
        errors: list[BaseException] = []
        waiting = [threading.Semaphore(0) for _ in lives]
        alive = set(range(len(lives)))

        def live(number: int) -> None:
            self._mine.turn = waiting[number]
            try:
                self.wait(first=True)
                lives[number]()
            except BaseException as error:  # noqa: BLE001 - it is raised below
                errors.append(error)
            alive.discard(number)
            self._back.release()

        threads = [threading.Thread(target=live, args=(number,), daemon=True) for number in alive]
        for thread in threads:
            thread.start()
        turn = 0
        while alive:
            # Mostly one goes on for a while, so that others come back into a world that has changed much.
            if turn not in alive or self._chance.random() < 0.2:
                turn = self._chance.choice(sorted(alive))
            waiting[turn].release()
            assert self._back.acquire(timeout=_PATIENCE), "whoever had the turn waits for another"
        for error in errors:
            raise error

    def is_actor(self) -> bool:
        return hasattr(self._mine, "turn")

    def wait(self, *, first: bool = False) -> None:
        if not first:
            self._back.release()
        self._mine.turn.acquire()
