"""How the stand-in for the Functions host runs blob and queue functions: the storage extension's rules."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueClient, QueueProperties

from local.azurite import Azurite
from local.host.blob_events import blob_of
from local.host.pumps import Pauses, Pump, Rules
from local.storage import Queue, QueueMessage, Storage
from tests.local.conftest import Host, eventually, lifetime, messages
from tests.local.extension_cases import (
    DELIVERIES,
    LONGEST_PAUSE,
    NAMES,
    PAUSES,
    POISON_MESSAGE,
    WITHOUT_A_NAME,
    Delivery,
)


@pytest.fixture(scope="module")
def elsewhere(azurite: Azurite) -> Iterator[ContainerClient]:
    """A container that no trigger names."""
    with BlobServiceClient.from_connection_string(
        azurite.connection_string, connection_verify=str(azurite.ca_file)
    ) as blobs:
        yield blobs.create_container("elsewhere")


@pytest.mark.parametrize("case", DELIVERIES, ids=lambda case: case.what)
def test_the_webhook_does_with_a_delivery_what_the_extension_does(
    host: Host, elsewhere: ContainerClient, case: Delivery
) -> None:
    container = elsewhere if case.container == "elsewhere" else host.images
    blob = container.upload_blob(case.what, b"")
    body = case.body.replace("{url}", blob.url)
    answer = host.webhook(body, kind=case.kind, function_name=case.function_name)
    assert (answer.status_code, answer.text) == (case.status, case.answer)
    eventually(lambda: host.waiting() == 0)
    assert bool(host.runs(case.what)) == case.runs


@pytest.mark.parametrize(("path", "name"), NAMES.items())
def test_the_function_runs_for_the_name_that_the_extension_reads_from_the_url(host: Host, path: str, name: str) -> None:
    host.images.upload_blob(name, b"", overwrite=True)
    before = len(host.runs(name))
    host.announce(f"{host.images.url}/{path}")
    eventually(lambda: len(host.runs(name)) == before + 1)


@pytest.mark.parametrize("path", WITHOUT_A_NAME)
def test_some_urls_have_no_name_left(path: str) -> None:
    assert not blob_of(f"https://127.0.0.1:10000/devstoreaccount1/pictures{path}")[1]


def test_an_accounts_own_address_has_no_account_in_its_path() -> None:
    assert blob_of("https://account.blob.core.windows.net/pictures/a/b.jpg") == ("pictures", "a/b.jpg")


def test_the_webhook_needs_the_key(host: Host) -> None:
    assert host.http.post("/runtime/webhooks/blobs?functionName=Host.Functions.by_name").status_code == 401


def test_a_function_may_take_the_content_instead(host: Host) -> None:
    host.upload("content", b"of a blob", function="by_content", key="value")
    eventually(lambda: host.succeeded("pictures/content"))
    run = host.runs("pictures/content")[0]
    assert (run["content"], run["length"], run["metadata"]) == ("of a blob", 9, {"key": "value"})


def test_the_event_of_a_blob_that_is_gone_is_dropped(host: Host) -> None:
    host.announce(host.images.get_blob_client("gone").url)
    host.upload("after gone")
    eventually(lambda: host.succeeded("after gone"))
    eventually(lambda: host.waiting() == 0)
    assert not host.runs("gone")


def test_a_failed_blob_is_tried_again_at_once(host: Host) -> None:
    host.upload("fails 2 times")
    # Kept for itself, it would be hidden for ten minutes.
    eventually(lambda: host.succeeded("fails 2 times"))
    assert len(host.runs("fails 2 times")) == 3


def test_after_five_attempts_the_message_of_a_blob_moves_to_the_poison_queue_as_it_was(host: Host) -> None:
    host.upload("fails always")
    poison = host.queue("webjobs-blobtrigger-poison")
    eventually(lambda: "webjobs-blobtrigger-poison" in [queue.name for queue in host.queues.list_queues()])
    eventually(lambda: messages(poison))
    assert messages(poison) == [POISON_MESSAGE]
    assert len(host.runs("fails always")) == 5
    (message,) = poison.peek_messages()
    assert lifetime(message) == timedelta(days=7)


def test_no_more_blobs_run_at_once_than_host_json_allows(host: Host) -> None:
    first, *others = names = [f"held {number}" for number in range(6)]
    host.upload(first)
    eventually(lambda: host.runs(first))
    for name in others:
        host.upload(name)
    host.release(1)
    eventually(lambda: sum(len(host.runs(name)) for name in others) == 2)
    host.release(5)
    eventually(lambda: all(host.succeeded(name) for name in names))
    running, most = 0, 0
    for run in host.all_noted():
        if run["what"] in names:
            running += 1 if "at" in run else -1
            most = max(most, running)
    assert most == 2


def test_a_message_stays_hidden_for_as_long_as_its_function_runs(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the pump's own clock: it finds the function still running three times, each after half of ten minutes."""
    runs: list[str] = []
    waits: list[float | None] = []
    ended = asyncio.Event()

    async def work(message: QueueMessage, body: bytes) -> None:
        runs.append(message.text)
        await ended.wait()

    async def wait(tasks: set[asyncio.Task[None]], *, timeout: float | None) -> tuple[set[Any], set[Any]]:
        waits.append(timeout)
        if len(waits) <= 3:
            return set(), tasks
        ended.set()
        return await asyncio.wait(tasks)

    async def pump_all(queue: Queue, executor: ThreadPoolExecutor) -> None:
        pump = Pump(queue, queue, work, Rules(batch=1, refill_at=0, attempts=5, base64=False), executor)
        pumping = asyncio.create_task(pump.run())
        while properties(azurite, queue.name).approximate_message_count:
            await asyncio.sleep(0.01)
        pumping.cancel()

    monkeypatch.setattr("local.host.pumps.asyncio", SimpleNamespace(**{**vars(asyncio), "wait": wait}))
    with Storage(azurite.connection_string, azurite.ca_file) as storage, ThreadPoolExecutor(2) as executor:
        queue = storage.queue("long-runs")
        queue.create()
        queue.put("long")
        asyncio.run(pump_all(queue, executor))
    assert runs == ["long"]
    assert waits == [300, 300, 300, 300]


