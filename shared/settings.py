"""The app settings, read and checked once."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from shared.errors import SettingError
from shared.known_models import COHERE_PATH, FOUNDRY_PATH, MODELS, known

QueryRecords = Literal["full", "vector", "off"]
Switch = Literal["on", "off"]

# "A container name must be 3 to 63 lower-case letters, digits and single dashes": Azure Storage's naming rules.
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_DEPLOYMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_METADATA_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[+-]?[0-9]{1,13}(\.[0-9]{1,3})?")
# Matched here and never parsed by a library: those raise errors of their own for a placeholder such as [resource], and
# drop line breaks.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?P<path>/[A-Za-z0-9._~/-]*)?"
)
_VISIBLE = re.compile(r"[!-~]+")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
# Azurite's default ports.
_EMULATOR_PORTS = {"Blob": 10000, "Queue": 10001}
_FOUNDRY_HOST = ".services.ai.azure.com"
_FOUNDRY_PATHS = (FOUNDRY_PATH, COHERE_PATH)
_MAX_PORT = 65_535
_MAX_PATTERNS = 2_000
_LEAST_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """Where images and queues are, and the identity to use there.

    ``storage_connection_string`` is set for emulators only; the two storage URIs are always set.
    ``host_queue_service_uri`` is where the Functions host keeps its own queues, ``None`` if that is not known.
    """

    blob_service_uri: str
    queue_service_uri: str
    storage_connection_string: str | None = field(repr=False)
    client_id: str | None
    queue_prefix: str
    host_queue_service_uri: str | None


@dataclass(frozen=True, kw_only=True)
class Settings(StorageSettings):
    """The checked app settings. Sizes are in bytes and pixels, times in seconds, names as in the README's table."""

    foundry_endpoints: tuple[str, ...]
    foundry_model: str
    foundry_query_model: str
    foundry_api_version: str
    foundry_scope: str
    foundry_api_key: str | None = field(repr=False)
    foundry_concurrency: int
    foundry_timeout: int
    daily_token_limit: int | None
    backlog_share: float
    embedding_dimensions: int | None
    images_container: str
    image_names: tuple[str, ...]
    embeddings_container: str
    image_max_bytes: int
    image_max_pixels: int
    model_max_bytes: int
    model_max_pixels: int
    text_metadata: str
    query_records: QueryRecords
    query_retention_days: int
    reconcile_schedule: str
    search: Switch


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check every setting; raises :class:`SettingError` with one message that names every problem."""
    read = _Reader(environment)
    storage = _storage(read)
    model = read.text("FOUNDRY_MODEL", check=_deployment)
    settings = Settings(
        **vars(storage),
        foundry_endpoints=_endpoints(read.text("FOUNDRY_ENDPOINT", check=_no_endpoints)),
        foundry_model=model,
        foundry_query_model=read.optional("FOUNDRY_QUERY_MODEL", check=_deployment) or model,
        foundry_api_version=read.text("FOUNDRY_API_VERSION", "2024-05-01-preview", check=_visible),
        foundry_scope=read.text("FOUNDRY_SCOPE", "https://cognitiveservices.azure.com/.default", check=_visible),
        foundry_api_key=read.optional("FOUNDRY_API_KEY", check=_visible),
        foundry_concurrency=read.number("FOUNDRY_CONCURRENCY", 8, at_most=32),
        # Most HTTP clients give up after 100 s, and Azure's load balancer after 230 s.
        foundry_timeout=read.number("FOUNDRY_TIMEOUT", 90, at_least=5, at_most=220),
        daily_token_limit=read.number("DAILY_TOKEN_LIMIT", None, at_least=0),
        backlog_share=read.share("BACKLOG_SHARE", 0.9),
        embedding_dimensions=read.number("EMBEDDING_DIMENSIONS", None, at_most=65536),
        image_max_bytes=read.number("IMAGE_MAX_BYTES", 104_857_600),
        image_max_pixels=read.number("IMAGE_MAX_PIXELS", 200_000_000),
        # What Cohere's models accept without scaling it themselves: 56 x 56 to 1568 x 1568 pixels, 5 MB.
        model_max_bytes=read.number("MODEL_MAX_BYTES", 5_000_000, at_least=100_000),
        model_max_pixels=read.number("MODEL_MAX_PIXELS", 2_458_624, at_least=3_136),
        images_container=read.text("IMAGES_CONTAINER", "images", check=_container),
        image_names=_patterns(read.optional("IMAGE_NAMES", check=_no_patterns) or ""),
        embeddings_container=read.text("EMBEDDINGS_CONTAINER", "embeddings", check=_container),
        text_metadata=read.text("TEXT_METADATA", "text", check=_metadata_key, may_be_empty=True),
        query_records=read.choice("QUERY_RECORDS", "full", get_args(QueryRecords)),
        query_retention_days=read.number("QUERY_RETENTION_DAYS", 90, at_most=36_500),
        reconcile_schedule=read.text("RECONCILE_SCHEDULE", "0 0 3 * * *", check=_schedule),
        search=read.choice("SEARCH", "on", get_args(Switch)),
    )
    if settings.images_container == settings.embeddings_container:
        read.problems.append(
            "IMAGES_CONTAINER and EMBEDDINGS_CONTAINER name the same container: they must differ, or every record would"
            " count as a new image"
        )
    read.problems += _not_of_the_model(settings)
    read.raise_problems()
    return settings


def _not_of_the_model(settings: Settings) -> list[str]:
    """What known models do not have: they would refuse every call, or answer with vectors of another space."""
    model, query_model = known(settings.foundry_model), known(settings.foundry_query_model)
    dimensions, path = settings.embedding_dimensions, _path("".join(settings.foundry_endpoints[:1]))
    problems = []
    if model and dimensions is not None and dimensions not in model.dimensions:
        lengths = ", ".join(map(str, sorted(model.dimensions)))
        problems.append(f"EMBEDDING_DIMENSIONS is {dimensions}: the vectors of {model.name} have {lengths}")
    problems += [
        f"FOUNDRY_ENDPOINT ends in {path}: {one.name} answers on {' and '.join(one.paths)} alone"
        for one in dict.fromkeys((model, query_model))
        if one and path in _FOUNDRY_PATHS and path not in one.paths
    ]
    if model and query_model and model.space != query_model.space:
        together = " and ".join(one.name for one in MODELS if one.space == model.space)
        problems.append(
            f"FOUNDRY_QUERY_MODEL is {query_model.name}: its vectors cannot be compared with those of {model.name}."
            f" One space have: {together}"
        )
    return problems


def _path(endpoint: str) -> str:
    url = _URL.fullmatch(endpoint)
    return (url["path"] or "").rstrip("/") if url else ""


def read_storage_settings(environment: Mapping[str, str]) -> StorageSettings:
    """Read those of storage alone, whatever the others are; raises :class:`SettingError` as ``read_settings`` does."""
    read = _Reader(environment)
    settings = _storage(read)
    read.raise_problems()
    return settings


def _storage(read: "_Reader") -> StorageSettings:
    """From a connection string (emulators), or from the four settings of an identity-based connection."""
    own_client_id = read.optional("AZURE_CLIENT_ID", check=_visible)
    connection_string = read.optional("ImageStorage", check=_connection_string)
    if connection_string:
        parts = _parts(connection_string)
        blob_service_uri, queue_service_uri = _service_uri(parts, "Blob"), _service_uri(parts, "Queue")
        client_id = None
    else:
        blob_service_uri = read.text("ImageStorage__blobServiceUri", check=_https).rstrip("/")
        queue_service_uri = read.text("ImageStorage__queueServiceUri", check=_https).rstrip("/")
        read.text("ImageStorage__credential", check=_managed_identity)
        client_id = read.text("ImageStorage__clientId", check=_visible)
    return StorageSettings(
        blob_service_uri=blob_service_uri,
        queue_service_uri=queue_service_uri,
        storage_connection_string=connection_string,
        client_id=own_client_id or client_id,
        queue_prefix=read.optional("QUEUE_PREFIX", check=_queue_prefix) or "",
        host_queue_service_uri=_host_queue_service_uri(read),
    )


def _parts(connection_string: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)


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
    if uri := read.optional("AzureWebJobsStorage__queueServiceUri", check=_https):
        return uri.rstrip("/")
    account = read.optional("AzureWebJobsStorage__accountName", check=_account)
    return f"https://{account}.queue.core.windows.net" if account else None


# What is wrong with a value, ``None`` if nothing is. It must not repeat the value.
type _Check = Callable[[str], str | None]


class _Reader:
    """Reads settings one by one and collects their problems, so that one start shows all of them.

    The health route shows these problems to anyone, and a secret is easily pasted into the wrong setting. So a problem
    names the setting and what it must be, and repeats no value unless it is a number.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def raise_problems(self) -> None:
        if self.problems:
            raise SettingError("App settings to fix: " + "; ".join(self.problems) + ".")

    def optional(self, name: str, *, check: _Check = lambda _: None) -> str | None:
        # As it is: the host takes the blanks around a value for a part of it.
        value = self._environment.get(name) or None
        if value is not None and (problem := check(value)):
            self.problems.append(f"{name} is invalid: {problem}")
        return value

    def text(
        self,
        name: str,
        default: str | None = None,
        *,
        check: _Check,
        may_be_empty: bool = False,
    ) -> str:
        if may_be_empty and self._environment.get(name) == "":
            return ""
        value = self.optional(name, check=check) or default
        if value is None:
            self.problems.append(f"{name} is missing")
            return ""
        return value

    def number[Default: int | None](
        self, name: str, default: Default, *, at_least: int = 1, at_most: int = 10**12
    ) -> int | Default:
        value = self.optional(name)
        if value is None:
            return default
        if re.fullmatch(r"[0-9]{1,13}", value) and at_least <= int(value) <= at_most:
            return int(value)
        found = value if _NUMBER.fullmatch(value) else "no number"
        self.problems.append(f"{name} is {found}: it must be a whole number from {at_least} to {at_most}")
        return default

    def share(self, name: str, default: float) -> float:
        value = self.optional(name)
        if value is None:
            return default
        if re.fullmatch(r"[01]?\.?[0-9]{1,3}", value) and _LEAST_SHARE <= float(value) <= 1:
            return float(value)
        found = value if _NUMBER.fullmatch(value) else "no number"
        self.problems.append(f"{name} is {found}: it must be a number from {_LEAST_SHARE} to 1")
        return default

    def choice[Choice: str](self, name: str, default: Choice, choices: tuple[Choice, ...]) -> Choice:
        value = self.optional(name)
        for choice in choices:
            if choice == (value or default):
                return choice
        self.problems.append(f"{name} is invalid: it must be one of {', '.join(choices)}")
        return default


