"""Storage in memory, of which a test decides who has the next turn, and who dies before it."""

import itertools
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec

from shared.errors import StorageError
from shared.storage.blobs import JsonBlobs, Properties
from shared.storage.listing import Listed, Page
from shared.storage.rest import FULL, Effort

_NOTHING: Mapping[str, str] = MappingProxyType({})
_WRITTEN_AT = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass
class _Blob:
    content: bytes
    etag: str
    metadata: dict[str, str] = field(default_factory=dict)
    is_log: bool = False


class MemoryBlobs(JsonBlobs):
    """Answers as storage does. ``before`` is called before each request, with its verb and path.

    ``is_lost`` says whether the answer to a write is lost, so that it is sent once more.
    """

    def __init__(self) -> None:
        self.stored: dict[str, _Blob] = {}
        self.before: Callable[[str, str], object] = lambda verb, path: None
        self.is_lost: Callable[[], bool] = lambda: False
        self._numbers = itertools.count(1)

    def read[Shape](self, path: str, shape: type[Shape], *, effort: Effort = FULL) -> Shape | None:
        found = self.read_with_properties(path, shape)
        return None if found is None else found[0]

    def read_version[Shape](self, path: str, shape: type[Shape], *, effort: Effort = FULL) -> tuple[Shape, str] | None:
        found = self.read_with_properties(path, shape)
        return None if found is None else (found[0], found[1].etag)

    def read_with_properties[Shape](self, path: str, shape: type[Shape]) -> tuple[Shape, Properties] | None:
        blob = self._get("GET", path)
        return None if blob is None else (msgspec.json.decode(blob.content, type=shape), _properties(blob))

    def read_bytes(self, path: str, *, effort: Effort = FULL) -> bytes | None:
        blob = self._get("GET", path)
        return None if blob is None else blob.content

    def read_newer(self, path: str, known: str, *, effort: Effort = FULL) -> tuple[bytes | None, str] | None:
        blob = self._get("GET", path)
        return None if blob is None else (None if blob.etag == known else blob.content, blob.etag)

    def read_range(self, path: str, start: int, size: int, *, effort: Effort = FULL) -> bytes | None:
        blob = self._get("GET", path)
        return None if blob is None else blob.content[start : start + size]

    def properties(self, path: str) -> Properties | None:
        blob = self._get("HEAD", path)
        return None if blob is None else _properties(blob)

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
        content = value if isinstance(value, bytes) else msgspec.json.encode(value)

        def put() -> str:
            self._check(path, self._get("PUT", path), condition)
            self.stored[path] = _Blob(content, self._etag(), dict(metadata))
            return self.stored[path].etag

        return self._send(put)

    def write_parts(self, path: str, parts: Iterable[bytes]) -> None:
        self.write(path, b"".join(parts))

    def create_log(self, path: str) -> None:
        if self._get("PUT", path) is None:
            self.stored[path] = _Blob(b"", self._etag(), is_log=True)

    def append(self, path: str, content: bytes) -> int:
        def append() -> int:
            blob = self._get("PUT", path)
            if blob is None:
                raise _missing(path)
            assert blob.is_log
            blob.content, blob.etag = blob.content + content, self._etag()
            return len(blob.content)

        return self._send(append)

    def set_metadata(self, path: str, metadata: Mapping[str, str], *, condition: Mapping[str, str]) -> None:
        def put() -> None:
            blob = self._get("PUT", path)
            if blob is None:
                raise _missing(path)
            self._check(path, blob, condition)
            blob.metadata, blob.etag = dict(metadata), self._etag()

        self._send(put)

    def delete(self, path: str, *, condition: Mapping[str, str]) -> None:
        def delete() -> None:
            blob = self._get("DELETE", path)
            if blob is None:
                raise _missing(path)
            self._check(path, blob, condition)
            del self.stored[path]

        self._send(delete)

    def delete_if_present(self, path: str) -> None:
        self._get("DELETE", path)
        self.stored.pop(path, None)

    def pages(self, folder: str, prefix: str, marker: str, endings: str | tuple[str, ...] = ".json") -> Generator[Page]:
        self.before("LIST", folder + prefix)
        names = sorted(name for name in self.stored if name.startswith(folder + prefix) and name.endswith(endings))
        yield Page(
            "",
            [
                Listed(
                    name[len(folder) :],
                    self.stored[name].etag,
                    self.stored[name].metadata,
                    "Sun, 22 Nov 2026 00:00:00 GMT",
                )
                for name in names
            ],
            "",
        )

    def _send[Answer](self, request: Callable[[], Answer]) -> Answer:
        answer = request()
        return request() if self.is_lost() else answer

    def _get(self, verb: str, path: str) -> _Blob | None:
        self.before(verb, path)
        return self.stored.get(path)

    def _check(self, path: str, blob: _Blob | None, condition: Mapping[str, str]) -> None:
        if "if-none-match" in condition and blob is not None:
            raise StorageError(path, status=409, code="BlobAlreadyExists")
        if "if-match" in condition and (blob is None or condition["if-match"] != f'"{blob.etag}"'):
            raise StorageError(path, status=412, code="ConditionNotMet")

    def _etag(self) -> str:
        return f"0x{next(self._numbers):X}"


def _properties(blob: _Blob) -> Properties:
    return Properties(blob.etag, blob.metadata, len(blob.content), _WRITTEN_AT)


def _missing(path: str) -> StorageError:
    return StorageError(path, status=404, code="BlobNotFound")
