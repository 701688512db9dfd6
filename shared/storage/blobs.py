"""JSON blobs in a container, by path: read, written under conditions, listed; and large or growing ones, in parts."""

import base64
from collections.abc import Generator, Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from shared.errors import StorageError, UnreadableBlob
from shared.storage.listing import Lister, Page
from shared.storage.rest import (
    CHANGED,
    EXISTS,
    FULL,
    METADATA,
    ONCE,
    Effort,
    Rest,
    ignoring,
    metadata_of,
    quoted,
    read_etag,
)

IF_MISSING = MappingProxyType({"if-none-match": "*"})
_BLOCK_BLOB = MappingProxyType({"x-ms-blob-type": "BlockBlob", "content-type": "application/json"})
_APPEND_BLOB = MappingProxyType({"x-ms-blob-type": "AppendBlob", "content-type": "application/octet-stream"})
_NOTHING: Mapping[str, str] = MappingProxyType({})
# What is sent at once of a large blob.
_BLOCK = 8 * 2**20
# Where a range begins behind the last byte, Azure answers so. Azurite sends nothing, with 206.
_BEHIND_THE_END = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def if_match(etag: str) -> Mapping[str, str]:
    """The condition that a blob is still this version."""
    return {"if-match": quoted(etag)}


class Properties(NamedTuple):
    """A blob's ETag without quotes, its metadata with keys in lower case, its size in bytes, when it was written."""

    etag: str
    metadata: dict[str, str]
    size: int
    last_modified: datetime