def _https(value: str) -> str | None:
    """Tokens are sent over https only. The exception is this machine itself, as for OAuth redirects."""
    if problem := _no_url(value):
        return problem
    url = _URL.fullmatch(value)
    if url is None or url["scheme"] == "https" or _is_loopback(url["host"].strip("[]")):
        return None
    return "it must begin with https://"


def _no_url(value: str) -> str | None:
    url = _URL.fullmatch(value)
    if url is None or int(url["port"] or 0) > _MAX_PORT or not _is_host(url["host"]):
        return "it must be a URL such as https://<name>.<service> without user, query and placeholders"
    return None


def _is_host(host: str) -> bool:
    try:
        # Libraries take anything that ends in a number for an address, and refuse it if it is none.
        if host.startswith("[") or host.rpartition(".")[2][0].isdigit():
            ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _endpoints(value: str) -> tuple[str, ...]:
    return tuple(endpoint.rstrip("/") for endpoint in value.split(" ") if endpoint)


def _no_endpoints(value: str) -> str | None:
    endpoints = _endpoints(value)
    if value != value.strip() or not endpoints:
        return "it must be one endpoint, or several separated by blanks, with none around them"
    if problem := next(filter(None, map(_no_endpoint, endpoints)), None):
        return problem
    if len(set(endpoints)) < len(endpoints):
        return "it names an endpoint twice"
    if len({endpoint.endswith(COHERE_PATH) for endpoint in endpoints}) > 1:
        return f"its endpoints must all end in {FOUNDRY_PATH}, or all in {COHERE_PATH}"
    return None


