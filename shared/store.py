"""Where images and records live in Blob Storage, and how records are written: conditionally, never blindly."""

import contextlib
import hashlib
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import msgspec
import requests
from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobClient, BlobServiceClient, ContentSettings

from shared.errors import Conflict
from shared.records import DroppedMessage, EmbeddingRecord, FailureRecord, QueryRecord
from shared.settings import Settings

# A blob name may be this long (Azure Storage's naming rules), counted in UTF-16 code units as .NET does.
_LONGEST_NAME = 1024
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


class Store:
    """The images container, read; the embeddings container, read and written. One client for the process.

    Transient faults of storage are retried by the SDK; what remains is raised as ``AzureError``.
    """

    def __init__(self, settings: Settings, credential: TokenCredential) -> None:
        self._images = settings.images_container
        self._embeddings = settings.embeddings_container
        self._space = space(settings.foundry_model, settings.embedding_dimensions)
        self._service = _service(settings, credential)

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
        metadata = {"etag": record.etag, "preparation": str(record.preparation), "sha256": record.sha256}
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

    def write_failure(self, failure: FailureRecord) -> None:
        """Write the failure record over any other."""
        self._failure(failure.name).upload_blob(msgspec.json.encode(failure), overwrite=True, content_settings=_JSON)

    def remove_failure(self, name: str) -> None:
        """Remove the failure record, if there is one."""
        with contextlib.suppress(ResourceNotFoundError):
            self._failure(name).delete_blob()

    def write_dropped(self, message: DroppedMessage) -> None:
        """Keep a message that could not be read."""
        path = f"{self._space}/dropped/{hashlib.sha256(message.content.encode()).hexdigest()}.json"
        blob = self._service.get_blob_client(self._embeddings, path)
        blob.upload_blob(msgspec.json.encode(message), overwrite=True, content_settings=_JSON)

    def find_query(self, space: str, key: str) -> QueryRecord | None:
        """The kept answer to a query, or ``None``."""
        content = _read(self._service.get_blob_client(self._embeddings, query_path(space, key)))
        return None if content is None else msgspec.json.decode(content, type=QueryRecord)

    def write_query(self, space: str, record: QueryRecord) -> None:
        """Keep the answer to a query. The key holds all that decides it, so any writer's answer will do."""
        blob = self._service.get_blob_client(self._embeddings, query_path(space, record.id))
        blob.upload_blob(msgspec.json.encode(record), overwrite=True, content_settings=_JSON)

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _record(self, name: str) -> BlobClient:
        return self._service.get_blob_client(self._embeddings, record_path(self._space, "images", name))

    def _failure(self, name: str) -> BlobClient:
        return self._service.get_blob_client(self._embeddings, record_path(self._space, "failures", name))


def space(model: str, dimensions: int | None) -> str:
    """The folder for vectors that may be compared with each other: one for each model and length."""
    return model if dimensions is None else f"{model}-{dimensions}"


def record_path(space: str, kind: Literal["images", "failures"], name: str) -> str:
    """The blob name of an image's record.

    Prefix and suffix could make it longer than a blob name may be. Such a name is cut, and a hash of the whole
    follows the cut; it is then exactly as long as a name may be and no other name is, so the two never meet.
    """
    path = f"{space}/{kind}/{name}.json"
    if _units(path) < _LONGEST_NAME:
        return path
    tail = f"~{hashlib.sha256(name.encode()).hexdigest()}.json"
    room = _LONGEST_NAME - len(tail)
    head = path.encode("utf-16-le")[: 2 * room].decode("utf-16-le", "ignore")
    return head + "~" * (room - _units(head)) + tail


def query_path(space: str, key: str) -> str:
    """The blob name of a query's record, spread over 256 folders."""
    return f"{space}/queries/{key[:2]}/{key}.json"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _service(settings: Settings, credential: TokenCredential) -> BlobServiceClient:
    # requests keeps 10 connections a host unless told otherwise, and shakes hands anew for every further thread.
    session = requests.Session()
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=64))
    transport = RequestsTransport(session=session)
    if settings.storage_connection_string:
        return BlobServiceClient.from_connection_string(settings.storage_connection_string, transport=transport)
    return BlobServiceClient(settings.blob_service_uri, credential=credential, transport=transport)


def _read(blob: BlobClient) -> bytes | None:
    try:
        return blob.download_blob().readall()
    except ResourceNotFoundError:
        return None


def _bare(etag: str) -> str:
    return etag.strip('"')


def _quoted(etag: str) -> str:
    return f'"{etag}"'
