"""The whole app on this machine: storage, identity, model, Functions host and events, started and stopped together.

    with stack.running() as running:
        httpx.get(f"{running.functions_url}/api/health")

The function app gets an environment made from scratch, as on Azure: its app settings and no keys. It reaches storage
and the model with tokens from the identity endpoint. Only the stand-ins have the storage account's key.
"""

import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Literal, Self, cast
from urllib.parse import quote

import httpx
import urllib3

from local import azurite, identity
from local.azurite import REPO_ROOT, Azurite
from local.event_grid import DEAD_LETTERS, EventGrid, Policy, to_dead_letters, to_queue, to_webhook
from local.events import Subscription, deletions, unsafe_uploads, uploads
from local.faults import StorageFaults
from local.identity import Identity
from local.model.models import MODELS, PATHS
from local.processes import LISTENING, STARTING, Child, Restarted
from local.processes import StackError as StackError
from local.real_model import RealModel, token_of_az
from local.storage import Queue, Storage

REQUESTS_QUEUE = "embedding-requests"
UPLOADS_POISON = "webjobs-blobtrigger-poison"
LOGS = REPO_ROOT / ".local/logs"
UploadEvents = Literal["webhook", "queue"]
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AS_AZURE_DOES = Policy()


@dataclass(frozen=True)
class Stack:
    """What a program needs to use the running stack; these are the keys of `.local/stack.json`."""

    functions_url: str
    functions_key: str = field(repr=False)
    storage_connection_string: str = field(repr=False)
    ca_file: str
    """The certificate that verifies storage: `connection_verify=ca_file` in the storage SDKs."""
    foundry_url: str
    pid: int


@dataclass(frozen=True)
class _Options:
    """What the caller of :func:`running` chose; see there."""

    app: Path
    model: str
    apps: Sequence[Mapping[str, str]]
    """The settings of each app."""
    logs: Path
    lease: float
    storage_faults: StorageFaults | None
    events: Policy
    upload_events: UploadEvents
    refusals: int
    extension: Path | None
    show: Callable[[str], None]
    node_options: Sequence[str]
    deployments: int = 1
    real_model: RealModel | None = None


@dataclass(frozen=True)
class _Cloud:
    """What all apps of a stack share: their storage, their model, and what they get of this machine."""

    emulator: Azurite
    storage: Storage
    foundry_url: str
    system: Mapping[str, str]
    app_settings: Mapping[str, str]
    http: httpx.Client


@contextmanager
def running(
    *,
    app: Path = REPO_ROOT,
    model: str = "Cohere-embed-v3-english",
    settings: Mapping[str, str] = MappingProxyType({}),
    logs: Path | None = None,
    lease: float = 600,
    storage_faults: StorageFaults | None = None,
    events: Policy = _AS_AZURE_DOES,
    upload_events: UploadEvents | None = None,
    refusals: int = 0,
    extension: Path | None = None,
    show: Callable[[str], None] = lambda line: None,
    node_options: Sequence[str] = (),
    deployments: int = 1,
    real_model: RealModel | None = None,
) -> Iterator[Stack]:
    """Start everything, wait until it answers, and stop everything at the end, whatever the end is.

    `settings` override the app settings, `logs` is a folder for one log per part (default: one of its own in
    `.local/logs`), `lease` is how many seconds a message stays hidden when the host dies while it runs,
    `storage_faults` stand between the app and storage (not between the host and storage), `show` is called with each
    line that the functions log, and `node_options` are those of the Node.js that runs Azurite. `model` is one of those
    that the stand-in serves (`local.model.models`), and decides which wire format the app speaks. Of several
    `deployments` each has an endpoint of its own (:func:`model_urls`). With a `real_model` there is no stand-in for the
    model.

    `events` says how Event Grid delivers. The host answers its first `refusals` deliveries with 401, after each start.
    Two choices may also be made in the environment of this process. `upload_events` (UPLOAD_EVENTS) announces uploads
    to the webhook or on the queue. `extension` (STORAGE_EXTENSION) is a program with Microsoft's own storage extension,
    which takes events and polls queues in place of the host's stand-in. It is started with `--app DIR --worker URL
    --port N`, finds storage and key in its environment (AzureWebJobsStorage, ImageStorage, FUNCTIONS_KEY), prints
    `listening on URL`, and posts each invocation to the worker (`local.host.invocations`).

    A functions host or extension that dies is restarted on the same port, as on Azure. When another part dies,
    StackError is raised in the main thread, wherever that is. SIGTERM and SIGHUP act like Ctrl-C.
    """
    options = _Options(
        app=app,
        model=model,
        apps=[settings],
        logs=logs or _log_folder(),
        lease=lease,
        storage_faults=storage_faults,
        events=events,
        upload_events=upload_events or _chosen_upload_events(),
        refusals=refusals,
        extension=extension or _chosen_extension(),
        show=show,
        node_options=node_options,
        deployments=deployments,
        real_model=real_model,
    )
    with _running(options) as [started]:
        yield started


