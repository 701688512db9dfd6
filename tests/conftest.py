"""The cloud for tests: real storage (Azurite over https), tokens from the identity endpoint, a model stand-in."""

import functools
import itertools
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueClient

from local import azurite as azurite_emulator
from local import identity as identity_endpoint
from local.azurite import REPO_ROOT, Azurite
from local.faults import StorageFaults
from local.identity import Identity
from local.processes import LISTENING, Child
from shared.audit.expired_queries import ExpiredQueries
from shared.audit.index.check import IndexCheck
from shared.audit.reconcile import Reconcile
from shared.audit.report_store import ReportStore
from shared.identity import Identity as AppIdentity
from shared.model import rate_limiter
from shared.model.client import ModelClient
from shared.operations.checks import Checks
from shared.operations.dead_letters import DeadLetters
from shared.operations.watch import Watch
from shared.parsing import learn_shapes
from shared.pictures.limits import Limits
from shared.queries.cache import QueryCache
from shared.queries.queries import Queries
from shared.search.journal import Journal
from shared.search.manifest import IndexBlobs
from shared.search.reader import Reader
from shared.search.upkeep.compaction import Compaction
from shared.settings import Settings, read_settings
from shared.storage.blobs import JsonBlobs
from shared.storage.images import Images
from shared.storage.names import space_of
from shared.storage.queues import BACKLOG, QUEUE, Queues
from shared.storage.queues import WAITING as WAITING_QUEUE
from shared.storage.rest import Rest
from shared.storage.space import Space
from shared.triggers.intake import Intake
from shared.uploads.embed import Embedder
from shared.uploads.record_store import RecordStore
from shared.uploads.requests import RequestQueue
from shared.uploads.sync import Sync
from shared.uploads.waiting.dispatcher import Dispatcher
from shared.uploads.waiting.quota import OtherQuota, Quota
from tests import workers
from tests.wire_formats import WIRE_FORMATS, WireFormat

CLIENT_ID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
# Seconds after which what has not happened never will, however busy the machine is.
PATIENCE = 240.0


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Azurite, one for the whole run; each test has its own containers."""
    with azurite_emulator.running(log=tmp_path_factory.mktemp("azurite") / "azurite.log") as emulator:
        yield emulator


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return workers.processes(config.args)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> workers.Sharing:
    config.option.loadscopereorder = False
    return workers.Sharing(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: workers.turn(item.nodeid))


def pytest_collection_finish() -> None:
    """As the app does once it is imported: the threads of a test must not be the first to decode a shape either."""
    learn_shapes("shared")


# The modules that wait: the app's own, and those of its libraries that pause between two tries.
WAITING = ("shared.", "urllib3.util.retry", "azure.core.pipeline.transport._base")


class Clock:
    """The app's clock, in place of the module ``time``: no wait takes time.

    ``monotonic`` starts at the machine's, for tests that make a deadline from that, and moves only by the app's waits.
    ``time`` moves by them too, and also goes on by itself.
    """

    def __init__(self) -> None:
        # Whole seconds, whose sums and differences are exact.
        self._start = int(time.monotonic())
        self._passed = 0.0
        self.waits: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        """What happens during each wait."""

    def monotonic(self) -> float:
        return self._start + self._passed

    def time(self) -> float:
        return time.time() + self._passed

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.pass_(seconds)
        self.meanwhile()

    def pass_(self, seconds: float) -> None:
        self._passed += seconds

    def condition(self) -> threading.Condition:
        """A condition whose waits are this clock's, but for those that only a notification ends."""
        clock = self

        class Condition(threading.Condition):
            def wait(self, timeout: float | None = None) -> bool:
                if timeout is None:
                    return super().wait()
                clock.sleep(timeout)
                return False

        return Condition()

    def __getattr__(self, name: str) -> Any:
        """What only measures is none of its business."""
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for all of the app that runs in this process, and for what tries again on its behalf."""
    clock = Clock()
    for name, module in list(sys.modules.items()):
        if name.startswith(WAITING) and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(rate_limiter, "threading", SimpleNamespace(Condition=clock.condition))
    return clock


class Model:
    """The model stand-in, as a test controls it: set its behaviour, read the calls it received."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=PATIENCE)

    def behave(self, **behaviour: Any) -> None:
        self._http.post("/admin/behaviour", json=behaviour).raise_for_status()

    def calls(self, status: int | None = None) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self._http.get("/admin/calls").raise_for_status().json()["calls"]
        return [call for call in calls if status in (None, call["status"])]

    def most_at_once(self) -> int:
        most: int = self._http.get("/admin/calls").raise_for_status().json()["peak"]
        return most

    def reset(self) -> None:
        self._http.delete("/admin/behaviour").raise_for_status()
        self._http.delete("/admin/calls").raise_for_status()

    def close(self) -> None:
        self._http.close()


