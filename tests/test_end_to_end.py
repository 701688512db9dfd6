"""The whole loop: uploads to Azurite become records through events, the worker library and the model stand-in."""

import base64
import io
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pillow_heif
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient
from numpy.typing import NDArray
from PIL import Image

from local import stack
from local.stack import Stack
from tests.conftest import PATIENCE, Model, model_at
from tests.pictures.hostile import INPUTS
from tests.wire_formats import COHERE

pillow_heif.register_heif_opener()

SPACE = "Cohere-embed-v3-english"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def running(logs: Path) -> Iterator[Stack]:
    with stack.running(logs=logs) as started:
        yield started


@pytest.fixture(scope="module")
def storage(running: Stack) -> Iterator[BlobServiceClient]:
    with BlobServiceClient.from_connection_string(
        running.storage_connection_string, connection_verify=running.ca_file
    ) as service:
        yield service


@pytest.fixture
def model(running: Stack) -> Iterator[Model]:
    with model_at(running.foundry_url) as model:
        yield model


def picture(colour: str, format: str = "PNG", size: tuple[int, int] = (400, 300), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    image = Image.new("L" if mode == "I;16" else "RGB", size, colour)
    image.convert(mode).save(file, format)
    return file.getvalue()


def upload(storage: BlobServiceClient, name: str, data: bytes, **metadata: str) -> None:
    storage.get_blob_client("images", name).upload_blob(data, overwrite=True, metadata=metadata)


def read(storage: BlobServiceClient, path: str) -> Any:
    try:
        return json.loads(storage.get_blob_client("embeddings", f"{SPACE}/{path}.json").download_blob().readall())
    except ResourceNotFoundError:
        return None


def eventually[Found](find: Callable[[], Found | None]) -> Found:
    deadline = time.monotonic() + PATIENCE
    while (found := find()) is None:
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def post(running: Stack, route: str, body: object) -> httpx.Response:
    key = {"x-functions-key": running.functions_key}
    return httpx.post(f"{running.functions_url}/api/models/{route}", json=body, headers=key, timeout=PATIENCE)


def nothing_waits(running: Stack) -> bool:
    """Whether no queue holds a message, hidden or not."""
    return not any(status(running)["queues"].values())


def status(running: Stack) -> Any:
    key = {"x-functions-key": running.functions_key}
    return httpx.get(f"{running.functions_url}/api/status", headers=key, timeout=PATIENCE).raise_for_status().json()


def test_uploads_of_many_formats_become_records(running: Stack, storage: BlobServiceClient) -> None:
    pictures = {
        "red.png": picture("red"),
        "holiday/a b#1 ünï.jpg": picture("blue", "JPEG", (4000, 3000)),
        "meadow.webp": picture("green", "WEBP"),
        "scan.tiff": picture("yellow", "TIFF"),
        "sky.avif": picture("skyblue", "AVIF"),
        "icon.gif": picture("black", "GIF", (20, 20)),
        "phone.heic": picture("orange", "HEIF", (800, 600)),
        "old.jp2": picture("brown", "JPEG2000"),
        "print.jpg": picture("pink", "JPEG", mode="CMYK"),
        "scan16.png": picture("grey", "PNG", mode="I;16"),
        "panorama.png": picture("white", "PNG", (12000, 1500)),
    }
    for name, data in pictures.items():
        upload(storage, name, data)
    for name, data in pictures.items():
        record = eventually(lambda name=name: read(storage, f"images/{name}"))  # type: ignore[misc]
        assert (record["name"], record["bytes"], len(record["embedding"])) == (name, len(data), 1024)
        response = httpx.head(record["url"], verify=False, timeout=PATIENCE)
        assert response.status_code in {401, 403, 404}, "storage must return nothing without a token"


def test_hostile_uploads_get_failure_records_with_their_codes(
    running: Stack, storage: BlobServiceClient, model: Model
) -> None:
    hostile = {
        "nothing.png": (b"", "empty"),
        "page.jpg": (b"<html><body>not here</body></html>", "not_an_image"),
        "report.png": (b"%PDF-1.7\n%\xe2\xe3", "unsupported_format"),
        "logo.svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_format"),
        "broken.jpg": (picture("red", "JPEG", (1000, 1000))[:4000], "damaged_image"),
        "bomb.png": (INPUTS["png_of_400_megapixels_with_all_its_pixels"].make(), "too_many_pixels"),
    }
    for name, (data, _) in hostile.items():
        upload(storage, name, data)
    for name, (_, code) in hostile.items():
        failure = eventually(lambda name=name: read(storage, f"failures/{name}"))  # type: ignore[misc]
        assert (failure["code"], failure["permanent"]) == (code, True)
    assert model.calls() == []


