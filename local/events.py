"""A stand-in for Event Grid: it notifies the function app of every blob that is written or deleted.

Azurite sends no events, but it prints one access-log line for every finished request. A line that Event Grid would call
BlobCreated becomes an event for the webhook of each blob-triggered function of that container. Events go in order, in
batches where many are waiting, and are sent again until the answer is 202. The line of a deletion becomes a BlobDeleted
event on the queue `embedding-requests`, if the app listens to that queue. Not simulated: dead-lettering, delivery out
of order or twice, the ETag in an event (the host does not use it), and deletions sent as one batch request.
"""

import base64
import contextlib
import datetime
import itertools
import json
import logging
import queue
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx

from local.storage import Queue, StorageFailed

logger = logging.getLogger(__name__)

# 127.0.0.1 - - [22/Nov/2026:19:16:22 +0000] "PUT /devstoreaccount1/images/a%20b.png HTTP/1.1" 201 -
_LINE = re.compile(r'"(PUT|DELETE) /[^/ ]+/([^/? ]+)/([^? ]+)(?:\?(\S*))? HTTP/[\d.]+" (201|202) ')
_BATCH = 200


@dataclass(frozen=True)
class Change:
    """A blob that was written (`PutBlob`, `PutBlockList`, `CopyBlob`) or deleted (`DeleteBlob`)."""

    api: str
    container: str
    path: str
    """The blob's name as in a URL: percent-encoded."""


def change(line: str) -> Change | None:
    """The change that a line of Azurite's access log reports, if any."""
    found = _LINE.search(line)
    if found is None:
        return None
    verb, container, path, query, status = found.groups()
    parameters = parse_qs(query or "")
    operation = parameters.get("comp", [""])[0]
    match verb, operation, status:
        case ("PUT", "", "201"):
            api = "PutBlob"
        case ("PUT", "blocklist", "201"):
            api = "PutBlockList"
        case ("PUT", "", "202"):
            api = "CopyBlob"
        case ("DELETE", "", "202") if not {"snapshot", "versionid"} & parameters.keys():
            api = "DeleteBlob"
        case _:
            return None
    return Change(api, container, path)


@dataclass(frozen=True)
class Subscription:
    """A subscriber, and what it gets: the written or the deleted blobs of one container."""

    container: str
    deletions: bool
    send: Callable[[list[dict[str, Any]]], None]
    """Raises httpx.HTTPError or StorageFailed when the events were not accepted."""

    def wants(self, change: Change) -> bool:
        """Whether it gets this change."""
        return change.container == self.container and (change.api == "DeleteBlob") == self.deletions


def to_webhook(http: httpx.Client, url: str) -> Callable[[list[dict[str, Any]]], None]:
    """Send events to a function app; only 202 means that it has accepted them."""

    def send(events: list[dict[str, Any]]) -> None:
        answer = http.post(url, json=events, headers={"aeg-event-type": "Notification"})
        if answer.status_code != httpx.codes.ACCEPTED:
            raise httpx.HTTPStatusError(f"answered {answer.status_code}", request=answer.request, response=answer)

    return send


def to_queue(target: Queue) -> Callable[[list[dict[str, Any]]], None]:
    """Put each event on a storage queue, base64-encoded as Event Grid does."""

    def send(events: list[dict[str, Any]]) -> None:
        for one in events:
            target.put(base64.b64encode(json.dumps(one).encode()).decode())

    return send


def event(change: Change, blob_url: str) -> dict[str, Any]:
    """One event, in Event Grid's own schema."""
    kind = "BlobDeleted" if change.api == "DeleteBlob" else "BlobCreated"
    return {
        "id": str(uuid.uuid4()),
        "topic": "/subscriptions/local/resourceGroups/local/providers/Microsoft.Storage/storageAccounts/local",
        "subject": f"/blobServices/default/containers/{change.container}/blobs/{unquote(change.path)}",
        "eventType": f"Microsoft.Storage.{kind}",
        "eventTime": datetime.datetime.now(datetime.UTC).isoformat(),
        "data": {
            "api": change.api,
            "blobType": "BlockBlob",
            "eTag": "0x0",
            "url": f"{blob_url}/{change.container}/{change.path}",
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }


class EventGrid:
    """Reads Azurite's log lines from the start; delivers their events once it has subscribers."""

    def __init__(self) -> None:
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._stopping = threading.Event()

    def read(self, line: str) -> None:
        """Take one line. Never blocks: that would block Azurite, which writes them to a pipe."""
        if found := change(line):
            self._changes.put(found)

    @contextmanager
    def delivering(self, blob_url: str, subscriptions: Sequence[Subscription]) -> Iterator[None]:
        """Deliver in a thread, until the end of the block."""
        thread = threading.Thread(target=self._deliver, args=[blob_url, subscriptions], name="event grid", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._changes.put(None)
            thread.join(timeout=5)

    def _deliver(self, blob_url: str, subscriptions: Sequence[Subscription]) -> None:
        while changes := self._next():
            for subscription in subscriptions:
                wanted = [one for one in changes if subscription.wants(one)]
                if wanted:
                    self._until_accepted(subscription, [event(one, blob_url) for one in wanted])

    def _until_accepted(self, subscription: Subscription, events: list[dict[str, Any]]) -> None:
        for pause in itertools.chain([0.1, 0.2, 0.5], itertools.repeat(1.0)):
            try:
                subscription.send(events)
            except (httpx.HTTPError, StorageFailed) as error:
                logger.info("%d events are not accepted yet: %s", len(events), error)
            else:
                return
            if self._stopping.wait(pause):
                return

    def _next(self) -> list[Change]:
        """Wait for a change; return it with those that have come since, or nothing when it is time to stop."""
        changes = [self._changes.get()]
        with contextlib.suppress(queue.Empty):
            while len(changes) < _BATCH:
                changes.append(self._changes.get_nowait())
        return [] if self._stopping.is_set() else [one for one in changes if one]
