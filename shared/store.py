"""Where images and records live in Blob Storage, and how records are written: conditionally, never blindly."""

import contextlib
import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import msgspec
from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobServiceClient, ContentSettings

from shared.connections import ONCE, options
from shared.errors import Conflict, PictureError
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
from shared.rest import Rest
from shared.settings import Settings

# A blob name may be this long (Azure Storage's naming rules), counted in UTF-16 code units as .NET does.
_LONGEST_NAME = 1024
_TAIL = len("~.json") + 64
ReportKind = Literal["latest", "running"]
_JSON = ContentSettings(content_type="application/json")


@dataclass(frozen=True)
class Image:
    """An image as it is now: no bytes, only what storage says of it. ``etag`` is without quotes."""

    name: str
    url: str
    etag: str
    size: int
    metadata: dict[str, str]

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
    """The images container and others, read; the embeddings container, read and written. One client for the process.

    Transient faults of storage are retried by the SDK; what remains is raised as ``AzureError``.
    """

    def __init__(self, settings: Settings, credential: TokenCredential) -> None:
        self._images = settings.images_container
        self._embeddings = settings.embeddings_container
        self._space = space_of(settings)
        self._service = _service(settings, credential)
        self._longest_key = longest_key(self._space)
        self._rest = Rest(settings, credential)
        self._lister = Lister(self._rest)

    def check_images(self) -> None:
        """List one image, once; raises ``AzureError`` as storage says."""
        next(self._service.get_container_client(self._images).list_blobs(results_per_page=1, **ONCE), None)

    def check_embeddings(self) -> None:
        """Ask whether a record could be written, once, and write none; raises ``AzureError`` as storage says."""
        blob = self._service.get_blob_client(self._embeddings, f"{self._space}/check")
        # No blob has this ETag. Storage looks at the caller's rights first and at the condition after that.
        with contextlib.suppress(ResourceModifiedError):
            blob.upload_blob(
                b"", overwrite=True, etag=_quoted("0x0"), match_condition=MatchConditions.IfNotModified, **ONCE
            )

    def find_image(self, name: str) -> Image | None:
        """The image's properties, or ``None`` where there is no such image."""
        blob = self._service.get_blob_client(self._images, name)
        try:
            properties = blob.get_blob_properties()
        except ResourceNotFoundError:
            return None
        return Image(name, blob.url, _bare(properties.etag), properties.size, dict(properties.metadata or {}))

    def download(self, image: Image) -> bytes:
        """The bytes of this very version of the image; raises :class:`Conflict` when it is another by now."""
        blob = self._service.get_blob_client(self._images, image.name)
        try:
            return blob.download_blob(
                etag=_quoted(image.etag), match_condition=MatchConditions.IfNotModified, max_concurrency=2
            ).readall()
        except (ResourceModifiedError, ResourceNotFoundError) as error:
            raise Conflict(image.name) from error

    def read_blob(self, container: str, name: str, most_bytes: int) -> bytes:
        """The bytes of any blob of the account; where they are too many, none is read, and ``PictureError`` raised."""
        blob = self._service.get_blob_client(container, name)
        properties = blob.get_blob_properties()
        if properties.size > most_bytes:
            message = f"The blob has {properties.size:,} bytes; IMAGE_MAX_BYTES allows {most_bytes:,}."
            raise PictureError("too_many_bytes", message)
        # Not of a later version, which may have any size.
        return blob.download_blob(
            etag=properties.etag, match_condition=MatchConditions.IfNotModified, max_concurrency=2
        ).readall()

    def find_record(self, name: str) -> RecordState | None:
        """What the image's embedding record was made from, or ``None`` where it has none. Reads no vector."""
        try:
            properties = self._record(name).get_blob_properties()
        except ResourceNotFoundError:
            return None
        metadata = properties.metadata or {}
        return RecordState(properties.etag, metadata.get("etag", ""), metadata.get("preparation", ""))

    def write_record(self, record: EmbeddingRecord, replaces: RecordState | None) -> RecordState:
        """Write the record if it still replaces what was found; raises :class:`Conflict` if not."""
        metadata = {
            "etag": record.etag,
            "preparation": str(record.preparation),
            "sha256": record.sha256,
            "content": content_key(record.sha256, record.text, record.preparation),
            "tokens": str(record.total_tokens or 0),
        }
        condition: dict[str, Any] = (
            {"match_condition": MatchConditions.IfMissing}
            if replaces is None
            else {"match_condition": MatchConditions.IfNotModified, "etag": replaces.version}
        )
        try:
            written = self._record(record.name).upload_blob(
                msgspec.json.encode(record),
                overwrite=True,
                metadata=metadata,
                content_settings=_JSON,
                **condition,
            )
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError) as error:
            if getattr(error, "error_code", None) == "ContainerNotFound":
                raise
            raise Conflict(record.name) from error
        return RecordState(written["etag"], record.etag, metadata["preparation"])

    def remove_record(self, name: str, found: RecordState) -> None:
        """Remove the record that was found; raises :class:`Conflict` if it is another, or gone, by now."""
        try:
            self._record(name).delete_blob(etag=found.version, match_condition=MatchConditions.IfNotModified)
        except (ResourceModifiedError, ResourceNotFoundError) as error:
            raise Conflict(name) from error

    def find_failure(self, name: str) -> FailureRecord | None:
        """The image's failure record, or ``None``."""
        content = _read(self._failure(name))
        return None if content is None else msgspec.json.decode(content, type=FailureRecord)

    def write_failure(self, failure: FailureRecord, preparation: int) -> None:
        """Write the failure record over any other. ``preparation`` is that of the code which failed."""
        metadata = {
            "etag": failure.etag,
            "preparation": str(preparation),
            "code": failure.code,
            "attempts": str(failure.attempts),
        }
        self._failure(failure.name).upload_blob(
            msgspec.json.encode(failure), overwrite=True, metadata=metadata, content_settings=_JSON
        )

    def remove_failure(self, name: str) -> None:
        """Remove the failure record, if there is one."""
        with contextlib.suppress(ResourceNotFoundError):
            self._failure(name).delete_blob()

    def find_content(self, key: str) -> Content | None:
        """What is known of images with these bytes and this text (:func:`~shared.records.content_key`), or ``None``."""
        content = _read(self._content(key))
        return None if content is None else msgspec.json.decode(content, type=Content)

    def write_content(self, key: str, content: Content) -> None:
        """Keep what is known of these bytes and this text, unless it is kept already."""
        with contextlib.suppress(ResourceExistsError):
            self._content(key).upload_blob(msgspec.json.encode(content), overwrite=False, content_settings=_JSON)

    def mark_content(self, key: str, etag: str, unused_since: str | None) -> None:
        """Note since when no record has used a content, or that one does; not if it was changed since it was listed."""
        metadata = {} if unused_since is None else {"unused_since": unused_since}
        with contextlib.suppress(ResourceModifiedError, ResourceNotFoundError):
            self._content(key).set_blob_metadata(
                metadata, etag=_quoted(etag), match_condition=MatchConditions.IfNotModified
            )

    def remove_content(self, key: str, etag: str) -> None:
        """Remove a content, not if it was changed since it was listed."""
        with contextlib.suppress(ResourceModifiedError, ResourceNotFoundError):
            self._content(key).delete_blob(etag=_quoted(etag), match_condition=MatchConditions.IfNotModified)

    def write_dropped(self, message: DroppedMessage) -> None:
        """Keep a message that could not be read."""
        path = f"dropped/{hashlib.sha256(message.content.encode()).hexdigest()}.json"
        self._own(path).upload_blob(msgspec.json.encode(message), overwrite=True, content_settings=_JSON)

    def find_query(self, space: str, key: str) -> QueryRecord | None:
        """The kept answer to a query, or ``None``."""
        content = self._rest.read(self._embeddings, query_path(space, key))
        return None if content is None else msgspec.json.decode(content, type=QueryRecord)

    def write_query(self, space: str, record: QueryRecord) -> None:
        """Keep the answer to a query. The key holds all that decides it, so any writer's answer will do."""
        self._rest.write_json(self._embeddings, query_path(space, record.id), msgspec.json.encode(record))

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
            content = _read(self._own(f"{kind}/{key}"))
            if content is not None:
                return msgspec.json.decode(content, type=_Named).name
        return None

    def find_report(self, space: str, kind: ReportKind) -> AuditReport | None:
        """What the last audit of a space found, or the one that is running has found so far."""
        content = _read(self._service.get_blob_client(self._embeddings, f"{space}/reports/{kind}.json"))
        return None if content is None else msgspec.json.decode(content, type=AuditReport)

    def write_report(self, kind: ReportKind, report: AuditReport) -> None:
        """Write what an audit found over what another did."""
        self._own(f"reports/{kind}.json").upload_blob(
            msgspec.json.format(msgspec.json.encode(report)), overwrite=True, content_settings=_JSON
        )

    def remove_running_report(self) -> None:
        """Remove what the running audit has found so far: it runs no more."""
        with contextlib.suppress(ResourceNotFoundError):
            self._own("reports/running.json").delete_blob()

    def find_filter(self, audit: str) -> bytes | None:
        """What an audit of this id has noted for its next step, or ``None``."""
        return _read(self._own(f"reports/{audit}.filter"))

    def write_filter(self, audit: str, content: bytes) -> None:
        """Keep what an audit notes for its next step."""
        self._own(f"reports/{audit}.filter").upload_blob(content, overwrite=True)

    def remove_filter(self, audit: str) -> None:
        """Remove what an audit noted."""
        with contextlib.suppress(ResourceNotFoundError):
            self._own(f"reports/{audit}.filter").delete_blob()

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()
        self._service.close()

    def _list(self, folder: str, prefix: str, marker: str) -> Generator[Page]:
        folder = f"{self._space}/{folder}"
        for page in self._lister.pages(self._embeddings, folder + prefix, marker):
            blobs = [
                Listed(blob.name[len(folder) :], blob.etag, blob.metadata)
                for blob in page.blobs
                if blob.name.endswith(".json")
            ]
            yield page._replace(blobs=blobs)

    def _own(self, path: str) -> BlobClient:
        return self._service.get_blob_client(self._embeddings, f"{self._space}/{path}")

    def _content(self, key: str) -> BlobClient:
        return self._own(f"contents/{key[:2]}/{key}.json")

    def _record(self, name: str) -> BlobClient:
        return self._service.get_blob_client(self._embeddings, record_path(self._space, "images", name))

    def _failure(self, name: str) -> BlobClient:
        return self._service.get_blob_client(self._embeddings, record_path(self._space, "failures", name))


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


def _service(settings: Settings, credential: TokenCredential) -> BlobServiceClient:
    if settings.storage_connection_string:
        return BlobServiceClient.from_connection_string(settings.storage_connection_string, **options())
    return BlobServiceClient(settings.blob_service_uri, credential=credential, **options())


def _read(blob: BlobClient) -> bytes | None:
    try:
        return blob.download_blob().readall()
    except ResourceNotFoundError:
        return None


def _bare(etag: str) -> str:
    return etag.strip('"')


def _quoted(etag: str) -> str:
    return f'"{etag}"'
