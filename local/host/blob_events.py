"""What the storage extension makes of Event Grid's events: a message on the blob trigger's own queue for each.

The extension reads `url`, `eTag` and `blobType` of an event's data and nothing else: not the type of the event, not its
subject. The name comes out of the URL by .NET's parser of URIs, which loses a part of some names.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

_BLOB_TYPES = {"BlockBlob", "PageBlob", "AppendBlob"}


class UnreadableEventError(ValueError):
    """The extension fails at this event, and the host answers Event Grid with 500."""


@dataclass(frozen=True)
class BlobMessage:
    """A message of the blob trigger's own queue."""

    function_id: str | None
    container: str
    name: str
    body: bytes
    """The message itself: JSON in the extension's own layout."""


def messages(function_id: str | None, document: object) -> Iterator[BlobMessage]:
    """Yield a message for each event of a delivery, which is a list of events or a single one.

    Raises UnreadableEventError at the first that the extension cannot read; those before it count.
    """
    match document:
        case list():
            events = document
        case dict():
            events = [document]
        case _:
            raise UnreadableEventError(f"the body is no event and no list of events: {document!r:.100}")
    for event in events:
        yield _message(function_id, event)


def validation_code(document: object) -> str:
    """The code that Event Grid sends to find out whether this is the right place. Raises UnreadableEventError."""
    try:
        event: Any = document[0] if isinstance(document, list) else document
        return str(event["data"]["validationCode"])
    except (IndexError, KeyError, TypeError) as error:
        raise UnreadableEventError("the body has no data.validationCode") from error


def blob_of(url: str) -> tuple[str, str]:
    """The container and the name that the extension takes from a blob's URL; the name may come out empty.

    Raises UnreadableEventError where it is no URL.
    """
    scheme, separator, rest = url.replace("#", "%23").partition("://")
    if not scheme.isalpha() or not separator:
        raise UnreadableEventError(f"{url!r} is no absolute URL")
    host, _, path = rest.partition("?")[0].replace("\\", "/").partition("/")
    segments = _without_dots(path.split("/"))
    if _is_ip_address(host.partition(":")[0]):
        segments = segments[1:]  # an emulator's path begins with the account
    container, *name = segments or [""]
    return container, unquote("/".join(name)).strip("/")


def read_message(body: bytes) -> BlobMessage:
    """Read a message of the queue. Raises ValueError where it is none."""
    try:
        document = json.loads(body)
        return BlobMessage(document["FunctionId"], document["ContainerName"], document["BlobName"], body)
    except (TypeError, KeyError) as error:
        raise ValueError(f"no message of the blob trigger: {body[:100]!r}") from error


def _message(function_id: str | None, event: object) -> BlobMessage:
    data = event.get("data") if isinstance(event, dict) else None
    if not isinstance(data, dict) or "url" not in data:
        raise UnreadableEventError("an event has no data.url")
    if data.get("blobType") not in _BLOB_TYPES:
        raise UnreadableEventError(f"an event's data.blobType is {data.get('blobType')!r}")
    container, name = blob_of(str(data["url"]))
    document = {
        "Type": "BlobTrigger",
        "FunctionId": function_id,
        "BlobType": data["blobType"],
        "ContainerName": container,
        "BlobName": name,
        "ETag": f'"{data.get("eTag", "")}"',
    }
    return BlobMessage(function_id, container, name, json.dumps(document, indent=2, ensure_ascii=False).encode())


def _without_dots(segments: list[str]) -> list[str]:
    """The segments of a path once `.` and `..` have been followed, written as they are or as `%2E`."""
    kept: list[str] = []
    for segment in segments:
        match segment.replace("%2E", ".").replace("%2e", "."):
            case ".":
                pass
            case "..":
                del kept[-1:]
            case _:
                kept.append(segment)
    return kept


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
