"""Health checks find what is wrong with a deployment by real requests, and report it without secrets."""

import json
import logging
from contextlib import suppress
from typing import Any

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueClient

from local.faults import FaultKind, StorageFaults
from shared.log import Report
from shared.operations.checks import Problem
from shared.storage.queues import QUEUE, REQUESTS_POISON, UPLOADS_POISON
from shared.triggers import routes
from shared.uploads.requests import EmbeddingRequest
from tests.conftest import CLIENT_ID, PATIENCE, Clock, Cloud, Model
from tests.model.replay import VECTOR, Replay, replaying


@pytest.fixture(autouse=True)
def _empty_queues(cloud: Cloud) -> None:
    """All tests share the poison queues: remove the messages that earlier tests left."""
    for name in (REQUESTS_POISON, UPLOADS_POISON):
        with suppress(ResourceNotFoundError), queue(cloud, name) as poison:
            poison.clear_messages()


def queue(cloud: Cloud, name: str) -> QueueClient:
    return QueueClient(cloud.settings.queue_service_uri, name, credential=cloud.app_identity().credential)


def problems(cloud: Cloud) -> set[tuple[str, str]]:
    check = cloud.checks()
    return {(problem.code, problem.target) for problem in check.recent()}


@pytest.mark.either_format
def test_a_working_deployment_has_no_problems_and_nothing_is_written(cloud: Cloud) -> None:
    assert problems(cloud) == set()
    assert cloud.records() == []


def test_a_missing_container_is_named_by_its_setting(cloud: Cloud) -> None:
    cloud.images.delete_container()
    assert problems(cloud) == {("missing_container", "IMAGES_CONTAINER")}
    cloud.embeddings.delete_container()
    assert problems(cloud) == {
        ("missing_container", "IMAGES_CONTAINER"),
        ("missing_container", "EMBEDDINGS_CONTAINER"),
    }


def test_a_missing_queue_is_named_by_its_setting(cloud: Cloud) -> None:
    cloud.queue.delete_queue()
    try:
        assert problems(cloud) == {("missing_queue", "ImageStorage__queueServiceUri")}
    finally:
        cloud.queue.create_queue()


STORAGE = {"IMAGES_CONTAINER", "EMBEDDINGS_CONTAINER", "ImageStorage__queueServiceUri"}


@pytest.mark.parametrize(
    ("kind", "code"), [("no_role", "missing_role"), ("firewall", "unreachable"), ("cut", "unreachable")]
)
def test_a_missing_role_and_unreachable_storage_have_different_codes(
    behind: Cloud, faults: StorageFaults, kind: FaultKind, code: str
) -> None:
    assert problems(behind) == set()
    faults.begin(kind)
    assert problems(behind) == {(code, setting) for setting in STORAGE}


def test_a_missing_role_is_named(behind: Cloud, faults: StorageFaults) -> None:
    faults.begin("no_role")
    check = behind.checks()
    images, embeddings, requests = check.recent()
    assert "Storage Blob Data Reader" in images.message
    assert "Storage Blob Data Contributor" in embeddings.message
    assert "Storage Queue Data Contributor" in requests.message


def test_an_identity_without_a_token_is_the_only_problem_reported(cloud: Cloud) -> None:
    check = cloud.checks(client_id="00000000-0000-0000-0000-000000000000")
    assert [problem.code for problem in check.recent()] == ["no_identity"]


@pytest.mark.either_format
def test_a_model_that_rejects_every_call_is_misconfigured(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "unauthorized"})
    assert problems(cloud) == {("model_misconfigured", "FOUNDRY_ENDPOINT")}


@pytest.mark.either_format
@pytest.mark.parametrize("refusal", [b"<html>Bad Request</html>", {"code": "content_filter", "message": "Filtered"}])
def test_a_model_that_begins_to_refuse_a_harmless_word_is_misconfigured(cloud: Cloud, refusal: object) -> None:
    first: list[Replay] = [(200, cloud.wire_format.vectors(VECTOR))]
    with replaying(cloud, lambda _: first.pop() if first else (400, refusal)) as replayed:
        check = replayed.checks()
        assert check.run_now() == []
        assert [problem.code for problem in check.run_now()] == ["model_misconfigured"]


