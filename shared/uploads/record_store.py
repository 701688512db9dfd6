"""What is stored about images, in the app's space: embedding records, failure records, contents.

Embedding records are only written or removed on the condition that nobody else did so first, and that they are not of
another app's images. The index of search is told of each change right after it, and again by whoever finds that the
change was made but cannot know whether the index was told.
"""

import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import msgspec

from shared.clock import milliseconds
from shared.errors import ForeignRecord, UnreadableBlob
from shared.search.entries import Entry
from shared.search.journal import Journal
from shared.storage.blobs import IF_MISSING, JsonBlobs, Properties, if_match
from shared.storage.listing import Listed, Page
from shared.storage.names import RecordKind, longest_key, record_path, utf16_length
from shared.storage.rest import CHANGED, EXISTS, MISSING, conflict_if_changed, ignoring
from shared.storage.space import Space
from shared.uploads.metadata import mark
from shared.uploads.records import Content, DroppedMessage, EmbeddingRecord, FailureRecord, content_key, entry_of

# The blob metadata that names the images container. A name of its own: an indexer of Azure AI Search would mix up
# metadata and a field of the same name.
_OWNER = "images_container"
# The blob metadata that orders the changes of an image's record, and what the index knows of it.
_SEQ = "seq"
# The blob metadata that says which keys of the image's metadata a record has.
METADATA_KEYS = "metadata_keys"
# A process that dies between a record and its entry leaves an event or a message, which the platform delivers again
# within minutes.
_YOUNG_MS = 3_600_000


@dataclass(frozen=True)
class RecordState:
    """What a record's metadata says about its image. ``version`` is the record's own ETag.

    ``container`` is the image's, empty in records of before 2. ``seq`` is larger for each later record of the image:
    milliseconds since 1970, or one more than the record before it has. ``metadata_keys`` says which keys of the image's
    metadata the record has (:func:`~shared.uploads.metadata.mark`).
    """

    version: str
    image_etag: str
    preparation: str
    container: str
    seq: int
    metadata_keys: str = ""


class _Named(msgspec.Struct):
    """The part of any record that names its image."""

    name: str


