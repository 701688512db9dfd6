"""How the stand-in for Event Grid delivers: again, to the dead letters, twice and out of order."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from urllib.parse import quote

import pytest
import urllib3
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContainerClient

from local.azurite import Azurite
from local.event_grid import DEAD_LETTERS, EventGrid, Policy, to_dead_letters, to_queue, to_webhook
from local.events import Event, deletions, uploads
from local.storage import Storage
from tests.conftest import PATIENCE
from tests.local.conftest import KEY, Host, eventually, messages

FAST = 100_000.0


class Receiver:
    """Answers with these statuses, then with 202. Remembers what it was sent."""

    def __init__(self, *statuses: int | None) -> None:
        self._statuses = list(statuses)
        self.urls: list[str] = []

    def __call__(self, event: Event) -> int | None:
        self.urls.append(event["data"]["url"])
        return self._statuses.pop(0) if self._statuses else HTTPStatus.ACCEPTED


class DeadLetters:
    """Keeps dead letters as they would be written."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.subscriptions: set[str] = set()

    def __call__(self, subscription: str, events: list[Event]) -> None:
        self.subscriptions.add(subscription)
        self.events += events


def deliver(
    send: Callable[[Event], int | None],
    policy: Policy,
    names: Iterable[object],
    until: Callable[[], object],
    dead: Callable[[str, list[Event]], None] | None = None,
) -> None:
    """Deliver the events of uploads with these names until something is so."""
    grid = EventGrid(policy)
    with grid.delivering("", [uploads("images", send)], dead or DeadLetters()):
        for name in names:
            grid.read(f'127.0.0.1 - - [now] "PUT /account/images/{name} HTTP/1.1" 201 -')
        eventually(until)


def dead_letter(receiver: Receiver, policy: Policy) -> Event:
    """The dead letter of the one event that was delivered."""
    dead = DeadLetters()
    deliver(receiver, policy, ["a%20b.png"], lambda: dead.events, dead)
    assert dead.subscriptions == {"uploads"}
    (event,) = dead.events
    return event


def test_every_event_is_delivered_by_itself() -> None:
    receiver = Receiver()
    deliver(receiver, Policy(), range(500), lambda: len(receiver.urls) == 500)
    assert Counter(receiver.urls) == Counter(f"/images/{number}" for number in range(500))


@pytest.mark.parametrize("status", [None, 404, 408, 429, 500, 503])
def test_an_event_that_was_not_taken_is_delivered_again(status: int | None) -> None:
    receiver, dead = Receiver(status, status, status), DeadLetters()
    # A lifetime that no pause of a busy machine exceeds, as fast as this policy makes it pass.
    deliver(receiver, Policy(speed=FAST, lifetime=1e9), ["a"], lambda: len(receiver.urls) == 4, dead)
    assert not dead.events


@pytest.mark.parametrize(
    ("status", "outcome"), [(400, "BadRequest"), (401, "Unauthorized"), (403, "Forbidden"), (413, "ContentTooLarge")]
)
def test_an_event_that_is_refused_for_good_is_a_dead_letter_at_once(status: int, outcome: str) -> None:
    event = dead_letter(receiver := Receiver(status), Policy(speed=FAST))
    assert len(receiver.urls) == event["deliveryAttempts"] == 1
    assert event["lastDeliveryOutcome"] == outcome
    assert event["deadLetterReason"] == f"UndeliverableDueToHttp{outcome}"


def test_an_event_that_is_never_taken_is_a_dead_letter_after_its_attempts() -> None:
    event = dead_letter(receiver := Receiver(*[500] * 30), Policy(speed=FAST * 100, lifetime=1e9))
    assert len(receiver.urls) == event["deliveryAttempts"] == 30
    assert event["deadLetterReason"] == "MaxDeliveryAttemptsExceeded"


def test_an_event_whose_lifetime_would_end_before_its_next_attempt_is_a_dead_letter() -> None:
    event = dead_letter(receiver := Receiver(*[500] * 30), Policy(speed=FAST, lifetime=1))
    assert len(receiver.urls) == event["deliveryAttempts"] == 1
    assert event["deadLetterReason"] == "TimeToLiveExceeded"


def test_a_dead_letter_is_the_event_with_what_became_of_it() -> None:
    event = dead_letter(Receiver(401), Policy(speed=FAST))
    assert event["subject"] == "/blobServices/default/containers/images/blobs/a b.png"
    assert event["eventType"] == "Microsoft.Storage.BlobCreated"
    for time in ("eventTime", "publishTime", "lastDeliveryAttemptTime"):
        assert re.match(r"\d{4}-\d\d-\d\dT", event[time])


