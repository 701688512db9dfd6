"""The cache of query embeddings: all of them in storage, shared by every instance; the latest in this process."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus

from shared.errors import ModelTimedOut, ModelUnavailable, NotSent, StorageError, UnreadableBlob
from shared.log import Report
from shared.queries.records import QueryRecord, query_path
from shared.settings import Settings
from shared.storage.blobs import JsonBlobs
from shared.storage.rest import BRIEF

# A vector of 1,536 Python floats takes about 50 kB: 25 MB in all.
_MAX_IN_PROCESS = 500


class QueryCache:
    """Finds and stores answers. Storage that fails is logged and otherwise ignored: this is only a cache.

    Safe to call from many threads; identical queries at once share one call to the model.
    """

    def __init__(self, settings: Settings, blobs: JsonBlobs) -> None:
        self._enabled = settings.query_records != "off"
        self._blobs = blobs
        self._lock = threading.Lock()
        self._latest: OrderedDict[tuple[str, str], QueryRecord] = OrderedDict()
        self._in_flight: dict[tuple[str, str], Future[QueryRecord]] = {}

    def find(self, space: str, key: str) -> QueryRecord | None:
        """The answer, from this process or with one read of storage; ``None`` if there is none."""
        if not self._enabled:
            return None
        with self._lock:
            record = self._latest.get((space, key))
            if record is not None:
                self._latest.move_to_end((space, key))
                return record
        try:
            record = self._blobs.read(query_path(space, key), QueryRecord, effort=BRIEF)
        except (StorageError, UnreadableBlob) as error:
            log_storage_error("read", query_path(space, key), error)
            return None
        if record is not None:
            self._remember(space, record)
        return record

    def single_flight(
        self, space: str, key: str, embed: Callable[[], QueryRecord], *, deadline: float, fresh: bool
    ) -> tuple[QueryRecord, bool]:
        """Embed and store the answer, or wait for another thread that does; returns it and whether it was shared.

        Raises what ``embed`` raises, in every thread that waits for it, unless only the embedding thread ran out of
        time: then one of the others embeds. Each waits until its own ``deadline``. ``fresh`` never takes another
        thread's answer.
        """
        while True:
            try:
                return self._fly_once(space, key, embed, deadline=deadline, fresh=fresh)
            except _OutOfTimeError as error:
                if time.monotonic() > deadline:
                    raise error.error from error

    def _fly_once(
        self, space: str, key: str, embed: Callable[[], QueryRecord], *, deadline: float, fresh: bool
    ) -> tuple[QueryRecord, bool]:
        place = (space, key)
        flight: Future[QueryRecord] = Future()
        with self._lock:
            running = None if fresh else self._in_flight.get(place)
            if running is None and not fresh:
                if (record := self._latest.get(place)) is not None:
                    return record, True
                self._in_flight[place] = flight
        if running is not None:
            return _result(running, deadline), True
        try:
            record = embed()
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            if self._enabled:
                self._remember(space, record)
            flight.set_result(record)
        finally:
            with self._lock:
                if self._in_flight.get(place) is flight:
                    del self._in_flight[place]
        if self._enabled:
            self._write(space, record)
        return record, False

    def _remember(self, space: str, record: QueryRecord) -> None:
        with self._lock:
            self._latest[space, record.id] = record
            self._latest.move_to_end((space, record.id))
            if len(self._latest) > _MAX_IN_PROCESS:
                self._latest.popitem(last=False)

    def _write(self, space: str, record: QueryRecord) -> None:
        try:
            # The key holds everything that decides the answer, so any writer's answer will do.
            self._blobs.write(query_path(space, record.id), record, effort=BRIEF)
        except StorageError as error:
            log_storage_error("write", query_path(space, record.id), error)


class _OutOfTimeError(Exception):
    """The thread that embeds ran out of its time, which says nothing about the time of those who wait."""

    def __init__(self, error: ModelUnavailable) -> None:
        super().__init__(str(error))
        self.error = error


def _result(flight: Future[QueryRecord], deadline: float) -> QueryRecord:
    """What another thread was told, by ``deadline``."""
    try:
        return flight.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError as error:
        message = "The same query is being asked, and was not answered in the time that this one had."
        raise ModelTimedOut(message, status=504) from error
    except ModelUnavailable as error:
        # A 503 of the model's own holds for everybody who asks.
        without_place = isinstance(error, NotSent) and error.status == HTTPStatus.SERVICE_UNAVAILABLE
        if isinstance(error, ModelTimedOut) or without_place or error.status == HTTPStatus.GATEWAY_TIMEOUT:
            raise _OutOfTimeError(error) from error
        raise


def log_storage_error(action: str, path: str, error: Exception) -> None:
    """Log that a blob could not be read or written, and nothing else happens because of it."""
    message = f"{action} {path}: {type(error).__name__}: {error}"
    Report(outcome="error", message=message).log("query_record", logging.ERROR)
