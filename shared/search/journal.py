"""The writer of the index: each change of a record is one append to the newest log, which threads share.

Whoever writes a record needs this module and :mod:`shared.search.entries` alone, neither of which imports numpy.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus

from shared.errors import BlobHeld, StorageError
from shared.search.entries import Entry, encode
from shared.search.manifest import IndexBlobs

# A log of this length becomes a segment: about 1,900 images of 1,024 numbers. Azure takes 50,000 appends a blob.
LARGE_LOG = 4 * 2**20
# What one append takes at most, in bytes.
_MAX_BLOCK = 2**20
# Storage refuses an append to a log that is gone, that has all the blocks it may have, or that is none.
_NOT_THERE = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}
# Each failed append finds another log. More than a few in a row are no race.
_MAX_LOGS = 5
# While a log is too long, and so about to be replaced, a writer asks so often for the next one; and so often at other
# times: somebody may have deleted the manifest, and then nobody reads this log.
_LOOK_SECONDS, _LOOK_ANYWAY_SECONDS = 1.0, 60.0


class Journal:
    """Appends entries to the newest log of the index. Safe to call from many threads and processes.

    ``ask`` has the index compacted soon: it is called when a log has become longer than a multiple of 4 MiB.
    """

    def __init__(self, index: IndexBlobs, ask: Callable[[], None]) -> None:
        self._index = index
        self._ask = ask
        self._log: str | None = None
        self._looked_at = 0.0
        self._waiting: list[tuple[bytes, Future[None]]] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def append(self, entry: Entry) -> None:
        """Append an entry: whoever reads the index after this returns reads the entry.

        Raises :class:`~shared.errors.StorageError` where storage fails; then it may have been appended all the same.
        """
        written: Future[None] = Future()
        with self._lock:
            self._waiting.append((encode([entry]), written))
        # While one append is under way others gather, and the next thread appends what all of them have.
        with self._turn:
            while not written.done():
                self._append_waiting()
        written.result()

    def leave(self, log: str) -> None:
        """Append to this log no more."""
        with self._turn:
            self._log = self._index.next_log(log)

    def _append_waiting(self) -> None:
        blocks, futures = self._take()
        try:
            end = self._append(b"".join(blocks))
        except BaseException as error:
            for future in futures:
                future.set_exception(error)
            if not isinstance(error, StorageError):
                raise
            return
        for future in futures:
            future.set_result(None)
        with suppress(StorageError):
            # What comes now can be left to the next append, or to the watch.
            self._after_append(end, sum(map(len, blocks)))

    def _take(self) -> tuple[list[bytes], list[Future[None]]]:
        """As many of the waiting entries as fit into one append, and one at least."""
        with self._lock:
            size = count = 0
            for block, _ in self._waiting:
                size += len(block)
                if count and size > _MAX_BLOCK:
                    break
                count += 1
            taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return [block for block, _ in taken], [future for _, future in taken]

    def _append(self, content: bytes) -> int:
        if self._log is None:
            self._log = self._look() or self._index.next_log(None)
        for _ in range(_MAX_LOGS):
            try:
                return self._index.append(self._log, content)
            except StorageError as error:
                if error.status not in _NOT_THERE or isinstance(error, BlobHeld):
                    raise
                last = error
            self._log = self._index.next_log(self._log)
            with suppress(StorageError):
                self._ask()
        raise last

    def _after_append(self, end: int, size: int) -> None:
        if end // LARGE_LOG > (end - size) // LARGE_LOG:
            self._ask()
        # Whoever empties a long log can only finish once nobody appends to it.
        if time.monotonic() - self._looked_at > (_LOOK_SECONDS if end > LARGE_LOG else _LOOK_ANYWAY_SECONDS):
            self._log = self._look()

    def _look(self) -> str | None:
        """The newest log of the manifest as it is now."""
        self._looked_at = time.monotonic()
        return self._index.read().manifest.newest
