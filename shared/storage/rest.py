"""Azure Storage over its REST API: one connection pool for blobs and queues, the app's identity, retries.

An image takes eight small requests. Through the SDK each costs 1.2 to 1.6 ms of CPU, most of it under the interpreter's
lock, which caps a process at 600 requests a second however many threads it has. Here a request costs 0.2 to 0.4 ms, and
4,000 a second go through (2 vCPU Intel Xeon, Python 3.13). Large downloads still use the SDK: it fetches them in parts
and retries each part by itself.
"""

import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http import HTTPStatus
from ssl import SSLContext
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

from shared import USER_AGENT
from shared.errors import BlobHeld, Conflict, HeldCode, IdentityError, StorageError
from shared.identity import Identity
from shared.settings import StorageSettings

type Answer = urllib3.BaseHTTPResponse

# The version of the service's API that this code was written against.
_API_VERSION = "2023-11-03"
STORAGE_SCOPE = "https://storage.azure.com/.default"
METADATA = "x-ms-meta-"
# No such blob, a condition that does not hold, a blob that exists and should not.
MISSING, CHANGED, EXISTS = 404, 412, 409
# The codes of those three ("Blob service error codes" in the REST reference); some proxies drop the header with it.
_RACES = {"BlobNotFound", "ConditionNotMet", "TargetConditionNotMet", "BlobAlreadyExists", ""}
# What else comes with the same statuses and no retry of ours can change, by how its code begins.
_HELD: dict[str, tuple[HeldCode, str]] = {
    "Lease": ("blob_leased", "it has a lease. Break that, for example with az storage blob lease break"),
    "BlobImmutable": (
        "blob_immutable",
        "it is under an immutability policy or a legal hold. Remove that: records must be replaceable",
    ),
    "SnapshotsPresent": (
        "blob_has_snapshots",
        "it has snapshots. Delete those, for example with az storage blob delete --delete-snapshots only",
    ),
}
_HELD["BlobHasSnapshots"] = _HELD["SnapshotsPresent"]
# One for each thread of the worker (at most 80, infra/modules/app.bicep), and for those of an audit.
_MAX_CONNECTIONS = 96
_TRANSIENT = {408, 429, 500, 502, 503, 504}
# Larger blobs are downloaded in parts.
LARGE = 16 * 2**20


@dataclass(frozen=True)
class Effort:
    """How often a request is sent, and how long each attempt waits for an answer.

    ``parts`` says the same to the SDK, for each part of a large download.
    """

    retries: urllib3.Retry
    timeout: urllib3.Timeout
    parts: Mapping[str, Any] = field(default_factory=dict)


# Five attempts, which take about 15 s if storage answers, and two minutes if it hangs: with what an image waits for the
# model, less than functionTimeout (host.json). The first retry is immediate: an idle connection may just have been
# closed.
FULL = Effort(
    urllib3.Retry(
        total=4,
        redirect=False,
        allowed_methods=None,
        status_forcelist=_TRANSIENT,
        backoff_factor=1,
        backoff_max=8,
        backoff_jitter=0.5,
        retry_after_max=30,
        raise_on_status=False,
    ),
    urllib3.Timeout(connect=10, read=20),
    # Four attempts, with waits of about 15 s in between.
    {
        "connection_timeout": 10,
        "read_timeout": 20,
        "retry_total": 3,
        "initial_backoff": 1,
        "increment_base": 2,
    },
)
# Where a caller waits, or can do without: two attempts, 20 s at most.
BRIEF = Effort(
    urllib3.Retry(
        total=1,
        redirect=False,
        allowed_methods=None,
        status_forcelist=_TRANSIENT,
        respect_retry_after_header=False,
        raise_on_status=False,
    ),
    urllib3.Timeout(connect=5, read=5),
    {"connection_timeout": 5, "read_timeout": 5, "retry_total": 1, "initial_backoff": 0},
)
# For health checks, where "not now" is an answer.
ONCE = Effort(urllib3.Retry(0, redirect=False, raise_on_status=False), urllib3.Timeout(connect=5, read=10))


