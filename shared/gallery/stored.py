"""What is known of one image: its record, or why it has none."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from shared.errors import QueryError, StorageError
from shared.gallery.names import check_name, unknown
from shared.settings import Settings
from shared.storage.images import Images
from shared.storage.names import image_names
from shared.storage.rest import BRIEF
from shared.uploads.record_store import RecordStore


class RecordRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the vector is wanted as well, which is most of a record."""

    embedding: bool = True


@dataclass(frozen=True)
class StoredRecord:
    """A record as JSON has it, and its ETag, without quotes; ``None`` for a caller that has this version of it."""

    etag: str
    fields: dict[str, Any] | None


class StoredRecords:
    """Reads records. Safe to call from many threads."""

    def __init__(self, settings: Settings, images: Images, records: RecordStore) -> None:
        self._is_image = image_names(settings)
        self._images = images
        self._records = records

    def find(self, name: str, request: RecordRequest, is_known: Callable[[str], bool]) -> StoredRecord:
        """The record of an image; ``is_known`` says of an ETag whether the caller has that version.

        Raises :class:`~shared.errors.QueryError` with 404 if there is none: with the code of its failure, ``waiting``
        if the image is there, ``unknown_image`` if it is not. Raises ``ModelError`` if the space cannot be read, and
        ``StorageError``.
        """
        check_name(name)
        try:
            found = self._records.read_record(name)
            if found is None:
                raise self._why_none(name)
        except StorageError as error:
            if error.status == HTTPStatus.BAD_REQUEST:
                # A name that no blob can have.
                raise unknown(name) from error
            raise
        record, version = found
        etag = version if request.embedding else f"{version}-facts"
        if is_known(etag):
            return StoredRecord(etag, None)
        fields = msgspec.to_builtins(record, builtin_types=(), str_keys=True)
        if not request.embedding:
            del fields["embedding"]
        return StoredRecord(etag, fields)

    def _why_none(self, name: str) -> QueryError:
        failure = self._records.read_failure(name)
        if failure is not None:
            return QueryError(failure.code, failure.message, status=404, target="name")
        if not self._is_image(name) or self._images.find(name, effort=BRIEF) is None:
            return unknown(name)
        message = f"The image {name} has no record yet: it waits to be embedded. GET /api/status says how many do."
        return QueryError("waiting", message, status=404, target="name")
