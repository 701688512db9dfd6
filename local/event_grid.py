"""A stand-in for Event Grid: it notifies the function app of every blob that is written or deleted.

Each event goes to every subscription whose filters it passes: one at a time, again after a failure by the retry
schedule, and to the dead letters where it cannot be delivered. Its pauses and the lifetime of its events are a
hundredth of Event Grid's; the time for an answer is the same. On demand events come twice and out of order. Not
simulated: the pause for all events of an endpoint that fails often.
"""

import base64
import datetime
import heapq
import itertools
import json
import logging
import queue
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import unquote

import urllib3

from local.events import Change, Event, Subscription, change, event, now
from local.storage import Queue, Storage, StorageFailed

logger = logging.getLogger(__name__)

DEAD_LETTERS = "dead-letter-events"
_TOPIC = "LOCAL"

_DELIVERED = range(200, 205)
_HOPELESS = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
# Seconds: "Event Grid message delivery and retry". The last pause repeats.
_PAUSES = (10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
_SHORTEST_PAUSE: dict[int | None, int] = {
    HTTPStatus.NOT_FOUND: 300,
    HTTPStatus.REQUEST_TIMEOUT: 120,
    HTTPStatus.SERVICE_UNAVAILABLE: 30,
}
# Not a hundredth of Event Grid's: an app answers no faster here.
_ANSWER_TIMEOUT = 30
_BEFORE_DEAD_LETTERING = 300


@dataclass(frozen=True)
class Policy:
    """How events are delivered. The defaults are those of the deployment."""

    speed: float = 100
    """How many times shorter than Event Grid's own its pauses and the lifetime of its events are."""
    attempts: int = 30
    lifetime: float = 24 * 3600
    """Seconds of Event Grid's time after which an event that was not delivered is a dead letter."""
    at_once: int = 4
    """Deliveries in flight."""
    duplicates: float = 0
    """The share of events that are delivered twice."""
    disorder: float = 0
    """Each delivery waits for up to so many seconds, at random: events overtake each other."""
    unseen: str = ""
    """Blobs whose names begin so raise no event, as if they had been there before the subscriptions were."""


class EventGrid:
    """Reads Azurite's log lines from the start; delivers their events once it has subscribers."""

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._schedule = _Schedule()
        self._dead: defaultdict[str, list[Event]] = defaultdict(list)
        self._dead_lock = threading.Lock()

    def read(self, line: str) -> None:
        """Take one line. Never blocks: that would block Azurite, which writes them to a pipe."""
        if found := change(line):
            self._changes.put(found)

    @contextmanager
    def delivering(
        self,
        blob_url: str,
        subscriptions: Sequence[Subscription],
        write_dead_letters: Callable[[str, list[Event]], None],
    ) -> Iterator[None]:
        """Deliver in threads, until the end of the block."""
        self._write_dead_letters = write_dead_letters
        publish = threading.Thread(target=self._publish, args=[blob_url, subscriptions], name="events", daemon=True)
        deliver = [
            threading.Thread(target=self._schedule.work, name=f"event delivery {number}", daemon=True)
            for number in range(self._policy.at_once)
        ]
        for thread in (publish, *deliver):
            thread.start()
        try:
            yield
        finally:
            self._changes.put(None)
            self._schedule.close()
            for thread in (publish, *deliver):
                thread.join(timeout=5)

    def _publish(self, blob_url: str, subscriptions: Sequence[Subscription]) -> None:
        while found := self._changes.get():
            if self._policy.unseen and unquote(found.path).startswith(self._policy.unseen):
                continue
            published = event(found, blob_url)
            for subscription in subscriptions:
                if subscription.wants(published):
                    for _ in range(2 if random.random() < self._policy.duplicates else 1):
                        delivery = _Delivery(subscription, published, published=time.monotonic(), publish_time=now())
                        wait = random.uniform(0, self._policy.disorder)
                        self._schedule.put(partial(self._deliver, delivery), wait)

    def _deliver(self, delivery: "_Delivery") -> None:
        delivery.attempts += 1
        delivery.last_attempt = now()
        status = delivery.subscription.send(delivery.event)
        if status in _DELIVERED:
            return
        outcome = "SocketError" if status is None else HTTPStatus(status).phrase.title().replace(" ", "")
        seconds = max(_PAUSES[: delivery.attempts][-1], _SHORTEST_PAUSE.get(status, 0))
        pause = seconds * random.uniform(1, 1.1) / self._policy.speed
        # The other two reasons are Event Grid's own; what it says here is not documented.
        if status in _HOPELESS:
            self._give_up(delivery, f"UndeliverableDueToHttp{outcome}", outcome)
        elif delivery.attempts >= self._policy.attempts:
            self._give_up(delivery, "MaxDeliveryAttemptsExceeded", outcome)
        elif time.monotonic() + pause > delivery.published + self._policy.lifetime / self._policy.speed:
            self._give_up(delivery, "TimeToLiveExceeded", outcome)
        else:
            self._schedule.put(partial(self._deliver, delivery), pause)

    def _give_up(self, delivery: "_Delivery", reason: str, outcome: str) -> None:
        """Make it a dead letter, to be written with the others of its subscription in five minutes."""
        dead = {
            **delivery.event,
            "deadLetterReason": reason,
            "deliveryAttempts": delivery.attempts,
            "lastDeliveryOutcome": outcome,
            "publishTime": delivery.publish_time,
            "lastDeliveryAttemptTime": delivery.last_attempt,
        }
        name = delivery.subscription.name
        logger.warning("an event of %s is dead-lettered: %s", delivery.event["subject"], reason)
        with self._dead_lock:
            self._dead[name].append(dead)
            if len(self._dead[name]) > 1:
                return
        self._schedule.put(partial(self._flush, name), _BEFORE_DEAD_LETTERING / self._policy.speed)

    def _flush(self, name: str) -> None:
        with self._dead_lock:
            events = self._dead.pop(name)
        try:
            self._write_dead_letters(name, events)
        except StorageFailed as error:
            logger.warning("dead letters are not written yet: %s", error)
            with self._dead_lock:
                self._dead[name] += events
            self._schedule.put(partial(self._flush, name), _BEFORE_DEAD_LETTERING / self._policy.speed)


@dataclass
class _Delivery:
    """One event for one subscription."""

    subscription: Subscription
    event: Event
    published: float
    publish_time: str
    attempts: int = 0
    last_attempt: str = ""


class _Schedule:
    """Jobs, each done when it is due, by the threads that work here."""

    def __init__(self) -> None:
        self._jobs: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: Callable[[], None], seconds: float) -> None:
        """Have it done in so many seconds."""
        with self._changed:
            heapq.heappush(self._jobs, (time.monotonic() + seconds, next(self._numbers), job))
            self._changed.notify()

    def work(self) -> None:
        """Do what is due until the schedule is closed."""
        while job := self._next():
            job()

    def close(self) -> None:
        """Drop what is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                wait = self._jobs[0][0] - time.monotonic() if self._jobs else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._jobs)[2]
                self._changed.wait(wait)
        return None


def to_webhook(http: urllib3.PoolManager, url: str) -> Callable[[Event], int | None]:
    """Send an event to a function app."""

    def send(event: Event) -> int | None:
        try:
            answer = http.request(
                "POST",
                url,
                json=[event],
                headers={"aeg-event-type": "Notification"},
                timeout=_ANSWER_TIMEOUT,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            logger.info("an event was not delivered: %s", error)
            return None
        return answer.status

    return send


def to_queue(target: Queue) -> Callable[[Event], int | None]:
    """Put an event on a storage queue for ever, base64-encoded as Event Grid does."""

    def send(event: Event) -> int | None:
        try:
            target.put(base64.b64encode(json.dumps(event).encode()).decode(), for_ever=True)
        except StorageFailed as error:
            logger.info("an event was not put on %s: %s", target.name, error)
            return None
        return HTTPStatus.CREATED

    return send


def to_dead_letters(storage: Storage) -> Callable[[str, list[Event]], None]:
    """Write events that could not be delivered to a subscription as one blob. Raises StorageFailed."""

    def write(subscription: str, events: list[Event]) -> None:
        hour = datetime.datetime.now(datetime.UTC)
        folder = f"{_TOPIC}/{subscription.upper()}/{hour.year}/{hour.month}/{hour.day}/{hour.hour}"
        storage.put_blob(DEAD_LETTERS, f"{folder}/{uuid.uuid4()}.json", json.dumps(events))

    return write