@contextmanager
def running_together(
    apps: Sequence[Mapping[str, str]],
    *,
    app: Path = REPO_ROOT,
    model: str = "Cohere-embed-v3-english",
    logs: Path | None = None,
) -> Iterator[list[Stack]]:
    """Start several apps with one storage account and one model, each with these settings and a host of its own.

    The rest is as in :func:`running`. The apps' images containers must differ. Apps with another `QUEUE_PREFIX` have
    queues of their own, and a `FOUNDRY_ENDPOINT` that is only a path is one of the stand-in for the model
    (`local.model.models.PATHS`).
    """
    options = _Options(
        app=app,
        model=model,
        apps=apps,
        logs=logs or _log_folder(),
        lease=600,
        storage_faults=None,
        events=Policy(),
        upload_events=_chosen_upload_events(),
        refusals=0,
        extension=_chosen_extension(),
        show=lambda line: None,
        node_options=(),
    )
    with _running(options) as started:
        yield started


@contextmanager
def _running(options: _Options) -> Iterator[list[Stack]]:
    with _Supervisor() as supervisor, ExitStack() as parts:
        try:
            yield _start(options, supervisor, parts)
        finally:
            supervisor.stop_watching()


def _start(options: _Options, supervisor: "_Supervisor", parts: ExitStack) -> list[Stack]:
    """Start one part after the other; `parts` stops them in the opposite order."""
    options.logs.mkdir(parents=True, exist_ok=True)
    grid = EventGrid(options.events)
    cloud = _start_cloud(options, grid, supervisor, parts)
    containers = {
        settings.get(f"{kind.upper()}_CONTAINER", kind)
        for settings in options.apps
        for kind in ("images", "embeddings")
    }
    for container in containers:
        cloud.storage.create_container(container)
    stacks, subscriptions = [], []
    for number, settings in enumerate(options.apps, start=1):
        started, subscribed = _start_app(options, number, settings, cloud, parts)
        stacks.append(started)
        subscriptions += subscribed
    parts.enter_context(grid.delivering(cloud.emulator.blob_url, subscriptions, to_dead_letters(cloud.storage)))
    return stacks


def _start_cloud(options: _Options, grid: EventGrid, supervisor: "_Supervisor", parts: ExitStack) -> _Cloud:
    """Start everything but the apps."""
    logs = options.logs
    temporary = parts.enter_context(tempfile.TemporaryDirectory(prefix="image-embeddings-"))
    system = _system_environment(temporary)
    emulator = parts.enter_context(
        azurite.running(log=_fresh(logs / "azurite.log"), on_line=grid.read, node_options=options.node_options)
    )
    supervisor.watch(emulator.child)
    client_id = str(uuid.uuid4())
    if options.real_model:
        tokens = parts.enter_context(identity.running([client_id], real=token_of_az))
        foundry_url = options.real_model.endpoint
        model_settings = options.real_model.app_settings(emulator.ca_file)
    else:
        tokens = parts.enter_context(identity.running([client_id]))
        foundry = _start_model(_fresh(logs / "model.log"), system, options.deployments, parts)
        foundry_url = foundry.announcement(LISTENING, seconds=STARTING)
        supervisor.watch(foundry)
        path = _model_path(options.model)
        endpoints = [url + path for url in model_urls(foundry_url, options.deployments)]
        model_settings = {"FOUNDRY_ENDPOINT": " ".join(endpoints), "FOUNDRY_MODEL": options.model}

    blob_url, queue_url = emulator.blob_url, emulator.queue_url
    if options.storage_faults:
        blob_url, queue_url = parts.enter_context(options.storage_faults.before(emulator))
    app_settings = {
        **_app_settings(emulator, tokens, client_id),
        "ImageStorage__blobServiceUri": blob_url,
        "ImageStorage__queueServiceUri": queue_url,
        **model_settings,
    }
    storage = parts.enter_context(Storage(emulator.connection_string, emulator.ca_file))
    storage.queue(UPLOADS_POISON).create()
    for prefix in {settings.get("QUEUE_PREFIX", "") for settings in options.apps}:
        for queue in (REQUESTS_QUEUE, f"{REQUESTS_QUEUE}-poison"):
            storage.queue(prefix + queue).create()
    storage.create_container(DEAD_LETTERS)
    http = parts.enter_context(httpx.Client(trust_env=False, timeout=30))
    return _Cloud(emulator, storage, foundry_url, system, app_settings, http)


