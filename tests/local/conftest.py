"""The Functions host with the app of these tests, over the shared Azurite."""

import base64
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueClient, QueueMessage, QueueServiceClient

from local.azurite import REPO_ROOT, Azurite
from local.processes import LISTENING, Child, wait_until
from tests.conftest import PATIENCE

APP = Path(__file__).parent / "app"
KEY = "the key"
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Host:
    """A running host, a client for it, and the storage it works on."""

    http: httpx.Client
    log: Path
    images: ContainerClient
    queues: QueueServiceClient
    process: Child

    def runs(self, what: str) -> list[dict[str, Any]]:
        """The runs about one thing, in order, each as the app saw it."""
        return [run for run in self.all_noted() if run["what"] == what and "at" in run]

    def succeeded(self, what: str) -> bool:
        return any(run["what"] == what and "ended" in run for run in self.all_noted())

    def all_noted(self) -> list[dict[str, Any]]:
        """What the app has noted of all runs, in order: when each began, and when it ended."""
        noted: list[dict[str, Any]] = self.http.get("/api/runs").raise_for_status().json()
        return noted

    def webhook(
        self, body: str, *, kind: str = "Notification", function_name: str | None = "Host.Functions.by_name"
    ) -> httpx.Response:
        return self.http.post(
            "/runtime/webhooks/blobs",
            params={"code": KEY, **({} if function_name is None else {"functionName": function_name})},
            headers={"aeg-event-type": kind},
            content=body.encode(),
        )

    def announce(self, url: str, function: str = "by_name") -> None:
        """Deliver the event that a blob was written."""
        data = {"api": "PutBlob", "blobType": "BlockBlob", "eTag": "0x1", "url": url}
        body = json.dumps([{"eventType": "Microsoft.Storage.BlobCreated", "data": data}])
        assert self.webhook(body, function_name=f"Host.Functions.{function}").status_code == 202

    def upload(self, name: str, content: bytes = b"", function: str = "by_name", **metadata: str) -> None:
        """Write a blob and deliver the event that says so."""
        self.announce(self.images.upload_blob(name, content, metadata=metadata).url, function)

    def waiting(self) -> int:
        """How many messages the blob trigger's own queue holds, hidden or not."""
        return self.queue("azure-webjobs-blobtrigger-local").get_queue_properties().approximate_message_count or 0

    def release(self, runs: int) -> None:
        """Let so many runs end that are held, now or later."""
        self.http.post("/api/release", params={"runs": runs}).raise_for_status()

    def ends(self) -> int:
        """Wait until the process ends by itself; its exit status."""
        eventually(lambda: not self.process.alive)
        return self.process.wait()

    def queue(self, name: str) -> QueueClient:
        return self.queues.get_queue_client(name)

    def send(self, body: str) -> None:
        self.queue("embedding-requests").send_message(base64.b64encode(body.encode()).decode())


def messages(queue: QueueClient) -> list[Any]:
    """The JSON of all visible messages of a queue, which stay there."""
    return [json.loads(base64.b64decode(message.content)) for message in queue.peek_messages(32)]


def lifetime(message: QueueMessage) -> timedelta:
    """For how long a queue keeps a message."""
    assert message.expires_on
    assert message.inserted_on
    return message.expires_on - message.inserted_on


def eventually(true: Callable[[], object]) -> None:
    """Fail unless it becomes true."""
    assert wait_until(lambda: bool(true()), seconds=PATIENCE)


@contextmanager
def host_process(
    azurite: Azurite, log: Path, app: Path = APP, options: Sequence[str] = (), settings: Mapping[str, str] = NONE
) -> Iterator[Child]:
    """Start a host. A message that it has taken is hidden for ten minutes: what comes again sooner was given back."""
    environment: Mapping[str, str] = {
        "PATH": os.defpath,
        "FUNCTIONS_KEY": KEY,
        "AzureWebJobsStorage": azurite.connection_string,
        "ImageStorage": azurite.connection_string,
        "REQUESTS_CA_BUNDLE": str(azurite.ca_file),
        "IMAGES_CONTAINER": "pictures",
    }
    child = Child(
        "the functions host",
        [sys.executable, "-m", "local.host", "--app", str(app), *options],
        log=log,
        cwd=REPO_ROOT,
        environment={**environment, **settings},
    )
    try:
        yield child
    finally:
        child.stop()


@contextmanager
def running_host(
    azurite: Azurite, log: Path, app: Path = APP, options: Sequence[str] = (), settings: Mapping[str, str] = NONE
) -> Iterator[Host]:
    """Run a host, with clients for it and for the container `pictures`."""
    verify = str(azurite.ca_file)
    with (
        BlobServiceClient.from_connection_string(azurite.connection_string, connection_verify=verify) as blobs,
        QueueServiceClient.from_connection_string(azurite.connection_string, connection_verify=verify) as queues,
        host_process(azurite, log, app, options, settings) as child,
        httpx.Client(
            base_url=child.announcement(LISTENING, seconds=PATIENCE), timeout=PATIENCE, trust_env=False
        ) as http,
    ):
        images = blobs.get_container_client("pictures")
        with suppress(ResourceExistsError):
            images.create_container()
        yield Host(http, log, images, queues, child)


@pytest.fixture(scope="package")
def host(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with running_host(azurite, tmp_path_factory.mktemp("host") / "host.log") as host:
        yield host
