"""JSON blobs in a container, by path: read, written under conditions, listed."""

from collections.abc import Generator, Mapping
from types import MappingProxyType

import msgspec

from shared.errors import UnreadableBlob
from shared.storage.listing import Lister, Page
from shared.storage.rest import (
    CHANGED,
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
_NOTHING: Mapping[str, str] = MappingProxyType({})


def if_match(etag: str) -> Mapping[str, str]:
    """The condition that a blob is still this version."""
    return {"if-match": quoted(etag)}


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

    def version(self, path: str) -> tuple[str, dict[str, str]] | None:
        """The blob's ETag and metadata, or ``None`` if there is none. Reads no content."""
        answer = self._rest.find("HEAD", self._url(path))
        return None if answer is None else (read_etag(answer.headers), metadata_of(answer.headers))

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


def _metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"{METADATA}{key}": value for key, value in metadata.items()}
