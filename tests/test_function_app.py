"""The functions as the platform sees them: names, triggers, routes and HTTP responses."""

import json
import logging
import runpy
from collections.abc import Iterator
from typing import Any

import azure.functions as func
import pytest

import function_app
from shared.errors import StorageError
from shared.triggers.blob_name import BlobName
from tests.conftest import Clock, Cloud
from tests.drawing import picture
from tests.functions import bindings, call, start_anew


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """Each test starts with a new application, as in a new process."""
    yield
    start_anew()


# Names that must not change


@pytest.mark.parametrize(("container", "path"), [("", "images/{name}"), ("photographs", "%IMAGES_CONTAINER%/{name}")])
def test_the_blob_trigger_is_the_one_that_event_grid_calls_for_the_container_that_is_set(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, container: str, path: str
) -> None:
    monkeypatch.setenv("IMAGES_CONTAINER", container)
    started = runpy.run_path(function_app.__file__)["uploads"]
    trigger = bindings(started, "embed_uploaded_image")
    assert (trigger["type"], trigger["path"], trigger["connection"]) == ("blobTrigger", path, "ImageStorage")
    assert str(trigger["source"]).endswith(("EventGrid", "EVENT_GRID"))


@pytest.mark.parametrize(
    ("name", "route", "method"),
    [
        ("image_embeddings", "models/images/embeddings", "POST"),
        ("text_embeddings", "models/embeddings", "POST"),
        ("models", "models", "GET"),
        ("openai_models", "models/models", "GET"),
        ("model_info", "models/info", "GET"),
    ],
)
def test_the_routes_are_the_api_s_own_and_need_a_key(name: str, route: str, method: str) -> None:
    trigger = bindings(function_app.api.blueprint, name)
    assert trigger["route"] == route
    assert [str(getattr(m, "value", m)) for m in trigger["methods"]] == [method]
    assert "FUNCTION" in str(trigger["authLevel"]).upper()


@pytest.mark.parametrize(
    ("name", "queue"),
    [
        ("embed_queued_image", "embedding-requests"),
        ("record_failed_upload", "webjobs-blobtrigger-poison"),
        ("record_failed_request", "embedding-requests-poison"),
    ],
)
def test_the_queue_triggers_read_the_queues_that_others_write_to(name: str, queue: str) -> None:
    trigger = bindings(function_app.work, name)
    assert (trigger["type"], trigger["queueName"], trigger["connection"]) == ("queueTrigger", queue, "ImageStorage")


def test_queues_have_the_prefix_that_is_set_and_the_platform_s_own_keeps_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUEUE_PREFIX", "team-a-")
    started = runpy.run_path(function_app.__file__)["work"]
    functions = ("embed_queued_image", "record_failed_request", "record_failed_upload")
    assert [bindings(started, name)["queueName"] for name in functions] == [
        "%QUEUE_PREFIX%embedding-requests",
        "%QUEUE_PREFIX%embedding-requests-poison",
        "webjobs-blobtrigger-poison",
    ]


