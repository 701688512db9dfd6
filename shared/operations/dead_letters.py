"""Events that Event Grid could not deliver, put on the queue instead.

Event Grid does not retry a webhook's 400, 401, 403 and 413 ("Event Grid message delivery and retry"), and an app that
starts from zero may answer 401 (Azure/azure-functions-host#11834). Such an event goes to the dead letters within
minutes; from there this app takes it.
"""

import itertools
import random
import time
from collections.abc import Generator
from contextlib import closing
from http import HTTPStatus

import msgspec

from shared.errors import StorageError
from shared.settings import Settings
from shared.storage.blobs import JsonBlobs, if_match
from shared.storage.listing import Listed
from shared.storage.rest import CHANGED, MISSING, ignoring
from shared.uploads.messages import UnreadableMessageError, read_requests
from shared.uploads.requests import EmbeddingRequest, RequestQueue

CONTAINER = "dead-letter-events"
# What one run takes at most: the next is five minutes later. A blob holds one event or a few.
_MAX_BLOBS, _MAX_SECONDS = 2000, 60.0
# How much of the listing is read: 50,000 blobs, which take 25 MB.
_MAX_PAGES = 10
_UNREADABLE = "unreadable"


class DeadLetterCounts(msgspec.Struct, kw_only=True):
    """``requeued`` images were put on the queue; ``unreadable`` blobs are kept for an operator.

    ``waiting`` blobs are for the next run, or for another app; more may be beyond the part of the listing that is read.
    """

    requeued: int = 0
    unreadable: int = 0
    waiting: int = 0


class DeadLetters:
    """The container of dead letters. Raises ``StorageError`` where storage fails."""

    def __init__(self, settings: Settings, blobs: JsonBlobs, requests: RequestQueue) -> None:
        self._images = settings.images_container
        self._blobs = blobs
        self._requests = requests

    def requeue(self) -> DeadLetterCounts:
        """Have every image that a dead letter names synced, and remove that dead letter.

        Bounded; what is left is for the next call. A dead letter is removed after its images are on the queue, so one
        may be queued twice, and none is lost.
        """
        counts = DeadLetterCounts()
        deadline = time.monotonic() + _MAX_SECONDS
        taken = 0
        found = list(self._list())
        # In another order each time: those of an app that is gone stay, and must not keep ours from their turn.
        random.shuffle(found)
        for blob in found:
            if _UNREADABLE in blob.metadata:
                counts.unreadable += 1
            elif taken < _MAX_BLOBS and time.monotonic() < deadline and self._take(blob, counts):
                taken += 1
            else:
                counts.waiting += 1
        if counts.requeued:
            self._requests.ask()
        return counts

    def count(self) -> DeadLetterCounts:
        """How many there are, none taken."""
        counts = DeadLetterCounts()
        for blob in self._list():
            if _UNREADABLE in blob.metadata:
                counts.unreadable += 1
            else:
                counts.waiting += 1
        return counts

    def _list(self) -> Generator[Listed]:
        """The dead letters of the first pages. None where there is no such container."""
        try:
            with closing(self._blobs.pages("", "", "")) as pages:
                for page in itertools.islice(pages, _MAX_PAGES):
                    yield from page.blobs
        except StorageError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def _take(self, blob: Listed, counts: DeadLetterCounts) -> bool:
        """Requeue the images of a dead letter, or mark it as unreadable; false if it is another app's to take."""
        content = self._blobs.read_bytes(blob.name)
        if content is None:
            return True
        try:
            requests = [request for request in read_requests(content) if request.container == self._images]
        except UnreadableMessageError:
            counts.unreadable += 1
            with ignoring(CHANGED, MISSING):
                self._blobs.set_metadata(blob.name, {_UNREADABLE: "true"}, condition=if_match(blob.etag))
            return True
        if not requests:
            return False
        for request in requests:
            # No trigger's queue is to hold thousands at once.
            if isinstance(request, EmbeddingRequest):
                self._requests.leave(request)
            else:
                self._requests.send(request)
        counts.requeued += len(requests)
        with ignoring(CHANGED, MISSING):
            self._blobs.delete(blob.name, condition=if_match(blob.etag))
        return True
