"""Queue messages read into requests: our own, events of storage, and what the blob trigger gave up on."""

import base64
import binascii
from urllib.parse import unquote

import msgspec

from shared.uploads.requests import EmbeddingRequest

_SUBJECT = "/blobServices/default/containers/"
# How an object or a list begins.
_JSON = {b"{", b"["}
_MOST_ENCODINGS = 2


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


def read_requests(body: bytes) -> list[EmbeddingRequest]:
    """Read a request, or events that a blob was written or deleted: both mean "sync it".

    Each names the container that it is about. Raises :class:`UnreadableMessageError`.
    """
    body = decoded(body)
    try:
        if body.startswith(b"["):
            return _named(msgspec.json.decode(body, type=list[_Event]))
        if b'"subject"' in body:
            return _named([msgspec.json.decode(body, type=_Event)])
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
        if b'"returned"' in body:
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


def _named(events: list[_Event]) -> list[EmbeddingRequest]:
    requests = []
    for event in events:
        container, blobs, name = event.subject.removeprefix(_SUBJECT).partition("/blobs/")
        if not event.subject.startswith(_SUBJECT) or not blobs or not name:
            raise UnreadableMessageError(f"The event's subject names no blob: {event.subject[:200]!r}")
        requests.append(EmbeddingRequest(name=_name(event.data.url, container) or name, container=container))
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
