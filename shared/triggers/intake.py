"""Reads events and queue messages, and passes each to its use case."""

import logging
from collections.abc import Callable

import msgspec

from shared.audit.reconcile import Reconcile
from shared.audit.report import AuditMessage
from shared.clock import now
from shared.log import Report
from shared.settings import Settings
from shared.uploads.messages import UnreadableMessageError, decoded, read_failed_upload, read_requests
from shared.uploads.record_store import RecordStore
from shared.uploads.records import DroppedMessage
from shared.uploads.report import ImageReport
from shared.uploads.requests import EmbeddingRequest
from shared.uploads.sync import Sync

_CONTENT_LIMIT = 1000


class Intake:
    """One method for each trigger. Unreadable messages are logged, recorded and dropped: a retry cannot help."""

    def __init__(self, settings: Settings, records: RecordStore, sync: Sync, reconcile: Reconcile) -> None:
        self._settings = settings
        self._records = records
        self._sync = sync
        self._reconcile = reconcile

    def uploaded(self, container: str, name: str) -> None:
        """Sync the image that an event names, if it is in ``IMAGES_CONTAINER``: the host does not check that."""
        if container == self._settings.images_container:
            self._sync.upload(name)
        else:
            message = f"The container {container} is not IMAGES_CONTAINER ({self._settings.images_container})."
            ImageReport(name=name, outcome="ignored", message=message).log("image", logging.WARNING)

    def queued(self, body: bytes) -> None:
        """Sync the images named by a request or by storage events, or take the next step of an audit."""
        match self._read(read_queued, body):
            case AuditMessage(audit=audit):
                self._reconcile.resume(audit)
            case requests:
                for request in requests:
                    self._sync.request(request)

    def failed_upload(self, body: bytes) -> None:
        """Record an upload that the platform gave up on."""
        for request in self._read(read_failed_upload, body):
            self._sync.crashed(request.name)

    def failed_request(self, body: bytes) -> None:
        """Record a queued request that the platform gave up on."""
        match self._read(read_queued, body):
            case AuditMessage(audit=audit):
                self._reconcile.abandoned(audit)
            case requests:
                for request in requests:
                    self._sync.crashed(request.name)

    def _read[Requests: list[EmbeddingRequest] | AuditMessage](
        self, read: Callable[[bytes, str], Requests], body: bytes
    ) -> Requests | list[EmbeddingRequest]:
        try:
            return read(body, self._settings.images_container)
        except UnreadableMessageError as error:
            content = body[:_CONTENT_LIMIT].decode("utf-8", "replace")
            self._records.write_dropped(DroppedMessage(content=content, reason=str(error), seen_at=now()))
            Report(outcome="error", message=str(error)[:_CONTENT_LIMIT]).log("message_dropped", logging.ERROR)
            return []


def read_queued(body: bytes, container: str) -> list[EmbeddingRequest] | AuditMessage:
    """Read a message of the queue ``embedding-requests``. Raises ``UnreadableMessageError``."""
    body = decoded(body)
    if not body.startswith(b'{"audit"'):
        return read_requests(body, container)
    try:
        return msgspec.json.decode(body, type=AuditMessage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessageError(f"The message is not a valid step of an audit: {error}") from error
