"""How the functions run for a program that has the storage extension itself."""

import base64
from collections.abc import Iterator

import httpx
import pytest

from local.azurite import Azurite
from tests.local.conftest import Host, running_host


@pytest.fixture(scope="module")
def worker(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with running_host(azurite, log, options=["--extension"]) as host:
        yield host


def run_blob(worker: Host, name: str, function: str = "by_name") -> httpx.Response:
    blob = {"container": "pictures", "name": name, "uri": f"https://account.blob.core.windows.net/pictures/{name}"}
    return worker.http.post(f"/invocations/{function}", json=blob)


def run_message(worker: Host, body: bytes) -> httpx.Response:
    message = {
        "body": base64.b64encode(body).decode(),
        "id": "1",
        "dequeue_count": 2,
        "inserted_on": "2026-11-22T12:00:00+00:00",
        "expires_on": "2026-11-29T12:00:00+00:00",
        "next_visible_on": "2026-11-22T12:10:00+00:00",
        "pop_receipt": "receipt",
    }
    return worker.http.post("/invocations/by_message", json=message)


def test_a_function_runs_with_the_name_of_a_blob(worker: Host) -> None:
    assert run_blob(worker, "trip/a b#1.jpg").status_code == 200
    assert worker.runs("trip/a b#1.jpg")[0]["container"] == "pictures"


def test_a_function_runs_with_a_message(worker: Host) -> None:
    assert run_message(worker, b"a message").status_code == 200
    run = worker.runs("a message")[0]
    assert (run["id"], run["count"], run["inserted"]) == ("1", 2, "2026-11-22T12:00:00+00:00")


def test_a_function_that_fails_is_a_500_with_its_exception(worker: Host) -> None:
    answer = run_blob(worker, "fails always")
    assert (answer.status_code, answer.text) == (500, "RuntimeError: fails always fails as it should")
    assert run_message(worker, b"fails always, too").status_code == 500


def test_a_function_that_does_not_exist_is_a_404(worker: Host) -> None:
    assert run_blob(worker, "a", function="nobody").status_code == 404
    assert run_blob(worker, "a", function="hello").status_code == 404


def test_with_the_extension_elsewhere_the_host_has_no_webhook(worker: Host) -> None:
    assert worker.webhook("[]").status_code == 404
