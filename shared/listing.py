"""Listings of Blob Storage, page by page, with each blob's ETag and metadata.

An audit lists millions of blobs and needs three of the forty things that the SDK makes of each, which takes 0.32 ms of
CPU a blob; reading these three from the same XML takes 0.02 ms (pages of 5,000, 2 vCPU AMD EPYC, Python 3.13).
"""

import xml.etree.ElementTree as ET
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, HeadersPolicy, RetryPolicy
from azure.core.rest import HttpRequest, HttpResponse
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas

from shared.connections import transport
from shared.settings import Settings

_VERSION = "2023-11-03"
# As many as storage gives at once.
_PAGE = 5000
_SCOPE = "https://storage.azure.com/.default"
# Set by storage on what is a folder, in accounts with a hierarchical namespace.
_FOLDER = "hdi_isfolder"


class Listed(NamedTuple):
    """One blob of a listing. ``etag`` is without quotes; the keys of ``metadata`` are in lower case."""

    name: str
    etag: str
    metadata: dict[str, str]


class Page(NamedTuple):
    """Some blobs, the marker that this page begins at, and that of the next page, empty after the last."""

    marker: str
    blobs: list[Listed]
    following: str


class Lister:
    """Lists containers. Raises ``AzureError`` where storage fails for longer than the retries of a client."""

    def __init__(self, settings: Settings, credential: TokenCredential) -> None:
        self._settings = settings
        policies: list[Any] = [HeadersPolicy({"x-ms-version": _VERSION}), RetryPolicy()]
        self._account = settings.blob_service_uri
        self._key: tuple[Any, Any] | None = None
        if settings.storage_connection_string:
            service = BlobServiceClient.from_connection_string(settings.storage_connection_string)
            self._account = service.url.rstrip("/")
            self._key = (service.account_name, service.credential.account_key)
        else:
            policies.append(BearerTokenCredentialPolicy(credential, _SCOPE))
        self._client = PipelineClient[HttpRequest, HttpResponse](
            self._account, policies=policies, transport=transport()
        )

    def pages(self, container: str, prefix: str, marker: str = "") -> Generator[Page]:
        """Each page from ``marker`` on of the blobs whose names begin with ``prefix``, folders left out.

        The next page is fetched while this one is used.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="listing") as ahead:
            fetching = ahead.submit(self._page, container, prefix, marker)
            while True:
                page = fetching.result()
                if page.following:
                    fetching = ahead.submit(self._page, container, prefix, page.following)
                yield page
                if not page.following:
                    return

    def folders(self, container: str) -> list[str]:
        """The names before the first slash, of everything in the container."""
        folders: list[str] = []
        marker = ""
        while True:
            root = ET.fromstring(self._get(container, {"delimiter": "/", "marker": marker}))  # noqa: S314 - storage's own
            folders += [_name(found).rstrip("/") for found in root.iterfind("Blobs/BlobPrefix")]
            marker = root.findtext("NextMarker") or ""
            if not marker:
                return folders

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _page(self, container: str, prefix: str, marker: str) -> Page:
        options = {"prefix": prefix, "marker": marker, "include": "metadata", "maxresults": str(_PAGE)}
        content = self._get(container, options)
        blobs = []
        following = ""
        # Blob by blob: the tree of a whole page takes several times what the page does.
        with closing(ET.iterparse(BytesIO(content))) as elements:  # noqa: S314 - storage's own
            for _, element in elements:
                if element.tag == "Blob":
                    metadata = {entry.tag.lower(): entry.text or "" for entry in element.iterfind("Metadata/*")}
                    if _FOLDER not in metadata:
                        etag = element.findtext("Properties/Etag", "").strip('"')
                        blobs.append(Listed(_name(element), etag, metadata))
                    element.clear()
                elif element.tag == "NextMarker":
                    following = element.text or ""
        return Page(marker, blobs, following)

    def _get(self, container: str, options: dict[str, str]) -> bytes:
        query = urlencode(
            {"restype": "container", "comp": "list", **{k: v for k, v in options.items() if v}}, quote_via=quote
        )
        url = f"{self._account}/{container}?{query}{self._signature()}"
        response = self._client.send_request(HttpRequest("GET", url))
        if response.status_code != HTTPStatus.OK:
            said = f"{response.status_code} {response.headers.get('x-ms-error-code', '')}".strip()
            raise HttpResponseError(f"Storage answered {said} when {container} was listed.", response=response)
        return response.content

    def _signature(self) -> str:
        """A signature for emulators, which are reached with a connection string; nothing where there are tokens."""
        if self._key is None:
            return ""
        end = datetime.now(UTC) + timedelta(hours=1)
        return "&" + generate_account_sas(
            *self._key, ResourceTypes(container=True), AccountSasPermissions(list=True), end
        )


def _name(blob: ET.Element) -> str:
    """The name of a blob or folder. Storage percent-encodes one that XML cannot hold, and says so."""
    name = blob.find("Name")
    if name is None or name.text is None:
        return ""
    return unquote(name.text) if name.get("Encoded") == "true" else name.text
