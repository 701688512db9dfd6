"""Records in storage: every image has its own, however odd its name."""

import hashlib

import pytest

from local.azurite import Azurite
from shared.errors import Conflict
from shared.storage.images import Image
from shared.storage.names import record_path, space_name
from tests.conftest import Cloud
from tests.drawing import picture

ODD_NAMES = [
    "plain.png",
    "with space and #hash and 100%.png",
    "a+b&c=d?e.png",
    "Zoë's café/日本語/\U0001f600.png",
    "%41 is not A.png",
    "folder/..hidden/a...b.png",
    "ends with dot.",
    "a//b.png",
    "'quotes\".png",
    "CON.png",
    "tab\tin.png",
]


def test_a_space_is_named_after_its_model_and_dimensions() -> None:
    assert space_name("embed-v-4-0", None) == "embed-v-4-0"
    assert space_name("embed-v-4-0", 512) == "embed-v-4-0-512"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_image_of_any_name_is_embedded_under_that_name(cloud: Cloud, name: str) -> None:
    cloud.upload(name, picture())
    assert cloud.sync().upload(name).outcome == "embedded"
    assert cloud.records() == [f"Cohere-embed-v3-english/images/{name}.json"]
    assert cloud.record(name)["name"] == name


def test_a_name_too_long_for_a_key_is_cut_and_hashed_and_stored_in_the_record(cloud: Cloud) -> None:
    name = "folder/" + "x" * 1013 + ".png"
    assert len(name) == 1024
    cloud.upload(name, picture())
    cloud.sync().upload(name)
    [blob] = cloud.records()
    assert len(blob) == 1022  # a failure's is two longer: 1,024, the maximum
    assert blob.startswith("Cohere-embed-v3-english/images/folder/xxx")
    assert blob.endswith(f"~{hashlib.sha256(name.encode()).hexdigest()}.json")
    assert cloud.sync().upload(name).outcome == "unchanged"
    cloud.images.delete_blob(name)
    cloud.sync().upload(name)
    assert cloud.records() == []


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_no_two_names_of_any_length_share_a_record(letter: str) -> None:
    names = [letter * length for length in range(1, 1025)]
    paths = [record_path("model", "images", name) for name in names]
    units = [len(path.encode("utf-16-le")) // 2 for path in paths]
    assert len(set(paths)) == len(names)
    assert max(units) == 1022
    assert max(len(record_path("model", "failures", name).encode("utf-16-le")) // 2 for name in names) == 1024


def test_no_short_name_can_be_crafted_to_share_the_record_of_a_long_one() -> None:
    path = record_path("model", "images", "x" * 1024)
    impostor = path.removeprefix("model/images/").removesuffix(".json")
    assert record_path("model", "images", impostor) != path


def test_the_text_in_the_metadata_may_be_plain_utf_8() -> None:
    def text(value: str) -> str | None:
        return Image("a", "u", "e", 1, {"text": value}).text("text")

    assert text("Zoë".encode().decode("latin-1")) == "Zoë"
    assert text("Zoë") == "Zoë"
    assert text("日本") == "日本"


def test_only_the_record_that_was_found_is_removed(cloud: Cloud) -> None:
    sync, store = cloud.sync(), cloud.record_store()
    cloud.upload("a.png", picture())
    sync.upload("a.png")
    found = store.find_record("a.png")
    assert found is not None
    cloud.upload("a.png", picture() + b"more")
    sync.upload("a.png")
    with pytest.raises(Conflict):
        store.remove_record("a.png", found)
    assert cloud.record("a.png") is not None
    newer = store.find_record("a.png")
    assert newer is not None
    store.remove_record("a.png", newer)
    assert cloud.record("a.png") is None
    with pytest.raises(Conflict):
        store.remove_record("a.png", newer)


def test_an_emulator_works_by_its_connection_string(cloud: Cloud, azurite: Azurite) -> None:
    cloud = cloud.with_settings(ImageStorage=azurite.connection_string)
    cloud.upload("a.png", picture())
    assert cloud.sync().upload("a.png").outcome == "embedded"


def test_an_error_of_storage_is_not_taken_for_a_missing_record(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.embeddings.delete_container()
    with pytest.raises(Exception, match="ContainerNotFound") as raised:
        cloud.sync().upload("a.png")
    assert not isinstance(raised.value, Conflict)
