"""A running local stack, as benchmarks and scenarios use it: what they do to it, and what became of their images."""

import base64
import dataclasses
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote

import httpx
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueServiceClient
from PIL import Image

from local import stack
from local.azurite import REPO_ROOT
from local.event_grid import Policy
from local.events import Change, Event, event
from local.faults import StorageFaults
from local.processes import wait_until
from local.stack import REQUESTS_QUEUE, Stack
from local.storage import Storage

SPACE = "Cohere-embed-v3-english"
# Longer than any wait that a scenario causes: what has not settled by then never will.
PATIENCE = 240.0
# Of the model in scenarios: the real service takes longer; this is enough for calls to overlap.
LATENCY_MS = 75


@dataclass(frozen=True)
class Site:
    """A running stack, with clients for all of it.

    ``folder`` is where the app keeps its records: that of the space, or its own if others were first in there.
    """

    stack: Stack
    folder: str
    service: BlobServiceClient
    images: ContainerClient
    embeddings: ContainerClient
    queues: QueueServiceClient
    host_storage: Storage
    http: httpx.Client
    threads: ThreadPoolExecutor
    deployments: int = 1

    def behave(self, **behaviour: object) -> None:
        """Make each deployment of the model behave like this from now on."""
        for url in self._model_urls():
            self.http.post(f"{url}/admin/behaviour", json=behaviour).raise_for_status()

    def forget_calls(self) -> None:
        """Make the model forget the calls so far."""
        for url in self._model_urls():
            self.http.delete(f"{url}/admin/calls").raise_for_status()

    def calls(self) -> list[dict[str, Any]]:
        """The calls that the model remembers."""
        return [call for calls in self.calls_by_deployment() for call in calls]

    def calls_by_deployment(self) -> list[list[dict[str, Any]]]:
        """The calls that each deployment of the model remembers."""
        urls = self._model_urls()
        return [self.http.get(f"{url}/admin/calls").raise_for_status().json()["calls"] for url in urls]

    def _model_urls(self) -> list[str]:
        return stack.model_urls(self.stack.foundry_url, self.deployments)

    def upload(self, pictures: Mapping[str, bytes], text: str | None = None) -> None:
        """Upload many images as fast as possible, each with this text in its metadata."""

        def put(name: str) -> None:
            metadata = {} if text is None else {"text": text}
            self.images.upload_blob(name, pictures[name], overwrite=True, metadata=metadata)

        list(self.threads.map(put, pictures))

    def request(self, message: Mapping[str, Any]) -> None:
        """Put a message on the queue ``embedding-requests``."""
        text = base64.b64encode(json.dumps(message).encode()).decode()
        self.host_storage.queue(REQUESTS_QUEUE).put(text)

    def notify(self, name: str) -> None:
        """Deliver the event that an image was written to the webhook, as Event Grid does."""
        self.http.post(
            f"{self.stack.functions_url}/runtime/webhooks/blobs",
            params={"functionName": "Host.Functions.embed_uploaded_image", "code": self.stack.functions_key},
            headers={"aeg-event-type": "Notification"},
            json=[self._written(name)],
        ).raise_for_status()

    def post(self, route: str, **body: object) -> httpx.Response:
        """Post JSON to a route of the app, with its key."""
        headers = {"x-functions-key": self.stack.functions_key}
        return self.http.post(f"{self.stack.functions_url}/api/{route}", json=body, headers=headers)

    def notify_by_queue(self, name: str) -> None:
        """Put the same event on the queue, as Event Grid does where UPLOAD_EVENTS is ``queue``."""
        self.request(self._written(name))

    def _written(self, name: str) -> Event:
        return event(Change("PutBlob", self.images.container_name, quote(name)), self.host_storage.blob_url)

    def audit(self, **options: object) -> dict[str, Any]:
        """Have the app audit all images once, and wait for its report."""
        before = self._latest_report()
        answer = self.post("reconcile", **options).raise_for_status()
        if answer.status_code == httpx.codes.ACCEPTED:
            wait_for("report of the audit", lambda: self._latest_report() != before)
            return self._latest_report()
        report: dict[str, Any] = answer.json()
        return report

    def _latest_report(self) -> dict[str, Any]:
        report: dict[str, Any] = {}
        with suppress(ResourceNotFoundError):
            report = json.loads(self.embeddings.download_blob(f"{self.folder}/reports/latest.json").readall())
        return report

    def host_answers(self) -> bool:
        """Whether the functions host is up."""
        try:
            return self.http.get(f"{self.stack.functions_url}/admin/host/ping").is_success
        except httpx.TransportError:
            return False

    def host_process(self) -> Path | None:
        """The host's folder in ``/proc``; ``None`` where there is none at the moment."""
        return host_process(self.stack)

    def drained(self) -> bool:
        """Whether no queue has a message, visible or hidden."""
        queues = [self.queues.get_queue_client(queue.name) for queue in self.queues.list_queues()]
        return not any(queue.get_queue_properties().approximate_message_count for queue in queues)

    def at_rest(self, prefix: str, *kinds: Literal["images", "failures"]) -> bool:
        """Whether all work is done and every image has a record of its version, of one of the kinds.

        Empty queues alone do not tell: an event may still be on its way to the host.
        """
        if not self.drained():
            return False
        stored = [version for kind in kinds for version in self.stored(kind, prefix).items()]
        return sorted(stored) == sorted(self._image_versions(prefix).items())

    def settle(self, prefix: str, *kinds: Literal["images", "failures"]) -> None:
        """Wait until everything is at rest, for at most ``PATIENCE`` seconds: what is not by then is lost."""
        wait_until(lambda: self.at_rest(prefix, *kinds), seconds=PATIENCE, every=0.25)

    def lost(self, prefix: str) -> set[str]:
        """The names whose records are wrong: no record of these bytes, a failure, or a record without an image."""
        images, records = self._image_versions(prefix).keys(), self.stored("images", prefix).keys()
        right = dict(zip(both := sorted(images & records), self.threads.map(self._is_right, both), strict=True))
        return (images ^ records) | {name for name in both if not right[name]} | self.stored("failures", prefix).keys()

    def _is_right(self, name: str) -> bool:
        content = self.host_storage.blob_content(self.images.container_name, name)
        record = json.loads(self.host_storage.blob_content("embeddings", f"{self.folder}/images/{name}.json"))
        return bool(record["name"] == name and record["sha256"] == hashlib.sha256(content).hexdigest())

    def stored(self, kind: Literal["images", "failures"], prefix: str) -> dict[str, str]:
        """The names with such a record, each with the ETag of the image that it was made from."""
        folder = f"{self.folder}/{kind}/"
        found = self.embeddings.list_blobs(name_starts_with=folder + prefix, include=["metadata"])
        return {
            blob.name.removeprefix(folder).removesuffix(".json"): (blob.metadata or {}).get("etag", "")
            for blob in found
        }

    def failure_codes(self, prefix: str) -> list[str]:
        """Why images have failure records, a code for each."""
        paths = [f"{self.folder}/failures/{name}.json" for name in self.stored("failures", prefix)]
        return [json.loads(self.host_storage.blob_content("embeddings", path))["code"] for path in paths]

    def _image_versions(self, prefix: str) -> dict[str, str]:
        return {blob.name: blob.etag.strip('"') for blob in self.images.list_blobs(name_starts_with=prefix)}


