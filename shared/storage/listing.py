"""Listings of Blob Storage, page by page, with each blob's ETag and metadata."""

import xml.etree.ElementTree as ET
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from typing import NamedTuple
from urllib.parse import quote, unquote, urlencode

from shared.storage.rest import Rest

# The most blobs that storage returns at once.
_PAGE_SIZE = 5000
# The metadata of a blob that is a folder: storage sets it in accounts with a hierarchical namespace, and tools such as
# AzCopy, blobfuse and Storage Explorer in others.
FOLDER = "hdi_isfolder"
# What a prefix may be: listings are XML, which cannot hold the characters excluded here, encoded or not.
LISTABLE = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]*$"


class Listed(NamedTuple):
    """One blob of a listing. ``etag`` has no quotes; the keys of ``metadata`` are lower case.

    ``last_modified`` is as storage writes it ("Sun, 22 Nov 2026 12:00:00 GMT"): few readers need it parsed.
    """

    name: str
    etag: str
    metadata: dict[str, str]
    last_modified: str = ""


class Page(NamedTuple):
    """Some blobs, the marker of this page, and the marker of the next one, empty after the last."""

    marker: str
    blobs: list[Listed]
    next_marker: str


class Lister:
    """Lists containers. Raises :class:`~shared.errors.StorageError` where storage fails."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def pages(self, container: str, prefix: str, marker: str = "") -> Generator[Page]:
        """Each page, from ``marker`` on, of the blobs whose names start with ``prefix``, without folders.

        The next page is fetched while the caller uses this one.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="listing") as prefetcher:
            prefetched = prefetcher.submit(self._page, container, prefix, marker)
            while True:
                page = prefetched.result()
                if page.next_marker:
                    prefetched = prefetcher.submit(self._page, container, prefix, page.next_marker)
                yield page
                if not page.next_marker:
                    return

    def folders(self, container: str) -> list[str]:
        """The top-level folders of the container: every name up to its first slash."""
        folders: list[str] = []
        marker = ""
        while True:
            content = self._list(container, {"delimiter": "/", "marker": marker})
            root = ET.fromstring(content)  # noqa: S314 - XML from storage itself
            folders += [_name(found).rstrip("/") for found in root.iterfind("Blobs/BlobPrefix")]
            marker = root.findtext("NextMarker") or ""
            if not marker:
                return folders

    def _list(self, container: str, options: Mapping[str, str]) -> bytes:
        query = {"restype": "container", "comp": "list", **{k: v for k, v in options.items() if v}}
        return self._rest.send("GET", self._rest.container_url(container), urlencode(query, quote_via=quote)).data

    def _page(self, container: str, prefix: str, marker: str) -> Page:
        options = {"prefix": prefix, "marker": marker, "include": "metadata", "maxresults": str(_PAGE_SIZE)}
        content = self._list(container, options)
        blobs = []
        next_marker = ""
        # Blob by blob: the tree of a whole page takes several times the memory of its text.
        with closing(ET.iterparse(BytesIO(content))) as elements:  # noqa: S314 - XML from storage itself
            for _, element in elements:
                if element.tag == "Blob":
                    metadata = {entry.tag.lower(): entry.text or "" for entry in element.iterfind("Metadata/*")}
                    if FOLDER not in metadata:
                        etag = element.findtext("Properties/Etag", "").strip('"')
                        last_modified = element.findtext("Properties/Last-Modified", "")
                        blobs.append(Listed(_name(element), etag, metadata, last_modified))
                    element.clear()
                elif element.tag == "NextMarker":
                    next_marker = element.text or ""
        return Page(marker, blobs, next_marker)


def _name(blob: ET.Element) -> str:
    """The name of a blob or folder. Storage percent-encodes names that XML cannot hold, and marks them."""
    name = blob.find("Name")
    if name is None or name.text is None:
        return ""
    return unquote(name.text) if name.get("Encoded") == "true" else name.text
