"""The app settings, read and checked once."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

from shared.errors import SettingError

QueryRecords = Literal["full", "vector", "off"]

# "A container name must be 3 to 63 lower-case letters, digits and single dashes": Azure Storage's naming rules.
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_DEPLOYMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}[A-Za-z0-9]")
_METADATA_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Azurite's default ports.
_EMULATOR_PORTS = {"Blob": 10000, "Queue": 10001}
_FOUNDRY_HOST = ".services.ai.azure.com"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The checked app settings. Sizes are in bytes and pixels, times in seconds, names as in the README's table.

    ``storage_connection_string`` is set for emulators only; the two storage URIs are always set.
    ``host_queue_service_uri`` is where the Functions host keeps its own queues, ``None`` if that is not known.
    """

    foundry_endpoint: str
    foundry_model: str
    foundry_api_version: str
    foundry_scope: str
    foundry_api_key: str | None = field(repr=False)
    foundry_concurrency: int
    foundry_timeout: int
    embedding_dimensions: int | None
    blob_service_uri: str
    queue_service_uri: str
    storage_connection_string: str | None = field(repr=False)
    client_id: str | None
    images_container: str
    embeddings_container: str
    image_max_bytes: int
    image_max_pixels: int
    model_max_bytes: int
    model_max_pixels: int
    text_metadata: str
    query_records: QueryRecords
    query_retention_days: int
    reconcile_schedule: str
    host_queue_service_uri: str | None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check every setting; raises :class:`SettingError` with one message that names every problem."""
    read = _Reader(environment)
    storage = _storage(read)
    settings = Settings(
        foundry_endpoint=read.text("FOUNDRY_ENDPOINT", check=_endpoint).rstrip("/"),
        foundry_model=read.text("FOUNDRY_MODEL", check=_deployment),
        foundry_api_version=read.text("FOUNDRY_API_VERSION", "2024-05-01-preview"),
        foundry_scope=read.text("FOUNDRY_SCOPE", "https://cognitiveservices.azure.com/.default"),
        foundry_api_key=read.optional("FOUNDRY_API_KEY"),
        foundry_concurrency=read.number("FOUNDRY_CONCURRENCY", 8, at_most=32),
        # Most HTTP clients give up after 100 s, and Azure's load balancer after 230 s.
        foundry_timeout=read.number("FOUNDRY_TIMEOUT", 90, at_least=5, at_most=220),
        embedding_dimensions=read.number("EMBEDDING_DIMENSIONS", None, at_most=65536),
        image_max_bytes=read.number("IMAGE_MAX_BYTES", 104_857_600),
        image_max_pixels=read.number("IMAGE_MAX_PIXELS", 200_000_000),
        # What Cohere's models accept without scaling it themselves: 56 x 56 to 1568 x 1568 pixels, 5 MB.
        model_max_bytes=read.number("MODEL_MAX_BYTES", 5_000_000, at_least=100_000),
        model_max_pixels=read.number("MODEL_MAX_PIXELS", 2_458_624, at_least=3_136),
        images_container=read.text("IMAGES_CONTAINER", "images", check=_container),
        embeddings_container=read.text("EMBEDDINGS_CONTAINER", "embeddings", check=_container),
        text_metadata=read.text("TEXT_METADATA", "text", check=_metadata_key, may_be_empty=True),
        query_records=read.choice("QUERY_RECORDS", "full", get_args(QueryRecords)),
        query_retention_days=read.number("QUERY_RETENTION_DAYS", 90, at_most=36_500),
        reconcile_schedule=read.text("RECONCILE_SCHEDULE", "0 0 3 * * *", check=_schedule),
        host_queue_service_uri=_host_queue_service_uri(read),
        storage_connection_string=storage.connection_string,
        blob_service_uri=storage.blob_service_uri,
        queue_service_uri=storage.queue_service_uri,
        client_id=storage.client_id,
    )
    if settings.images_container == settings.embeddings_container:
        read.problems.append(
            "IMAGES_CONTAINER and EMBEDDINGS_CONTAINER are both"
            f" {settings.images_container!r}: they must differ, or every record would be a new image"
        )
    if read.problems:
        raise SettingError("App settings to fix: " + "; ".join(read.problems) + ".")
    return settings


@dataclass(frozen=True)
class _Storage:
    """Where storage is, and the identity to use there."""

    connection_string: str | None
    blob_service_uri: str
    queue_service_uri: str
    client_id: str | None


def _storage(read: "_Reader") -> _Storage:
    """From a connection string (emulators), or from the four settings of an identity-based connection."""
    if connection_string := read.optional("ImageStorage"):
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)
        blobs, queues = _service_uri(parts, "Blob"), _service_uri(parts, "Queue")
        if not blobs or not queues:
            read.problems.append("ImageStorage must be a connection string that names the blob and queue services")
        return _Storage(connection_string, blobs, queues, read.optional("AZURE_CLIENT_ID"))
    blob_service_uri = read.text("ImageStorage__blobServiceUri", check=_https).rstrip("/")
    queue_service_uri = read.text("ImageStorage__queueServiceUri", check=_https).rstrip("/")
    read.text("ImageStorage__credential", check=_managed_identity)
    client_id = read.text("ImageStorage__clientId")
    return _Storage(None, blob_service_uri, queue_service_uri, read.optional("AZURE_CLIENT_ID") or client_id)


def _service_uri(parts: Mapping[str, str], service: str) -> str:
    """A service's URI, as the connection string says or from the account's name; empty if it says neither."""
    if parts.get("UseDevelopmentStorage") == "true":
        return f"http://127.0.0.1:{_EMULATOR_PORTS[service]}/devstoreaccount1"
    if uri := parts.get(f"{service}Endpoint"):
        return uri.rstrip("/")
    name, suffix = parts.get("AccountName"), parts.get("EndpointSuffix", "core.windows.net")
    protocol = parts.get("DefaultEndpointsProtocol", "https")
    return f"{protocol}://{name}.{service.lower()}.{suffix}" if name else ""


def _host_queue_service_uri(read: "_Reader") -> str | None:
    """From the host's own settings, which name its storage account in one of two ways."""
    if uri := read.optional("AzureWebJobsStorage__queueServiceUri"):
        return uri.rstrip("/")
    account = read.optional("AzureWebJobsStorage__accountName")
    return f"https://{account}.queue.core.windows.net" if account else None


