"""Where images and records live in Blob Storage, and how records are written: conditionally, never blindly."""

import contextlib
import hashlib
import zlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal
from urllib.parse import unquote

import msgspec

from shared.errors import Conflict, PictureError, StorageError
from shared.listing import Listed, Lister, Page
from shared.records import (
    AuditReport,
    Content,
    DroppedMessage,
    EmbeddingRecord,
    FailureRecord,
    QueryRecord,
    content_key,
)
from shared.rest import LARGE, Rest, quoted
from shared.settings import Settings

# A blob name may be this long (Azure Storage's naming rules), counted in UTF-16 code units as .NET does.
_LONGEST_NAME = 1024
_TAIL = len("~.json") + 64
ReportKind = Literal["latest", "running"]
_JSON = {"x-ms-blob-type": "BlockBlob", "content-type": "application/json"}
_IF_MISSING = {"if-none-match": "*"}
_METADATA = "x-ms-meta-"
# No such blob, a condition that does not hold, a blob that should not be there and is.
_MISSING, _CHANGED, _EXISTS = 404, 412, 409


@dataclass
class Image:
    """An image as it is now: what storage says of it, and its bytes where they came along, until they are taken.

    ``etag`` is without quotes, ``size`` that of what is stored, and the keys of ``metadata`` are in lower case.
    """

    name: str
    url: str
    etag: str
    size: int
    metadata: dict[str, str]
    encoding: str = ""
    content: bytes | None = field(default=None, repr=False)

    def text(self, key: str) -> str | None:
        """The text that goes with the image: the metadata value under ``key``, percent-decoded."""
        value = next((v for k, v in self.metadata.items() if k.lower() == key.lower()), "")
        with contextlib.suppress(UnicodeError):
            # HTTP headers are read as Latin-1; what was sent as UTF-8 is UTF-8 again after this.
            value = value.encode("latin-1").decode("utf-8")
        return unquote(value).strip() or None


@dataclass(frozen=True)
class RecordState:
    """What a record's metadata says of the image it was made from. ``version`` is the record's own ETag."""

    version: str
    image_etag: str
    preparation: str


class _Named(msgspec.Struct):
    """What any record says of its image."""

    name: str


