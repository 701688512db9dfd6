"""How storage is spoken to: what is found, refused and tried again, and what is too large for one piece."""

import gzip
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from azure.storage.blob import ContentSettings

from local import identity as identity_endpoint
from local.azurite import Azurite
from local.faults import FaultKind, StorageFaults
from shared.errors import Conflict, IdentityError, PictureError, StorageError
from shared.identity import Identity
from shared.rest import Rest
from tests.conftest import CLIENT_ID, Cloud
from tests.test_sync import picture


@pytest.fixture
def faults() -> StorageFaults:
    return StorageFaults()


@pytest.fixture
def behind(cloud: Cloud, azurite: Azurite, faults: StorageFaults) -> Iterator[Cloud]:
    """The cloud with faults before its storage."""
    with faults.before(azurite) as (blobs, queues):
        yield cloud.with_settings(ImageStorage__blobServiceUri=blobs, ImageStorage__queueServiceUri=queues)


def url(cloud: Cloud, rest: Rest, name: str = "a.png") -> str:
    return rest.blob_url(cloud.settings.images_container, name)


def test_what_is_not_there_is_none_and_a_missing_container_an_error(cloud: Cloud) -> None:
    rest = cloud.rest()
    assert rest.find("HEAD", url(cloud, rest)) is None
    assert rest.read(url(cloud, rest)) is None
    assert rest.open(url(cloud, rest), 100) is None
    for ask in (rest.read, lambda gone: rest.open(gone, 100), lambda gone: rest.find("HEAD", gone)):
        with pytest.raises(StorageError) as raised:
            ask(rest.blob_url("no-such-container", "a.png"))
        assert (raised.value.status, raised.value.code) == (404, "ContainerNotFound")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", ["cut", "lost", "slow", "401", "500", "503"])
def test_what_passes_is_tried_again(behind: Cloud, faults: StorageFaults, kind: FaultKind) -> None:
    behind.upload("a.png", b"picture")
    rest = behind.rest()
    for ask in (rest.read, lambda blob: (rest.open(blob, 100) or ("", b""))[1]):
        faults.begin(kind, times=1, seconds=0.1)
        assert ask(url(behind, rest)) == b"picture"
        assert faults.end() == 1


@pytest.mark.parametrize(("kind", "said"), [("no_role", "403 AuthorizationPermissionMismatch"), ("401", "401 Inv")])
def test_what_does_not_pass_is_an_error_that_says_what_was_asked(
    behind: Cloud, faults: StorageFaults, kind: FaultKind, said: str
) -> None:
    behind.upload("a.png", b"picture")
    rest = behind.rest()
    faults.begin(kind)
    with pytest.raises(StorageError, match=f"{said}.* to GET .*a.png"):
        rest.read(url(behind, rest))


@pytest.mark.usefixtures("clock")
def test_a_connection_that_breaks_off_while_a_blob_is_sent_costs_another_request_not_the_image(
    behind: Cloud, faults: StorageFaults
) -> None:
    behind.upload("a.png", picture())
    sync = behind.sync()
    faults.begin("lost", share=0.3, seed=3)
    assert sync("a.png").outcome == "embedded"
    assert faults.end() > 0
    assert len(behind.model.calls(200)) == 1


def test_a_server_that_is_not_there_is_said_without_the_signature(cloud: Cloud, azurite: Azurite) -> None:
    gone = azurite.connection_string.replace(azurite.blob_url, "https://127.0.0.1:1/devstoreaccount1")
    rest = cloud.with_settings(ImageStorage=gone).rest()
    with pytest.raises(StorageError, match=r"no answer to HEAD .*a\.png: .*refused") as raised:
        rest.send("HEAD", url(cloud, rest), once=True)
    assert raised.value.status is None
    assert "sig=" not in str(raised.value)


def test_a_connection_string_may_hold_a_signature_instead_of_a_key(cloud: Cloud, azurite: Azurite) -> None:
    cloud.upload("a.png", b"picture")
    signed = cloud.with_settings(ImageStorage=azurite.connection_string).rest()._signature()
    services = f"BlobEndpoint={azurite.blob_url};QueueEndpoint={azurite.queue_url}"
    rest = cloud.with_settings(ImageStorage=f"{services};SharedAccessSignature={signed}").rest()
    assert rest.read(url(cloud, rest)) == b"picture"


def test_the_usual_emulator_s_key_is_known(cloud: Cloud) -> None:
    assert "sig=" in cloud.with_settings(ImageStorage="UseDevelopmentStorage=true").rest()._signature()


