"""The functions as the platform sees them: names, triggers, routes and HTTP responses."""

import logging
import runpy
from collections.abc import Iterator

import azure.functions as func
import pytest

import function_app
from shared.triggers.blob_name import BlobName
from tests.conftest import Cloud
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
    monkeypatch: pytest.MonkeyPatch, container: str, path: str
) -> None:
    monkeypatch.setenv("IMAGES_CONTAINER", container)
    started = runpy.run_path(function_app.__file__)["work"]
    trigger = bindings(started, "embed_uploaded_image")
    assert (trigger["type"], trigger["path"], trigger["connection"]) == ("blobTrigger", path, "ImageStorage")
    assert str(trigger["source"]).endswith(("EventGrid", "EVENT_GRID"))


@pytest.mark.parametrize(
    ("name", "route", "method"),
    [
        ("image_embeddings", "models/images/embeddings", "POST"),
        ("text_embeddings", "models/embeddings", "POST"),
        ("model_info", "models/info", "GET"),
    ],
)
def test_the_routes_are_the_api_s_own_and_need_a_key(name: str, route: str, method: str) -> None:
    trigger = bindings(function_app.work, name)
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


def test_health_of_a_working_app_is_ok(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_app, "problem", None)
    assert call(function_app.health, b"")[::2] == (200, {"status": "ok"})


def test_health_names_the_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_app, "problem", "FOUNDRY_MODEL is missing")
    status, _, answer = call(function_app.health, b"")
    assert status == 503
    assert answer["error"] == {"code": "bad_settings", "message": "FOUNDRY_MODEL is missing"}


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