def test_health_embeds_a_word_and_a_picture_and_says_in_how_many_dimensions(cloud: Cloud) -> None:
    check = cloud.checks()
    assert check.recent() == []
    assert sorted(call["route"] for call in cloud.model.calls()) == ["/models/embeddings", "/models/images/embeddings"]
    assert check.dimensions == 1024


def test_a_deployment_that_embedded_a_picture_is_asked_for_the_next_after_an_hour(cloud: Cloud, clock: Clock) -> None:
    check = cloud.checks()
    for _ in range(12):
        assert check.recent() == []
        clock.pass_(301)
    assert len(cloud.model.calls()) == 12 + 1
    check.recent()
    assert len(cloud.model.calls()) == 12 + 1 + 2


def test_the_watch_embeds_no_picture(cloud: Cloud) -> None:
    assert cloud.checks().run_now() == []
    assert [call["route"] for call in cloud.model.calls()] == ["/models/embeddings"]


def test_a_model_that_takes_words_but_no_pictures_is_misconfigured(cloud: Cloud) -> None:
    no_route = (404, {"error": {"code": "404", "message": "Resource not found"}})
    taken = (200, cloud.wire_format.vectors(VECTOR))
    with replaying(cloud, lambda body: no_route if b"data:image" in body else taken) as replayed:
        [problem] = replayed.checks().recent()
    assert (problem.code, problem.target) == ("model_misconfigured", "FOUNDRY_ENDPOINT")


def test_every_deployment_is_asked_and_the_one_at_fault_is_told_by_its_number(
    cloud: Cloud, elsewhere: tuple[Model, Model]
) -> None:
    west, east = elsewhere
    check = cloud.with_settings(FOUNDRY_ENDPOINT=f"{west.url}/models {east.url}/nowhere/models").checks()
    [problem] = check.recent()
    assert (problem.code, problem.target) == ("model_misconfigured", "FOUNDRY_ENDPOINT")
    assert "at endpoint 2 of 2 rejects every call" in problem.message
    assert east.url in problem.detail
    assert len(west.calls()) == 2


def test_a_deployment_whose_vectors_are_of_another_model_is_found_though_it_does_not_say_so(cloud: Cloud) -> None:
    with replaying(cloud, lambda _: (200, cloud.wire_format.vectors(VECTOR))) as another:
        endpoints = " ".join(cloud.settings.foundry_endpoints + another.settings.foundry_endpoints)
        [problem] = cloud.with_settings(FOUNDRY_ENDPOINT=endpoints).checks().recent()
    assert (problem.code, problem.target) == ("other_model", "FOUNDRY_ENDPOINT")
    assert "at endpoint 2 of 2" in problem.message
    assert "cosine" in problem.detail


@pytest.mark.either_format
def test_an_endpoint_without_its_path_is_misconfigured(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "empty_200"})
    assert problems(cloud) == {("model_misconfigured", "FOUNDRY_ENDPOINT")}


@pytest.mark.either_format
def test_an_unknown_deployment_is_misconfigured(cloud: Cloud) -> None:
    assert problems(cloud.with_settings(FOUNDRY_MODEL="no-such-model")) == {("model_misconfigured", "FOUNDRY_ENDPOINT")}


@pytest.mark.usefixtures("clock")
def test_an_endpoint_that_does_not_answer_is_unreachable(cloud: Cloud, nobody: str) -> None:
    assert problems(cloud.with_settings(FOUNDRY_ENDPOINT=f"http://{nobody}/models")) == {
        ("unreachable", "FOUNDRY_ENDPOINT")
    }


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "behaviour",
    [{"throttle": {"calls": 0, "window_s": 60}}, {"fault": {"kind": "503"}}],
)
def test_a_model_that_is_throttled_or_down_is_no_problem_of_the_deployment(
    cloud: Cloud, behaviour: dict[str, object]
) -> None:
    cloud.model.behave(**behaviour)
    assert problems(cloud) == set()


