"""Messages on our queues, whoever wrote them: names of images to look at again, or an audit to go on with."""

import base64
import binascii

import msgspec

from shared.records import AuditMessage, EmbeddingRequest

_SUBJECT = "/blobServices/default/containers/"


class UnreadableMessageError(ValueError):
    """The message is none that anybody sends to this queue. It says why."""


class _Event(msgspec.Struct):
    """What counts in an event of storage, in Event Grid's own schema (a list of them, too) or as a CloudEvent."""

    subject: str


class _FailedUpload(msgspec.Struct, rename="pascal"):
    """What the blob trigger leaves on its poison queue."""

    container_name: str
    blob_name: str


def read_requests(body: bytes, container: str) -> list[EmbeddingRequest] | AuditMessage:
    """Read a message of ours, or events that a blob of ``container`` was written or deleted: all mean the same.

    Events of other containers are left out. Raises :class:`UnreadableMessageError`.
    """
    body = _decoded(body)
    try:
        if body.startswith(b"["):
            return _named(msgspec.json.decode(body, type=list[_Event]), container)
        if b'"subject"' in body:
            return _named([msgspec.json.decode(body, type=_Event)], container)
        if body.startswith(b'{"audit"'):
            return msgspec.json.decode(body, type=AuditMessage)
        return [msgspec.json.decode(body, type=EmbeddingRequest)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessageError(f"It is neither a request of ours nor an event of storage: {error}") from error


def read_failed_upload(body: bytes, container: str) -> list[EmbeddingRequest]:
    """Read what the platform left of an upload that it gave up on. Raises :class:`UnreadableMessageError`."""
    try:
        failed = msgspec.json.decode(_decoded(body), type=_FailedUpload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessageError(f"It is no message of the blob trigger: {error}") from error
    return [EmbeddingRequest(name=failed.blob_name)] if failed.container_name == container else []


def _named(events: list[_Event], container: str) -> list[EmbeddingRequest]:
    requests = []
    for event in events:
        found, blobs, name = event.subject.removeprefix(_SUBJECT).partition("/blobs/")
        if not event.subject.startswith(_SUBJECT) or not blobs or not name:
            raise UnreadableMessageError(f"Its subject names no blob: {event.subject[:200]!r}")
        if found == container:
            requests.append(EmbeddingRequest(name=name))
    return requests


def _decoded(body: bytes) -> bytes:
    """The message as JSON: whoever writes to a storage queue may encode it once more than the host decodes."""
    body = body.strip()
    if body[:1] in {b"{", b"["}:
        return body
    try:
        return base64.b64decode(body, validate=True).strip()
    except binascii.Error as error:
        raise UnreadableMessageError("It is neither JSON nor base64 of it.") from error
