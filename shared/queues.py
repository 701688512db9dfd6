"""The queue ``embedding-requests``, to which we put names to look at now or later; and how long every queue is."""

import base64
import random
import xml.etree.ElementTree as ET
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

from shared.errors import StorageError
from shared.records import Audit, AuditMessage, EmbeddingRequest, now
from shared.rest import Rest
from shared.settings import Settings

QUEUE = "embedding-requests"
UPLOADS_POISON = "webjobs-blobtrigger-poison"
REQUESTS_POISON = f"{QUEUE}-poison"
# The blob trigger's own queue, in the host's storage account: this and a hash that only the host knows.
_UPLOADS_PREFIX = "azure-webjobs-blobtrigger-"
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
# What was asked to wait for the same moment comes back a little apart.
_SPREAD = 0.2
# A message can be hidden for seven days at most; after one, the image is given up anyway.
_LONGEST_ASKED = 24 * 3600.0
_FOR_EVER = -1


class Waiting(msgspec.Struct, frozen=True):
    """About how many messages a queue holds, and for how long the first of them that is not hidden has been there.

    ``None`` where there is no such queue, or no such message. The age counts the time for which it was hidden.
    """

    queue: str
    messages: int | None
    oldest_seconds: int | None


class Queues:
    """Puts names on the queue, hidden until it is worth trying again. Safe to call from many threads."""

    def __init__(self, settings: Settings, rest: Rest) -> None:
        self._own = settings.queue_service_uri
        self._host = settings.host_queue_service_uri
        self._rest = rest

    def put(self, name: str) -> None:
        """Have the image looked at as soon as may be."""
        self._send(EmbeddingRequest(name=name), 0)

    def put_later(self, request: EmbeddingRequest, asked: float | None) -> float:
        """Have the image looked at again later; returns in how many seconds.

        That is what the model ``asked`` for, else exponential in the attempts from 30 s to 1 h with full jitter.
        """
        wait = _wait(request.attempt, asked)
        self._send(request, round(wait))
        return wait

    def put_audit(self, audit: Audit) -> None:
        """Have the audit go on from where it is, when its turn comes."""
        self._send(AuditMessage(audit=audit), 0)

    def depths(self) -> dict[str, int | None]:
        """About how many messages each queue holds, hidden ones included; ``None`` for a queue that there is not yet.

        Uploads wait on a queue of the host's own account: it is told of where that account is known.
        """
        return {name: self._depth(url) for name, url in self._all().items()}

    def waiting(self) -> list[Waiting]:
        """The same with the age of the oldest message that is not hidden."""
        return [self._waiting(name, url) for name, url in self._all().items()]

    def check(self) -> None:
        """Ask for the queue of requests, once; raises ``StorageError`` as storage says."""
        self._rest.send("GET", f"{self._own}/{QUEUE}", "comp=metadata", once=True)

    def _all(self) -> dict[str, str]:
        """The URL of every queue of the app, and of the trigger's own where its account is known."""
        queues = {name: f"{self._own}/{name}" for name in (QUEUE, REQUESTS_POISON, UPLOADS_POISON)}
        if self._host:
            # A few names: far from a second page.
            listed = self._rest.send("GET", f"{self._host}/", f"comp=list&prefix={_UPLOADS_PREFIX}").data
            root = ET.fromstring(listed)  # noqa: S314 - storage's own
            names = [found.text or "" for found in root.iterfind("Queues/Queue/Name")]
            queues |= {name: f"{self._host}/{name}" for name in names}
        return queues

    def _depth(self, url: str) -> int | None:
        try:
            answer = self._rest.send("GET", url, "comp=metadata")
        except StorageError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return int(answer.headers["x-ms-approximate-messages-count"])

    def _waiting(self, name: str, url: str) -> Waiting:
        messages = self._depth(url)
        if not messages:
            return Waiting(name, messages, None)
        peeked = self._rest.send("GET", f"{url}/messages", "peekonly=true").data
        put = ET.fromstring(peeked).findtext("QueueMessage/InsertionTime")  # noqa: S314 - storage's own
        age = round((now() - parsedate_to_datetime(put)).total_seconds()) if put else None
        return Waiting(name, messages, None if age is None else max(0, age))

    def _send(self, message: EmbeddingRequest | AuditMessage, wait: int) -> None:
        # As the trigger reads it (host.json's messageEncoding), and nothing that XML would have to escape.
        text = base64.b64encode(msgspec.json.encode(message)).decode()
        content = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>".encode()
        query = f"visibilitytimeout={wait}&messagettl={_FOR_EVER}"
        headers = {"content-type": "application/xml"}
        self._rest.send("POST", f"{self._own}/{QUEUE}/messages", query, headers=headers, content=content)


def _wait(attempt: int, asked: float | None) -> float:
    if asked is not None:
        return min(asked, _LONGEST_ASKED) * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - spread, not secrecy
    return random.uniform(1, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** max(0, attempt - 1)))  # noqa: S311 - the same
