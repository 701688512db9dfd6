"""While the model cannot be had, images wait on the queue: nothing is recorded, nothing is lost."""

import base64
import logging
import time
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.clock import now
from shared.errors import StorageError
from shared.uploads.requests import EmbeddingRequest, _wait
from tests.conftest import Cloud
from tests.model.test_client import answering
from tests.uploads.test_sync import picture


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off for no time within the look: what is tested here is what comes after it."""
    monkeypatch.setattr("shared.model.client._FIRST_BACKOFF", 0.001)


def waiting(cloud: Cloud) -> int:
    return cloud.queue.get_queue_properties().approximate_message_count or 0


@pytest.mark.parametrize(
    "behaviour",
    [
        {"fault": {"kind": "503"}},
        {"fault": {"kind": "drop"}},
        {"fault": {"kind": "unauthorized"}},
        {"fault": {"kind": "empty_200"}},
        {"throttle": {"calls": 0, "window_s": 60}},
    ],
)
def test_an_image_that_the_model_cannot_take_now_is_deferred_and_nothing_is_recorded(
    cloud: Cloud, behaviour: dict[str, Any]
) -> None:
    cloud.model.behave(**behaviour)
    cloud.upload("a.png", picture())
    report = cloud.sync().upload("a.png")
    assert report.outcome == "deferred"
    assert report.retry_in is not None
    assert 1 <= report.retry_in <= 75
    assert waiting(cloud) == 1
    assert cloud.records() == []


def test_the_message_says_what_when_first_and_how_often(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.uploads.requests.random.uniform", lambda least, most: least)
    before = now()
    cloud.request_queue().put_later(EmbeddingRequest(name="Zoë/a b#1.png", attempt=3, first_seen=before), 1.0)
    assert cloud.queue.receive_message() is None
    deadline = time.monotonic() + 20
    while (message := cloud.queue.receive_message()) is None:
        assert time.monotonic() < deadline, "the message stays hidden"
        time.sleep(0.1)
    assert msgspec.json.decode(base64.b64decode(message.content)) == {
        "container": cloud.settings.images_container,
        "space": "Cohere-embed-v3-english",
        "name": "Zoë/a b#1.png",
        "attempt": 3,
        "first_seen": before.isoformat().replace("+00:00", "Z"),
    }


def test_a_deferred_image_is_embedded_once_the_model_is_back(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "503"})
    cloud.upload("a.png", picture())
    sync = cloud.sync()
    sync.upload("a.png")
    cloud.model.behave()
    assert sync.request(EmbeddingRequest(name="a.png", attempt=1, first_seen=now())).outcome == "embedded"
    assert cloud.record("a.png") is not None


def test_the_wait_is_what_the_model_asked_for_and_a_little_apart() -> None:
    waits = [_wait(1, 100.0) for _ in range(200)]
    assert 100 <= min(waits) < 105
    assert 115 < max(waits) <= 120


def test_a_wait_longer_than_a_queue_can_hide_a_message_is_cut(cloud: Cloud) -> None:
    wait = cloud.request_queue().put_later(
        EmbeddingRequest(name="a.png", attempt=1, first_seen=now()), 30 * 24 * 3600.0
    )
    assert 3000 <= wait <= 3600
    assert waiting(cloud) == 1


@pytest.mark.parametrize("asked", [0.0, 1.0, 4.0])
def test_a_wait_of_a_few_seconds_does_not_shorten_the_backoff(asked: float) -> None:
    waits = [_wait(8, asked) for _ in range(500)]
    assert max(waits) > 3000


@pytest.mark.parametrize("asked", [0, 4, 55])
def test_an_image_that_found_the_quota_spent_has_not_been_tried(cloud: Cloud, asked: int) -> None:
    cloud.upload("a.png", picture())
    tried = EmbeddingRequest(name="a.png", attempt=30, first_seen=now() - timedelta(days=3))
    with answering(429, b"", {"retry-after": str(asked)}) as endpoint:
        report = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint).sync().request(tried)
    assert report.outcome == "deferred"
    assert cloud.failure("a.png") is None


@pytest.mark.parametrize(("attempt", "most"), [(1, 30), (2, 60), (5, 480), (8, 3600), (29, 3600)])
def test_the_wait_grows_to_an_hour_with_full_jitter(attempt: int, most: float) -> None:
    waits = [_wait(attempt, None) for _ in range(500)]
    assert min(waits) < most * 0.1 + 1
    assert most * 0.9 < max(waits) <= most


@pytest.mark.parametrize(("attempt", "age"), [(30, timedelta(0)), (1, timedelta(hours=24)), (30, timedelta(hours=30))])
def test_after_a_day_or_thirty_attempts_it_is_given_up_for_now(cloud: Cloud, attempt: int, age: timedelta) -> None:
    cloud.model.behave(fault={"kind": "503"})
    etag = cloud.upload("a.png", picture())
    report = cloud.sync().request(EmbeddingRequest(name="a.png", attempt=attempt, first_seen=now() - age))
    assert (report.outcome, report.code) == ("failed", "gave_up")
    failure = cloud.failure("a.png")
    assert (failure["etag"], failure["permanent"], failure["status"]) == (etag, False, 503)
    assert waiting(cloud) == 0


def test_the_last_attempt_is_an_attempt(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    assert cloud.sync().request(EmbeddingRequest(name="a.png", attempt=30, first_seen=now())).outcome == "embedded"


def test_one_refusal_spares_the_other_images_their_calls(cloud: Cloud) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    sync = cloud.sync()
    for number in range(10):
        cloud.upload(f"{number}.png", picture())
        assert sync.upload(f"{number}.png").outcome == "deferred"
    assert len(cloud.model.calls(429)) == 1
    assert waiting(cloud) == 10


def test_a_wrong_setting_is_said_aloud_once_a_minute_not_once_an_image(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    sync = cloud.with_settings(FOUNDRY_MODEL="no-such-model").sync()
    for number in range(3):
        cloud.upload(f"{number}.png", picture())
        sync.upload(f"{number}.png")
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "unknown_model" in errors[0]
    assert "FOUNDRY_MODEL" in errors[0]


def test_a_queue_that_is_not_there_is_an_error_of_the_look_so_that_the_platform_tries_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.queues.QUEUE", "no-such-queue")
    cloud.model.behave(fault={"kind": "503"})
    cloud.upload("a.png", picture())
    with pytest.raises(StorageError, match="QueueNotFound"):
        cloud.sync().upload("a.png")