def _no_endpoint(value: str) -> str | None:
    url = _URL.fullmatch(value)
    if url and url["host"].lower().endswith(_FOUNDRY_HOST) and (url["path"] or "").rstrip("/") not in _FOUNDRY_PATHS:
        return f"it must end in {' or '.join(_FOUNDRY_PATHS)}, as in https://<resource>.services.ai.azure.com/models"
    return _https(value)


def _connection_string(value: str) -> str | None:
    parts = _parts(value)
    if any(_no_url(_service_uri(parts, service)) for service in ("Blob", "Queue")) or not _VISIBLE.fullmatch(value):
        return "it must be a connection string that names the services of blobs and queues"
    if not all("=" in part for part in value.rstrip(";").split(";")):
        return "it must be a connection string: name=value, separated by ;"
    try:
        base64.b64decode(parts.get("AccountKey", ""), validate=True)
    except binascii.Error:
        return "its AccountKey must be base64"
    if not {"AccountKey", "SharedAccessSignature", "UseDevelopmentStorage"} & set(parts):
        return "it must have an AccountKey or a SharedAccessSignature; without either, use ImageStorage__blobServiceUri"
    return None


def _account(value: str) -> str | None:
    return None if _ACCOUNT.fullmatch(value) else "it must be 3 to 24 lower-case letters and digits"


