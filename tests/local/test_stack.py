"""The local stack: everything starts, works together, and is gone at the end, whatever the end is."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient

from local import stack
from local.azurite import REPO_ROOT
from local.stack import Stack, StackError
from tests.conftest import PATIENCE
from tests.local.conftest import APP, eventually


def runs(running: Stack, what: str) -> list[dict[str, Any]]:
    return [run for run in all_noted(running) if run["what"] == what and "at" in run]


def all_noted(running: Stack) -> list[dict[str, Any]]:
    noted = httpx.get(f"{running.functions_url}/api/runs", timeout=PATIENCE).raise_for_status().json()
    return cast(list[dict[str, Any]], noted)


@contextmanager
def images(running: Stack, container: str = "images") -> Iterator[ContainerClient]:
    connection_string = running.storage_connection_string
    with BlobServiceClient.from_connection_string(connection_string, connection_verify=running.ca_file) as service:
        yield service.get_container_client(container)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    logs = tmp_path_factory.mktemp("stack")
    with stack.running(app=APP, settings={"IMAGES_CONTAINER": "images"}, logs=logs) as running:
        yield running


def test_an_upload_runs_the_function_and_a_deletion_comes_as_a_message(running: Stack) -> None:
    with images(running) as container:
        container.upload_blob("a b.png", b"x" * 5_000_000)
        eventually(lambda: runs(running, "a b.png"))
        eventually(lambda: runs(running, "images/a b.png"))
        container.delete_blob("a b.png")
    deleted = '"subject": "/blobServices/default/containers/images/blobs/a b.png"'
    eventually(lambda: any(deleted in run["what"] for run in all_noted(running)))


@pytest.mark.parametrize("name", ["a?b.png", "folder/"])
def test_an_upload_whose_name_the_webhook_loses_comes_as_a_message(running: Stack, name: str) -> None:
    with images(running) as container:
        container.upload_blob(name, b"")
    eventually(lambda: announced(running, name))
    assert not runs(running, name)


def announced(running: Stack, name: str) -> bool:
    """Whether a message has said that this image was written."""
    said = f'"subject": "/blobServices/default/containers/images/blobs/{name}"'
    return any(said in run["what"] and "BlobCreated" in run["what"] for run in all_noted(running))


def test_all_uploads_can_come_as_messages(tmp_path: Path) -> None:
    settings = {"IMAGES_CONTAINER": "images"}
    with stack.running(app=APP, settings=settings, logs=tmp_path, upload_events="queue") as running:
        with images(running) as container:
            container.upload_blob("a.png", b"")
        eventually(lambda: announced(running, "a.png"))
        assert not runs(running, "a.png")


def test_apps_that_share_an_account_get_the_events_of_their_own_container_each(tmp_path: Path) -> None:
    containers = ("images", "more-images")
    settings = [{"IMAGES_CONTAINER": container} for container in containers]
    with stack.running_together(settings, app=APP, logs=tmp_path) as started:
        for running, container in zip(started, containers, strict=True):
            with images(running, container) as client:
                client.upload_blob(f"in {container}", b"")
        for running, container in zip(started, containers, strict=True):
            eventually(partial(runs, running, f"in {container}"))
        first, second = started
        assert not runs(first, "in more-images")
        assert not runs(second, "in images")


def test_an_unknown_way_of_announcing_uploads_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPLOAD_EVENTS", "pigeon")
    with pytest.raises(StackError, match="UPLOAD_EVENTS is 'pigeon'"), stack.running(app=APP, logs=tmp_path):
        pass


def test_the_app_gets_no_key_and_nothing_of_this_process(running: Stack) -> None:
    environment = httpx.get(f"{running.functions_url}/api/environment", timeout=PATIENCE).json()
    assert environment["ImageStorage__credential"] == "managedidentity"
    assert environment["FOUNDRY_ENDPOINT"] == f"{running.foundry_url}/models"
    assert "PYTEST_VERSION" not in environment
    assert not any("AccountKey" in value or running.functions_key in value for value in environment.values())


def test_a_function_that_runs_too_long_ends_the_host_which_restarts_on_the_same_port(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def said_so() -> bool:
        said.append(capfd.readouterr().err)
        return "longer than functionTimeout allows: ending the process\nRestarting it" in "".join(said)

    # On a stack of its own: on a busy machine, any function may run for so long.
    settings = {"IMAGES_CONTAINER": "images", "AzureFunctionsJobHost__functionTimeout": "00:00:02"}
    with stack.running(app=APP, settings=settings, logs=tmp_path, lease=1) as running:
        with images(running) as container:
            container.upload_blob("held for ever", b"")
            eventually(said_so)
            container.delete_blob("held for ever")
        eventually(lambda: answers(running))


def answers(running: Stack) -> bool:
    try:
        return httpx.get(f"{running.functions_url}/admin/host/ping", timeout=PATIENCE).is_success
    except httpx.TransportError:
        return False


def test_a_part_that_dies_ends_the_stack_with_an_error_that_names_its_log(tmp_path: Path) -> None:
    before = children(os.getpid())

    def lose_azurite() -> None:
        with stack.running(app=APP, settings={"IMAGES_CONTAINER": "images"}, logs=tmp_path):
            started = children(os.getpid()) - before
            os.kill(next(child for child in started if "azurite" in command_line(child)), signal.SIGKILL)
            time.sleep(PATIENCE)

    with pytest.raises(StackError, match=r"(?s)Azurite stopped unexpectedly\. Its log is .*azurite\.log"):
        lose_azurite()
    assert children(os.getpid()) == before


def test_an_app_that_cannot_be_loaded_is_an_error_with_its_own_message(tmp_path: Path) -> None:
    before = children(os.getpid())
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text("raise RuntimeError('FOUNDRY_MODEL is not set')")
    with (
        pytest.raises(StackError, match="RuntimeError: FOUNDRY_MODEL is not set"),
        stack.running(app=tmp_path, logs=tmp_path),
    ):
        pass
    assert children(os.getpid()) == before


@dataclass(frozen=True)
class Serving:
    """`python -m local serve`, the file that describes it, and its children."""

    process: subprocess.Popen[str]
    file: Path
    children: set[int]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    file = tmp_path / "stack.json"
    command = [sys.executable, "-m", "local", "serve", "--file", str(file)]
    with subprocess.Popen(command, cwd=REPO_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually(file.exists)
            started = children(process.pid)
            assert len(started) == 3
            yield Serving(process, file, started)
        finally:
            process.kill()


def children(pid: int) -> set[int]:
    return {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_ctrl_c_stops_everything_quietly(serving: Serving) -> None:
    assert stat.S_IMODE(serving.file.stat().st_mode) == 0o600
    described = json.loads(serving.file.read_text())
    assert described["pid"] == serving.process.pid
    assert Path(described["ca_file"]).exists()
    serving.process.send_signal(signal.SIGINT)
    output, errors = serving.process.communicate(timeout=PATIENCE)
    assert serving.process.returncode == 0
    assert f"{described['functions_url']}/api/gallery#key={described['functions_key']}\n" in output
    assert not errors
    assert not serving.file.exists()
    assert not Path(described["ca_file"]).exists()
    assert not any(alive(child) for child in serving.children)


def test_even_a_killed_stack_leaves_no_process_behind(serving: Serving) -> None:
    serving.process.kill()
    serving.process.wait()
    eventually(lambda: not any(alive(child) for child in serving.children))