@contextmanager
def model_at(url: str) -> Iterator[Model]:
    """The model stand-in of a running stack, reset before and after: normal behaviour, no calls yet."""
    model = Model(url)
    model.reset()
    yield model
    model.reset()
    model.close()


@pytest.fixture(scope="session")
def model_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    child = Child(
        "the model stand-in",
        [sys.executable, "-m", "local.model", "--port", "0", "--also", "west", "east"],
        log=tmp_path_factory.mktemp("model") / "model.log",
        cwd=REPO_ROOT,
        environment={"PATH": os.defpath},
    )
    try:
        model = Model(child.announcement(LISTENING, seconds=PATIENCE))
        yield model
        model.close()
    finally:
        child.stop()


@pytest.fixture
def model(model_process: Model) -> Model:
    """The model stand-in with normal behaviour and no calls yet."""
    model_process.reset()
    return model_process


@pytest.fixture
def elsewhere(model_process: Model) -> Iterator[tuple[Model, Model]]:
    """Two more deployments of every model, with a behaviour and calls of their own."""
    with model_at(f"{model_process.url}/west") as west, model_at(f"{model_process.url}/east") as east:
        yield west, east


@dataclass(frozen=True)
class Cloud:
    """What a test needs of the cloud, with containers of its own, and the parts of the app that run against it."""

    environment: Mapping[str, str]
    settings: Settings
    wire_format: WireFormat
    images: ContainerClient
    embeddings: ContainerClient
    model: Model
    queue: QueueClient
    waiting: QueueClient
    backlog: QueueClient
    tls: ssl.SSLContext
    resources: ExitStack

    def rest(self) -> Rest:
        rest = Rest(self.settings, self.app_identity(), self.tls)
        self.resources.callback(rest.close)
        return rest

    def image_reader(self) -> Images:
        return Images(self.settings, self.rest())

    def blobs(self) -> JsonBlobs:
        return JsonBlobs(self.settings.embeddings_container, self.rest())

    def space(self) -> Space:
        return Space(self.settings, self.blobs())

    def record_store(self) -> RecordStore:
        return RecordStore(self.space(), self.blobs(), self.journal())

    def index_blobs(self) -> IndexBlobs:
        return IndexBlobs(self.space(), self.blobs())

    def compaction(self) -> Compaction:
        return Compaction(self.settings, self.index_blobs(), self.queues())

    def journal(self) -> Journal | None:
        """Where the index is told of changes: another process's, as it were, for each that asks for one."""
        return Journal(self.index_blobs(), self.compaction().ask) if self.settings.search == "on" else None

    def reader(self) -> Reader:
        return Reader(self.index_blobs())

    def report_store(self) -> ReportStore:
        return ReportStore(self.space(), self.blobs())

    def queues(self) -> Queues:
        return Queues(self.settings, self.rest())

    def quota(self) -> Quota:
        """What a process knows of the quota: another process, as it were, for each that asks for one."""
        return Quota(self.settings, self.space(), self.blobs())

    def request_queue(self, quota: Quota | None = None) -> RequestQueue:
        return RequestQueue(self.settings, self.queues(), quota or self.quota())

    def model_client(self, quota: Quota | None = None) -> ModelClient:
        return self.model_clients(quota)[0]

    def model_clients(self, quota: Quota | None = None) -> tuple[ModelClient, ModelClient]:
        """The one for images and the one for queries, which may be the same."""
        settings, quota = self.settings, quota or self.quota()
        names = (settings.foundry_model, settings.foundry_query_model)
        quotas: dict[str, Quota | OtherQuota] = {names[1]: OtherQuota(quota), names[0]: quota}
        clients = {name: ModelClient(settings, name, self.app_identity(), self.tls, of) for name, of in quotas.items()}
        for client in clients.values():
            self.resources.callback(client.close)
        return clients[names[0]], clients[names[1]]

    def app_identity(self, client_id: str = CLIENT_ID) -> AppIdentity:
        identity = AppIdentity(client_id)
        self.resources.callback(identity.close)
        return identity

    def sync(
        self,
        images: Images | None = None,
        records: RecordStore | None = None,
        quota: Quota | None = None,
        model: ModelClient | None = None,
    ) -> Sync:
        """The app's ``Sync``, with the test's own parts if given."""
        images, records, quota = images or self.image_reader(), records or self.record_store(), quota or self.quota()
        embedder = Embedder(self.settings, self.space(), images, records, model or self.model_client(quota))
        return Sync(self.settings, images, records, embedder, self.request_queue(quota), quota)

    def dispatcher(self) -> Dispatcher:
        """The dispatcher of a process."""
        quota = self.quota()
        model = self.model_client(quota)
        sync = self.sync(quota=quota, model=model)
        return Dispatcher(self.settings, self.queues(), self.request_queue(quota), sync, quota, model)

    def dead_letters(self, container: str = "no-dead-letters") -> DeadLetters:
        """The dead letters in this container, by default one that does not exist.

        The container of the app's own name is no default, as all tests share it.
        """
        return DeadLetters(self.settings, JsonBlobs(container, self.rest()), self.request_queue())

    def checks(self, client_id: str = CLIENT_ID) -> Checks:
        """The health checks of an app with this identity."""
        images, records, queues = self.image_reader(), self.record_store(), self.queues()
        identity = self.app_identity(client_id)
        return Checks(self.settings, identity, self.space(), images, records, queues, *self.model_clients())

    def watch(self, checks: Checks | None = None, dead_letters: DeadLetters | None = None) -> Watch:
        """The timer of a process."""
        quota, compaction = self.quota(), self.compaction()
        checks, dead_letters = checks or self.checks(), dead_letters or self.dead_letters()
        return Watch(checks, self.queues(), dead_letters, compaction, self.request_queue(quota), quota)

    def intake(self) -> Intake:
        records, requests = self.record_store(), self.request_queue()
        compaction = self.compaction() if self.settings.search == "on" else None
        return Intake(self.settings, records, requests, self.sync(), self.dispatcher(), self.reconcile(), compaction)

    def reconcile(self) -> Reconcile:
        expired_queries = ExpiredQueries(self.settings, self.blobs())
        images, records, reports = self.image_reader(), self.record_store(), self.report_store()
        check = None
        if journal := self.journal():
            check = IndexCheck(records, reports, self.index_blobs(), journal, self.compaction(), self.reader())
        queues, requests = self.queues(), self.request_queue()
        return Reconcile(self.settings, images, records, reports, expired_queries, check, queues, requests)

    def queries(self) -> Queries:
        cache = QueryCache(self.settings, self.blobs())
        return Queries(self.settings, self.space(), cache, *self.model_clients())

    @property
    def preparation(self) -> int:
        """The number of the way in which pictures are prepared for this model."""
        return Limits.of(self.settings).preparation

    def upload(self, name: str, data: bytes, **metadata: str) -> str:
        """Upload an image; returns its ETag without quotes."""
        blob = self.images.get_blob_client(name)
        etag: str = blob.upload_blob(data, overwrite=True, metadata=metadata)["etag"]
        return etag.strip('"')

    @property
    def folder(self) -> str:
        """The folder of the space, if the first app of the space is this one."""
        return space_of(self.settings)

    def stored(self, path: str) -> Any:
        """The JSON blob at this path in the space's folder, or ``None``."""
        try:
            return json.loads(self.embeddings.download_blob(f"{self.folder}/{path}").readall())
        except ResourceNotFoundError:
            return None

    def record(self, name: str) -> Any:
        return self.stored(f"images/{name}.json")

    def failure(self, name: str) -> Any:
        return self.stored(f"failures/{name}.json")

    def records(self) -> list[str]:
        """The names of all blobs about single images and queries, and of reports and dropped messages."""
        names = self.embeddings.list_blob_names()
        besides = ("/contents/", "/index/", "/space.json", "/quota.json")
        return [name for name in names if not any(part in name for part in besides)]

    def with_settings(self, **changes: str) -> "Cloud":
        environment = {**self.environment, **changes}
        return replace(self, environment=environment, settings=read_settings(environment))


