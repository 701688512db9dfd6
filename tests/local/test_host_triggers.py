"""How the stand-in for the Functions host runs blob and queue functions: the storage extension's rules."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from azure.storage.queue import QueueClient, QueueProperties

from local.azurite import Azurite
from local.host.pumps import Pump, Rules
from local.storage import Queue, QueueMessage, Storage
from tests.local.conftest import Host, event, eventually, messages


def test_event_grid_is_answered_when_it_asks_whether_this_is_the_right_place(host: Host) -> None:
    validation = [{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "512"}}]
    answer = host.webhook(validation, kind="SubscriptionValidation")
    assert (answer.status_code, answer.json()) == (200, {"validationResponse": "512"})


@pytest.mark.parametrize(("kind", "status"), [("Unsubscribe", 202), ("Other", 400), ("", 400)])
def test_other_calls_of_event_grid_are_answered_by_their_kind(host: Host, kind: str, status: int) -> None:
    assert host.webhook([], kind=kind).status_code == status


def test_the_webhook_needs_the_key_and_a_function(host: Host) -> None:
    assert host.http.post("/runtime/webhooks/blobs?functionName=Host.Functions.by_name").status_code == 401
    assert host.webhook([], function="nobody").status_code == 404


@pytest.mark.parametrize("name", ["plain.png", "trip/a b#1 50% ü+?&.jpg", "a%20b"])
def test_a_written_blob_runs_the_function_with_its_name(host: Host, name: str) -> None:
    host.upload(name)
    eventually(lambda: host.succeeded(name))
    assert host.runs(name)[0]["container"] == "pictures"


def test_an_event_in_the_cloud_events_schema_does_as_well(host: Host) -> None:
    blob = host.images.upload_blob("cloud event", b"")
    assert host.webhook(event(blob.url)).status_code == 202
    eventually(lambda: host.succeeded("cloud event"))


def test_a_function_may_take_the_content_instead(host: Host) -> None:
    host.upload("content", b"of a blob", function="by_content", key="value")
    eventually(lambda: host.succeeded("pictures/content"))
    run = host.runs("pictures/content")[0]
    assert (run["content"], run["length"], run["metadata"]) == ("of a blob", 9, {"key": "value"})


def test_the_event_of_a_blob_that_is_gone_is_dropped(host: Host) -> None:
    url = host.images.get_blob_client("gone").url
    assert host.webhook([event(url)]).status_code == 202
    host.upload("after gone")
    eventually(lambda: host.succeeded("after gone"))
    eventually(lambda: not messages(host.queue("azure-webjobs-blobtrigger-local")))
    assert not host.runs("gone")


def test_a_failed_blob_is_tried_again_at_once(host: Host) -> None:
    host.upload("fails 2 times")
    # Kept for itself, it would be hidden for ten minutes.
    eventually(lambda: host.succeeded("fails 2 times"))
    assert len(host.runs("fails 2 times")) == 3


def test_after_five_attempts_a_blob_is_reported_on_the_poison_queue(host: Host) -> None:
    host.upload("fails always")
    poison = host.queue("webjobs-blobtrigger-poison")
    eventually(lambda: "webjobs-blobtrigger-poison" in [queue.name for queue in host.queues.list_queues()])
    eventually(lambda: messages(poison))
    assert messages(poison) == [
        {
            "Type": "BlobTrigger",
            "FunctionId": "Host.Functions.by_name",
            "BlobType": "BlockBlob",
            "ContainerName": "pictures",
            "BlobName": "fails always",
            "ETag": host.images.get_blob_client("fails always").get_blob_properties().etag.strip('"'),
        }
    ]
    assert len(host.runs("fails always")) == 5


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

    async def work(message: QueueMessage) -> None:
        runs.append(message.text)
        await ended.wait()

    async def wait(tasks: set[asyncio.Task[None]], *, timeout: float | None) -> tuple[set[Any], set[Any]]:
        waits.append(timeout)
        if len(waits) <= 3:
            return set(), tasks
        ended.set()
        return await asyncio.wait(tasks)

    async def pump_all(queue: Queue, executor: ThreadPoolExecutor) -> None:
        pump = Pump(queue, queue, work, Rules(batch=1, refill_at=0, attempts=5), executor)
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


def test_a_message_in_another_encoding_moves_without_a_run(host: Host) -> None:
    host.queue("embedding-requests").send_message("{not base64}")
    poison = host.queue("embedding-requests-poison")
    eventually(lambda: "embedding-requests-poison" in [queue.name for queue in host.queues.list_queues()])
    eventually(lambda: [message.content for message in poison.peek_messages()] == ["{not base64}"])
    poison.clear_messages()
