"""While the model is unavailable, images wait on a queue: nothing is recorded, nothing is lost."""

import base64
import logging
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.clock import now
from shared.errors import StorageError
from shared.uploads.requests import EmbeddingRequest, _wait
from tests.conftest import Clock, Cloud
from tests.drawing import picture
from tests.model.replay import answering
from tests.queue_messages import length


@pytest.fixture(autouse=True)
def _clock(clock: Clock) -> None:
    """No sync takes time: these tests are about what comes after it."""


def waiting(cloud: Cloud) -> int:
    return length(cloud.waiting)


@pytest.mark.either_format
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
def test_an_image_is_deferred_while_the_model_is_unavailable_and_nothing_is_recorded(
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


def test_the_message_has_the_name_the_attempt_and_the_time_of_the_first(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.uploads.requests.random.uniform", lambda *_: 0)
    before = now()
    cloud.request_queue().put_later(EmbeddingRequest(name="Zoë/a b#1.png", attempt=3, first_seen=before), 0)
    message = cloud.waiting.receive_message()
    assert message is not None
    assert msgspec.json.decode(base64.b64decode(message.content)) == {
        "container": cloud.settings.images_container,
        "space": "Cohere-embed-v3-english",
        "name": "Zoë/a b#1.png",
        "attempt": 3,
        "first_seen": before.isoformat().replace("+00:00", "Z"),
    }


def test_no_function_gets_a_deferred_message_before_its_time(cloud: Cloud) -> None:
    cloud.request_queue().put_later(EmbeddingRequest(name="a.png"), 3600)
    assert waiting(cloud) == 1
    assert cloud.waiting.receive_message() is None
    assert cloud.queue.receive_message() is None, "the dispatcher waits as long"


@pytest.mark.either_format
def test_a_deferred_image_is_embedded_once_the_model_is_back(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "503"})
    cloud.upload("a.png", picture())
    sync = cloud.sync()
    sync.upload("a.png")
    cloud.model.behave()
    assert sync.request(EmbeddingRequest(name="a.png", attempt=1, first_seen=now())).outcome == "embedded"
    assert cloud.record("a.png") is not None


def test_the_wait_is_the_model_s_retry_after_with_jitter() -> None:
    waits = [_wait(1, 100.0) for _ in range(200)]
    assert 100 <= min(waits) < 105
    assert 115 < max(waits) <= 120


def test_a_longer_retry_after_is_cut_to_an_hour_with_jitter(cloud: Cloud) -> None:
    wait = cloud.request_queue().put_later(
        EmbeddingRequest(name="a.png", attempt=1, first_seen=now()), 30 * 24 * 3600.0
    )
    assert 3000 <= wait <= 3600
    assert waiting(cloud) == 1


@pytest.mark.parametrize("asked", [0.0, 1.0, 4.0])
def test_a_wait_of_a_few_seconds_does_not_shorten_the_backoff(asked: float) -> None:
    waits = [_wait(8, asked) for _ in range(500)]
    assert max(waits) > 3000


@pytest.mark.either_format
@pytest.mark.parametrize("asked", [0, 4, 55])
def test_an_image_that_found_the_quota_spent_has_not_been_tried(cloud: Cloud, asked: int) -> None:
    cloud.upload("a.png", picture())
    tried = EmbeddingRequest(name="a.png", attempt=30, first_seen=now() - timedelta(days=3))
    with answering(cloud, 429, b"", {"retry-after": str(asked)}) as throttled:
        report = throttled.sync().request(tried)
    assert report.outcome == "deferred"
    assert cloud.failure("a.png") is None


@pytest.mark.parametrize(("attempt", "longest"), [(1, 30), (2, 60), (5, 480), (8, 3600), (5000, 3600)])
def test_the_wait_grows_to_an_hour_with_full_jitter(attempt: int, longest: float) -> None:
    waits = [_wait(attempt, None) for _ in range(500)]
    assert 1 <= min(waits) < longest * 0.1 + 1
    assert longest * 0.9 < max(waits) <= longest


@pytest.mark.either_format
@pytest.mark.parametrize(("attempt", "age"), [(30, timedelta(0)), (1, timedelta(hours=24)), (30, timedelta(hours=30))])
def test_retries_end_after_a_day_or_thirty_attempts(cloud: Cloud, attempt: int, age: timedelta) -> None:
    cloud.model.behave(fault={"kind": "503"})
    etag = cloud.upload("a.png", picture())
    report = cloud.sync().request(EmbeddingRequest(name="a.png", attempt=attempt, first_seen=now() - age))
    assert (report.outcome, report.code) == ("failed", "gave_up")
    failure = cloud.failure("a.png")
    assert (failure["etag"], failure["permanent"], failure["status"]) == (etag, False, 503)
    assert waiting(cloud) == 0


def test_the_last_attempt_still_calls_the_model(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    assert cloud.sync().request(EmbeddingRequest(name="a.png", attempt=30, first_seen=now())).outcome == "embedded"


@pytest.mark.either_format
def test_after_one_429_other_images_are_deferred_without_a_call(cloud: Cloud) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    sync = cloud.sync()
    for number in range(10):
        cloud.upload(f"{number}.png", picture())
        assert sync.upload(f"{number}.png").outcome == "deferred"
    assert len(cloud.model.calls(429)) == 1
    assert waiting(cloud) == 10


@pytest.mark.either_format
def test_a_wrong_setting_is_logged_as_an_error_once_a_minute_not_once_an_image(
    cloud: Cloud, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sync = cloud.with_settings(FOUNDRY_MODEL="no-such-model").sync()

    def errors_after(*names: str) -> list[str]:
        caplog.clear()
        for name in names:
            cloud.upload(name, picture())
            sync.upload(name)
        return [record.message for record in caplog.records if record.levelno == logging.ERROR]

    [error] = errors_after("a.png", "b.png", "c.png")
    assert "answered 404" in error
    assert "FOUNDRY_MODEL" in error
    clock.pass_(61)
    assert len(errors_after("d.png", "e.png")) == 1


def test_a_missing_queue_is_an_error_so_that_the_platform_retries(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.queues.WAITING", "no-such-queue")
    cloud.model.behave(fault={"kind": "503"})
    cloud.upload("a.png", picture())
    with pytest.raises(StorageError, match="QueueNotFound"):
        cloud.sync().upload("a.png")
