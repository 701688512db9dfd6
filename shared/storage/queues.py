"""The app's queues: messages sent to them and taken off those that no trigger reads, and the length of every queue.

The platform starts instances by the length of a trigger's queue, hidden messages included. So what waits for the
model's quota waits on two queues without a trigger: ``embedding-waiting`` (fresh uploads, and what is to be tried
again) and ``embedding-backlog`` (what audits ask for).

The names of the app's own queues begin with ``QUEUE_PREFIX``, so that several apps can have queues in one account. That
of the blob trigger's poison queue is the platform's, and all apps of an account share it.
"""

import base64
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

import msgspec

from shared.errors import StorageError
from shared.settings import StorageSettings
from shared.storage.rest import MISSING, ONCE, Rest, ignoring

QUEUE = "embedding-requests"
WAITING, BACKLOG = "embedding-waiting", "embedding-backlog"
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


class Taken(NamedTuple):
    """A message that was taken off a queue and is hidden there until it is deleted or released.

    ``text`` is as it was put there, and ``times`` how often it has been taken.
    """

    queue: str
    id: str
    receipt: str
    text: str
    times: int


class QueueState(msgspec.Struct, frozen=True):
    """A queue's approximate length, and the age of its first visible message in seconds.

    ``None`` if there is no such queue, or no such message. The age includes the time for which the message was hidden.
    """

    queue: str
    messages: int | None
    oldest_seconds: int | None


