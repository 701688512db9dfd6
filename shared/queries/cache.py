"""The cache of query embeddings: all of them in storage, shared by every instance; the latest in this process."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus

from shared.errors import ModelError, ModelTimedOut, ModelUnavailable, NotSent, QueryError, StorageError, UnreadableBlob
from shared.log import Report
from shared.queries.records import QueryRecord, query_path
from shared.settings import Settings
from shared.storage.blobs import JsonBlobs
from shared.storage.rest import BRIEF

# A vector of 1,536 Python floats takes about 50 kB: 25 MB in all.
_MAX_IN_PROCESS = 500

type Failure = QueryError | ModelError | StorageError
type Flight = Future[QueryRecord | Failure]
# By key the answer or the error, and whether another request made it.
type Found = dict[str, tuple[QueryRecord | Failure, bool]]


class QueryCache:
    """Finds and stores answers. Storage that fails is logged and otherwise ignored: this is only a cache.

    Safe to call from many threads; identical queries at once share one call to the model.
    """

    def __init__(self, settings: Settings, blobs: JsonBlobs) -> None:
        self._enabled = settings.query_records != "off"
        self._blobs = blobs
        self._lock = threading.Lock()
        self._latest: OrderedDict[tuple[str, str], QueryRecord] = OrderedDict()
        self._in_flight: dict[tuple[str, str], Flight] = {}

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
        self,
        space: str,
        keys: Sequence[str],
        embed: Callable[[Sequence[str]], Sequence[QueryRecord | Failure]],
        *,
        deadline: float,
        fresh: bool,
    ) -> Found:
        """Embed all keys at once, but for those that another thread embeds: these are waited for.

        Returns the answer or the error of each key. If another thread only ran out of time, this one embeds. Others are
        waited for until ``deadline``. ``fresh`` never takes another thread's answer. Nothing is written: see
        :meth:`store`.
        """
        found: Found = {}
        left = list(keys)
        while left:
            ours, theirs = self._begin(space, left, found, fresh=fresh)
            if ours:
                self._embed_ours(space, ours, embed, found)
            left = []
            # Only now: whoever waits for ours has them already.
            for key, flight in theirs.items():
                outcome = _result(flight, deadline)
                if isinstance(outcome, _OutOfTime) and time.monotonic() <= deadline:
                    left.append(key)
                else:
                    found[key] = (outcome.error if isinstance(outcome, _OutOfTime) else outcome), True
        return found

    def store(self, space: str, record: QueryRecord) -> None:
        """Write an answer, whoever made it: the key holds everything that decides it."""
        if not self._enabled:
            return
        try:
            self._blobs.write(query_path(space, record.id), record, effort=BRIEF)
        except StorageError as error:
            log_storage_error("write", query_path(space, record.id), error)

    def _begin(
        self, space: str, keys: list[str], found: Found, *, fresh: bool
    ) -> tuple[dict[str, Flight], dict[str, Flight]]:
        """The flights that begin here and those of other threads; what was answered meanwhile is found."""
        ours: dict[str, Flight] = {}
        theirs: dict[str, Flight] = {}
        with self._lock:
            for key in keys:
                running = None if fresh else self._in_flight.get((space, key))
                record = None if fresh else self._latest.get((space, key))
                if running is not None:
                    theirs[key] = running
                elif record is not None:
                    found[key] = record, True
                else:
                    ours[key] = Future()
                    if not fresh:
                        self._in_flight[space, key] = ours[key]
        return ours, theirs

    def _embed_ours(
        self,
        space: str,
        ours: dict[str, Flight],
        embed: Callable[[Sequence[str]], Sequence[QueryRecord | Failure]],
        found: Found,
    ) -> None:
        try:
            outcomes = embed(list(ours))
            for (key, flight), outcome in zip(ours.items(), outcomes, strict=True):
                if isinstance(outcome, QueryRecord) and self._enabled:
                    self._remember(space, outcome)
                flight.set_result(outcome)
                found[key] = outcome, False
        except BaseException as error:
            for flight in ours.values():
                if not flight.done():
                    flight.set_exception(error)
            raise
        finally:
            with self._lock:
                for key, flight in ours.items():
                    if self._in_flight.get((space, key)) is flight:
                        del self._in_flight[space, key]

    def _remember(self, space: str, record: QueryRecord) -> None:
        with self._lock:
            self._latest[space, record.id] = record
            self._latest.move_to_end((space, record.id))
            if len(self._latest) > _MAX_IN_PROCESS:
                self._latest.popitem(last=False)


@dataclass(frozen=True)
class _OutOfTime:
    """The thread that embeds ran out of its time, which says nothing about the time of those who wait."""

    error: ModelUnavailable


def _result(flight: Flight, deadline: float) -> QueryRecord | Failure | _OutOfTime:
    """What another thread was told, by ``deadline``; raises what was no answer at all."""
    try:
        outcome = flight.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        message = "The same query is being asked, and was not answered in the time that this one had."
        return ModelTimedOut(message, status=504)
    if isinstance(outcome, ModelUnavailable):
        # A 503 of the model's own holds for everybody who asks.
        without_place = isinstance(outcome, NotSent) and outcome.status == HTTPStatus.SERVICE_UNAVAILABLE
        if isinstance(outcome, ModelTimedOut) or without_place or outcome.status == HTTPStatus.GATEWAY_TIMEOUT:
            return _OutOfTime(outcome)
    return outcome


def log_storage_error(action: str, path: str, error: Exception) -> None:
    """Log that a blob could not be read or written, and nothing else happens because of it."""
    message = f"{action} {path}: {type(error).__name__}: {error}"
    Report(outcome="error", message=message).log("query_record", logging.ERROR)