def properties(azurite: Azurite, queue: str) -> QueueProperties:
    with QueueClient.from_connection_string(
        azurite.connection_string, queue, connection_verify=str(azurite.ca_file)
    ) as client:
        return client.get_queue_properties()


def test_a_queue_message_arrives_with_what_is_known_about_it(host: Host) -> None:
    host.send("ünlike json")
    eventually(lambda: host.succeeded("ünlike json"))
    run = host.runs("ünlike json")[0]
    assert run["id"]
    assert run["inserted"].startswith("20")
    assert run["count"] == 1


def test_a_failing_message_is_tried_as_often_as_host_json_says_and_then_moves(host: Host) -> None:
    host.send("fails always, said in a message")
    poison = host.queue("embedding-requests-poison")
    eventually(lambda: "embedding-requests-poison" in [queue.name for queue in host.queues.list_queues()])
    eventually(lambda: poison.peek_messages())
    assert [run["count"] for run in host.runs("fails always, said in a message")] == [1, 2, 3]
    poison.clear_messages()


def test_a_message_that_is_not_base64_moves_at_once_as_it_was(host: Host) -> None:
    host.queue("embedding-requests").send_message("{not base64}")
    poison = host.queue("embedding-requests-poison")
    eventually(lambda: "embedding-requests-poison" in [queue.name for queue in host.queues.list_queues()])
    eventually(lambda: [message.content for message in poison.peek_messages()] == ["{not base64}"])
    poison.clear_messages()


def test_bytes_that_are_no_text_arrive_as_they_are(host: Host) -> None:
    host.queue("embedding-requests").send_message("//4A")
    eventually(lambda: host.succeeded("\\xff\\xfe\x00"))


def test_an_idle_queue_is_polled_less_and_less_often() -> None:
    pauses = Pauses(LONGEST_PAUSE)
    for expected in PAUSES:
        assert expected * 0.8 - 0.1 <= pauses.next() <= expected * 1.2
    assert [pauses.next() for _ in range(3)][1:] == [LONGEST_PAUSE] * 2


def test_after_a_message_polls_are_frequent_again() -> None:
    pauses = Pauses(LONGEST_PAUSE)
    for _ in PAUSES:
        pauses.next()
    pauses.found()
    assert pauses.next() == PAUSES[0]


def test_no_pause_is_longer_than_host_json_says() -> None:
    pauses = Pauses(5)
    taken = [pauses.next() for _ in range(20)]
    assert max(taken) == 5
    assert taken[-1] == 5
