"""Records of images without any picture, written as the app writes them."""

import random
from datetime import UTC, datetime

from shared.errors import Conflict
from shared.uploads.record_store import RecordStore
from shared.uploads.records import EmbeddingRecord
from tests.conftest import Cloud

EMBEDDED_AT = datetime(2026, 11, 22, tzinfo=UTC)


def write(cloud: Cloud, *names: str, etag: str = "0x1", process: RecordStore | None = None) -> None:
    """Write a record of each of these images, for this version of it."""
    store = process or cloud.record_store()
    for name in names:
        new = record(name, etag, cloud.settings.images_container)
        try:
            store.write_record(new, None)
        except Conflict:
            store.write_record(new, store.find_record(name))


def remove(cloud: Cloud, *names: str) -> None:
    """Remove the record of each of these images."""
    store = cloud.record_store()
    for name in names:
        found = store.find_record(name)
        assert found is not None
        store.remove_record(name, found)


def delete_index(cloud: Cloud) -> None:
    """Delete every blob of the index, as an operator may."""
    for blob in list(cloud.embeddings.list_blob_names()):
        if "/index/" in blob:
            cloud.embeddings.delete_blob(blob)


def record(name: str, etag: str, container: str, vector: list[float] | None = None) -> EmbeddingRecord:
    """The record of an image."""
    vector = vector or random.Random(etag).choices([-1.0, 0.5, 1.0], k=8)
    return EmbeddingRecord(
        id=name,
        container=container,
        name=name,
        url="",
        etag=etag,
        sha256=etag,
        bytes=1,
        media_type="image/png",
        width=1,
        height=1,
        text=None,
        model="",
        input_type="document",
        dimensions=len(vector),
        preparation=1,
        prompt_tokens=1,
        total_tokens=1,
        embedded_at=EMBEDDED_AT,
        embedding=vector,
    )
