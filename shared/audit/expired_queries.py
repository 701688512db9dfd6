"""Query records past their retention, in every space of the container, also those that no app uses any more.

A lifecycle rule of the storage account knows fixed prefixes only, and the spaces of queries come with the dimensions
that callers ask for.
"""

import time
from contextlib import closing
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from shared.audit.report import Audit
from shared.audit.workers import Workers
from shared.settings import Settings
from shared.storage.blobs import JsonBlobs, if_match
from shared.storage.rest import CHANGED, MISSING, ignoring


class ExpiredQueries:
    """Removes query records that are older than ``QUERY_RETENTION_DAYS``. Raises ``StorageError``."""

    def __init__(self, settings: Settings, blobs: JsonBlobs) -> None:
        self._retention = timedelta(days=settings.query_retention_days)
        self._blobs = blobs

    def remove(self, audit: Audit, workers: Workers, deadline: float) -> bool:
        """Remove them, from the audit's cursor on; returns whether all spaces are done by ``deadline``."""
        cursor = audit.cursor
        oldest = audit.report.started_at - self._retention
        for space in sorted(self._blobs.folders()):
            if space < cursor.query_space:
                continue
            if space != cursor.query_space:
                cursor.query_space, cursor.queries = space, ""
            if not self._remove_from(space, oldest, audit, workers, deadline):
                return False
        return True

    def _remove_from(self, space: str, oldest: datetime, audit: Audit, workers: Workers, deadline: float) -> bool:
        folder = f"{space}/queries/"
        with closing(self._blobs.pages(folder, "", audit.cursor.queries)) as pages:
            for number, page in enumerate(pages):
                audit.cursor.queries = page.marker
                # One page at least, so that every step gets on.
                if number and time.monotonic() > deadline:
                    return False
                for blob in page.blobs:
                    if parsedate_to_datetime(blob.last_modified) < oldest:
                        audit.report.queries_removed += 1
                        workers.submit(self._delete, folder + blob.name, blob.etag)
        return True

    def _delete(self, path: str, etag: str) -> None:
        # A record that was written again meanwhile is not an old one.
        with ignoring(CHANGED, MISSING):
            self._blobs.delete(path, condition=if_match(etag))