def test_a_file_that_is_not_a_picture_gets_a_failure_record_and_no_retry(
    running: Stack, storage: BlobServiceClient, model: Model
) -> None:
    upload(storage, "notes.jpg", b"these are words")
    failure = eventually(lambda: read(storage, "failures/notes.jpg"))
    assert (failure["code"], failure["attempts"]) == ("not_an_image", 1)
    eventually(lambda: True if nothing_waits(running) else None)
    assert read(storage, "failures/notes.jpg") == failure
    assert model.calls() == []


def test_an_overwritten_image_gets_a_new_record(running: Stack, storage: BlobServiceClient) -> None:
    upload(storage, "changing.png", picture("red"))
    first = eventually(lambda: read(storage, "images/changing.png"))

    def changed() -> Any:
        record = read(storage, "images/changing.png")
        return record if record and record["etag"] != first["etag"] else None

    upload(storage, "changing.png", picture("blue"), text="a blue picture")
    assert eventually(changed)["text"] == "a blue picture"


def test_a_throttled_upload_waits_on_the_queue_and_is_embedded_later(
    running: Stack, storage: BlobServiceClient, model: Model
) -> None:
    model.behave(throttle={"calls": 0, "window_s": 6, "retry_after": "seconds"})
    upload(storage, "patient.png", picture("purple"))
    eventually(lambda: model.calls(429) or None)
    model.behave(throttle={"calls": 100, "window_s": 6})
    assert eventually(lambda: read(storage, "images/patient.png"))["name"] == "patient.png"
    assert read(storage, "failures/patient.png") is None


def test_the_record_of_a_deleted_image_is_removed(running: Stack, storage: BlobServiceClient) -> None:
    upload(storage, "folder/short lived #1.png", picture("red"))
    eventually(lambda: read(storage, "images/folder/short lived #1.png"))
    storage.get_blob_client("images", "folder/short lived #1.png").delete_blob()
    eventually(lambda: True if read(storage, "images/folder/short lived #1.png") is None else None)


def test_an_upload_is_found_by_a_search_and_not_any_more_once_it_is_deleted(
    running: Stack, storage: BlobServiceClient
) -> None:
    def is_found() -> bool:
        answer = httpx.post(
            f"{running.functions_url}/api/search?prefix=found/",
            content=picture("orchid"),
            headers={"x-functions-key": running.functions_key},
            timeout=PATIENCE,
        )
        return bool([one["name"] for one in answer.raise_for_status().json()["results"]] == ["found/orchid.png"])

    assert not is_found()
    upload(storage, "found/orchid.png", picture("orchid"))
    eventually(lambda: is_found() or None)
    storage.get_blob_client("images", "found/orchid.png").delete_blob()
    eventually(lambda: not is_found() or None)


@pytest.mark.parametrize(("mebibytes", "by_app"), [(21, True), (26, False)])
def test_a_body_that_is_too_large_is_413_from_the_app_or_the_host(running: Stack, mebibytes: int, by_app: bool) -> None:
    answer = httpx.post(
        f"{running.functions_url}/api/models/images/embeddings",
        content=itertools.repeat(bytes(2**20), mebibytes),
        headers={"x-functions-key": running.functions_key, "content-type": "image/png"},
        timeout=PATIENCE,
    )
    assert answer.status_code == 413
    assert (answer.headers.get("x-ms-error-code") == "request_too_large") == by_app


def test_a_known_picture_under_a_new_name_costs_no_model_call(
    running: Stack, storage: BlobServiceClient, model: Model
) -> None:
    upload(storage, "old name.png", picture("teal"))
    old = eventually(lambda: read(storage, "images/old name.png"))
    upload(storage, "new name.png", picture("teal"))
    new = eventually(lambda: read(storage, "images/new name.png"))
    assert new["embedding"] == old["embedding"]
    # Images of other tests may still be on their way to the model.
    assert [call["sha256"] for call in model.calls(200)].count(old["sha256"]) == 1


def queue_client(running: Stack, name: str = "embedding-requests") -> QueueClient:
    return QueueClient.from_connection_string(
        running.storage_connection_string, name, connection_verify=running.ca_file
    )


