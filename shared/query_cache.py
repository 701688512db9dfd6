"""Answers to queries asked before: in storage for all instances, the latest in this process too."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from shared.errors import StorageError
from shared.log import Report
from shared.records import QueryRecord
from shared.settings import Settings
from shared.store import Store, query_path

# Vectors of 1,536 numbers take about 50 kB each as Python floats: 25 MB in all.
_MOST_IN_PROCESS = 500
_MESSAGE_LIMIT = 1000


class QueryCache:
    """Finds and keeps answers. Storage that fails is logged and otherwise ignored: it is only a cache.

    Safe to call from many threads; the same question from two of them at once is asked once.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._kept = settings.query_records != "off"
        self._store = store
        self._lock = threading.Lock()
        self._latest: OrderedDict[tuple[str, str], QueryRecord] = OrderedDict()
        self._asking: dict[tuple[str, str], Future[QueryRecord]] = {}

    def find(self, folder: str, key: str) -> QueryRecord | None:
        """The answer, from this process or with one read of storage; ``None`` where there is none."""
        if not self._kept:
            return None
        with self._lock:
            record = self._latest.get((folder, key))
            if record is not None:
                self._latest.move_to_end((folder, key))
                return record
        try:
            record = self._store.find_query(folder, key)
        except (StorageError, msgspec.DecodeError) as error:
            _log_storage_error("read", folder, key, error)
            return None
        if record is not None:
            self._remember(folder, record)
        return record

    def share(self, folder: str, key: str, ask: Callable[[], QueryRecord], *, fresh: bool) -> tuple[QueryRecord, bool]:
        """Ask, and keep the answer; or wait for somebody who is asking the same. The second says which it was.

        Raises what ``ask`` raises, for all who wait. With ``fresh`` nobody else's answer will do.
        """
        place = (folder, key)
        asking: Future[QueryRecord] = Future()
        with self._lock:
            before = None if fresh else self._asking.get(place)
            if before is None and not fresh:
                if (record := self._latest.get(place)) is not None:
                    return record, True
                self._asking[place] = asking
        if before is not None:
            return before.result(), True
        try:
            record = ask()
        except BaseException as error:
            asking.set_exception(error)
            raise
        else:
            if self._kept:
                self._remember(folder, record)
            asking.set_result(record)
        finally:
            with self._lock:
                if self._asking.get(place) is asking:
                    del self._asking[place]
        if self._kept:
            self._write(folder, record)
        return record, False

    def _remember(self, folder: str, record: QueryRecord) -> None:
        with self._lock:
            self._latest[folder, record.id] = record
            self._latest.move_to_end((folder, record.id))
            if len(self._latest) > _MOST_IN_PROCESS:
                self._latest.popitem(last=False)

    def _write(self, folder: str, record: QueryRecord) -> None:
        try:
            self._store.write_query(folder, record)
        except StorageError as error:
            _log_storage_error("write", folder, record.id, error)


def _log_storage_error(action: str, folder: str, key: str, error: Exception) -> None:
    message = f"{action} {query_path(folder, key)}: {type(error).__name__}: {error}"[:_MESSAGE_LIMIT]
    Report(outcome="error", message=message).log("query_record", logging.ERROR)