@contextmanager
def running(
    *,
    app: Path = REPO_ROOT,
    settings: Mapping[str, str] = MappingProxyType({}),
    lease: float = 600,
    storage_faults: StorageFaults | None = None,
    logs: Path | None = None,
    show: Callable[[str], None] = lambda line: None,
    node_options: Sequence[str] = (),
    deployments: int = 1,
) -> Iterator[Site]:
    """Run a stack, with the options of :func:`local.stack.running`."""
    with (
        stack.running(
            app=app,
            settings=settings,
            lease=lease,
            storage_faults=storage_faults,
            logs=logs,
            show=show,
            node_options=node_options,
            deployments=deployments,
        ) as running,
        ExitStack() as parts,
    ):
        yield dataclasses.replace(_site(running, parts), deployments=deployments)


@contextmanager
def running_together(
    containers: Sequence[str], *, app: Path, settings: Mapping[str, str], logs: Path
) -> Iterator[list[Site]]:
    """Run an app for each of these images containers, all with one storage account and one embeddings container."""
    apps = [{**settings, "IMAGES_CONTAINER": container} for container in containers]
    with stack.running_together(apps, app=app, logs=logs) as started, ExitStack() as parts:
        yield [
            _site(running, parts, images=container, folder=SPACE if first else f"{SPACE}/containers/{container}")
            for running, container, first in zip(started, containers, [True, *[False] * len(apps)], strict=False)
        ]


