"""Reads events and queue messages, and passes each to its use case."""

import logging
from collections.abc import Callable, Iterator, Sequence

import msgspec

from shared.audit.reconcile import Reconcile, ReconcileRequest
from shared.audit.report import AuditMessage
from shared.clock import now
from shared.log import MESSAGE_LIMIT, Report
from shared.search.upkeep.compaction import Compaction, CompactionRequest
from shared.settings import Settings
from shared.storage.queues import Message
from shared.uploads.messages import UnreadableMessageError, decoded, read_failed_upload, read_requests
from shared.uploads.record_store import RecordStore
from shared.uploads.records import DroppedMessage
from shared.uploads.report import ImageReport
from shared.uploads.requests import MAX_RETURNS, DispatchRequest, EmbeddingRequest, FolderRequest, RequestQueue
from shared.uploads.sync import Sync
from shared.uploads.waiting.dispatcher import Dispatcher


class _Kind(msgspec.Struct):
    """What tells the app's own errands from messages about images: audits, dispatchers, and the upkeep of the index."""

    audit: object = None
    index: object = None
    turn: object = None


class Intake:
    """One method a trigger.

    An unreadable message is logged, recorded and dropped: a retry cannot help. One that is for another app goes back on
    its queue until that app takes it; after a few days it is dropped in the same way.
    """

    def __init__(
        self,
        settings: Settings,
        records: RecordStore,
        requests: RequestQueue,
        sync: Sync,
        dispatcher: Dispatcher,
        reconcile: Reconcile,
        compaction: Compaction | None,
    ) -> None:
        self._settings = settings
        self._records = records
        self._requests = requests
        self._sync = sync
        self._dispatcher = dispatcher
        self._reconcile = reconcile
        self._compaction = compaction

    def uploaded(self, container: str, name: str) -> None:
        """Sync the image that an event names, if it is in ``IMAGES_CONTAINER``: the host does not check that."""
        if container == self._settings.images_container:
            self._sync.upload(name)
        else:
            message = f"The container {container} is not IMAGES_CONTAINER ({self._settings.images_container})."
            ImageReport(name=name, outcome="ignored", message=message).log("image", logging.WARNING)

    def queued(self, body: bytes) -> None:
        """Sync the images named by a request or by storage events; audit a folder that was renamed or deleted.

        Or take the next step of an audit or the next turn of a dispatcher, or compact the index of search.
        """
        for message in self._read(read_queued, body, self._requests.queue):
            match message:
                case AuditMessage(audit=audit):
                    self._reconcile.resume(audit)
                case DispatchRequest(turn=turn):
                    self._dispatcher.run(turn)
                case FolderRequest(prefix=prefix):
                    self._reconcile.start(ReconcileRequest(prefix=prefix))
                case CompactionRequest(clean=clean):
                    if self._compaction is not None:
                        self._compaction.run(clean=clean)
                case EmbeddingRequest():
                    self._sync.request(message)

    def failed_upload(self, body: bytes) -> None:
        """Record an upload that the platform gave up on."""
        for request in self._read(read_failed_upload, body, self._requests.uploads_poison):
            self._sync.crashed(request.name)

    def failed_request(self, body: bytes) -> None:
        """Record a queued request that the platform gave up on."""
        for message in self._read(read_queued, body, self._requests.poison):
            match message:
                case AuditMessage(audit=audit):
                    self._reconcile.abandoned(audit)
                case DispatchRequest():
                    # Until the watch asks again, which it does every few minutes.
                    reason = "The platform gave up on the dispatcher, which works off what waits for the model."
                    Report(outcome="error", message=reason).log("dispatch", logging.ERROR)
                case FolderRequest(prefix=prefix):
                    # The nightly audit covers it.
                    reason = f"The platform gave up on the folder {prefix}: call reconcile with it as the prefix."
                    Report(outcome="error", message=reason).log("audit", logging.ERROR)
                case CompactionRequest():
                    # Until the watch asks again, which it does every few minutes.
                    reason = "The platform gave up on compacting the index of search."
                    Report(outcome="error", message=reason).log("index", logging.ERROR)
                case EmbeddingRequest():
                    self._sync.crashed(message.name)

    def _read[Read: Message](self, read: Callable[[bytes], Sequence[Read]], body: bytes, queue: str) -> Iterator[Read]:
        """What is for this app; all else goes back on the ``queue`` that it came from, after that."""
        try:
            messages = read(body)
        except UnreadableMessageError as error:
            self._drop(decoded(body), str(error))
            return
        yield from filter(self._requests.is_ours, messages)
        for message in messages:
            if not self._requests.is_ours(message) and not self._requests.put_back(message, queue):
                self._drop(
                    msgspec.json.encode(message),
                    f"No app of the container {message.container!r} and the space {message.space or 'any'!r} has taken"
                    f" it off {queue} in {MAX_RETURNS} attempts.",
                )

    def _drop(self, body: bytes, reason: str) -> None:
        content = body[:MESSAGE_LIMIT].decode("utf-8", "replace")
        self._records.write_dropped(DroppedMessage(content=content, reason=reason, seen_at=now()))
        Report(outcome="error", message=reason).log("message_dropped", logging.ERROR)


def read_queued(
    body: bytes,
) -> Sequence[EmbeddingRequest | FolderRequest | AuditMessage | DispatchRequest | CompactionRequest]:
    """Read a message of the queue ``embedding-requests``. Raises ``UnreadableMessageError``."""
    body = decoded(body)
    if not body.startswith(b"{") or not any(word in body for word in (b'"audit"', b'"turn"', b'"index"')):
        return read_requests(body)
    try:
        # A name may hold the words, too.
        kind = msgspec.json.decode(body, type=_Kind)
        if kind.audit is not None:
            return [msgspec.json.decode(body, type=AuditMessage)]
        if kind.turn is not None:
            return [msgspec.json.decode(body, type=DispatchRequest)]
        if kind.index is not None:
            return [msgspec.json.decode(body, type=CompactionRequest)]
        return read_requests(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"The message is neither a valid step of an audit, nor about a dispatcher or the index: {error}"
        raise UnreadableMessageError(message) from error
