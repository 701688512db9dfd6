"""What is stored about images, in the app's space: embedding records, failure records, contents.

Embedding records are only written or removed on the condition that nobody else did so first.
"""

import hashlib
from collections.abc import Generator
from dataclasses import dataclass

import msgspec

from shared.settings import Settings
from shared.storage.blobs import IF_MISSING, JsonBlobs, if_match
from shared.storage.listing import Page
from shared.storage.names import RecordKind, longest_key, record_path, space_of, utf16_length
from shared.storage.rest import CHANGED, EXISTS, MISSING, conflict_if_changed, ignoring
from shared.uploads.records import Content, DroppedMessage, EmbeddingRecord, FailureRecord, content_key


@dataclass(frozen=True)
class RecordState:
    """What a record's metadata says about its image. ``version`` is the record's own ETag."""

    version: str
    image_etag: str
    preparation: str


class _Named(msgspec.Struct):
    """The part of any record that names its image."""

    name: str


class RecordStore:
    """Reads and writes what is stored about images. Safe to call from many threads and processes.

    Transient storage faults are retried; the rest is raised as :class:`~shared.errors.StorageError`.
    """

    def __init__(self, settings: Settings, blobs: JsonBlobs) -> None:
        self._space = space_of(settings)
        self._longest_key = longest_key(self._space)
        self._blobs = blobs

    def check(self) -> None:
        """Ask whether a record could be written, and write none; raises ``StorageError`` as storage says."""
        self._blobs.check(f"{self._space}/check")

    def find_record(self, name: str) -> RecordState | None:
        """What the image's embedding record was made from, or ``None`` if it has none. Reads no vector."""
        found = self._blobs.version(self._record(name))
        if found is None:
            return None
        version, metadata = found
        return RecordState(version, metadata.get("etag", ""), metadata.get("preparation", ""))

    def write_record(self, record: EmbeddingRecord, replaces: RecordState | None) -> RecordState:
        """Write the record if ``replaces`` is still what is stored; raises ``Conflict`` if not."""
        metadata = {
            "etag": record.etag,
            "preparation": str(record.preparation),
            "sha256": record.sha256,
            "content": content_key(record.sha256, record.text or record.text_refused, record.preparation),
            "tokens": str(record.total_tokens or 0),
        }
        if record.text_refused is not None:
            metadata["text_refused"] = "1"
        condition = IF_MISSING if replaces is None else if_match(replaces.version)
        with conflict_if_changed(record.name):
            version = self._blobs.write(self._record(record.name), record, metadata=metadata, condition=condition)
        return RecordState(version, record.etag, metadata["preparation"])

    def remove_record(self, name: str, found: RecordState) -> None:
        """Remove the record that was found; raises ``Conflict`` if it has changed or is gone."""
        with conflict_if_changed(name):
            self._blobs.delete(self._record(name), condition=if_match(found.version))

    def find_failure(self, name: str) -> FailureRecord | None:
        """The image's failure record, or ``None``."""
        return self._blobs.read(self._failure(name), FailureRecord)

    def write_failure(self, failure: FailureRecord, preparation: int) -> None:
        """Write the failure record, whatever is there. ``preparation`` is that of the code which failed."""
        metadata = {
            "etag": failure.etag,
            "preparation": str(preparation),
            "code": failure.code,
            "attempts": str(failure.attempts),
        }
        self._blobs.write(self._failure(failure.name), failure, metadata=metadata)

    def remove_failure(self, name: str) -> None:
        """Remove the failure record, if there is one."""
        self._blobs.delete_if_present(self._failure(name))

    def find_content(self, key: str) -> Content | None:
        """What is known about images with these bytes and text, by ``content_key``; or ``None``."""
        return self._blobs.read(self._content(key), Content)

    def write_content(self, key: str, content: Content) -> None:
        """Store what is known about these bytes and text, unless it is stored already."""
        with ignoring(EXISTS, CHANGED):
            self._blobs.write(self._content(key), content, condition=IF_MISSING)

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
        self._blobs.write(f"{self._space}/dropped/{key}.json", message)

    def list_records(self, prefix: str, marker: str) -> Generator[Page]:
        """Each page of the embedding records of images whose names start with ``prefix``, by their keys."""
        return self._blobs.pages(f"{self._space}/images/", prefix, marker)

    def list_failures(self, prefix: str, marker: str) -> Generator[Page]:
        """Each page of the failure records of such images, by their keys."""
        return self._blobs.pages(f"{self._space}/failures/", prefix, marker)

    def list_contents(self, marker: str) -> Generator[Page]:
        """Each page of the contents, by their keys."""
        for page in self._blobs.pages(f"{self._space}/contents/", "", marker):
            blobs = [blob._replace(name=blob.name[3:].removesuffix(".json")) for blob in page.blobs]
            yield page._replace(blobs=blobs)

    def name_of(self, key: str) -> str | None:
        """The name of the image that a record with this key belongs to; ``None`` if the record is gone."""
        if utf16_length(key) < self._longest_key:
            return key.removesuffix(".json")
        kinds: tuple[RecordKind, ...] = ("images", "failures")
        for kind in kinds:
            record = self._blobs.read(f"{self._space}/{kind}/{key}", _Named)
            if record is not None:
                return record.name
        return None

    def _record(self, name: str) -> str:
        return record_path(self._space, "images", name)

    def _failure(self, name: str) -> str:
        return record_path(self._space, "failures", name)

    def _content(self, key: str) -> str:
        return f"{self._space}/contents/{key[:2]}/{key}.json"