def _start_app(
    options: _Options, number: int, settings: Mapping[str, str], cloud: _Cloud, parts: ExitStack
) -> tuple[Stack, list[Subscription]]:
    """Start one app; returns also what it subscribes to."""
    app_settings = {**cloud.app_settings, **settings}
    if app_settings["FOUNDRY_ENDPOINT"].startswith("/"):
        app_settings["FOUNDRY_ENDPOINT"] = cloud.foundry_url + app_settings["FOUNDRY_ENDPOINT"]
    requests = cloud.storage.queue(app_settings.get("QUEUE_PREFIX", "") + REQUESTS_QUEUE)
    key, suffix = secrets.token_urlsafe(32), "" if number == 1 else f"-{number}"
    answers = partial(_answers, cloud.http)
    host_options = ["--app", str(options.app.resolve()), "--lease", str(options.lease)]
    host_options += ["--refusals", str(options.refusals), *(["--extension"] if options.extension else [])]
    host_settings = {
        "AzureWebJobsStorage": cloud.emulator.connection_string,
        "AzureFunctionsWebHost__hostid": f"local{number}",
        "FUNCTIONS_KEY": key,
    }
    functions = Restarted(
        "the functions host",
        [sys.executable, "-m", "local.host", *host_options],
        {**cloud.system, **app_settings, **host_settings},
        _fresh(options.logs / f"functions{suffix}.log"),
        REPO_ROOT,
        options.show,
    )
    parts.callback(functions.stop)
    functions.start(answers)
    events_url = functions.url
    if options.extension:
        environment = {**cloud.system, **app_settings}
        log = _fresh(options.logs / f"extension{suffix}.log")
        extension = _extension(options.extension, options.app, functions.url, environment, cloud.emulator, key, log)
        parts.callback(extension.stop)
        extension.start(answers)
        events_url = extension.url
    webhook = f"{events_url}/runtime/webhooks/blobs?code={quote(key)}&functionName=Host.Functions."
    bound = _bindings(cloud.http, functions.url, key)
    started = Stack(
        functions_url=functions.url,
        functions_key=key,
        storage_connection_string=cloud.emulator.connection_string,
        ca_file=str(cloud.emulator.ca_file),
        foundry_url=cloud.foundry_url,
        pid=os.getpid(),
    )
    return started, _subscriptions(bound, webhook, requests, options.upload_events)


class _Supervisor:
    """Turns signals and the death of a part into an exception in the main thread; keeps both out of the clean-up.

    Only a signal reaches the main thread wherever it is. Where the stack was started in another thread, the death of a
    part is only printed.
    """

    def __init__(self) -> None:
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self._watching = True
        self._failure: StackError | None = None

    def __enter__(self) -> Self:
        if self._in_main_thread:
            self._previous = {name: signal.getsignal(name) for name in _SIGNALS}
            for name in _SIGNALS:
                signal.signal(name, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        if self._in_main_thread:
            for name, handler in self._previous.items():
                signal.signal(name, handler)

    def watch(self, child: Child) -> None:
        """Fail when this child ends before its time."""
        threading.Thread(target=self._wait_for, args=[child], name=f"{child.name} watch", daemon=True).start()

    def stop_watching(self) -> None:
        """From now on parts may end, and a second Ctrl-C does not interrupt the clean-up, which takes seconds."""
        self._watching = False
        if self._in_main_thread:
            for name in self._previous:
                signal.signal(name, signal.SIG_IGN)

    def _wait_for(self, child: Child) -> None:
        child.wait()
        if not self._watching:
            return
        self._failure = child.error("stopped unexpectedly")
        if self._in_main_thread:
            signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGTERM)
        else:
            print(self._failure, file=sys.stderr)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        raise self._failure or KeyboardInterrupt


def _answers(http: httpx.Client, url: str) -> bool:
    """Whether something answers there, whatever it says."""
    try:
        http.get(f"{url}/admin/host/ping")
    except httpx.HTTPError:
        return False
    return True


