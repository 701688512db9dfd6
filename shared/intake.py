"""What the triggers bring: uploads, queued requests, audits to go on with, and what the platform gave up on."""

import logging
from collections.abc import Callable

from shared.log import Report
from shared.messages import UnreadableMessageError, read_failed_upload, read_requests
from shared.reconcile import Reconcile
from shared.records import AuditMessage, DroppedMessage, EmbeddingRequest, now
from shared.settings import Settings
from shared.store import Store
from shared.sync import ImageReport, Sync

_CONTENT_LIMIT = 1000


class Intake:
    """One method a trigger. A message that nobody can read is logged, recorded and dropped: no other try can help."""

    def __init__(self, settings: Settings, store: Store, sync: Sync, reconcile: Reconcile) -> None:
        self._settings = settings
        self._store = store
        self._sync = sync
        self._reconcile = reconcile

    def uploaded(self, container: str, name: str) -> None:
        """Look at the image that an event names. The host compares neither container nor path, so this does."""
        if container == self._settings.images_container:
            self._sync(name)
        else:
            report = ImageReport(name=name, outcome="ignored", message=f"The container {container} is not watched.")
            report.log("image", logging.WARNING)

    def queued(self, body: bytes) -> None:
        """Look again at what a message of ours, or events of storage, name; or go on with an audit."""
        match self._read(read_requests, body):
            case AuditMessage(audit=audit):
                self._reconcile.go_on(audit)
            case requests:
                for request in requests:
                    self._sync.again(request)

    def failed_upload(self, body: bytes) -> None:
        """Record an upload that the platform gave up on."""
        for request in self._read(read_failed_upload, body):
            self._sync.crashed(request.name)

    def failed_request(self, body: bytes) -> None:
        """Record a queued request that the platform gave up on."""
        match self._read(read_requests, body):
            case AuditMessage(audit=audit):
                self._reconcile.stopped(audit)
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
            self._store.write_dropped(DroppedMessage(content=content, reason=str(error), seen_at=now()))
            Report(outcome="error", message=str(error)[:_CONTENT_LIMIT]).log("message_dropped", logging.ERROR)
            return []