@pytest.fixture(scope="session", autouse=True)
def _authorities_read_once() -> Iterator[None]:
    """Read the certificate authorities once: it takes 20 ms, and many tests have an application of their own."""
    with pytest.MonkeyPatch.context() as patch:
        original = httpx.create_ssl_context
        create = functools.cache(lambda authorities: original())
        patch.setattr("httpx.create_ssl_context", lambda: create(os.environ.get("SSL_CERT_FILE")))
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(original))
        yield


@pytest.fixture(scope="session")
def tls(azurite: Azurite) -> ssl.SSLContext:
    """A context that trusts Azurite's certificate."""
    return ssl.create_default_context(cafile=azurite.ca_file)


@pytest.fixture(scope="session")
def identity() -> Iterator[Identity]:
    """The managed-identity endpoint, with one user-assigned identity."""
    with identity_endpoint.running([CLIENT_ID]) as endpoint:
        yield endpoint


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address, ``127.0.0.1:<port>``, that refuses every connection: it is taken, so nobody can listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


_numbers = itertools.count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``either_format`` once for each wire format that the app speaks with the model."""
    if metafunc.definition.get_closest_marker("either_format"):
        metafunc.parametrize("wire_format", WIRE_FORMATS, indirect=True)


@pytest.fixture
def wire_format(request: pytest.FixtureRequest) -> WireFormat:
    """The wire format that the app speaks with the model: a test that is about one of them names it."""
    return WIRE_FORMATS[getattr(request, "param", "foundry")]


@pytest.fixture
def cloud(
    azurite: Azurite,
    identity: Identity,
    model: Model,
    tls: ssl.SSLContext,
    wire_format: WireFormat,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cloud]:
    """The cloud, with this process given the app settings and the identity of a deployed app."""
    number = next(_numbers)
    with (
        ExitStack() as resources,
        BlobServiceClient.from_connection_string(
            azurite.connection_string, connection_verify=str(azurite.ca_file)
        ) as service,
    ):
        environment = {
            "FOUNDRY_ENDPOINT": f"{model.url}{wire_format.path}",
            **wire_format.settings,
            "ImageStorage__blobServiceUri": azurite.blob_url,
            "ImageStorage__queueServiceUri": azurite.queue_url,
            "ImageStorage__credential": "managedidentity",
            "ImageStorage__clientId": CLIENT_ID,
            "IMAGES_CONTAINER": f"images-{number}",
            "EMBEDDINGS_CONTAINER": f"embeddings-{number}",
            "IDENTITY_ENDPOINT": identity.endpoint,
            "IDENTITY_HEADER": identity.header,
            "SSL_CERT_FILE": str(azurite.ca_file),
            "REQUESTS_CA_BUNDLE": str(azurite.ca_file),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        images = service.create_container(environment["IMAGES_CONTAINER"])
        embeddings = service.create_container(environment["EMBEDDINGS_CONTAINER"])
        queue, waiting, backlog = [empty_queue(azurite, name, resources) for name in (QUEUE, WAITING_QUEUE, BACKLOG)]
        settings = read_settings(environment)
        yield Cloud(
            environment, settings, wire_format, images, embeddings, model, queue, waiting, backlog, tls, resources
        )


def empty_queue(azurite: Azurite, name: str, resources: ExitStack) -> QueueClient:
    """A queue of this name without any messages."""
    queue = resources.enter_context(
        QueueClient.from_connection_string(azurite.connection_string, name, connection_verify=str(azurite.ca_file))
    )
    with suppress(ResourceExistsError):
        queue.create_queue()
    queue.clear_messages()
    return queue


@pytest.fixture
def faults() -> StorageFaults:
    """What storage does wrong, once it is told to."""
    return StorageFaults()


@pytest.fixture
def behind(cloud: Cloud, azurite: Azurite, faults: StorageFaults) -> Iterator[Cloud]:
    """The cloud, with the fault proxy in front of its storage."""
    with faults.before(azurite) as (blobs, queues):
        yield cloud.with_settings(ImageStorage__blobServiceUri=blobs, ImageStorage__queueServiceUri=queues)