def _visible(value: str) -> str | None:
    return None if _VISIBLE.fullmatch(value) else "it must be letters, digits and signs of ASCII without blanks"


def _deployment(value: str) -> str | None:
    if _DEPLOYMENT.fullmatch(value):
        return None
    return "it must be the deployment's name (1 to 128 letters, digits, '.', '_' and '-', no sign at either end)"


def _container(value: str) -> str | None:
    if _CONTAINER.fullmatch(value):
        return None
    return "it must be 3 to 63 lower-case letters, digits and single dashes"


def _patterns(value: str) -> tuple[str, ...]:
    return tuple(pattern.strip() for pattern in value.split(",") if pattern.strip())


def _no_patterns(value: str) -> str | None:
    value = value.strip()
    if not value or (len(value) <= _MAX_PATTERNS and value.isprintable() and _patterns(value)):
        return None
    return f"it must be patterns such as *.jpg, photos/*, separated by commas, of at most {_MAX_PATTERNS} characters"


def _queue_prefix(value: str) -> str | None:
    # The longest of the names that it begins, by the rules that containers have as well.
    if _CONTAINER.fullmatch(f"{value}embedding-requests-poison"):
        return None
    return "it must be up to 38 lower-case letters, digits and single dashes, and not begin with a dash"


def _metadata_key(value: str) -> str | None:
    if _METADATA_KEY.fullmatch(value):
        return None
    return "it must be a blob metadata key (letters, digits and '_', not a digit first)"


def _schedule(value: str) -> str | None:
    if len(value.split()) in {5, 6} and value == value.strip():
        return None
    return "it must be an NCRONTAB expression such as 0 0 3 * * * (second, minute, hour, day, month, day of week)"


def _managed_identity(value: str) -> str | None:
    return None if value.lower() == "managedidentity" else "it must be managedidentity"
