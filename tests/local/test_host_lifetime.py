"""What the stand-in for the Functions host keeps, and loses, while it is cold, switched off or ended by a message."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from local import azurite as azurite_emulator
from local.azurite import Azurite
from tests.local.conftest import APP, eventually, lifetime, messages, running_host
from tests.local.extension_cases import WITHOUT_A_NAME

# What a process had in hand when it ended is visible again after two seconds, not ten minutes.
SHORT_LEASE = ("--lease", "2")


@pytest.fixture(scope="module")
def own_azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A storage account on which no other host works."""
    with azurite_emulator.running(log=tmp_path_factory.mktemp("azurite") / "azurite.log") as emulator:
        yield emulator


@pytest.fixture
def two_attempts(tmp_path: Path) -> Path:
    """The app of these tests, whose blob messages have two attempts."""
    app = tmp_path / "app"
    shutil.copytree(APP, app)
    host_json = json.loads((app / "host.json").read_text())
    host_json["extensions"]["blobs"]["poisonBlobThreshold"] = 2
    (app / "host.json").write_text(json.dumps(host_json))
    return app


def test_an_upload_waits_while_the_functions_are_switched_off(own_azurite: Azurite, tmp_path: Path) -> None:
    off = {f"AzureWebJobs.{name}.Disabled": "true" for name in ("by_name", "by_content")}
    with running_host(own_azurite, tmp_path / "off.log", settings=off) as host:
        host.upload("while off")
        queue = host.queue("azure-webjobs-blobtrigger-local")
        (message,) = queue.peek_messages()
        assert lifetime(message) == timedelta(days=7)
    with running_host(own_azurite, tmp_path / "on.log") as host:
        eventually(lambda: host.succeeded("while off"))


def test_a_function_that_is_switched_off_is_listed_as_disabled(own_azurite: Azurite, tmp_path: Path) -> None:
    with running_host(own_azurite, tmp_path / "log", settings={"AzureWebJobs.by_name.Disabled": "true"}) as host:
        listed = host.http.get("/admin/functions", params={"code": "the key"}).json()
    assert {one["name"] for one in listed if one["isDisabled"]} == {"by_name"}


def test_a_cold_app_refuses_its_first_deliveries(own_azurite: Azurite, tmp_path: Path) -> None:
    with running_host(own_azurite, tmp_path / "log", options=["--refusals", "1"]) as host:
        assert [host.webhook("[]").status_code for _ in range(2)] == [401, 202]


def test_an_app_without_a_blob_trigger_has_no_webhook(own_azurite: Azurite, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\n\napp = func.FunctionApp()\n\n"
        '@app.route("hello")\ndef hello(req: func.HttpRequest) -> str:\n    return "hello"\n'
    )
    with running_host(own_azurite, tmp_path / "log", app=tmp_path) as host:
        assert host.webhook("[]").status_code == 404


def test_a_message_without_a_name_ends_every_process_that_takes_it_until_it_has_had_its_attempts(
    own_azurite: Azurite, two_attempts: Path, tmp_path: Path
) -> None:
    with running_host(own_azurite, tmp_path / "0.log", app=two_attempts, options=SHORT_LEASE) as host:
        # The process may end before the webhook's answer is out.
        with suppress(httpx.TransportError):
            host.announce(f"{host.images.url}{WITHOUT_A_NAME[1]}")
        assert host.ends() != 0
    with running_host(own_azurite, tmp_path / "1.log", app=two_attempts, options=SHORT_LEASE) as host:
        assert host.ends() != 0
    with running_host(own_azurite, tmp_path / "2.log", app=two_attempts, options=SHORT_LEASE) as host:
        eventually(lambda: host.waiting() == 0)
        (message,) = messages(host.queue("webjobs-blobtrigger-poison"))
        assert message["BlobName"] == ""
        assert host.http.get("/admin/host/ping").is_success


def test_a_message_for_no_function_at_all_ends_the_process(own_azurite: Azurite, tmp_path: Path) -> None:
    with running_host(own_azurite, tmp_path / "log") as host:
        blob = host.images.upload_blob("for nobody", b"")
        body = json.dumps([{"data": {"url": blob.url, "blobType": "BlockBlob"}}])
        # The process may end before the webhook's answer is out.
        with suppress(httpx.TransportError):
            assert host.webhook(body, function_name=None).status_code == 202
        assert host.ends() != 0
        host.queue("azure-webjobs-blobtrigger-local").clear_messages()