class RecordStore:
    """Reads and writes what is stored about images. Safe to call from many threads and processes.

    Transient storage faults are retried; the rest is raised as :class:`~shared.errors.StorageError`. What cannot be
    read counts as absent, and is replaced. ``journal`` is where the index of search is told of each change of a record,
    ``None`` where there is to be no index.
    """

    def __init__(self, space: Space, blobs: JsonBlobs, journal: Journal | None) -> None:
        self._space = space
        self._blobs = blobs
        self._journal = journal

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
        found = self._blobs.properties(path)
        return None if found is None else self._state(path, found)

    def write_record(self, record: EmbeddingRecord, replaces: RecordState | None) -> RecordState:
        """Write the record if ``replaces`` is still what is stored, and tell the index; raises ``Conflict`` if not.

        Raises ``StorageError`` as well if the record was written and the index could not be told.
        """
        seq = _next_seq(replaces)
        metadata = {
            "etag": record.etag,
            "preparation": str(record.preparation),
            "sha256": record.sha256,
            "content": content_key(record.sha256, record.text or record.text_refused, record.preparation),
            "tokens": str(record.total_tokens or 0),
            _OWNER: record.container,
            _SEQ: str(seq),
        }
        if record.text_refused is not None:
            metadata["text_refused"] = "1"
        if keys := mark(record.metadata):
            metadata[METADATA_KEYS] = keys
        condition = IF_MISSING if replaces is None else if_match(replaces.version)
        with conflict_if_changed(record.name):
            version = self._blobs.write(self._record(record.name), record, metadata=metadata, condition=condition)
        self._tell(entry_of(record, seq))
        return RecordState(version, record.etag, metadata["preparation"], record.container, seq, keys)

    def remove_record(self, name: str, found: RecordState) -> None:
        """Remove the record that was found, and tell the index; raises ``Conflict`` if it has changed or is gone.

        Raises :class:`~shared.errors.ForeignRecord` for a record of before 2 that is of another app's image: apps that
        share a space once wrote to the same folder.
        """
        path = self._record(name)
        container = found.container or self._space.container_of(path)
        if container not in {"", self._space.container}:
            raise self._foreign(path, container)
        with conflict_if_changed(name):
            self._blobs.delete(path, condition=if_match(found.version))
        self._tell(Entry(name=name, seq=_next_seq(found)))

    def tell_again(self, name: str, found: RecordState | None, looked_at: int) -> None:
        """Tell the index of a record that was found as it should be, or of none that was found at ``looked_at``.

        Whoever made it so may have died before it told the index. What was so for an hour is not told again.
        """
        if self._journal is None or (found is not None and found.seq < milliseconds() - _YOUNG_MS):
            return
        if found is None:
            # Not of this moment: there may be a record by now.
            self._tell(Entry(name=name, seq=looked_at))
            return
        stored = self._find_with_properties(name)
        # Whoever has changed it meanwhile tells the index.
        if stored is not None and stored[1].etag == found.version:
            self._tell(entry_of(stored[0], found.seq))

    def correct(self, name: str, known: int, *, is_gone: bool) -> bool:
        """Tell the index what is stored, if it knows something else of the image or nothing; returns whether it did.

        ``known`` is the ``seq`` of what it knows, 0 for nothing, and ``is_gone`` says whether that is an image without
        a record. If the record has a smaller one, since clocks differ, it gets a larger one first. Raises ``Conflict``
        if somebody changes the record meanwhile, and so tells the index.
        """
        looked_at = milliseconds()
        stored = self._find_with_properties(name)
        if stored is None:
            if known and not is_gone:
                self._tell(Entry(name=name, seq=max(looked_at, known + 1)))
            return bool(known) and not is_gone
        record, properties = stored
        seq = _seq_of(properties)
        if is_gone and not entry_of(record, seq).vector:
            return False
        if seq < known or (seq == known and is_gone):
            seq = known + 1
            metadata = {**properties.metadata, _SEQ: str(seq)}
            with conflict_if_changed(name):
                self._blobs.set_metadata(self._record(name), metadata, condition=if_match(properties.etag))
        if seq != known:
            self._tell(entry_of(record, seq))
        return seq != known

    def load_record(self, name: str) -> EmbeddingRecord | None:
        """The image's embedding record, or ``None``; raises ``UnreadableBlob`` for one that cannot be read."""
        return self._blobs.read(self._record(name), EmbeddingRecord)

    def find_failure(self, name: str) -> FailureRecord | None:
        """The image's failure record, or ``None``."""
        return self._read(self._failure(name), FailureRecord)

    def failure_at(self, key: str) -> FailureRecord | None:
        """The failure record with this key, as listings have it, or ``None``; claims nothing."""
        return self._read(f"{self._space.find_folder()}/failures/{key}", FailureRecord)

    def read_failure(self, name: str) -> FailureRecord | None:
        """The image's failure record, or ``None``; claims nothing."""
        return self._read(record_path(self._space.find_folder(), "failures", name), FailureRecord)

    def read_record(self, name: str) -> tuple[EmbeddingRecord, str] | None:
        """The image's embedding record and the record's own ETag, or ``None``; claims nothing.

        A record of another app's image is none, nor is one that cannot be read.
        """
        path = record_path(self._space.find_folder(), "images", name)
        try:
            found = self._blobs.read_with_properties(path, EmbeddingRecord)
        except UnreadableBlob:
            return None
        ours = self._space.container
        if found is None or found[1].metadata.get(_OWNER, ours) != ours:
            return None
        return found[0], found[1].etag

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

    def _state(self, path: str, found: Properties) -> RecordState:
        metadata = found.metadata
        container = metadata.get(_OWNER, "")
        if container not in {"", self._space.container}:
            raise self._foreign(path, container)
        etag, preparation = metadata.get("etag", ""), metadata.get("preparation", "")
        keys = metadata.get(METADATA_KEYS, "")
        return RecordState(found.etag, etag, preparation, container, _seq_of(found), keys)

    def _foreign(self, path: str, container: str) -> ForeignRecord:
        return ForeignRecord(f"The record {path} is of an image in {container}, so this app leaves it alone.")

    def _find_with_properties(self, name: str) -> tuple[EmbeddingRecord, Properties] | None:
        """The image's embedding record, ``None`` if there is none that can be read."""
        try:
            found = self._blobs.read_with_properties(self._record(name), EmbeddingRecord)
        except UnreadableBlob:
            return None
        if found is not None:
            self._state(self._record(name), found[1])
        return found

    def _tell(self, entry: Entry) -> None:
        if self._journal is not None:
            self._journal.append(entry)

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


def seq_of(listed: Listed) -> int:
    """The ``seq`` of a listed record."""
    return _number(listed.metadata) or int(parsedate_to_datetime(listed.last_modified).timestamp() * 1000)


def _seq_of(found: Properties) -> int:
    return _number(found.metadata) or int(found.last_modified.timestamp() * 1000)


def _number(metadata: Mapping[str, str]) -> int:
    """The ``seq`` in a record's metadata, 0 where there is none: records had none before there was an index."""
    text = metadata.get(_SEQ, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _next_seq(found: RecordState | None) -> int:
    return max(milliseconds(), found.seq + 1 if found else 0)