def test_health_is_cached(cloud: Cloud, clock: Clock) -> None:
    check = cloud.checks()
    check.recent()
    cloud.images.delete_container()
    assert check.recent() == []
    assert len(cloud.model.calls()) == 2
    assert [problem.code for problem in check.run_now()] == ["missing_container"]
    cloud.images.create_container()
    clock.pass_(3600)
    assert check.recent() == []


@pytest.mark.usefixtures("clock")
def test_health_lists_every_problem_and_shows_no_private_value(cloud: Cloud, nobody: str) -> None:
    cloud.images.delete_container()
    check = cloud.with_settings(FOUNDRY_ENDPOINT=f"http://{nobody}/models").checks()
    answer = routes.health(check.recent(), None)
    assert answer.status_code == 503
    body = answer.get_body().decode()
    error = json.loads(body)["error"]
    assert error["code"] == answer.headers["x-ms-error-code"] == "missing_container"
    assert [detail["target"] for detail in error["details"]] == ["IMAGES_CONTAINER", "FOUNDRY_ENDPOINT"]
    for private in ("127.0.0.1", CLIENT_ID, cloud.settings.images_container):
        assert private not in body


def test_the_log_has_the_problem_and_the_service_s_own_message(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.model.behave(fault={"kind": "unauthorized"})
    check = cloud.checks()
    check.recent()
    [line] = lines(caplog, "misconfigured")
    assert line["code"] == "model_misconfigured"
    assert "Cognitive Services User" in line["message"]
    assert "401" in line["message"]


def test_the_log_has_the_beginning_of_a_message_without_end(caplog: pytest.LogCaptureFixture) -> None:
    Report(outcome="error", message="x" * 10_000).log("misconfigured", logging.ERROR)
    [line] = lines(caplog, "misconfigured")
    assert line["message"] == "x" * 1000


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    logged = [json.loads(record.getMessage()) for record in caplog.records if record.name == "image_embeddings"]
    return [line for line in logged if line["event"] == event]


def watch(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> tuple[dict[str, Any], int]:
    """The line that was logged, and its level."""
    caplog.set_level(logging.INFO, "image_embeddings")
    caplog.clear()
    check = cloud.checks()
    cloud.watch(check)()
    [line] = lines(caplog, "watch")
    return line, caplog.records[-1].levelno


def test_the_watch_logs_how_many_messages_wait_and_for_how_long(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    line, level = watch(cloud, caplog)
    assert (line["outcome"], level) == ("well", logging.INFO)
    cloud.request_queue().send(EmbeddingRequest(name="a.png"))
    line, level = watch(cloud, caplog)
    assert (line["outcome"], level) == ("waiting", logging.INFO)
    queues = {queue["queue"]: queue for queue in line["queues"]}
    assert queues[QUEUE]["messages"] == 1
    assert 0 <= queues[QUEUE]["oldest_seconds"] <= PATIENCE
    assert "oldest_seconds" not in queues[REQUESTS_POISON]


def test_the_watch_logs_an_error_for_a_poison_queue_with_messages(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    poison = cloud.resources.enter_context(queue(cloud, REQUESTS_POISON))
    with suppress(ResourceExistsError):
        poison.create_queue()
    poison.send_message("{}")
    line, level = watch(cloud, caplog)
    poison.clear_messages()
    assert (line["outcome"], level) == ("poisoned", logging.ERROR)


def test_the_watch_has_its_line_also_while_the_queues_are_out_of_reach(
    behind: Cloud, faults: StorageFaults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.begin("no_role", requests=f"GET .*/{UPLOADS_POISON}")
    line, level = watch(behind, caplog)
    assert (line["outcome"], line["problems"], level) == ("misconfigured", ["queues_out_of_reach"], logging.ERROR)
    assert "403 AuthorizationPermissionMismatch" in line["message"]


def test_the_watch_names_the_problems(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.images.delete_container()
    line, level = watch(cloud, caplog)
    assert (line["outcome"], line["problems"], level) == ("misconfigured", ["missing_container"], logging.ERROR)


def test_health_never_shows_the_service_s_own_message() -> None:
    answer = routes.health(
        [Problem("unreachable", "FOUNDRY_ENDPOINT", "Nothing answers.", "https://secret.example/models")], None
    )
    assert b"secret" not in answer.get_body()
