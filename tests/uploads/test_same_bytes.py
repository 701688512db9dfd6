"""The same bytes with the same text are embedded once, whatever happens to names, processes and storage."""

import pytest

from shared.errors import StorageError
from shared.uploads.record_store import RecordStore
from tests.conftest import Cloud
from tests.drawing import picture
from tests.uploads.outdated import prepare_otherwise


@pytest.mark.either_format
def test_images_of_the_same_bytes_and_text_are_embedded_once(cloud: Cloud) -> None:
    data = picture()
    sync = cloud.sync()
    cloud.upload("a.png", data, text="red")
    assert sync.upload("a.png").outcome == "embedded"
    cloud.upload("b.png", data, text="red")
    report = sync.upload("b.png")
    assert (report.outcome, report.total_tokens) == ("copied", None)
    assert len(cloud.model.calls(200)) == 1
    first, second = cloud.record("a.png"), cloud.record("b.png")
    assert (second["name"], second["etag"] == first["etag"]) == ("b.png", False)
    own = {"id", "name", "url", "etag", "embedded_at"}
    assert {k: v for k, v in second.items() if k not in own} == {k: v for k, v in first.items() if k not in own}


@pytest.mark.parametrize("broken", [b"", b"\xff", b'{"embedding": "\xff"}', b"{}"])
def test_a_stored_vector_that_cannot_be_read_is_replaced(cloud: Cloud, broken: bytes) -> None:
    data = picture()
    sync = cloud.sync()
    cloud.upload("a.png", data)
    sync.upload("a.png")
    [content] = [name for name in cloud.embeddings.list_blob_names() if "/contents/" in name]
    cloud.embeddings.upload_blob(content, broken, overwrite=True)
    for name, outcome in (("b.png", "embedded"), ("c.png", "copied")):
        cloud.upload(name, data)
        assert sync.upload(name).outcome == outcome


@pytest.mark.either_format
@pytest.mark.parametrize("deleted_first", [True, False])
def test_a_renamed_image_is_not_sent_to_the_model_again(cloud: Cloud, deleted_first: bool) -> None:
    data = picture()
    sync = cloud.sync()
    cloud.upload("old/a.png", data)
    sync.upload("old/a.png")
    cloud.upload("new/a.png", data)
    cloud.images.delete_blob("old/a.png")
    for name in ("old/a.png", "new/a.png") if deleted_first else ("new/a.png", "old/a.png"):
        sync.upload(name)
    assert cloud.record("old/a.png") is None
    assert cloud.record("new/a.png")["name"] == "new/a.png"
    assert len(cloud.model.calls(200)) == 1


@pytest.mark.either_format
@pytest.mark.parametrize("change", ["text", "bytes", "preparation"])
def test_another_text_picture_or_preparation_is_sent_to_the_model(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    sync = cloud.sync()
    cloud.upload("a.png", picture(), text="red")
    sync.upload("a.png")
    if change == "preparation":
        prepare_otherwise(monkeypatch)
    cloud.upload(
        "b.png", picture(size=(30, 30)) if change == "bytes" else picture(), text="blue" if change == "text" else "red"
    )
    assert sync.upload("b.png").outcome == "embedded"
    assert len(cloud.model.calls(200)) == 2


@pytest.mark.either_format
def test_an_embedding_that_storage_rejected_needs_no_second_call(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = cloud.sync()
    cloud.upload("a.png", picture())

    def reject(*_: object) -> None:
        raise StorageError("401")

    with monkeypatch.context() as fault:
        fault.setattr(RecordStore, "write_content", reject)
        with pytest.raises(StorageError):
            sync.upload("a.png")
    assert sync.upload("a.png").outcome == "copied"
    assert len(cloud.model.calls(200)) == 1


def test_the_process_keeps_a_limited_number_of_unstored_embeddings(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.uploads.embed._MAX_UNSTORED", 2)
    monkeypatch.setattr(RecordStore, "write_content", lambda *_: 1 / 0)
    sync = cloud.sync()
    for number in range(4):
        cloud.upload(f"{number}.png", picture(size=(20 + number, 20)))
        with pytest.raises(ZeroDivisionError):
            sync.upload(f"{number}.png")
    assert len(sync._embedder._unstored) == 2
