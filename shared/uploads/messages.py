"""Queue messages read into requests: our own, events of storage, and what the blob trigger gave up on."""

import base64
import binascii
from urllib.parse import unquote

import msgspec

from shared.uploads.requests import EmbeddingRequest

_SUBJECT = "/blobServices/default/containers/"
# Stands for a character that got lost.
_REPLACED = "\ufffd"


class UnreadableMessageError(ValueError):
    """The message is of no kind that this queue carries. It says why."""


class _Data(msgspec.Struct, frozen=True):
    """What an event says about its blob."""

    url: str = ""


class _Event(msgspec.Struct):
    """The part of a storage event that counts, in Event Grid's own schema or as a CloudEvent."""

    subject: str
    data: _Data = _Data()


class _FailedUpload(msgspec.Struct, rename="pascal"):
    """What the blob trigger puts on its poison queue."""

    container_name: str
    blob_name: str


def read_requests(body: bytes, container: str) -> list[EmbeddingRequest]:
    """Read a request of ours, or events that a blob of ``container`` was written or deleted: both mean "sync it".

    Events of other containers are left out. Raises :class:`UnreadableMessageError`.
    """
    body = decoded(body)
    try:
        if body.startswith(b"["):
            return _named(msgspec.json.decode(body, type=list[_Event]), container)
        if b'"subject"' in body:
            return _named([msgspec.json.decode(body, type=_Event)], container)
        return [msgspec.json.decode(body, type=EmbeddingRequest)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"The message is neither a request of this app nor an event of storage: {error}"
        raise UnreadableMessageError(message) from error


def read_failed_upload(body: bytes, container: str) -> list[EmbeddingRequest]:
    """Read the poison message of an upload. Raises :class:`UnreadableMessageError`."""
    try:
        failed = msgspec.json.decode(decoded(body), type=_FailedUpload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessageError(f"The message is not one of the blob trigger: {error}") from error
    return [EmbeddingRequest(name=failed.blob_name)] if failed.container_name == container else []


def decoded(body: bytes) -> bytes:
    """The message as JSON text: some writers base64-encode it once more than the host decodes it.

    Raises :class:`UnreadableMessageError`.
    """
    body = body.strip()
    if body[:1] in {b"{", b"["}:
        return body
    try:
        return base64.b64decode(body, validate=True).strip()
    except binascii.Error as error:
        raise UnreadableMessageError("The message is neither JSON nor base64-encoded JSON.") from error


def _named(events: list[_Event], container: str) -> list[EmbeddingRequest]:
    requests = []
    for event in events:
        found, blobs, name = event.subject.removeprefix(_SUBJECT).partition("/blobs/")
        if not event.subject.startswith(_SUBJECT) or not blobs or not name:
            raise UnreadableMessageError(f"The event's subject names no blob: {event.subject[:200]!r}")
        if found == container:
            requests += [EmbeddingRequest(name=one) for one in _names(name, event.data.url, container)]
    return requests


def _names(subject: str, url: str, container: str) -> list[str]:
    """The name, as the event's subject and its URL have it: one name, or both where they do not agree.

    The subject has the name unescaped, the URL has it percent-encoded (the examples in "Azure Blob Storage as an Event
    Grid source"). Which characters the service escapes is not documented, and some paths replace characters beyond the
    first Unicode plane in the subject by U+FFFD. So both readings are synced: a name that no blob has costs three
    requests and does nothing.
    """
    _, _, encoded = url.partition(f"/{container}/")
    names = [subject, unquote(encoded)] if encoded else [subject]
    if encoded and _REPLACED in subject:
        names.remove(subject)
    return list(dict.fromkeys(name for name in names if name))