class Rest:
    """Sends requests to the account of images and embeddings. Safe to call from many threads.

    Raises :class:`~shared.errors.StorageError` if storage rejects a request or keeps failing it through all retries.
    """

    def __init__(self, settings: StorageSettings, identity: Identity, tls: SSLContext) -> None:
        self._account = settings.blob_service_uri
        self._connection_string = settings.storage_connection_string
        self._identity = identity
        self._pool = urllib3.PoolManager(num_pools=4, maxsize=_MAX_CONNECTIONS, ssl_context=tls)

    def blob_url(self, container: str, name: str) -> str:
        """The URL of a blob, which need not exist."""
        return f"{self._account}/{container}/{quote(name)}"

    def container_url(self, container: str) -> str:
        """The URL of a container, which need not exist."""
        return f"{self._account}/{container}"

    def send(
        self,
        method: str,
        url: str,
        query: str = "",
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        content: bytes | None = None,
        effort: Effort = FULL,
    ) -> Answer:
        """Send a request; returns the response if it succeeded."""
        with _as_storage_errors(method, url):
            answer = self._request(method, url, query, headers, content, effort)
            _raise_for_status(answer, method, url)
            return answer

    def find(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        effort: Effort = FULL,
    ) -> Answer | None:
        """The same for a blob that may be missing: ``None`` if its container exists and the blob does not."""
        try:
            return self.send(method, url, headers=headers, effort=effort)
        except StorageError as error:
            if _is_missing(error):
                return None
            raise

    def read(self, url: str, *, effort: Effort = FULL) -> bytes | None:
        """The bytes of a blob as stored, or ``None`` if there is none."""
        answer = self.find("GET", url, effort=effort)
        return None if answer is None else answer.data

    def open(
        self, url: str, wants: Callable[[Mapping[str, str]], bool], *, effort: Effort = FULL
    ) -> tuple[Mapping[str, str], bytes | None] | None:
        """A blob's headers, with its bytes if those headers say so (``wants``); ``None`` if there is no blob.

        The bytes are also ``None`` if the connection breaks while they arrive: this does not fetch them again.
        """
        try:
            with _as_storage_errors("GET", url):
                answer = self._request("GET", url, "", {}, None, effort, preload=False)
                try:
                    if answer.status >= HTTPStatus.BAD_REQUEST:
                        # Whatever breaks in the rest of it is not the error to report.
                        answer.drain_conn()
                        _raise_for_status(answer, "GET", url)
                    if not wants(answer.headers):
                        return answer.headers, None
                    content = answer.read()
                    answer.release_conn()
                except HTTPError:
                    return answer.headers, None
                finally:
                    # No effect on a connection that has gone back to the pool.
                    answer.close()
        except StorageError as error:
            if _is_missing(error):
                return None
            raise
        return answer.headers, content

    def read_large(self, url: str, etag: str, *, effort: Effort = FULL) -> bytes:
        """The bytes of exactly this version of a blob, fetched two parts at a time, each retried by itself."""
        from azure.core import MatchConditions
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.storage.blob import BlobClient

        credential = self._signature() or self._identity.credential
        try:
            with BlobClient.from_blob_url(url, credential=credential, user_agent=USER_AGENT, **effort.parts) as blob:
                return blob.download_blob(
                    etag=quoted(etag),
                    match_condition=MatchConditions.IfNotModified,
                    max_concurrency=2,
                    decompress=False,
                ).readall()
        except AzureError as error:
            status = error.status_code if isinstance(error, HttpResponseError) else None
            code = getattr(error, "error_code", None)
            code = str(getattr(code, "value", code) or "")
            raise StorageError(f"{type(error).__name__}: {error.message}", status=status, code=code) from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _request(
        self,
        method: str,
        url: str,
        query: str,
        headers: Mapping[str, str],
        content: bytes | None,
        effort: Effort,
        *,
        preload: bool = True,
    ) -> Answer:
        query = "&".join(filter(None, (query, self._signature())))
        # A token can be revoked before it expires, so a 401 is retried once with a fresh one.
        for fresh in (False, True):
            answer = self._pool.request(
                method,
                f"{url}?{query}" if query else url,
                headers={**self._headers(fresh), **headers},
                body=content,
                retries=effort.retries,
                timeout=effort.timeout,
                redirect=False,
                preload_content=preload,
                # Blobs are read as stored: one that claims to be compressed may expand to any size.
                decode_content=False,
            )
            if answer.status != HTTPStatus.UNAUTHORIZED or self._connection_string:
                break
            answer.drain_conn()
        return answer

    def _headers(self, fresh: bool) -> dict[str, str]:
        headers = {"user-agent": USER_AGENT, "x-ms-version": _API_VERSION, "x-ms-date": formatdate(usegmt=True)}
        if not self._connection_string:
            headers["authorization"] = f"Bearer {self._identity.token(STORAGE_SCOPE, fresh=fresh)}"
        return headers

    def _signature(self) -> str:
        """A SAS for emulators, which are reached by a connection string; empty where tokens are used."""
        if not self._connection_string:
            return ""
        from azure.storage.blob import (
            AccountSasPermissions,
            BlobServiceClient,
            ResourceTypes,
            Services,
            generate_account_sas,
        )

        service = BlobServiceClient.from_connection_string(self._connection_string)
        if service.credential is None:
            # The connection string holds a SAS instead of a key.
            return str(service.url).partition("?")[2]
        return generate_account_sas(
            service.credential.account_name,
            service.credential.account_key,
            ResourceTypes(service=True, container=True, object=True),
            AccountSasPermissions(read=True, write=True, create=True, delete=True, list=True, add=True, process=True),
            datetime.now(UTC) + timedelta(hours=1),
            services=Services(blob=True, queue=True),
        )