class JsonBlobs:
    """The JSON blobs of one container. Safe to call from many threads.

    Raises :class:`~shared.errors.StorageError` where storage fails or a condition does not hold, and
    :class:`~shared.errors.UnreadableBlob` for a blob that is not of the shape asked for.
    """

    def __init__(self, container: str, rest: Rest) -> None:
        self._container = container
        self._rest = rest
        self._lister = Lister(rest)

    def check(self, path: str) -> None:
        """Ask whether a blob could be written at ``path``, without retries, and write none."""
        # No blob has this ETag. Storage checks the caller's rights first and the condition after that.
        headers = {**_BLOCK_BLOB, **if_match("0x0")}
        with ignoring(CHANGED):
            self._rest.send("PUT", self._url(path), headers=headers, content=b"", effort=ONCE)

    def read[Shape](self, path: str, shape: type[Shape], *, effort: Effort = FULL) -> Shape | None:
        """The blob as ``shape``, or ``None`` if there is none."""
        content = self.read_bytes(path, effort=effort)
        return None if content is None else _decoded(content, shape, path)

    def read_version[Shape](self, path: str, shape: type[Shape], *, effort: Effort = FULL) -> tuple[Shape, str] | None:
        """The same, with the blob's ETag."""
        answer = self._rest.find("GET", self._url(path), effort=effort)
        return None if answer is None else (_decoded(answer.data, shape, path), read_etag(answer.headers))

    def read_bytes(self, path: str, *, effort: Effort = FULL) -> bytes | None:
        """The blob's bytes, or ``None`` if there is none."""
        return self._rest.read(self._url(path), effort=effort)

    def read_with_properties[Shape](self, path: str, shape: type[Shape]) -> tuple[Shape, Properties] | None:
        """The blob as ``shape`` with its properties, or ``None`` if there is none."""
        answer = self._rest.find("GET", self._url(path))
        return None if answer is None else (_decoded(answer.data, shape, path), _properties(answer.headers))

    def read_newer(self, path: str, known: str, *, effort: Effort = FULL) -> tuple[bytes | None, str] | None:
        """The blob's bytes and its ETag, or ``None`` if there is none. No bytes if its ETag is still ``known``."""
        headers = {"if-none-match": quoted(known)} if known else {}
        answer = self._rest.find("GET", self._url(path), headers=headers, effort=effort)
        if answer is None:
            return None
        return (None, known) if answer.status == HTTPStatus.NOT_MODIFIED else (answer.data, read_etag(answer.headers))

    def read_range(self, path: str, start: int, size: int, *, effort: Effort = FULL) -> bytes | None:
        """At most ``size`` bytes of the blob from ``start`` on, none behind its end; ``None`` if there is no blob."""
        headers = {"x-ms-range": f"bytes={start}-{start + size - 1}"}
        try:
            answer = self._rest.find("GET", self._url(path), headers=headers, effort=effort)
        except StorageError as error:
            if error.status == _BEHIND_THE_END:
                return b""
            raise
        return None if answer is None else answer.data

    def properties(self, path: str) -> Properties | None:
        """The blob's properties, or ``None`` if there is none. Reads no content."""
        answer = self._rest.find("HEAD", self._url(path))
        return None if answer is None else _properties(answer.headers)

    def write(
        self,
        path: str,
        value: msgspec.Struct | bytes,
        *,
        metadata: Mapping[str, str] = _NOTHING,
        condition: Mapping[str, str] = _NOTHING,
        indented: bool = False,
        effort: Effort = FULL,
    ) -> str:
        """Write a blob if the condition holds; returns its ETag. A struct becomes JSON, bytes stay as they are."""
        headers = {**_BLOCK_BLOB, **condition, **_metadata_headers(metadata)}
        if isinstance(value, bytes):
            content, headers["content-type"] = value, "application/octet-stream"
        else:
            content = msgspec.json.encode(value)
        if indented:
            content = msgspec.json.format(content)
        answer = self._rest.send("PUT", self._url(path), headers=headers, content=content, effort=effort)
        return read_etag(answer.headers)

    def write_parts(self, path: str, parts: Iterable[bytes]) -> None:
        """Write a blob of any size, of which only a few MiB are held at once."""
        blocks: list[str] = []
        for content in _joined(parts):
            if not blocks and len(content) < _BLOCK:
                self.write(path, content)
                return
            blocks.append(base64.b64encode(b"%08d" % len(blocks)).decode())
            self._rest.send("PUT", self._url(path), f"comp=block&blockid={quote(blocks[-1])}", content=content)
        listed = "".join(f"<Latest>{block}</Latest>" for block in blocks)
        content = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        headers = {"x-ms-blob-content-type": "application/octet-stream", "content-type": "application/xml"}
        self._rest.send("PUT", self._url(path), "comp=blocklist", headers=headers, content=content)

    def create_log(self, path: str) -> None:
        """Create an empty blob that only grows, if there is no blob at ``path``."""
        with ignoring(EXISTS, CHANGED):
            self._rest.send("PUT", self._url(path), headers={**_APPEND_BLOB, **IF_MISSING}, content=b"")

    def append(self, path: str, content: bytes) -> int:
        """Append to a blob that only grows; returns its size afterwards, as far as this writer knows."""
        answer = self._rest.send("PUT", self._url(path), "comp=appendblock", content=content)
        return int(answer.headers["x-ms-blob-append-offset"]) + len(content)

    def set_metadata(self, path: str, metadata: Mapping[str, str], *, condition: Mapping[str, str]) -> None:
        """Replace the blob's metadata if the condition holds."""
        headers = {**condition, **_metadata_headers(metadata)}
        self._rest.send("PUT", self._url(path), "comp=metadata", headers=headers)

    def delete(self, path: str, *, condition: Mapping[str, str]) -> None:
        """Delete the blob if the condition holds."""
        self._rest.send("DELETE", self._url(path), headers=condition)

    def delete_if_present(self, path: str) -> None:
        """Delete the blob, whatever its version, if there is one."""
        self._rest.find("DELETE", self._url(path))

    def pages(self, folder: str, prefix: str, marker: str, endings: str | tuple[str, ...] = ".json") -> Generator[Page]:
        """Each page of the blobs in ``folder`` whose names there start with ``prefix``, by those names.

        Only names with one of the ``endings`` count, so what somebody else has put there does not.
        """
        for page in self._lister.pages(self._container, folder + prefix, marker):
            blobs = [blob._replace(name=blob.name[len(folder) :]) for blob in page.blobs if blob.name.endswith(endings)]
            yield page._replace(blobs=blobs)

    def folders(self) -> list[str]:
        """The top-level folders: in the embeddings container, the spaces that hold anything."""
        return self._lister.folders(self._container)

    def _url(self, path: str) -> str:
        return self._rest.blob_url(self._container, path)


def _decoded[Shape](content: bytes, shape: type[Shape], path: str) -> Shape:
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableBlob(path, error) from error


def _joined(parts: Iterable[bytes]) -> Generator[bytes]:
    """The same bytes in blocks, all but the last of the full size. None is empty, unless it is the only one."""
    block, count = bytearray(), 0
    for part in parts:
        for start in range(0, len(part), _BLOCK):
            block += part[start : start + _BLOCK]
            if len(block) >= _BLOCK:
                yield bytes(block[:_BLOCK])
                del block[:_BLOCK]
                count += 1
    if block or not count:
        yield bytes(block)


def _properties(headers: Mapping[str, str]) -> Properties:
    last_modified = parsedate_to_datetime(headers["last-modified"])
    return Properties(read_etag(headers), metadata_of(headers), int(headers["content-length"]), last_modified)


def _metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"{METADATA}{key}": value for key, value in metadata.items()}
