"""The app's queues: messages sent to them, and the length of every queue.

The names of ``embedding-requests`` and its poison queue begin with ``QUEUE_PREFIX``, so that several apps can have
queues in one account. That of the blob trigger's poison queue is the platform's, and all apps of an account share it.
"""

import base64
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

from shared.errors import StorageError
from shared.settings import StorageSettings
from shared.storage.rest import ONCE, Rest

QUEUE = "embedding-requests"
UPLOADS_POISON = "webjobs-blobtrigger-poison"
REQUESTS_POISON = f"{QUEUE}-poison"
# The blob trigger's own queue, in the host's storage account: this prefix and a hash that only the host knows.
_UPLOADS_PREFIX = "azure-webjobs-blobtrigger-"
_NEVER_EXPIRES = -1
# Storage takes 64 KiB, of which base64 leaves three quarters.
_MAX_BYTES = 48 * 1024


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every message of ours says about itself, so that no other app on the same queue takes it for its own.

    ``container`` is the images container and ``space`` the space of the app that it is for; empty where it does not
    say, as in messages that an operator writes. ``returned`` counts how often other apps have put it back.
    """

    container: str = ""
    space: str = ""
    returned: int = 0


class QueueState(msgspec.Struct, frozen=True):
    """A queue's approximate length, and the age of its first visible message in seconds.

    ``None`` if there is no such queue, or no such message. The age includes the time for which the message was hidden.
    """

    queue: str
    messages: int | None
    oldest_seconds: int | None


class Queues:
    """Sends messages to the app's queues and measures all of them. Safe to call from many threads.

    ``requests`` is the name of ``embedding-requests`` in this app, ``requests_poison`` that of its poison queue.
    """

    def __init__(self, settings: StorageSettings, rest: Rest) -> None:
        self.requests = f"{settings.queue_prefix}{QUEUE}"
        self.requests_poison = f"{settings.queue_prefix}{REQUESTS_POISON}"
        self._account = settings.queue_service_uri
        self._host_account = settings.host_queue_service_uri
        self._rest = rest

    def send(self, message: msgspec.Struct, *, queue: str | None = None, hidden_seconds: int = 0) -> None:
        """Put a message on ``embedding-requests`` or another queue, hidden for so many seconds (at most seven days)."""
        # Base64, as Event Grid writes it: the app reads plain JSON, too, but XML does not hold every name.
        text = base64.b64encode(msgspec.json.encode(message)).decode()
        content = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>".encode()
        query = f"visibilitytimeout={hidden_seconds}&messagettl={_NEVER_EXPIRES}"
        headers = {"content-type": "application/xml"}
        url = f"{self._account}/{queue or self.requests}/messages"
        self._rest.send("POST", url, query, headers=headers, content=content)

    def fits(self, message: msgspec.Struct) -> bool:
        """Whether storage takes a message of this size."""
        return len(msgspec.json.encode(message)) <= _MAX_BYTES

    def waiting(self) -> int:
        """How many messages ``embedding-requests`` holds at most, hidden ones included."""
        return self._length(f"{self._account}/{self.requests}") or 0

    def lengths(self) -> dict[str, int | None]:
        """The approximate length of each queue, hidden messages included; ``None`` for a queue that does not exist.

        Uploads wait on a queue in the host's own account, which is listed if that account is known.
        """
        return {name: self._length(url) for name, url in self._urls().items()}

    def states(self) -> list[QueueState]:
        """The same, with the age of the oldest visible message."""
        return [self._state(name, url) for name, url in self._urls().items()]

    def check(self) -> None:
        """Read the properties of ``embedding-requests``, without retries; raises ``StorageError`` as storage says."""
        self._rest.send("GET", f"{self._account}/{self.requests}", "comp=metadata", effort=ONCE)

    def _urls(self) -> dict[str, str]:
        """The URL of every queue of the app, and of the trigger's own where its account is known."""
        queues = {name: f"{self._account}/{name}" for name in (self.requests, self.requests_poison, UPLOADS_POISON)}
        if self._host_account:
            # A handful of names, so never a second page.
            listed = self._rest.send("GET", f"{self._host_account}/", f"comp=list&prefix={_UPLOADS_PREFIX}").data
            root = ET.fromstring(listed)  # noqa: S314 - XML from storage itself
            names = [found.text or "" for found in root.iterfind("Queues/Queue/Name")]
            queues |= {name: f"{self._host_account}/{name}" for name in names}
        return queues

    def _length(self, url: str) -> int | None:
        try:
            answer = self._rest.send("GET", url, "comp=metadata")
        except StorageError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return int(answer.headers["x-ms-approximate-messages-count"])

    def _state(self, name: str, url: str) -> QueueState:
        messages = self._length(url)
        if not messages:
            return QueueState(name, messages, None)
        peeked = self._rest.send("GET", f"{url}/messages", "peekonly=true").data
        inserted = ET.fromstring(peeked).findtext("QueueMessage/InsertionTime")  # noqa: S314 - XML from storage itself
        if not inserted:
            return QueueState(name, messages, None)
        age = datetime.now(UTC) - parsedate_to_datetime(inserted)
        return QueueState(name, messages, max(0, round(age.total_seconds())))