@pytest.mark.parametrize(
    "encoded",
    [lambda text: text, lambda text: base64.b64encode(text.encode()).decode()],
    ids=["plain", "base64"],
)
def test_a_message_is_read_as_plain_json_and_as_base64(
    running: Stack, storage: BlobServiceClient, encoded: Callable[[str], str]
) -> None:
    name = f"<asked & for> {len(encoded('x'))}.png"
    upload(storage, name, picture("coral"))
    eventually(lambda: read(storage, f"images/{name}"))
    storage.get_blob_client("embeddings", f"{SPACE}/images/{name}.json").delete_blob()
    with queue_client(running) as queue:
        queue.send_message(encoded(json.dumps({"name": name})))
    assert eventually(lambda: read(storage, f"images/{name}"))["name"] == name


@pytest.mark.parametrize("queue", ["embedding-requests", "embedding-requests-poison", "webjobs-blobtrigger-poison"])
def test_a_message_that_nobody_can_read_is_kept_for_an_operator_and_does_not_stay_on_its_queue(
    running: Stack, storage: BlobServiceClient, queue: str
) -> None:
    words = f"<no> base64 & no JSON, on {queue}"
    with queue_client(running, queue) as client:
        client.send_message(words)

    def dropped() -> bool | None:
        container = storage.get_container_client("embeddings")
        names = container.list_blob_names(name_starts_with=f"{SPACE}/dropped/")
        return any(json.loads(container.download_blob(name).readall())["content"] == words for name in names) or None

    eventually(dropped)
    eventually(lambda: nothing_waits(running) or None)


def test_an_audit_restores_a_lost_record(running: Stack, storage: BlobServiceClient) -> None:
    upload(storage, "lost.png", picture("gold"))
    eventually(lambda: read(storage, "images/lost.png"))
    storage.get_blob_client("embeddings", "Cohere-embed-v3-english/images/lost.png.json").delete_blob()
    answer = httpx.post(
        f"{running.functions_url}/api/reconcile",
        json={"prefix": "lost"},
        headers={"x-functions-key": running.functions_key},
        timeout=PATIENCE,
    )
    assert (answer.status_code, answer.json()["missing"], answer.json()["requested"]) == (200, 1, 1)
    assert eventually(lambda: read(storage, "images/lost.png"))["name"] == "lost.png"


def test_an_audit_runs_on_schedule_and_the_status_reports_it(running: Stack, storage: BlobServiceClient) -> None:
    upload(storage, "audited.png", picture("lime"))
    eventually(lambda: read(storage, "images/audited.png"))
    key = {"x-functions-key": running.functions_key}
    timer = f"{running.functions_url}/admin/functions/reconcile_on_schedule"
    httpx.post(timer, headers=key, json={}, timeout=PATIENCE).raise_for_status()

    def audited() -> Any:
        told = status(running)
        audit = told["last_audit"]
        return told if audit and audit["prefix"] == "" else None

    report = eventually(audited)
    assert report["last_audit"]["current"] >= 1
    assert report["queues"]["embedding-requests"] is not None
    assert any(queue.startswith("azure-webjobs-blobtrigger-") for queue in report["queues"])
    assert [space["space"] for space in report["spaces"]] == ["Cohere-embed-v3-english"]


def test_queries_are_answered_over_http_and_then_from_the_cache(running: Stack) -> None:
    url = "data:image/png;base64," + base64.b64encode(picture("red")).decode()
    for route, body in (
        ("images/embeddings", {"input": [{"image": url}]}),
        ("images/embeddings", {"input": [{"image": url, "text": "a red thing"}]}),
        ("embeddings", {"input": ["a red thing"]}),
    ):
        first, again = post(running, route, body), post(running, route, body)
        assert (first.status_code, again.status_code) == (200, 200)
        assert first.headers["content-type"].startswith("application/json")
        assert [answer.headers["x-embedding-cache"] for answer in (first, again)] == ["miss", "hit"]
        assert first.json()["data"] == again.json()["data"]