def test_one_event_that_is_not_taken_holds_up_no_other() -> None:
    taken: list[str] = []
    release = threading.Event()

    def send(event: Event) -> int:
        name = event["subject"].rpartition("/")[2]
        if name == "first":
            release.wait()
        taken.append(name)
        if len(taken) == 20:
            release.set()
        return HTTPStatus.ACCEPTED

    deliver(send, Policy(), ["first", *range(20)], lambda: len(taken) == 21)
    assert taken[-1] == "first"


def test_events_come_twice_on_demand() -> None:
    receiver = Receiver()
    deliver(receiver, Policy(duplicates=1), range(20), lambda: len(receiver.urls) == 40)
    assert Counter(receiver.urls) == Counter({f"/images/{number}": 2 for number in range(20)})


def test_events_overtake_each_other_on_demand() -> None:
    receiver = Receiver()
    deliver(receiver, Policy(disorder=0.2), range(200), lambda: len(receiver.urls) == 200)
    urls = [f"/images/{number}" for number in range(200)]
    assert sorted(receiver.urls) == sorted(urls)
    assert receiver.urls != urls


def test_reading_never_waits_for_a_subscriber() -> None:
    grid, all_read = EventGrid(), threading.Event()
    reading_went_on: list[bool] = []

    def send(event: Event) -> int:
        reading_went_on.append(all_read.wait(PATIENCE))
        return HTTPStatus.ACCEPTED

    with grid.delivering("", [uploads("images", send)], DeadLetters()):
        for number in range(10_000):
            grid.read(f'127.0.0.1 - - [now] "PUT /account/images/{number} HTTP/1.1" 201 -')
        all_read.set()
        eventually(lambda: reading_went_on)
    assert all(reading_went_on)


@pytest.fixture(scope="module")
def storage(azurite: Azurite) -> Iterator[Storage]:
    with Storage(azurite.connection_string, azurite.ca_file) as storage:
        yield storage


@pytest.fixture
def dead_letters(azurite: Azurite) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(
        azurite.connection_string, connection_verify=str(azurite.ca_file)
    ) as service:
        container = service.get_container_client(DEAD_LETTERS)
        try:
            container.create_container()
        except ResourceExistsError:
            for name in container.list_blob_names():
                container.delete_blob(name)
        yield container


def test_what_an_app_refuses_for_its_key_is_written_to_the_container_of_dead_letters(
    host: Host, storage: Storage, dead_letters: ContainerClient
) -> None:
    webhook = to_webhook(urllib3.PoolManager(), f"{host.http.base_url}/runtime/webhooks/blobs?code=wrong")
    grid = EventGrid(Policy(speed=FAST / 100))
    with grid.delivering("", [uploads("images", webhook)], to_dead_letters(storage)):
        for number in range(3):
            grid.read(f'127.0.0.1 - - [now] "PUT /account/images/{number} HTTP/1.1" 201 -')
        eventually(lambda: len(written(dead_letters)) == 3)
    for name in dead_letters.list_blob_names():
        assert re.fullmatch(r"LOCAL/UPLOADS/\d{4}/\d{1,2}/\d{1,2}/\d{1,2}/[0-9a-f-]{36}\.json", name)


def written(container: ContainerClient) -> list[Event]:
    return [
        event for name in container.list_blob_names() for event in json.loads(container.download_blob(name).readall())
    ]


def test_the_webhook_is_posted_a_list_of_one_event(host: Host) -> None:
    url = f"{host.http.base_url}/runtime/webhooks/blobs?functionName=Host.Functions.by_name&code={quote(KEY)}"
    host.images.upload_blob("by event grid", b"")
    grid = EventGrid()
    blob_url = host.images.url.removesuffix("/pictures")
    webhook = to_webhook(urllib3.PoolManager(), url)
    with grid.delivering(blob_url, [uploads("pictures", webhook)], DeadLetters()):
        grid.read('127.0.0.1 - - [now] "PUT /account/pictures/by%20event%20grid HTTP/1.1" 201 -')
        eventually(lambda: host.succeeded("by event grid"))


def test_a_message_on_a_queue_is_one_event_and_lives_for_ever(host: Host, storage: Storage) -> None:
    target = storage.queue("events")
    target.create()
    grid = EventGrid()
    with grid.delivering("", [deletions("images", to_queue(target))], DeadLetters()):
        grid.read('127.0.0.1 - - [now] "DELETE /account/images/a HTTP/1.1" 202 -')
        eventually(lambda: messages(host.queue("events")))
    (event,) = messages(host.queue("events"))
    assert event["eventType"] == "Microsoft.Storage.BlobDeleted"
    (message,) = host.queue("events").peek_messages()
    assert message.expires_on
    assert message.expires_on.year > 9000
