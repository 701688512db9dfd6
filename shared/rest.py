"""Azure Storage by its REST API: one pool of connections for blobs and queues, the app's identity, retries.

An image takes seven small requests. Through the SDK each takes 1.2 to 1.6 ms of CPU, most of it under the interpreter's
lock, which lets no more than 600 of them a second through, however many threads there are; here it is 0.2 to 0.4 ms and
4,000 a second (2 vCPU Intel Xeon, Python 3.13). The SDK has what is large: its downloads come in parts that are tried
again one by one.
"""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http import HTTPStatus
from ssl import SSLContext
from types import MappingProxyType
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

from shared.errors import IdentityError, StorageError
from shared.identity import Identity
from shared.settings import Settings

type Answer = urllib3.BaseHTTPResponse

# What this asks of storage as the service has it; later versions are not needed.
_VERSION = "2023-11-03"
STORAGE_SCOPE = "https://storage.azure.com/.default"
# One for each thread of the worker (80 at the most, infra/modules/app.bicep), and for those of an audit.
_CONNECTIONS = 96
# Five tries within about 15 s; the first comes back at once, as a connection that was idle may have been closed.
_PASSING = {408, 429, 500, 502, 503, 504}
_RETRIES = urllib3.Retry(
    total=4,
    redirect=False,
    allowed_methods=None,
    status_forcelist=_PASSING,
    backoff_factor=1,
    backoff_max=8,
    backoff_jitter=0.5,
    retry_after_max=30,
    raise_on_status=False,
)
_TIMEOUT = urllib3.Timeout(connect=10, read=60)
# For a question to which "not now" is an answer: one try, and not for long.
_ONCE = urllib3.Retry(0, redirect=False, raise_on_status=False)
_SHORT_TIMEOUT = urllib3.Timeout(connect=5, read=10)
# More than that is fetched in parts.
LARGE = 16 * 2**20


class Rest:
    """Sends requests to the account of images and embeddings. Safe to call from many threads.

    Raises :class:`~shared.errors.StorageError` where storage refuses, or fails for longer than the retries.
    """

    def __init__(self, settings: Settings, identity: Identity, tls: SSLContext) -> None:
        self._account = settings.blob_service_uri
        self._connection_string = settings.storage_connection_string
        self._identity = identity
        self._pool = urllib3.PoolManager(num_pools=4, maxsize=_CONNECTIONS, ssl_context=tls)

    def blob_url(self, container: str, name: str) -> str:
        """The URL of a blob, which may not exist."""
        return f"{self._account}/{container}/{quote(name)}"

    def container_url(self, container: str) -> str:
        """The URL of a container, which may not exist."""
        return f"{self._account}/{container}"

    def send(
        self,
        method: str,
        url: str,
        query: str = "",
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        content: bytes | None = None,
        once: bool = False,
    ) -> Answer:
        """Send a request; returns the answer if it is a good one. ``once``: one try, and not for long."""
        with _explained(method, url):
            answer = self._ask(method, url, query, headers=headers, content=content, once=once)
            _refuse(answer, method, url)
            return answer

    def find(self, method: str, url: str) -> Answer | None:
        """The same for a blob; returns ``None`` where its container, but not the blob, is there."""
        try:
            return self.send(method, url)
        except StorageError as error:
            # The answer to a HEAD has no body, and not everything between here and storage keeps its headers.
            if error.status == HTTPStatus.NOT_FOUND and error.code in {"BlobNotFound", ""}:
                return None
            raise

    def read(self, url: str) -> bytes | None:
        """The bytes of a blob as they are stored, or ``None`` where there is none."""
        answer = self.find("GET", url)
        return None if answer is None else answer.data

    def open(self, url: str, most: int) -> tuple[Mapping[str, str], bytes | None] | None:
        """The headers of a blob, and its bytes if they are ``most`` or fewer; ``None`` where there is none.

        The bytes are missing too where the connection breaks off while they come: this does not ask for them again.
        """
        with _explained("GET", url):
            answer = self._ask("GET", url, preload=False)
            if answer.status == HTTPStatus.NOT_FOUND and answer.headers.get("x-ms-error-code") == "BlobNotFound":
                answer.drain_conn()
                return None
            try:
                if answer.status == HTTPStatus.OK and int(answer.headers["content-length"]) > most:
                    return answer.headers, None
                content = answer.read()
                answer.release_conn()
                _refuse(answer, "GET", url)
            except HTTPError:
                return answer.headers, None
            finally:
                # Nothing happens to a connection that has gone back to the pool.
                answer.close()
        return answer.headers, content

    def read_large(self, url: str, etag: str) -> bytes:
        """The bytes of this very version of a blob, in parts, two at a time, each of which is tried again by itself."""
        from azure.core import MatchConditions
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.storage.blob import BlobClient

        try:
            with BlobClient.from_blob_url(url, credential=self._signature() or self._identity.credential) as blob:
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

    def _ask(
        self,
        method: str,
        url: str,
        query: str = "",
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        content: bytes | None = None,
        once: bool = False,
        preload: bool = True,
    ) -> Answer:
        query = "&".join(filter(None, (query, self._signature())))
        # A token can be revoked before it ends: one fresh token tells.
        for fresh in (False, True):
            answer = self._pool.request(
                method,
                f"{url}?{query}" if query else url,
                headers={**self._headers(fresh), **headers},
                body=content,
                retries=_ONCE if once else _RETRIES,
                timeout=_SHORT_TIMEOUT if once else _TIMEOUT,
                redirect=False,
                preload_content=preload,
                # Blobs are taken as they are stored: what calls itself compressed may be of any size when it is not.
                decode_content=False,
            )
            if answer.status != HTTPStatus.UNAUTHORIZED or self._connection_string:
                break
            answer.drain_conn()
        return answer

    def _headers(self, fresh: bool) -> dict[str, str]:
        headers = {"x-ms-version": _VERSION, "x-ms-date": formatdate(usegmt=True)}
        if not self._connection_string:
            headers["authorization"] = f"Bearer {self._identity.token(STORAGE_SCOPE, fresh=fresh)}"
        return headers

    def _signature(self) -> str:
        """A signature for emulators, which are reached with a connection string; nothing where there are tokens."""
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
            # The connection string holds a signature instead of a key.
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
    """An ETag as HTTP has it."""
    return f'"{etag}"'


def _refuse(answer: Answer, method: str, url: str) -> None:
    if answer.status >= HTTPStatus.BAD_REQUEST:
        code = answer.headers.get("x-ms-error-code", "")
        said = f"{answer.status} {code}".strip()
        raise StorageError(f"Storage answered {said} to {_shown(method, url)}.", status=answer.status, code=code)


@contextmanager
def _explained(method: str, url: str) -> Iterator[None]:
    """What a connection or the identity fails with, as an error of storage."""
    try:
        yield
    except (HTTPError, http.client.HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        said = f"{type(reason).__name__}: {reason}"
        raise StorageError(f"Storage gave no answer to {_shown(method, url)}: {said}") from error
    except IdentityError as error:
        raise StorageError(str(error)) from error


def _shown(method: str, url: str) -> str:
    """Never the query: it may hold a signature."""
    return f"{method} {url.partition('?')[0].split('/', 3)[-1]}"
