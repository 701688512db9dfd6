"""Listings of Blob Storage, page by page, with each blob's ETag and metadata."""

import xml.etree.ElementTree as ET
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from typing import NamedTuple
from urllib.parse import quote, unquote, urlencode

from shared.rest import Rest

# As many as storage gives at once.
_PAGE = 5000
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
    """Lists containers. Raises :class:`~shared.errors.StorageError` where storage fails."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

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
            root = ET.fromstring(self._list(container, {"delimiter": "/", "marker": marker}))  # noqa: S314 - storage's own
            folders += [_name(found).rstrip("/") for found in root.iterfind("Blobs/BlobPrefix")]
            marker = root.findtext("NextMarker") or ""
            if not marker:
                return folders

    def _list(self, container: str, options: Mapping[str, str]) -> bytes:
        query = {"restype": "container", "comp": "list", **{k: v for k, v in options.items() if v}}
        return self._rest.send("GET", self._rest.container_url(container), urlencode(query, quote_via=quote)).data

    def _page(self, container: str, prefix: str, marker: str) -> Page:
        options = {"prefix": prefix, "marker": marker, "include": "metadata", "maxresults": str(_PAGE)}
        content = self._list(container, options)
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


def _name(blob: ET.Element) -> str:
    """The name of a blob or folder. Storage percent-encodes one that XML cannot hold, and says so."""
    name = blob.find("Name")
    if name is None or name.text is None:
        return ""
    return unquote(name.text) if name.get("Encoded") == "true" else name.text