def quoted(etag: str) -> str:
    """An ETag as an HTTP header has it."""
    return f'"{etag}"'


def read_etag(headers: Mapping[str, str]) -> str:
    """The ETag of a response, without quotes."""
    return headers["etag"].strip('"')


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The blob metadata of a response, keys in lower case."""
    start = len(METADATA)
    return {key[start:].lower(): value for key, value in headers.items() if key.lower().startswith(METADATA)}


@contextmanager
def ignoring(*statuses: int) -> Iterator[None]:
    """Run the block, and ignore these HTTP statuses of storage; with :data:`CHANGED`, a blob that is held as well."""
    try:
        yield
    except StorageError as error:
        held = CHANGED in statuses and isinstance(error, BlobHeld)
        if not held and (error.status not in statuses or error.code == "ContainerNotFound"):
            raise


@contextmanager
def conflict_if_changed(name: str) -> Iterator[None]:
    """Run the block, and raise :class:`~shared.errors.Conflict` if a condition of its requests does not hold."""
    try:
        yield
    except StorageError as error:
        if error.status not in {MISSING, CHANGED, EXISTS} or error.code not in _RACES:
            raise
        raise Conflict(name) from error


def _raise_for_status(answer: Answer, method: str, url: str) -> None:
    if answer.status >= HTTPStatus.BAD_REQUEST:
        code = answer.headers.get("x-ms-error-code", "")
        message = f"Storage answered {f'{answer.status} {code}'.strip()} to {_shown(method, url)}"
        for beginning, (reason, explanation) in _HELD.items():
            if answer.status in {CHANGED, EXISTS} and code.startswith(beginning):
                raise BlobHeld(reason, f"{message}: {explanation}.", status=answer.status, code=code)
        raise StorageError(f"{message}.", status=answer.status, code=code)


def _is_missing(error: StorageError) -> bool:
    """Whether storage says that there is no such blob in a container that exists.

    No context manager: one that swallows an exception keeps the frames of its callers, with the pictures they hold,
    until the next garbage collection.
    """
    # The response to a HEAD has no body, and some proxies drop the header with the code.
    return error.status == HTTPStatus.NOT_FOUND and error.code in {"BlobNotFound", ""}


@contextmanager
def _as_storage_errors(method: str, url: str) -> Iterator[None]:
    """Raise what the connection or the identity raises as :class:`~shared.errors.StorageError`."""
    try:
        yield
    except (HTTPError, http.client.HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        message = f"{type(reason).__name__}: {reason}"
        raise StorageError(f"Storage did not answer {_shown(method, url)}: {message}") from error
    except IdentityError as error:
        raise StorageError(str(error)) from error


def _shown(method: str, url: str) -> str:
    """The request without its query, which may hold a signature."""
    return f"{method} {url.partition('?')[0].split('/', 3)[-1]}"
