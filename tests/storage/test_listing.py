"""The listings that audits read, for any names and any number of pages."""

import xml.etree.ElementTree as ET

import pytest

from local.azurite import Azurite
from shared.errors import StorageError
from shared.storage.listing import Lister, _name
from tests.conftest import Cloud


def lister(cloud: Cloud) -> Lister:
    return Lister(cloud.rest())


NAMES = ["a&b<c>.png", "plain.png", "tab\tin.png", "Zoë/\U0001f600.png", "100%.png", " space .png"]


def test_every_name_is_listed_as_it_was_written(cloud: Cloud) -> None:
    for name in NAMES:
        cloud.upload(name, b"x")
    [page] = lister(cloud).pages(cloud.settings.images_container, "")
    assert sorted(blob.name for blob in page.blobs) == sorted(NAMES)


def test_a_name_that_xml_cannot_hold_comes_percent_encoded() -> None:
    # As documented for List Blobs; Azurite answers 500 to such a name.
    blob = ET.fromstring('<Blob><Name Encoded="true">100%25%EF%BF%BE.png</Name></Blob>')
    assert _name(blob) == "100%\ufffe.png"


def test_each_blob_has_its_etag_and_its_metadata_with_keys_in_lower_case(cloud: Cloud) -> None:
    etag = cloud.upload("a.png", b"x", Text="red", other="")
    [page] = lister(cloud).pages(cloud.settings.images_container, "")
    [blob] = page.blobs
    assert (blob.etag, blob.metadata) == (etag, {"text": "red", "other": ""})


def test_a_listing_has_pages_and_can_start_at_any_of_them(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 2)
    for name in "abcde":
        cloud.upload(f"in/{name}", b"x")
    cloud.upload("out", b"x")
    pages = list(lister(cloud).pages(cloud.settings.images_container, "in/"))
    assert [[blob.name for blob in page.blobs] for page in pages] == [["in/a", "in/b"], ["in/c", "in/d"], ["in/e"]]
    assert list(lister(cloud).pages(cloud.settings.images_container, "in/", pages[1].marker)) == pages[1:]


def test_a_listing_can_be_closed_before_its_end(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 1)
    for name in "abc":
        cloud.upload(name, b"x")
    pages = lister(cloud).pages(cloud.settings.images_container, "")
    next(pages)
    pages.close()


def test_the_folders_of_a_hierarchical_namespace_are_left_out(cloud: Cloud) -> None:
    cloud.upload("folder", b"", hdi_isfolder="true")
    cloud.upload("folder/a.png", b"x")
    [page] = lister(cloud).pages(cloud.settings.images_container, "")
    assert [blob.name for blob in page.blobs] == ["folder/a.png"]


def test_an_emulator_is_listed_by_its_connection_string(cloud: Cloud, azurite: Azurite) -> None:
    cloud.upload("a.png", b"x")
    emulator = cloud.with_settings(ImageStorage=azurite.connection_string)
    [page] = lister(emulator).pages(cloud.settings.images_container, "")
    assert [blob.name for blob in page.blobs] == ["a.png"]
    assert lister(emulator).folders(cloud.settings.embeddings_container) == []


def test_a_missing_container_is_an_error(cloud: Cloud) -> None:
    with pytest.raises(StorageError, match=r"404 ContainerNotFound to GET .*no-such-container"):
        list(lister(cloud).pages("no-such-container", ""))