def _model_path(model: str) -> str:
    """Where the stand-in answers for this model."""
    if model not in MODELS:
        raise StackError(f"There is no model {model} here; there are {', '.join(MODELS)}.")
    return PATHS[MODELS[model].formats[0]]


def model_urls(url: str, deployments: int) -> list[str]:
    """Where the stand-in is each of so many deployments of its models."""
    return [url, *(f"{url}/{number}" for number in range(2, deployments + 1))]


def _start_model(log: Path, environment: Mapping[str, str], deployments: int, parts: ExitStack) -> Child:
    names = [url.strip("/") for url in model_urls("", deployments)[1:]]
    child = Child(
        "the model",
        [sys.executable, "-m", "local.model", "--port", "0", "--also", *names],
        log=log,
        cwd=REPO_ROOT,
        environment=environment,
    )
    parts.callback(child.stop)
    return child


def _extension(
    program: Path,
    app: Path,
    functions_url: str,
    environment: Mapping[str, str],
    emulator: Azurite,
    key: str,
    log: Path,
) -> Restarted:
    """The process of a program that has Microsoft's storage extension, in place of the host's own triggers."""
    command = [str(program), "--app", str(app.resolve()), "--worker", f"{functions_url}/invocations"]
    connections = dict.fromkeys(("AzureWebJobsStorage", "ImageStorage"), emulator.connection_string)
    own = {name: value for name, value in environment.items() if not name.startswith(("AzureWebJobs", "ImageStorage"))}
    return Restarted("the storage extension", command, {**own, **connections, "FUNCTIONS_KEY": key}, log, REPO_ROOT)


def _bindings(http: httpx.Client, functions_url: str, key: str) -> dict[str, dict[str, Any]]:
    """The trigger of each function."""
    answer = http.get(f"{functions_url}/admin/functions", headers={"x-functions-key": key})
    return {function["name"]: function["config"]["bindings"][0] for function in answer.raise_for_status().json()}


def _subscriptions(
    triggers: Mapping[str, dict[str, Any]], webhook: str, requests: Queue, upload_events: UploadEvents
) -> list[Subscription]:
    """What a deployment sets up in Event Grid once the app runs, derived from the app's own triggers."""
    http = urllib3.PoolManager(maxsize=8)
    containers = {
        name: trigger["path"].partition("/")[0]
        for name, trigger in triggers.items()
        if trigger["type"] == "blobTrigger"
    }
    found = []
    if upload_events == "webhook":
        found += [uploads(container, to_webhook(http, webhook + name)) for name, container in containers.items()]
    if any(trigger.get("queueName") == requests.name for trigger in triggers.values()):
        send = to_queue(requests)
        for container in sorted(set(containers.values())):
            if upload_events == "queue":
                found.append(uploads(container, send))
            found += [*unsafe_uploads(container, send), deletions(container, send)]
    return found


def _chosen_upload_events() -> UploadEvents:
    match os.environ.get("UPLOAD_EVENTS", "webhook"):
        case "webhook":
            return "webhook"
        case "queue":
            return "queue"
        case other:
            raise StackError(f"UPLOAD_EVENTS is {other!r}: it must be webhook or queue.")


def _chosen_extension() -> Path | None:
    chosen = os.environ.get("STORAGE_EXTENSION")
    return Path(chosen).resolve() if chosen else None


def _system_environment(temporary: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "TMPDIR": temporary, "PYTHONUNBUFFERED": "1"}


def _app_settings(emulator: Azurite, tokens: Identity, client_id: str) -> dict[str, str]:
    return {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "26214400",
        "PYTHON_THREADPOOL_THREAD_COUNT": "32",
        "SSL_CERT_FILE": str(emulator.ca_file),
        "REQUESTS_CA_BUNDLE": str(emulator.ca_file),
        "AzureWebJobsStorage__queueServiceUri": emulator.queue_url,
        "IDENTITY_ENDPOINT": tokens.endpoint,
        "IDENTITY_HEADER": tokens.header,
        "AZURE_CLIENT_ID": client_id,
        "ImageStorage__credential": "managedidentity",
        "ImageStorage__clientId": client_id,
    }


def _log_folder() -> Path:
    """A folder for this process's logs. Deletes those of processes that no longer run."""
    for old in LOGS.glob("*"):
        if old.name.isdecimal() and not _is_running(int(old.name)):
            shutil.rmtree(old)
    return LOGS / str(os.getpid())


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # it sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is somebody else's
    return True


def _fresh(log: Path) -> Path:
    log.unlink(missing_ok=True)
    return log
