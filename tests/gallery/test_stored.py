"""GET /api/records: the record of an image by its name, or why it has none."""

import json

import pytest

from tests.conftest import Cloud
from tests.drawing import picture
from tests.gallery.asking import answered, ask, asked_in_query, refused


@pytest.mark.parametrize("name", ["trip/a b#1.png", "100%.png", "x" * 1019 + ".png"])
def test_it_is_the_record_as_it_is_stored(cloud: Cloud, name: str) -> None:
    cloud.upload(name, picture(), text="a caption")
    cloud.sync().upload(name)
    record = answered("stored_record", name)
    assert (record["name"], record["text"], len(record["embedding"])) == (name, "a caption", record["dimensions"])
    if len(name) < 1000:
        assert record == cloud.record(name)
    facts = answered("stored_record", name, embedding="false")
    assert facts == {key: value for key, value in record.items() if key != "embedding"}
    assert json.loads(asked_in_query("stored_record", name).get_body()) == record


def test_who_has_it_already_is_told_so_until_it_changes(cloud: Cloud) -> None:
    cloud.upload("a.png", picture("red"))
    cloud.sync().upload("a.png")
    etag = ask("stored_record", "a.png").headers["etag"]
    assert ask("stored_record", "a.png", headers={"if-none-match": etag}).status_code == 304
    # What has no vector is another thing.
    assert ask("stored_record", "a.png", embedding="false", headers={"if-none-match": etag}).status_code == 200
    cloud.upload("a.png", picture("green"))
    cloud.sync().upload("a.png")
    assert ask("stored_record", "a.png", headers={"if-none-match": etag}).status_code == 200


def test_an_image_without_a_record_has_its_failure_or_waits_or_is_not_known(cloud: Cloud) -> None:
    cloud.upload("bad.png", b"no picture")
    cloud.sync().upload("bad.png")
    cloud.upload("waiting.png", picture())
    assert refused("stored_record", "bad.png") == (404, "not_an_image", "name")
    message = json.loads(ask("stored_record", "bad.png").get_body())["error"]["message"]
    assert message == cloud.failure("bad.png")["message"]
    assert refused("stored_record", "waiting.png") == (404, "waiting", "name")
    assert refused("stored_record", "nothing.png") == (404, "unknown_image", "name")
    assert refused("stored_record", "\0") == (404, "unknown_image", "name")
    assert refused("stored_record", "a/../b") == (400, "invalid_request", "name")
    assert refused("stored_record", "a.png", embedding="x") == (400, "invalid_request", "embedding")


def test_the_record_of_another_app_s_image_is_none(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    blob = cloud.embeddings.get_blob_client(f"{cloud.folder}/images/a.png.json")
    blob.set_blob_metadata({**blob.get_blob_properties().metadata, "images_container": "other"})
    assert refused("stored_record", "a.png") == (404, "waiting", "name")