class Queues:
    """The app's queues. Safe to call from many threads; raises ``StorageError`` where storage fails.

    ``requests``, ``waiting``, ``backlog`` and ``requests_poison`` are the names of its queues in this app.
    """

    def __init__(self, settings: StorageSettings, rest: Rest) -> None:
        self.requests = f"{settings.queue_prefix}{QUEUE}"
        self.waiting = f"{settings.queue_prefix}{WAITING}"
        self.backlog = f"{settings.queue_prefix}{BACKLOG}"
        self.requests_poison = f"{settings.queue_prefix}{REQUESTS_POISON}"
        self._account = settings.queue_service_uri
        self._host_account = settings.host_queue_service_uri
        self._rest = rest

    def send(self, message: msgspec.Struct | str, *, queue: str | None = None, hidden_seconds: int = 0) -> None:
        """Put a message on ``embedding-requests`` or another queue, hidden for so many seconds (at most seven days).

        A text is put there as it is.
        """
        if not isinstance(message, str):
            # Base64, as Event Grid writes it: the app reads plain JSON, too, but XML does not hold every name.
            message = base64.b64encode(msgspec.json.encode(message)).decode()
        content = f"<QueueMessage><MessageText>{escape(message)}</MessageText></QueueMessage>".encode()
        query = f"visibilitytimeout={hidden_seconds}&messagettl={_NEVER_EXPIRES}"
        headers = {"content-type": "application/xml"}
        url = f"{self._account}/{queue or self.requests}/messages"
        self._rest.send("POST", url, query, headers=headers, content=content)

    def take(self, queue: str, most: int, *, hidden_seconds: int) -> list[Taken]:
        """Take up to ``most`` (1 to 32) visible messages off a queue; each is back after so many seconds (from 1)."""
        query = f"numofmessages={most}&visibilitytimeout={hidden_seconds}"
        answer = self._rest.send("GET", f"{self._account}/{queue}/messages", query)
        root = ET.fromstring(answer.data)  # noqa: S314 - XML from storage itself
        return [_taken(queue, element) for element in root.iterfind("QueueMessage")]

    def has_visible(self, queue: str) -> bool:
        """Whether a queue has a message that could be taken now."""
        return self._peek(f"{self._account}/{queue}").find("QueueMessage") is not None

    def delete(self, taken: Taken) -> None:
        """Delete a message that was taken, unless it came back and somebody else has it."""
        with ignoring(MISSING):
            self._rest.send("DELETE", self._message_url(taken), f"popreceipt={quote(taken.receipt, safe='')}")

    def release(self, taken: Taken) -> None:
        """Put a message that was taken back where it was."""
        query = f"popreceipt={quote(taken.receipt, safe='')}&visibilitytimeout=0"
        with ignoring(MISSING):
            self._rest.send("PUT", self._message_url(taken), query)

    def move(self, taken: Taken, message: msgspec.Struct | None = None) -> None:
        """Put a message that was taken, or another in its place, on ``embedding-requests``: at least once."""
        self.send(taken.text if message is None else message)
        self.delete(taken)

    def fits(self, message: msgspec.Struct) -> bool:
        """Whether storage takes a message of this size."""
        return len(msgspec.json.encode(message)) <= _MAX_BYTES

    def length(self, queue: str) -> int:
        """How many messages a queue holds at most, hidden ones included."""
        return self._length(f"{self._account}/{queue}") or 0

    def pending(self) -> int:
        """How many messages wait at most for their turn, on ``embedding-requests`` and the two without a trigger."""
        return sum(map(self.length, (self.requests, self.waiting, self.backlog)))

    def lengths(self) -> dict[str, int | None]:
        """The approximate length of each queue, hidden messages included; ``None`` for a queue that does not exist.

        Uploads wait on a queue in the host's own account, which is listed if that account is known.
        """
        return {name: self._length(url) for name, url in self._urls().items()}

    def states(self) -> list[QueueState]:
        """The same, with the age of the oldest visible message."""
        return [self._state(name, url) for name, url in self._urls().items()]

    def check(self) -> None:
        """Read the properties of the queues that the app writes to, without retries."""
        for queue in (self.requests, self.waiting, self.backlog):
            self._rest.send("GET", f"{self._account}/{queue}", "comp=metadata", effort=ONCE)

    def _urls(self) -> dict[str, str]:
        """The URL of every queue of the app, and of the trigger's own where its account is known."""
        names = (self.requests, self.waiting, self.backlog, self.requests_poison, UPLOADS_POISON)
        queues = {name: f"{self._account}/{name}" for name in names}
        if self._host_account:
            # A handful of names, so never a second page.
            listed = self._rest.send("GET", f"{self._host_account}/", f"comp=list&prefix={_UPLOADS_PREFIX}").data
            root = ET.fromstring(listed)  # noqa: S314 - XML from storage itself
            found = [element.text or "" for element in root.iterfind("Queues/Queue/Name")]
            queues |= {name: f"{self._host_account}/{name}" for name in found}
        return queues

    def _message_url(self, taken: Taken) -> str:
        return f"{self._account}/{taken.queue}/messages/{taken.id}"

    def _length(self, url: str) -> int | None:
        try:
            answer = self._rest.send("GET", url, "comp=metadata")
        except StorageError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return int(answer.headers["x-ms-approximate-messages-count"])

    def _peek(self, url: str) -> ET.Element:
        """The first visible message, which stays as it is."""
        peeked = self._rest.send("GET", f"{url}/messages", "peekonly=true").data
        return ET.fromstring(peeked)  # noqa: S314 - XML from storage itself

    def _state(self, name: str, url: str) -> QueueState:
        messages = self._length(url)
        if not messages:
            return QueueState(name, messages, None)
        inserted = self._peek(url).findtext("QueueMessage/InsertionTime")
        if not inserted:
            return QueueState(name, messages, None)
        age = datetime.now(UTC) - parsedate_to_datetime(inserted)
        return QueueState(name, messages, max(0, round(age.total_seconds())))


def _taken(queue: str, message: ET.Element) -> Taken:
    fields = {field.tag: field.text or "" for field in message}
    return Taken(
        queue=queue,
        id=fields["MessageId"],
        receipt=fields["PopReceipt"],
        text=fields["MessageText"],
        times=int(fields["DequeueCount"]),
    )
