"""The few calls that the Functions host makes to storage, straight over REST.

On Azure the host is a process of its own. Here it shares one with the app and so takes its CPU from the app, and the
storage SDK would take five times as much for each of these small calls.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import urllib3
from azure.storage.queue import AccountSasPermissions, ResourceTypes, Services, generate_account_sas


class StorageFailed(Exception):
    """The account did not answer, or answered with an error."""


@dataclass(frozen=True)
class QueueMessage:
    """A message taken from a queue: its text as stored, and what is needed to delete it."""

    id: str
    text: str
    dequeue_count: int
    inserted_on: datetime
    expires_on: datetime
    next_visible_on: datetime
    pop_receipt: str


def connection_parts(connection_string: str) -> dict[str, str]:
    """The parts of a connection string by name, such as `BlobEndpoint`."""
    return dict(part.split("=", 1) for part in connection_string.split(";") if part)


class Storage:
    """One account, by connection string. Thread-safe. Every call raises StorageFailed when it fails.

    Requests carry one shared access signature for all of the account, in place of a token each.
    """

    def __init__(self, connection_string: str, ca_file: Path | None) -> None:
        parts = connection_parts(connection_string)
        self.blob_url, self._queue_url = parts["BlobEndpoint"], parts["QueueEndpoint"]
        self._sas = generate_account_sas(
            parts["AccountName"],
            parts["AccountKey"],
            ResourceTypes(service=True, container=True, object=True),
            AccountSasPermissions(read=True, write=True, delete=True, add=True, create=True, update=True, process=True),
            datetime.now(UTC) + timedelta(days=30),
            services=Services(blob=True, queue=True),
        )
        # Azurite closes a connection that has been idle for five seconds, and a request sent at that moment is lost.
        # Like the real host's SDK, this sends it again; an answer, whatever its status, is final.
        retries = urllib3.Retry(3, allowed_methods=None, backoff_factor=0.1, respect_retry_after_header=False)
        self._http = urllib3.PoolManager(
            maxsize=16, ssl_context=ssl.create_default_context(cafile=ca_file), timeout=30, retries=retries
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.clear()

    def create_container(self, name: str) -> None:
        """Create a container that does not exist yet."""
        self.call("PUT", f"{self.blob_url}/{name}", restype="container")

    def queue(self, name: str) -> "Queue":
        """A queue of this account. It may not exist yet."""
        return Queue(self, name, f"{self._queue_url}/{name}")

    def blob_properties(self, container: str, name: str) -> Mapping[str, str] | None:
        """A blob's properties, as headers, or None when there is no such blob."""
        answer = self.call("HEAD", self._blob(container, name), missing=True)
        return None if answer.status == HTTPStatus.NOT_FOUND else answer.headers

    def blob_content(self, container: str, name: str) -> bytes:
        """All of a blob."""
        return self.call("GET", self._blob(container, name)).data

    def put_blob(self, container: str, name: str, content: str) -> None:
        """Write a blob of JSON."""
        headers = {"x-ms-blob-type": "BlockBlob", "content-type": "application/json"}
        self.call("PUT", self._blob(container, name), body=content, headers=headers)

    def call(
        self,
        verb: str,
        url: str,
        *,
        missing: bool = False,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        **parameters: str | int,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request. With `missing`, 404 is an answer, not an error."""
        query = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
        try:
            answer = self._http.request(verb, f"{url}?{query}&{self._sas}", body=body.encode() or None, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise StorageFailed(f"{verb} {url}: {type(error).__name__}: {error}") from error
        if answer.status >= HTTPStatus.BAD_REQUEST and not (missing and answer.status == HTTPStatus.NOT_FOUND):
            raise StorageFailed(f"{verb} {url}: {answer.status}")
        return answer

    def _blob(self, container: str, name: str) -> str:
        return f"{self.blob_url}/{container}/{quote(name)}"


class Queue:
    """One queue."""

    def __init__(self, storage: Storage, name: str, url: str) -> None:
        self.name = name
        self._storage = storage
        self._url = url

    def create(self) -> None:
        """Create it unless it exists."""
        self._storage.call("PUT", self._url)

    def put(self, text: str, *, for_ever: bool = False) -> None:
        """Add a message that is visible at once. It lives for seven days, or for ever."""
        lifetime = -1 if for_ever else 7 * 24 * 3600
        self._storage.call("POST", f"{self._url}/messages", body=_xml(text), messagettl=lifetime)

    def take(self, most: int, *, hide: float) -> list[QueueMessage]:
        """Take up to `most` (1 to 32) messages and hide them from others for `hide` seconds."""
        answer = self._storage.call("GET", f"{self._url}/messages", numofmessages=most, visibilitytimeout=int(hide))
        return [_message(element) for element in ElementTree.fromstring(answer.data)]

    def hide(self, message: QueueMessage, pop_receipt: str, *, seconds: float) -> str:
        """Hide a taken message for so long from now on, 0 to release it. Returns the new pop receipt."""
        url = f"{self._url}/messages/{message.id}"
        answer = self._storage.call(
            "PUT", url, body=_xml(message.text), popreceipt=pop_receipt, visibilitytimeout=int(seconds)
        )
        return str(answer.headers["x-ms-popreceipt"])

    def delete(self, message: QueueMessage, pop_receipt: str) -> None:
        """Delete a taken message. Does nothing when it is gone or another reader has taken it."""
        url = f"{self._url}/messages/{message.id}"
        self._storage.call("DELETE", url, missing=True, popreceipt=pop_receipt)


def _xml(text: str) -> str:
    return f"<QueueMessage><MessageText>{escape(text)}</MessageText></QueueMessage>"


def _message(element: ElementTree.Element) -> QueueMessage:
    fields: Mapping[str, str] = {child.tag: child.text or "" for child in element}
    return QueueMessage(
        id=fields["MessageId"],
        text=fields["MessageText"],
        dequeue_count=int(fields["DequeueCount"]),
        inserted_on=parsedate_to_datetime(fields["InsertionTime"]),
        expires_on=parsedate_to_datetime(fields["ExpirationTime"]),
        next_visible_on=parsedate_to_datetime(fields["TimeNextVisible"]),
        pop_receipt=fields["PopReceipt"],
    )
