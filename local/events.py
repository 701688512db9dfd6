"""Events of storage, as Event Grid publishes them, and the subscriptions of a deployment.

Azurite sends no events, but it prints one access-log line for every finished request. A line that Event Grid would call
BlobCreated or BlobDeleted is a change, and each change is an event. Not simulated: the ETag in an event (the app does
not use it), deletions sent as one batch request, and renames, since Azurite has no folders.
"""

import datetime
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

type Event = dict[str, Any]

# 127.0.0.1 - - [22/Nov/2026:19:16:22 +0000] "PUT /devstoreaccount1/images/a%20b.png HTTP/1.1" 201 -
_LINE = re.compile(r'"(PUT|DELETE) /[^/ ]+/([^/? ]+)/([^? ]+)(?:\?(\S*))? HTTP/[\d.]+" (201|202) ')


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


def event(change: Change, blob_url: str) -> Event:
    """One event, in Event Grid's own schema."""
    kind = "BlobDeleted" if change.api == "DeleteBlob" else "BlobCreated"
    return {
        "id": str(uuid.uuid4()),
        "topic": "/subscriptions/local/resourceGroups/local/providers/Microsoft.Storage/storageAccounts/local",
        "subject": f"/blobServices/default/containers/{change.container}/blobs/{unquote(change.path)}",
        "eventType": f"Microsoft.Storage.{kind}",
        "eventTime": now(),
        "data": {
            "api": change.api,
            "blobType": "BlockBlob",
            "eTag": "0x0",
            "url": f"{blob_url}/{change.container}/{change.path}",
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }


@dataclass(frozen=True)
class Filter:
    """An advanced filter of a subscription: a field of the event, and values of which one must match, or none may.

    Case does not matter, as in Event Grid.
    """

    key: Literal["subject", "data.api"]
    operator: Literal["StringIn", "StringContains", "StringNotContains", "StringEndsWith", "StringNotEndsWith"]
    values: tuple[str, ...]

    def passes(self, event: Event) -> bool:
        """Whether it lets the event through."""
        value = (event["subject"] if self.key == "subject" else event["data"]["api"]).lower()
        values = [one.lower() for one in self.values]
        match self.operator:
            case "StringIn":
                return value in values
            case "StringContains":
                return any(one in value for one in values)
            case "StringNotContains":
                return not any(one in value for one in values)
            case "StringEndsWith":
                return any(value.endswith(one) for one in values)
            case "StringNotEndsWith":
                return not any(value.endswith(one) for one in values)


@dataclass(frozen=True)
class Subscription:
    """A subscriber, and which events it gets: of one type, of the blobs of one container, that pass all filters."""

    name: str
    event_type: Literal["Microsoft.Storage.BlobCreated", "Microsoft.Storage.BlobDeleted"]
    container: str
    send: Callable[[Event], int | None]
    """Delivers an event and returns the HTTP status of the answer; None where there was none."""
    filters: tuple[Filter, ...] = ()

    def wants(self, event: Event) -> bool:
        """Whether it gets this event."""
        begins = f"/blobServices/default/containers/{self.container}/blobs/"
        return (
            event["eventType"] == self.event_type
            and event["subject"].startswith(begins)
            and all(one.passes(event) for one in self.filters)
        )


_COMPLETE = Filter("data.api", "StringIn", ("PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose", "SftpCommit"))
# As in infra/events.bicep. Of these names the blob trigger would make others, or none (local.host.blob_events); on a
# queue every name arrives.
_UNSAFE = ("//", "/./", "/../", "?", "\\", "%", "\ufffd")
_UNSAFE_ENDINGS = ("/", "/.", "/..")


def uploads(container: str, send: Callable[[Event], int | None]) -> Subscription:
    """Uploads to a container, except for those in `unsafe_uploads`."""
    safe = (
        Filter("subject", "StringNotContains", _UNSAFE),
        Filter("subject", "StringNotEndsWith", _UNSAFE_ENDINGS),
    )
    return Subscription("uploads", "Microsoft.Storage.BlobCreated", container, send, (_COMPLETE, *safe))


def unsafe_uploads(container: str, send: Callable[[Event], int | None]) -> list[Subscription]:
    """Uploads whose names the blob trigger cannot carry. A name that is unsafe in both ways is announced twice."""
    unsafe = {
        "uploads-unsafe": Filter("subject", "StringContains", _UNSAFE),
        "uploads-unsafe-ending": Filter("subject", "StringEndsWith", _UNSAFE_ENDINGS),
    }
    return [
        Subscription(name, "Microsoft.Storage.BlobCreated", container, send, (_COMPLETE, condition))
        for name, condition in unsafe.items()
    ]


def deletions(container: str, send: Callable[[Event], int | None]) -> Subscription:
    """All deletions from a container."""
    return Subscription("deletions", "Microsoft.Storage.BlobDeleted", container, send)


def now() -> str:
    """The time, as events write it."""
    return datetime.datetime.now(datetime.UTC).isoformat()
