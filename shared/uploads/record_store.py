"""What is stored about images, in the app's space: embedding records, failure records, contents.

Embedding records are only written or removed on the condition that nobody else did so first, and that they are not of
another app's images.
"""

import hashlib
from collections.abc import Generator
from dataclasses import dataclass

import msgspec

from shared.errors import ForeignRecord, UnreadableBlob
from shared.storage.blobs import IF_MISSING, JsonBlobs, if_match
from shared.storage.listing import Page
from shared.storage.names import RecordKind, longest_key, record_path, utf16_length
from shared.storage.rest import CHANGED, EXISTS, MISSING, conflict_if_changed, ignoring
from shared.storage.space import Space
from shared.uploads.records import Content, DroppedMessage, EmbeddingRecord, FailureRecord, content_key

# The blob metadata that names the images container. A name of its own: an indexer of Azure AI Search would mix up
# metadata and a field of the same name.
_OWNER = "images_container"


@dataclass(frozen=True)
class RecordState:
    """What a record's metadata says about its image. ``version`` is the record's own ETag.

    ``container`` is the image's, empty in records of before 2.
    """

    version: str
    image_etag: str
    preparation: str
    container: str


class _Named(msgspec.Struct):
    """The part of any record that names its image."""

    name: str


class RecordStore:
    """Reads and writes what is stored about images. Safe to call from many threads and processes.

    Transient storage faults are retried; the rest is raised as :class:`~shared.errors.StorageError`. What cannot be
    read counts as absent, and is replaced.
    """

    def __init__(self, space: Space, blobs: JsonBlobs) -> None:
        self._space = space
        self._blobs = blobs

    def folder(self) -> str:
        """The folder that the records of this app's images are in."""
        return self._space.folder()

    def is_shared(self) -> bool:
        """Whether other apps use the contents of the space as well."""
        return self._space.is_shared()

    def check(self) -> None:
        """Ask whether a record could be written, and write none; raises ``StorageError`` as storage says."""
        self._blobs.check(f"{self._space.name}/check")

    def find_record(self, name: str) -> RecordState | None:
        """What the image's embedding record was made from, or ``None`` if it has none. Reads no vector.

        Raises :class:`~shared.errors.ForeignRecord` if the record there is of another app's image.
        """
        path = self._record(name)
        found = self._blobs.version(path)
        if found is None:
            return None
        version, metadata = found
        container = metadata.get(_OWNER, "")
        if container not in {"", self._space.container}:
            raise ForeignRecord(f"The record {path} is of an image in {container}, so this app leaves it alone.")
        return RecordState(version, metadata.get("etag", ""), metadata.get("preparation", ""), container)

    def write_record(self, record: EmbeddingRecord, replaces: RecordState | None) -> RecordState:
        """Write the record if ``replaces`` is still what is stored; raises ``Conflict`` if not."""
        metadata = {
            "etag": record.etag,
            "preparation": str(record.preparation),
            "sha256": record.sha256,
            "content": content_key(record.sha256, record.text or record.text_refused, record.preparation),
            "tokens": str(record.total_tokens or 0),
            _OWNER: record.container,
        }
        if record.text_refused is not None:
            metadata["text_refused"] = "1"
        condition = IF_MISSING if replaces is None else if_match(replaces.version)
        with conflict_if_changed(record.name):
            version = self._blobs.write(self._record(record.name), record, metadata=metadata, condition=condition)
        return RecordState(version, record.etag, metadata["preparation"], record.container)

    def remove_record(self, name: str, found: RecordState) -> None:
        """Remove the record that was found; raises ``Conflict`` if it has changed or is gone.

        Raises :class:`~shared.errors.ForeignRecord` for a record of before 2 that is of another app's image: apps that
        share a space once wrote to the same folder.
        """
        path = self._record(name)
        container = found.container or self._space.container_of(path)
        if container not in {"", self._space.container}:
            raise ForeignRecord(f"The record {path} is of an image in {container}, so this app leaves it alone.")
        with conflict_if_changed(name):
            self._blobs.delete(path, condition=if_match(found.version))

    def find_failure(self, name: str) -> FailureRecord | None:
        """The image's failure record, or ``None``."""
        return self._read(self._failure(name), FailureRecord)

    def write_failure(self, failure: FailureRecord, preparation: int) -> None:
        """Write the failure record, whatever is there. ``preparation`` is that of the code which failed."""
        metadata = {
            "etag": failure.etag,
            "preparation": str(preparation),
            "code": failure.code,
            "attempts": str(failure.attempts),
            _OWNER: self._space.container,
        }
        self._blobs.write(self._failure(failure.name), failure, metadata=metadata)

    def remove_failure(self, name: str) -> None:
        """Remove the failure record, if there is one."""
        self._blobs.delete_if_present(self._failure(name))

    def find_content(self, key: str) -> Content | None:
        """What is known about images with these bytes and text, by ``content_key``; or ``None``."""
        return self._read(self._content(key), Content)

    def write_content(self, key: str, content: Content) -> None:
        """Store what is known about these bytes and text, unless it is stored already."""
        path = self._content(key)
        with ignoring(EXISTS, CHANGED):
            self._blobs.write(path, content, condition=IF_MISSING)
            return
        if self.find_content(key) is None:
            with ignoring(CHANGED):
                self._blobs.write(path, content)

    def mark_content(self, key: str, etag: str, unused_since: str | None) -> None:
        """Note since when no record uses a content, or that one does; no effect if it changed since it was listed."""
        metadata = {} if unused_since is None else {"unused_since": unused_since}
        with ignoring(CHANGED, MISSING):
            self._blobs.set_metadata(self._content(key), metadata, condition=if_match(etag))

    def remove_content(self, key: str, etag: str) -> None:
        """Remove a content; no effect if it changed since it was listed."""
        with ignoring(CHANGED, MISSING):
            self._blobs.delete(self._content(key), condition=if_match(etag))

    def write_dropped(self, message: DroppedMessage) -> None:
        """Keep a message that could not be read, so that an operator can see it."""
        key = hashlib.sha256(message.content.encode()).hexdigest()
        self._blobs.write(f"{self._space.folder()}/dropped/{key}.json", message)

    def list_records(self, prefix: str, marker: str) -> Generator[Page]:
        """Each page of the embedding records of images whose names start with ``prefix``, by their keys."""
        return self._pages("images", prefix, marker)

    def list_failures(self, prefix: str, marker: str) -> Generator[Page]:
        """Each page of the failure records of such images, by their keys."""
        return self._pages("failures", prefix, marker)

    def list_contents(self, marker: str) -> Generator[Page]:
        """Each page of the contents, by their keys."""
        for page in self._blobs.pages(f"{self._space.name}/contents/", "", marker):
            blobs = [blob._replace(name=blob.name[3:].removesuffix(".json")) for blob in page.blobs]
            yield page._replace(blobs=blobs)

    def name_of(self, key: str) -> str | None:
        """The name of the image that a record with this key belongs to; ``None`` if no record says."""
        if utf16_length(key) < longest_key(self._space.folder()):
            return key.removesuffix(".json")
        kinds: tuple[RecordKind, ...] = ("images", "failures")
        for kind in kinds:
            record = self._read(f"{self._space.folder()}/{kind}/{key}", _Named)
            if record is not None:
                return record.name
        return None

    def _pages(self, kind: RecordKind, prefix: str, marker: str) -> Generator[Page]:
        """Each page of such records, without those that say that they are of another app's images."""
        ours = self._space.container
        for page in self._blobs.pages(f"{self._space.find_folder()}/{kind}/", prefix, marker):
            yield page._replace(blobs=[blob for blob in page.blobs if blob.metadata.get(_OWNER, ours) == ours])

    def _read[Shape](self, path: str, shape: type[Shape]) -> Shape | None:
        try:
            return self._blobs.read(path, shape)
        except UnreadableBlob:
            return None

    def _record(self, name: str) -> str:
        return record_path(self._space.folder(), "images", name)

    def _failure(self, name: str) -> str:
        return record_path(self._space.folder(), "failures", name)

    def _content(self, key: str) -> str:
        return f"{self._space.name}/contents/{key[:2]}/{key}.json"