def test_a_bad_query_is_400_and_names_the_field(running: Stack) -> None:
    answer = post(running, "images/embeddings", {"input": [{"image": "?"}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["target"] == "input[0].image"
    assert answer.headers["x-ms-error-code"] == "invalid_request"


def test_the_routes_need_the_key_and_health_does_not(running: Stack) -> None:
    with httpx.Client(base_url=f"{running.functions_url}/api", timeout=PATIENCE) as anybody:
        for route in ("models/embeddings", "models/images/embeddings"):
            assert anybody.post(f"/{route}", json={}).status_code == 401
        assert anybody.get("/models/info").status_code == 401
        assert anybody.get("/health").json()["status"] == "ok"


def test_an_upload_that_the_platform_gave_up_on_gets_a_failure_record(
    running: Stack, storage: BlobServiceClient, model: Model
) -> None:
    model.behave(fault={"kind": "hang"})
    upload(storage, "deadly.png", picture("navy"))
    event = {
        "FunctionId": "x",
        "BlobType": "BlockBlob",
        "ContainerName": "images",
        "BlobName": "deadly.png",
        "ETag": "",
    }
    with queue_client(running, "webjobs-blobtrigger-poison") as queue:
        queue.send_message(base64.b64encode(json.dumps(event).encode()).decode())
    assert eventually(lambda: read(storage, "failures/deadly.png"))["code"] == "crashed"


def test_no_log_holds_a_vector_a_token_a_key_or_image_data(
    running: Stack, storage: BlobServiceClient, logs: Path
) -> None:
    def logged() -> str | None:
        text = (logs / "functions.log").read_text()
        lines = (line for line in text.splitlines() if '"name":"logged.png"' in line)
        return text if any('"outcome":"embedded"' in line for line in lines) else None

    upload(storage, "logged.png", picture("salmon"))
    written = eventually(logged)
    account_key = running.storage_connection_string.partition("AccountKey=")[2].partition(";")[0]
    for secret in (account_key, running.functions_key, "Bearer", "base64,"):
        assert secret not in written
    assert not re.search(r"eyJ[\w-]+\.eyJ", written), "a token"
    assert not re.search(r"\[-?0\.\d+,", written), "a vector"


@dataclass(frozen=True)
class Others:
    """Two more apps, each with its own containers and queues: one lacks a setting, one speaks Cohere's format."""

    incomplete: Stack
    cohere: Stack
    storage: BlobServiceClient
    logs: Path


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    cohere = {"FOUNDRY_ENDPOINT": COHERE.path, **COHERE.settings, "QUEUE_PREFIX": "cohere-"}
    containers = {"IMAGES_CONTAINER": "more-images", "EMBEDDINGS_CONTAINER": "more-embeddings"}
    logs = tmp_path_factory.mktemp("others")
    with (
        stack.running_together([{"FOUNDRY_MODEL": ""}, {**cohere, **containers}], logs=logs) as [first, second],
        BlobServiceClient.from_connection_string(
            first.storage_connection_string, connection_verify=first.ca_file
        ) as storage,
    ):
        yield Others(first, second, storage, logs)


def test_an_app_with_a_missing_setting_names_it_and_keeps_uploads_for_later(others: Others) -> None:
    started = others.incomplete
    with (
        httpx.Client(base_url=f"{started.functions_url}/api", timeout=PATIENCE) as http,
        queue_client(started) as queue,
    ):
        for method, path in (("GET", "/health"), ("POST", "/models/embeddings"), ("GET", "/status")):
            answer = http.request(method, path, headers={"x-functions-key": started.functions_key})
            assert answer.status_code == 503
            assert "FOUNDRY_MODEL is missing" in answer.json()["error"]["message"]
        upload(others.storage, "early.png", picture("red"))
        [kept] = eventually(lambda: queue.peek_messages() or None)
        assert json.loads(base64.b64decode(kept.content)) == {"name": "early.png", "container": "images"}
    assert "FOUNDRY_MODEL is missing" in (others.logs / "functions.log").read_text()


def test_an_app_that_speaks_cohere_s_format_embeds_uploads_and_queries_into_one_space(others: Others) -> None:
    images = others.storage.get_container_client("more-images")
    records = others.storage.get_container_client("more-embeddings")

    def record() -> Any:
        path = "embed-v-4-0-1024/images/red.png.json"
        return json.loads(records.download_blob(path).readall()) if records.get_blob_client(path).exists() else None

    def vector(route: str, item: object) -> NDArray[np.float64]:
        answer = post(others.cohere, route, {"input": [item], "input_type": "document"})
        assert answer.status_code == 200
        return np.array(answer.json()["data"][0]["embedding"])

    images.upload_blob("red.png", picture("red"))
    uploaded = np.array(eventually(record)["embedding"])
    red, blue = (vector("embeddings", text) for text in ("a red thing", "a blue thing"))
    asked = vector("images/embeddings", {"image": base64.b64encode(picture("red")).decode()})
    assert asked.tolist() == uploaded.tolist()
    assert uploaded @ red > uploaded @ blue
    model = Model(others.cohere.foundry_url)
    assert {call["route"] for call in model.calls()} == {COHERE.image_route}
    model.close()