class Store:
    """The images container and others, read; the embeddings container, read and written. One for the process.

    Transient faults of storage are tried again; what remains is raised as :class:`~shared.errors.StorageError`.
    """

    def __init__(self, settings: Settings, rest: Rest) -> None:
        self._images = settings.images_container
        self._embeddings = settings.embeddings_container
        self._most_bytes = settings.image_max_bytes
        self._space = space_of(settings)
        self._longest_key = longest_key(self._space)
        self._rest = rest
        self._lister = Lister(rest)

    def check_images(self) -> None:
        """List one image, once; raises ``StorageError`` as storage says."""
        url = self._rest.container_url(self._images)
        self._rest.send("GET", url, "restype=container&comp=list&maxresults=1", once=True)

    def check_embeddings(self) -> None:
        """Ask whether a record could be written, once, and write none; raises ``StorageError`` as storage says."""
        # No blob has this ETag. Storage looks at the caller's rights first and at the condition after that.
        headers = {**_JSON, "if-match": quoted("0x0")}
        with _unless(_CHANGED):
            self._rest.send("PUT", self._own("check"), headers=headers, content=b"", once=True)

    def find_image(self, name: str, *, with_content: bool = False) -> Image | None:
        """The image as storage knows it, or ``None`` where there is no such image.

        ``with_content`` its bytes come with the same request, unless they are many: :meth:`download` has them then.
        """
        url = self._rest.blob_url(self._images, name)
        if with_content:
            opened = self._rest.open(url, min(LARGE, self._most_bytes))
            return None if opened is None else _image(name, url, *opened)
        answer = self._rest.find("HEAD", url)
        return None if answer is None else _image(name, url, answer.headers, None)

    def download(self, image: Image) -> bytes:
        """The bytes of this very version of the image; raises :class:`Conflict` when it is another by now.

        Raises ``PictureError`` where they are too many once a ``Content-Encoding`` is undone.
        """
        # They are not kept here: the image itself is known for as long as the model takes.
        content, image.content = image.content, None
        if content is None:
            with _conflict(image.name):
                content = self._read(image)
        return _plain(content, image.encoding, self._most_bytes)

    def read_blob(self, container: str, name: str) -> bytes:
        """The bytes of any blob of the account; where they are too many, none is read, and ``PictureError`` raised."""
        url = self._rest.blob_url(container, name)
        found = self._rest.send("HEAD", url)
        image = _image(name, url, found.headers, None)
        if image.size > self._most_bytes:
            message = f"The blob has {image.size:,} bytes; IMAGE_MAX_BYTES allows {self._most_bytes:,}."
            raise PictureError("too_many_bytes", message)
        # Not of a later version, which may have any size.
        return _plain(self._read(image), image.encoding, self._most_bytes)

    def find_record(self, name: str) -> RecordState | None:
        """What the image's embedding record was made from, or ``None`` where it has none. Reads no vector."""
        answer = self._rest.find("HEAD", self._record(name))
        if answer is None:
            return None
        metadata = _metadata(answer.headers)
        return RecordState(_etag(answer.headers), metadata.get("etag", ""), metadata.get("preparation", ""))

    def write_record(self, record: EmbeddingRecord, replaces: RecordState | None) -> RecordState:
        """Write the record if it still replaces what was found; raises :class:`Conflict` if not."""
        metadata = {
            "etag": record.etag,
            "preparation": str(record.preparation),
            "sha256": record.sha256,
            "content": content_key(record.sha256, record.text, record.preparation),
            "tokens": str(record.total_tokens or 0),
        }
        condition = _IF_MISSING if replaces is None else {"if-match": quoted(replaces.version)}
        with _conflict(record.name):
            version = self._write(self._record(record.name), record, metadata, condition)
        return RecordState(version, record.etag, metadata["preparation"])

    def remove_record(self, name: str, found: RecordState) -> None:
        """Remove the record that was found; raises :class:`Conflict` if it is another, or gone, by now."""
        with _conflict(name):
            self._rest.send("DELETE", self._record(name), headers={"if-match": quoted(found.version)})

    def find_failure(self, name: str) -> FailureRecord | None:
        """The image's failure record, or ``None``."""
        content = self._rest.read(self._failure(name))
        return None if content is None else msgspec.json.decode(content, type=FailureRecord)

    def write_failure(self, failure: FailureRecord, preparation: int) -> None:
        """Write the failure record over any other. ``preparation`` is that of the code which failed."""
        metadata = {
            "etag": failure.etag,
            "preparation": str(preparation),
            "code": failure.code,
            "attempts": str(failure.attempts),
        }
        self._write(self._failure(failure.name), failure, metadata)

    def remove_failure(self, name: str) -> None:
        """Remove the failure record, if there is one."""
        self._rest.find("DELETE", self._failure(name))

    def find_content(self, key: str) -> Content | None:
        """What is known of images with these bytes and this text (:func:`~shared.records.content_key`), or ``None``."""
        content = self._rest.read(self._content(key))
        return None if content is None else msgspec.json.decode(content, type=Content)

    def write_content(self, key: str, content: Content) -> None:
        """Keep what is known of these bytes and this text, unless it is kept already."""
        with _unless(_EXISTS, _CHANGED):
            self._write(self._content(key), content, condition=_IF_MISSING)

    def mark_content(self, key: str, etag: str, unused_since: str | None) -> None:
        """Note since when no record has used a content, or that one does; not if it was changed since it was listed."""
        metadata = {} if unused_since is None else {f"{_METADATA}unused_since": unused_since}
        headers = {"if-match": quoted(etag), **metadata}
        with _unless(_CHANGED, _MISSING):
            self._rest.send("PUT", self._content(key), "comp=metadata", headers=headers)

    def remove_content(self, key: str, etag: str) -> None:
        """Remove a content, not if it was changed since it was listed."""
        with _unless(_CHANGED, _MISSING):
            self._rest.send("DELETE", self._content(key), headers={"if-match": quoted(etag)})

    def write_dropped(self, message: DroppedMessage) -> None:
        """Keep a message that could not be read."""
        self._write(self._own(f"dropped/{hashlib.sha256(message.content.encode()).hexdigest()}.json"), message)

    def find_query(self, space: str, key: str) -> QueryRecord | None:
        """The kept answer to a query, or ``None``."""
        content = self._rest.read(self._rest.blob_url(self._embeddings, query_path(space, key)))
        return None if content is None else msgspec.json.decode(content, type=QueryRecord)

    def write_query(self, space: str, record: QueryRecord) -> None:
        """Keep the answer to a query. The key holds all that decides it, so any writer's answer will do."""
        self._write(self._rest.blob_url(self._embeddings, query_path(space, record.id)), record)

    def list_images(self, prefix: str, marker: str) -> Generator[Page]:
        """Each page of the images whose names begin with ``prefix``."""
        return self._lister.pages(self._images, prefix, marker)

    def list_records(self, prefix: str, marker: str) -> Generator[Page]:
        """Each page of the embedding records of such images, by their keys (:func:`record_key`)."""
        return self._list("images/", prefix, marker)

    def list_failures(self, prefix: str, marker: str) -> Generator[Page]:
        """Each page of the failure records of such images, by their keys (:func:`record_key`)."""
        return self._list("failures/", prefix, marker)

    def list_contents(self, marker: str) -> Generator[Page]:
        """Each page of the contents, by their keys."""
        for page in self._list("contents/", "", marker):
            blobs = [blob._replace(name=blob.name[3:].removesuffix(".json")) for blob in page.blobs]
            yield page._replace(blobs=blobs)

    def spaces(self) -> list[str]:
        """The spaces that hold anything."""
        return self._lister.folders(self._embeddings)

    def name_of(self, key: str) -> str | None:
        """The name of the image that a record, of either kind, belongs to; ``None`` where there is none any more."""
        if _units(key) < self._longest_key:
            return key.removesuffix(".json")
        for kind in ("images", "failures"):
            content = self._rest.read(self._own(f"{kind}/{key}"))
            if content is not None:
                return msgspec.json.decode(content, type=_Named).name
        return None

    def find_report(self, space: str, kind: ReportKind) -> AuditReport | None:
        """What the last audit of a space found, or the one that is running has found so far."""
        content = self._rest.read(self._rest.blob_url(self._embeddings, f"{space}/reports/{kind}.json"))
        return None if content is None else msgspec.json.decode(content, type=AuditReport)

    def write_report(self, kind: ReportKind, report: AuditReport) -> None:
        """Write what an audit found over what another did."""
        content = msgspec.json.format(msgspec.json.encode(report))
        self._rest.send("PUT", self._own(f"reports/{kind}.json"), headers=_JSON, content=content)

    def remove_running_report(self) -> None:
        """Remove what the running audit has found so far: it runs no more."""
        self._rest.find("DELETE", self._own("reports/running.json"))

    def find_filter(self, audit: str) -> bytes | None:
        """What an audit of this id has noted for its next step, or ``None``."""
        return self._rest.read(self._own(f"reports/{audit}.filter"))

    def write_filter(self, audit: str, content: bytes) -> None:
        """Keep what an audit notes for its next step."""
        headers = {**_JSON, "content-type": "application/octet-stream"}
        self._rest.send("PUT", self._own(f"reports/{audit}.filter"), headers=headers, content=content)

    def remove_filter(self, audit: str) -> None:
        """Remove what an audit noted."""
        self._rest.find("DELETE", self._own(f"reports/{audit}.filter"))

    def _read(self, image: Image) -> bytes:
        if image.size > LARGE:
            return self._rest.read_large(image.url, image.etag)
        return self._rest.send("GET", image.url, headers={"if-match": quoted(image.etag)}).data

    def _write(
        self,
        url: str,
        record: msgspec.Struct,
        metadata: Mapping[str, str] = MappingProxyType({}),
        condition: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Write a record, under a condition if there is one; returns its ETag."""
        headers = {**_JSON, **condition, **{f"{_METADATA}{key}": value for key, value in metadata.items()}}
        return _etag(self._rest.send("PUT", url, headers=headers, content=msgspec.json.encode(record)).headers)

    def _list(self, folder: str, prefix: str, marker: str) -> Generator[Page]:
        folder = f"{self._space}/{folder}"
        for page in self._lister.pages(self._embeddings, folder + prefix, marker):
            blobs = [
                Listed(blob.name[len(folder) :], blob.etag, blob.metadata)
                for blob in page.blobs
                if blob.name.endswith(".json")
            ]
            yield page._replace(blobs=blobs)

    def _own(self, path: str) -> str:
        return self._rest.blob_url(self._embeddings, f"{self._space}/{path}")

    def _content(self, key: str) -> str:
        return self._own(f"contents/{key[:2]}/{key}.json")

    def _record(self, name: str) -> str:
        return self._rest.blob_url(self._embeddings, record_path(self._space, "images", name))

    def _failure(self, name: str) -> str:
        return self._rest.blob_url(self._embeddings, record_path(self._space, "failures", name))


def space(model: str, dimensions: int | None) -> str:
    """The folder for vectors that may be compared with each other: one for each model and length."""
    return model if dimensions is None else f"{model}-{dimensions}"


def space_of(settings: Settings) -> str:
    """The space that images are embedded into."""
    return space(settings.foundry_model, settings.embedding_dimensions)


def is_addressable(name: str) -> bool:
    """Whether a URL can name the image: a client or proxy on the way resolves ``a/../b`` to ``b``, another image."""
    # Nearly every name is told without being taken apart.
    return "." not in name or not {".", ".."} & set(name.split("/"))


def record_key(space: str, name: str) -> str:
    """What the blob names of an image's records end in, after ``<space>/images/`` and ``<space>/failures/``.

    That is the image's name and ``.json``, which could make a blob name longer than it may be. Such a key is cut, and
    a hash of the whole name follows the cut; it is then exactly as long as a key may be and no other key is, so the
    two never meet.
    """
    longest = longest_key(space)
    # Most names are told by their length alone: no character takes more than two units.
    if 2 * len(name) + len(".json") < longest or _units(name) + len(".json") < longest:
        return f"{name}.json"
    head = cut(name, longest)
    return f"{head}{'~' * (longest - _TAIL - _units(head))}~{hashlib.sha256(name.encode()).hexdigest()}.json"


def record_path(space: str, kind: Literal["images", "failures"], name: str) -> str:
    """The blob name of an image's embedding or failure record."""
    return f"{space}/{kind}/{record_key(space, name)}"


def longest_key(space: str) -> int:
    """How long the key of an image's records may be, in UTF-16 units, for the longer of the two folders."""
    return _LONGEST_NAME - _units(f"{space}/failures/")


def cut(name: str, longest: int) -> str:
    """The beginning of a name that its key begins with as well, however long it is."""
    return name.encode("utf-16-le")[: 2 * (longest - _TAIL)].decode("utf-16-le", "ignore")


def query_path(space: str, key: str) -> str:
    """The blob name of a query's record, spread over 256 folders."""
    return f"{space}/queries/{key[:2]}/{key}.json"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@contextlib.contextmanager
def _unless(*statuses: int) -> Iterator[None]:
    """Do what the block says, and nothing where storage answers so."""
    try:
        yield
    except StorageError as error:
        if error.status not in statuses or error.code == "ContainerNotFound":
            raise


@contextlib.contextmanager
def _conflict(name: str) -> Iterator[None]:
    """Raise :class:`Conflict` where a condition of a request does not hold."""
    try:
        yield
    except StorageError as error:
        if error.status not in {_MISSING, _CHANGED, _EXISTS} or error.code == "ContainerNotFound":
            raise
        raise Conflict(name) from error


def _image(name: str, url: str, headers: Mapping[str, str], content: bytes | None) -> Image:
    encoding = headers.get("content-encoding", "")
    return Image(name, url, _etag(headers), int(headers["content-length"]), _metadata(headers), encoding, content)


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    start = len(_METADATA)
    return {key[start:].lower(): value for key, value in headers.items() if key.lower().startswith(_METADATA)}


def _etag(headers: Mapping[str, str]) -> str:
    return headers["etag"].strip('"')


def _plain(content: bytes, encoding: str, most_bytes: int) -> bytes:
    """What a browser would show of a blob with such a ``Content-Encoding``, at most so many bytes of it."""
    if encoding.lower() not in {"gzip", "deflate"}:
        return content
    try:
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # tells gzip from zlib by itself
        plain = inflate.decompress(content, most_bytes)
    except zlib.error as error:
        raise PictureError("damaged_image", f"The blob says that it is {encoding}, and is not.") from error
    if inflate.unconsumed_tail:
        message = f"The blob has more than IMAGE_MAX_BYTES ({most_bytes:,}) bytes once its {encoding} is undone."
        raise PictureError("too_many_bytes", message)
    return plain