def test_each_queue_has_its_own_effect(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    function_app.record_failed_request(func.QueueMessage(body=b'{"name": "a.png"}'))
    assert cloud.failure("a.png")["code"] == "crashed"
    function_app.embed_queued_image(func.QueueMessage(body=b'{"name": "a.png"}'))
    assert cloud.failure("a.png") is None
    function_app.record_failed_upload(func.QueueMessage(body=b"not an event"))
    assert any("/dropped/" in name for name in cloud.embeddings.list_blob_names())


# Health


def test_health_of_a_working_app_is_ok(cloud: Cloud) -> None:
    assert call(function_app.health, b"")[::2] == (200, {"status": "ok", "dimensions": 1024})


# An app setting that is missing or invalid

VALUE = "Not A Value?"


def started_with(monkeypatch: pytest.MonkeyPatch, **settings: str) -> dict[str, Any]:
    """What ``function_app`` holds in a process that starts with these settings."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    start_anew()
    return runpy.run_path(function_app.__file__)


def the_app(started: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The trigger of each function that the host is told of."""
    return {f.get_function_name(): f.get_trigger().get_dict_repr() for f in started["app"].get_functions()}


WAIT = {"embed_queued_image", "record_failed_upload", "record_failed_request", "reconcile_on_schedule"}


@pytest.mark.parametrize("name", ["FOUNDRY_MODEL", "IMAGES_CONTAINER", "RECONCILE_SCHEDULE", "IMAGE_MAX_BYTES"])
def test_with_an_invalid_setting_only_what_waits_by_itself_is_left_out(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    every_function = the_app(started_with(monkeypatch))
    functions = the_app(started_with(monkeypatch, **{name: VALUE}))
    assert every_function.keys() - functions.keys() == WAIT
    # The host takes no other container, and compares none.
    assert functions["embed_uploaded_image"]["path"] == "images/{name}"


@pytest.mark.parametrize("name", ["ImageStorage__queueServiceUri", "ImageStorage__credential", "QUEUE_PREFIX"])
def test_without_storage_there_is_no_blob_trigger_which_could_end_the_host(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    functions = the_app(started_with(monkeypatch, **{name: VALUE}))
    assert not (WAIT | {"embed_uploaded_image"}) & functions.keys()
    assert {"health", "status", "watch"} <= functions.keys()


@pytest.mark.parametrize("name", ["FOUNDRY_MODEL", "IMAGES_CONTAINER"])
def test_an_upload_while_a_setting_is_invalid_waits_on_the_queue_and_is_embedded_later(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cloud.upload("a.png", picture())
    started = started_with(monkeypatch, **{name: VALUE})
    started["embed_uploaded_image"](BlobName(cloud.settings.images_container, "a.png"))
    [message] = cloud.queue.receive_messages()
    assert cloud.records() == []
    started_with(monkeypatch, **{name: cloud.environment[name]})
    function_app.embed_queued_image(func.QueueMessage(body=message.content.encode()))
    assert cloud.record("a.png")["dimensions"] == 1024


def test_an_upload_that_cannot_be_kept_fails_and_so_is_tried_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    started = started_with(monkeypatch, FOUNDRY_MODEL=VALUE, QUEUE_PREFIX="no-such-")
    with pytest.raises(StorageError, match="404"):
        started["embed_uploaded_image"](BlobName(cloud.settings.images_container, "a.png"))


def test_with_an_invalid_setting_every_route_names_it_and_never_its_value(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = started_with(monkeypatch, FOUNDRY_MODEL=VALUE)
    routes = {name for name, trigger in the_app(started).items() if trigger["type"] == "httpTrigger"}
    for name in routes - {"openapi_document", "gallery", "gallery_file"}:
        status, headers, answer = call(started[name], {})
        assert (status, headers["x-ms-error-code"]) == (503, "bad_settings"), name
        assert "FOUNDRY_MODEL" in answer["error"]["message"]
        assert VALUE not in json.dumps(answer)
        assert ("retry-after" in headers) == (name != "health")


def test_with_an_invalid_setting_the_watch_says_so_for_the_alerts(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = started_with(monkeypatch, FOUNDRY_MODEL=VALUE)
    caplog.clear()
    started["watch"](None)
    line = json.loads(caplog.records[-1].message)
    assert line["event"] == "bad_settings"
    assert "FOUNDRY_MODEL" in line["message"]
    assert VALUE not in caplog.text


# Uploads and logs


def test_the_blob_function_embeds_an_upload(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cloud.upload("a.png", picture())
    function_app.embed_uploaded_image(BlobName(cloud.settings.images_container, "a.png"))
    assert cloud.record("a.png")["dimensions"] == 1024
    for secret in ("Bearer", "eyJ", "AccountKey", "base64", "[0."):
        assert secret not in caplog.text


def test_the_libraries_log_no_requests() -> None:
    for library in ("azure.core.pipeline.policies.http_logging_policy", "azure.identity", "httpx"):
        assert not logging.getLogger(library).isEnabledFor(logging.INFO)