@pytest.mark.usefixtures("clock")
def test_an_identity_that_gives_no_token_is_an_error_of_storage_that_says_what_to_check(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    rest = cloud.rest()
    with pytest.raises(StorageError, match="AZURE_CLIENT_ID"):
        rest.read(url(cloud, rest))


@pytest.mark.usefixtures("clock")
def test_many_threads_fetch_a_token_once_and_a_fresh_one_when_it_is_about_to_end(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    fetch = Identity._fetch

    def noted(self: Identity, scope: str, fresh: bool) -> Any:
        fetched.append(scope)
        return fetch(self, scope, fresh)

    monkeypatch.setattr(Identity, "_fetch", noted)
    app = cloud.app_identity()
    start = threading.Barrier(8)

    def ask(_: int) -> str:
        start.wait()
        return app.token("https://storage.azure.com/.default")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    assert len(fetched) == 1
    with identity_endpoint.running([CLIENT_ID], lifetime=200) as short_lived:
        monkeypatch.setenv("IDENTITY_ENDPOINT", short_lived.endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", short_lived.header)
        other = cloud.app_identity()
        other.token("https://storage.azure.com/.default")
        other.token("https://storage.azure.com/.default")
    assert len(fetched) == 3
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(IdentityError, match=r"no token for https://vault\.azure\.net"):
        cloud.app_identity().token("https://vault.azure.net/.default")


@pytest.mark.parametrize("by", ["identity", "connection string"])
def test_a_large_image_comes_in_parts(cloud: Cloud, azurite: Azurite, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    for module in ("rest", "store", "sync"):
        monkeypatch.setattr(f"shared.{module}.LARGE", 100)
    if by == "connection string":
        cloud = cloud.with_settings(ImageStorage=azurite.connection_string)
        monkeypatch.setattr("azure.core.pipeline.transport.RequestsTransport.send", _trusting(azurite))
    cloud.upload("Zoë #1.png", picture())
    sync = cloud.sync()
    assert sync("Zoë #1.png").outcome == "embedded"
    assert cloud.record("Zoë #1.png")["bytes"] == len(picture())


def _trusting(azurite: Azurite) -> object:
    from azure.core.pipeline.transport import RequestsTransport

    send = RequestsTransport.send

    def trusting(self: RequestsTransport, request: object, **options: object) -> object:
        return send(self, request, **{**options, "connection_verify": str(azurite.ca_file)})

    return trusting


def test_a_large_image_that_is_another_by_now_is_a_conflict_or_an_error(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.store.LARGE", 100)
    cloud.upload("a.png", picture("red"))
    store = cloud.store()
    found = store.find_image("a.png", with_content=True)
    assert found is not None
    assert found.content is None
    cloud.upload("a.png", picture("blue"))
    with pytest.raises(Conflict):
        store.download(found)
    cloud.images.delete_container()
    with pytest.raises(StorageError) as raised:
        store.download(found)
    assert (raised.value.status, raised.value.code) == (404, "ContainerNotFound")


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_an_image_that_is_stored_compressed_is_the_picture_that_a_browser_shows(
    cloud: Cloud, encoding: str, compress: object
) -> None:
    assert callable(compress)
    stored = compress(picture())
    cloud.images.upload_blob("a.png", stored, content_settings=ContentSettings(content_encoding=encoding))
    assert cloud.sync()("a.png").outcome == "embedded"
    assert (cloud.record("a.png")["bytes"], cloud.record("a.png")["width"]) == (len(stored), 80)


def test_what_becomes_too_large_or_breaks_when_it_is_unpacked_is_the_image_s_own_fault(cloud: Cloud) -> None:
    compressed = ContentSettings(content_encoding="gzip")
    cloud.images.upload_blob("bomb.png", gzip.compress(bytes(10**6)), content_settings=compressed)
    cloud.images.upload_blob("no.png", picture(), content_settings=compressed)
    sync = cloud.with_settings(IMAGE_MAX_BYTES="100000").sync()
    assert sync("bomb.png").code == "too_many_bytes"
    assert sync("no.png").code == "damaged_image"


def test_bytes_that_came_along_are_let_go_when_they_are_taken(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    store = cloud.store()
    found = store.find_image("a.png", with_content=True)
    assert found is not None
    assert store.download(found) == picture()
    assert found.content is None
    assert store.download(found) == picture()
    with pytest.raises(Conflict):
        store.download(replace(found, etag="0x0"))
    store._most_bytes = 10
    with pytest.raises(PictureError, match="IMAGE_MAX_BYTES"):
        store.read_blob(cloud.settings.images_container, "a.png")