class _Reader:
    """Reads settings one by one and collects their problems, so that one start shows all of them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def optional(self, name: str) -> str | None:
        return self._environment.get(name, "").strip() or None

    def text(
        self,
        name: str,
        default: str | None = None,
        *,
        check: Callable[[str], str | None] = lambda _: None,
        may_be_empty: bool = False,
    ) -> str:
        if may_be_empty and self._environment.get(name) == "":
            return ""
        value = self.optional(name) or default
        if value is None:
            self.problems.append(f"{name} is missing")
            return ""
        if problem := check(value):
            self.problems.append(f"{name} is {value!r}: {problem}")
        return value

    def number[Default: int | None](
        self, name: str, default: Default, *, at_least: int = 1, at_most: int = 10**12
    ) -> int | Default:
        value = self.optional(name)
        if value is None:
            return default
        if re.fullmatch(r"[0-9]{1,13}", value) and at_least <= int(value) <= at_most:
            return int(value)
        self.problems.append(f"{name} is {value!r}: it must be a whole number from {at_least} to {at_most}")
        return default

    def choice[Choice: str](self, name: str, default: Choice, choices: tuple[Choice, ...]) -> Choice:
        value = self.optional(name)
        for choice in choices:
            if choice == (value or default):
                return choice
        self.problems.append(f"{name} is {value!r}: it must be one of {', '.join(choices)}")
        return default


def _https(value: str) -> str | None:
    """Tokens are sent over https only. The exception is this machine itself, as for OAuth redirects."""
    url = urlsplit(value)
    if not re.fullmatch(r"[a-z0-9.:-]+", url.hostname or "") or url.query or url.fragment:
        return "it must be a URL such as https://<name>.<service> without a query"
    if url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.hostname or "")):
        return None
    return "it must begin with https://"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _endpoint(value: str) -> str | None:
    url = urlsplit(value)
    if (url.hostname or "").endswith(_FOUNDRY_HOST) and url.path.rstrip("/") != "/models":
        return f"it must be https://{url.hostname}/models"
    return _https(value)


def _deployment(value: str) -> str | None:
    if _DEPLOYMENT.fullmatch(value):
        return None
    return "it must be the deployment's name (letters, digits, '.', '_' and '-')"


def _container(value: str) -> str | None:
    if _CONTAINER.fullmatch(value):
        return None
    return "it must be 3 to 63 lower-case letters, digits and single dashes"


def _metadata_key(value: str) -> str | None:
    if _METADATA_KEY.fullmatch(value):
        return None
    return "it must be a blob metadata key (letters, digits and '_', not a digit first)"


def _schedule(value: str) -> str | None:
    if len(value.split()) in {5, 6}:
        return None
    return "it must be an NCRONTAB expression such as 0 0 3 * * * (second, minute, hour, day, month, day of week)"


def _managed_identity(value: str) -> str | None:
    return None if value.lower() == "managedidentity" else "it must be managedidentity"
