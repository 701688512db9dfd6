"""The same model at several endpoints: their quotas add up, and one that is wrong or down costs the others nothing."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from shared.errors import ModelMisconfigured, ModelUnavailable, NotSent
from shared.model.client import MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.deployment import Deployment
from shared.model.rate_limiter import RateLimiter, RateLimiters
from shared.model.wire_format import Input, ModelAnswer, ModelOptions
from tests.conftest import PATIENCE, Clock, Cloud, Model

type Two = tuple[Model, Model]


def client_of(cloud: Cloud, *urls: str) -> ModelClient:
    return cloud.with_settings(FOUNDRY_ENDPOINT=" ".join(f"{url}/models" for url in urls)).model_client()


@pytest.fixture
def client(cloud: Cloud, elsewhere: Two) -> ModelClient:
    """Of a model that is deployed in the west and in the east."""
    west, east = elsewhere
    return client_of(cloud, west.url, east.url)


def embed(client: ModelClient, text: str = "red") -> int:
    schedule = Schedule.of(MAX_TOTAL_WAIT, 60)
    return len(client.embed(Input(text=text), ModelOptions("query"), schedule).embedding)


def answered(elsewhere: Two) -> list[int]:
    return [len(model.calls(200)) for model in elsewhere]


def misconfigured(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """What the lines with that event say."""
    for record in caplog.records:
        line = json.loads(record.getMessage()) if record.getMessage().startswith("{") else {}
        if line.get("event") == "misconfigured":
            yield line["message"]


def test_calls_at_once_are_spread_over_the_deployments(
    client: ModelClient, elsewhere: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody, send = threading.Barrier(16), Deployment.call

    def together(*arguments: Any) -> list[ModelAnswer]:
        everybody.wait(PATIENCE)
        return send(*arguments)

    monkeypatch.setattr(Deployment, "call", together)
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(lambda _: embed(client), range(16))) == {1024}
    assert answered(elsewhere) == [8, 8]


@pytest.mark.usefixtures("clock")
def test_a_throttled_deployment_leaves_its_calls_to_the_other_at_once(
    client: ModelClient, elsewhere: Two, clock: Clock
) -> None:
    west, east = elsewhere
    west.behave(throttle={"calls": 0, "window_s": 60})
    assert [embed(client) for _ in range(5)] == [1024] * 5
    assert (len(west.calls(429)), len(east.calls(200)), clock.waits) == (1, 5, [])


@pytest.mark.usefixtures("clock")
def test_if_all_are_throttled_the_caller_learns_when_the_first_opens(client: ModelClient, elsewhere: Two) -> None:
    for model, window in zip(elsewhere, (90, 60), strict=True):
        model.behave(throttle={"calls": 0, "window_s": window})
    with pytest.raises(ModelUnavailable):
        embed(client)
    with pytest.raises(NotSent) as raised:
        embed(client)
    assert raised.value.status == 429
    assert raised.value.retry_after == pytest.approx(60, abs=2)
    assert [len(model.calls(429)) for model in elsewhere] == [1, 1]


@pytest.mark.parametrize("kind", ["500", "502_html", "503", "drop", "malformed_json"])
def test_a_deployment_that_is_down_leaves_its_calls_to_the_other_at_once(
    client: ModelClient, elsewhere: Two, clock: Clock, kind: str
) -> None:
    west, east = elsewhere
    west.behave(fault={"kind": kind})
    assert [embed(client) for _ in range(10)] == [1024] * 10
    assert (len(west.calls()), len(east.calls(200)), clock.waits) == (1, 10, [])


@pytest.mark.usefixtures("clock")
def test_a_deployment_that_cannot_be_reached_is_asked_once_and_then_left_alone(
    cloud: Cloud, elsewhere: Two, nobody: str
) -> None:
    west, _ = elsewhere
    client = client_of(cloud, f"http://{nobody}", west.url)
    assert [embed(client) for _ in range(5)] == [1024] * 5
    assert len(west.calls(200)) == 5


def test_a_deployment_that_works_again_takes_calls_again(client: ModelClient, elsewhere: Two, clock: Clock) -> None:
    west, east = elsewhere
    west.behave(fault={"kind": "503", "times": 1})
    assert embed(client) == 1024
    east.behave(fault={"kind": "503"})
    clock.pass_(2)
    assert [embed(client) for _ in range(4)] == [1024] * 4
    assert len(west.calls(200)) == 4


def test_if_all_are_down_calls_are_tried_again_as_with_one(client: ModelClient, elsewhere: Two, clock: Clock) -> None:
    for model in elsewhere:
        model.behave(fault={"kind": "503"})
    with pytest.raises(ModelUnavailable):
        embed(client)
    assert sum(len(model.calls(503)) for model in elsewhere) == 5
    assert 0 < sum(clock.waits) <= MAX_TOTAL_WAIT


@pytest.mark.usefixtures("clock")
def test_a_deployment_that_is_not_there_is_named_in_a_line_while_the_others_go_on(
    cloud: Cloud, elsewhere: Two, caplog: pytest.LogCaptureFixture
) -> None:
    west, _ = elsewhere
    client = client_of(cloud, f"{west.url}/nowhere", west.url)
    with caplog.at_level(logging.ERROR):
        assert [embed(client) for _ in range(5)] == [1024] * 5
    [message] = misconfigured(caplog)
    assert f"{west.url}/nowhere/models is left out" in message
    assert len(west.calls(200)) == 5


@pytest.mark.usefixtures("clock")
def test_if_none_is_there_the_call_is_misconfigured(cloud: Cloud, elsewhere: Two) -> None:
    west, east = elsewhere
    client = client_of(cloud, f"{west.url}/nowhere", f"{east.url}/nowhere")
    for _ in range(2):
        with pytest.raises(ModelMisconfigured):
            embed(client)


@pytest.mark.usefixtures("clock")
def test_a_wrong_deployment_is_no_reason_to_fail_where_the_right_one_is_throttled(cloud: Cloud, elsewhere: Two) -> None:
    west, _ = elsewhere
    west.behave(throttle={"calls": 0, "window_s": 60})
    client = client_of(cloud, f"{west.url}/nowhere", west.url)
    for _ in range(3):
        with pytest.raises(ModelUnavailable) as raised:
            embed(client)
        assert raised.value.status == 429


def test_an_option_that_the_model_lacks_says_nothing_about_a_deployment(
    client: ModelClient, elsewhere: Two, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(ModelMisconfigured):
            client.embed(Input(text="red"), ModelOptions("query", 77), Schedule.of(MAX_TOTAL_WAIT, 60))
    assert [len(model.calls(422)) for model in elsewhere] == [2, 0]
    assert list(misconfigured(caplog)) == []


# Their rate limiters, together


def held(limiters: RateLimiters, number: int) -> list[RateLimiter]:
    """Those that so many calls in flight together get a place from."""
    with ExitStack() as places:
        return [places.enter_context(limiters.acquire(float("inf"))) for _ in range(number)]


def test_the_one_with_most_room_is_next() -> None:
    limiters = RateLimiters(2, 4)
    one, other = limiters.all
    one.throttled(None)
    one.closed_until = 0.0
    assert held(limiters, 4) == [other] * 3 + [one]


def test_a_failure_is_news_once_for_calls_that_fail_together_and_lasts_longer_each_time(clock: Clock) -> None:
    [one, other] = RateLimiters(2, 8).all
    assert [one.failed(), one.failed(), other.failed()] == [True, False, True]
    lasted = []
    for _ in range(8):
        lasted.append(one.failing_until - clock.monotonic())
        clock.pass_(lasted[-1])
        assert one.failed()
    assert lasted == [1, 2, 4, 8, 16, 32, 60, 60]
    one.succeeded()
    assert one.failed()
    assert one.failing_until - clock.monotonic() == 1


def test_one_call_probes_a_deployment_that_failed(clock: Clock) -> None:
    limiters = RateLimiters(2, 4)
    one, other = limiters.all
    one.failed()
    assert held(limiters, 4) == [other] * 4
    clock.pass_(2)
    assert held(limiters, 5).count(one) == 1
    one.succeeded()
    assert held(limiters, 6).count(one) == 2