@contextmanager
def running_in_groups(groups: Sequence[Mapping[str, str]], *, logs: Path, events: Policy) -> Iterator[list[Site]]:
    """Run one app in several processes, each with these settings; the first takes the events."""
    apps = [{**group, "AzureFunctionsWebHost__hostid": "groups"} for group in groups]
    with stack.running_together(apps, logs=logs, events=events) as started, ExitStack() as parts:
        yield [_site(running, parts) for running in started]


def _site(running: Stack, parts: ExitStack, images: str = "images", folder: str = SPACE) -> Site:
    connection_string, ca_file = running.storage_connection_string, running.ca_file
    blobs = BlobServiceClient.from_connection_string(connection_string, connection_verify=ca_file)
    queues = QueueServiceClient.from_connection_string(connection_string, connection_verify=ca_file)
    return Site(
        running,
        folder,
        blobs,
        parts.enter_context(blobs).get_container_client(images),
        blobs.get_container_client("embeddings"),
        parts.enter_context(queues),
        parts.enter_context(Storage(connection_string, Path(ca_file))),
        parts.enter_context(httpx.Client(trust_env=False, timeout=PATIENCE)),
        parts.enter_context(ThreadPoolExecutor(8)),
    )


def host_process(running: Stack) -> Path | None:
    """The folder in ``/proc`` of a stack's functions host; ``None`` where there is none at the moment."""
    key = f"FUNCTIONS_KEY={running.functions_key}\0".encode()
    for task in Path(f"/proc/{running.pid}/task").iterdir():
        # Threads and processes may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            for pid in (task / "children").read_text().split():
                process = Path("/proc") / pid
                # Several stacks may run in one process, each with a key of its own. An extension has its host's key.
                is_host = b"local.host" in (process / "cmdline").read_bytes().split(b"\0")
                if is_host and key in (process / "environ").read_bytes():
                    return process
    return None


def wait_for(what: str, true: Callable[[], bool], *, every: float = 0.05) -> None:
    """Wait until something is true. Raises RuntimeError where a result without it would be wrong."""
    if not wait_until(true, seconds=PATIENCE, every=every):
        raise RuntimeError(f"There was no {what} within {PATIENCE:.0f} s. Measure again on a quieter machine.")


def pictures(prefix: str, number: int) -> dict[str, bytes]:
    """So many different PNGs by name, always the same for a prefix: squares of colour, small and fast to decode."""
    return {f"{prefix}{index}.png": picture(f"{prefix}{index}") for index in range(number)}


def picture(seed: str) -> bytes:
    """A PNG of which no other seed makes the same."""
    squares = Image.frombytes("RGB", (8, 8), random.Random(seed).randbytes(8 * 8 * 3))
    file = io.BytesIO()
    squares.resize((64, 64), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()
