"""Queue messages read into requests: our own, events of storage, and what the blob trigger gave up on."""

import base64
import binascii
from collections.abc import Sequence
from urllib.parse import unquote

import msgspec

from shared.uploads.requests import EmbeddingRequest, FolderRequest

_SUBJECT = "/blobServices/default/containers/"
# How an object or a list begins.
_JSON = {b"{", b"["}
_MOST_ENCODINGS = 2
# Of accounts with folders: one event for everything in the folder.
_FOLDER_EVENTS = {"Microsoft.Storage.DirectoryRenamed", "Microsoft.Storage.DirectoryDeleted"}


class UnreadableMessageError(ValueError):
    """The message is of no kind that this queue carries. It says why."""


class _Data(msgspec.Struct, frozen=True, rename="camel"):
    """What an event says about its blob or folder; what was renamed has two URLs, and no other."""

    url: str = ""
    source_url: str = ""
    destination_url: str = ""


class _Event(msgspec.Struct, rename="camel"):
    """The part of a storage event that counts.

    Event Grid's own schema has ``eventType``, a CloudEvent ``type``.
    """

    subject: str
    data: _Data = _Data()
    event_type: str = ""
    type: str = ""


class _Kind(msgspec.Struct):
    """What tells the kinds of messages apart. Only the fields do: a name may hold any of these words."""

    subject: object = None
    prefix: object = None
    returned: object = None


class _FailedUpload(msgspec.Struct, rename="pascal"):
    """What the blob trigger puts on its poison queue."""

    container_name: str
    blob_name: str


def read_requests(body: bytes) -> Sequence[EmbeddingRequest | FolderRequest]:
    """Read a request, or events that a blob or folder was written, renamed or deleted: all mean "sync it".

    Each names the container that it is about. What was renamed is two requests: for what was and for what is there.
    Raises :class:`UnreadableMessageError`.
    """
    body = decoded(body)
    try:
        if body.startswith(b"["):
            return _named(msgspec.json.decode(body, type=list[_Event]))
        kind = msgspec.json.decode(body, type=_Kind)
        if kind.subject is not None:
            return _named([msgspec.json.decode(body, type=_Event)])
        if kind.prefix is not None:
            return [msgspec.json.decode(body, type=FolderRequest)]
        return [msgspec.json.decode(body, type=EmbeddingRequest)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"The message is neither a request of this app nor an event of storage: {error}"
        raise UnreadableMessageError(message) from error


def read_failed_upload(body: bytes) -> list[EmbeddingRequest]:
    """Read the poison message of an upload, as the platform wrote it or as an app put it back for another.

    Raises :class:`UnreadableMessageError`.
    """
    body = decoded(body)
    try:
        if msgspec.json.decode(body, type=_Kind).returned is not None:
            return [msgspec.json.decode(body, type=EmbeddingRequest)]
        failed = msgspec.json.decode(body, type=_FailedUpload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessageError(f"The message is not one of the blob trigger: {error}") from error
    return [EmbeddingRequest(name=failed.blob_name, container=failed.container_name)]


def decoded(body: bytes) -> bytes:
    """The JSON of a message, which most writers encode as base64, and some twice; a message without any as it is.

    The host decodes none (``messageEncoding`` in host.json): it would move what is not base64 to the poison queue, and
    leave it there.
    """
    text = body.strip()
    for _ in range(_MOST_ENCODINGS):
        if text[:1] in _JSON:
            break
        try:
            text = base64.b64decode(b"".join(text.split()), validate=True).strip()
        except binascii.Error:
            break
    return text if text[:1] in _JSON else body


def _named(events: list[_Event]) -> list[EmbeddingRequest | FolderRequest]:
    requests: list[EmbeddingRequest | FolderRequest] = []
    for event in events:
        container, blobs, subject = event.subject.removeprefix(_SUBJECT).partition("/blobs/")
        if not event.subject.startswith(_SUBJECT) or not blobs or not subject:
            raise UnreadableMessageError(f"The event's subject names no blob: {event.subject[:200]!r}")
        said = (event.data.url, event.data.source_url, event.data.destination_url)
        names = {name: None for url in said if (name := _name(url, container))} or {subject: None}
        for name in names:
            if {event.event_type, event.type} & _FOLDER_EVENTS:
                requests.append(FolderRequest(prefix=f"{name.rstrip('/')}/", container=container))
            else:
                requests.append(EmbeddingRequest(name=name, container=container))
    return requests


def _name(url: str, container: str) -> str:
    """The name in an event's URL; empty if there is no URL, or none that can be read.

    The URL has the name percent-encoded, so nothing on its way changes it. The subject has it plain, and some paths
    put U+FFFD in place of every character beyond the first Unicode plane (Azure/azure-event-grid-viewer#9).
    """
    _, _, encoded = url.partition(f"/{container}/")
    try:
        return unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        return ""
