"""Requests to storage: what is missing, retried, or an error, and what is too large for one request."""

import gzip
import json
import math
import random
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import urllib3
from azure.storage.blob import ContentSettings

from local import identity as identity_endpoint
from local.azurite import REPO_ROOT, Azurite
from local.faults import FaultKind, StorageFaults
from shared import identity as identity_module
from shared.errors import Conflict, IdentityError, PictureError, StorageError
from shared.identity import Identity
from shared.model.wire_format import ModelOptions
from shared.queries.queries import Query, QueryOptions, QueryReport
from shared.storage.images import Image, Images, _decoded
from shared.storage.rest import BRIEF, FULL, ONCE, Answer, Effort, Rest
from shared.uploads.sync import _MAX_TIME
from tests.conftest import CLIENT_ID, Clock, Cloud
from tests.drawing import picture


def url(cloud: Cloud, rest: Rest, name: str = "a.png") -> str:
    return rest.blob_url(cloud.settings.images_container, name)


def test_a_missing_blob_is_none_and_a_missing_container_an_error(cloud: Cloud) -> None:
    rest = cloud.rest()
    assert rest.find("HEAD", url(cloud, rest)) is None
    assert rest.read(url(cloud, rest)) is None
    assert rest.open(url(cloud, rest), lambda _: True) is None
    for read in (rest.read, lambda gone: rest.open(gone, lambda _: True), lambda gone: rest.find("HEAD", gone)):
        with pytest.raises(StorageError) as raised:
            read(rest.blob_url("no-such-container", "a.png"))
        assert (raised.value.status, raised.value.code) == (404, "ContainerNotFound")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", ["cut", "lost", "401", "500", "503"])
def test_a_transient_fault_is_retried(behind: Cloud, faults: StorageFaults, kind: FaultKind) -> None:
    behind.upload("a.png", b"picture")
    rest = behind.rest()
    for read in (rest.read, lambda blob: (rest.open(blob, lambda _: True) or ("", b""))[1]):
        faults.begin(kind, times=1)
        assert read(url(behind, rest)) == b"picture"
        assert faults.end() == 1


@pytest.mark.parametrize(("kind", "message"), [("no_role", "403 AuthorizationPermissionMismatch"), ("401", "401 Inv")])
def test_a_lasting_fault_is_an_error_that_names_the_request(
    behind: Cloud, faults: StorageFaults, kind: FaultKind, message: str
) -> None:
    behind.upload("a.png", b"picture")
    rest = behind.rest()
    faults.begin(kind)
    with pytest.raises(StorageError, match=f"{message}.* to GET .*a.png"):
        rest.read(url(behind, rest))


@pytest.mark.usefixtures("clock")
def test_an_image_is_embedded_even_if_many_answers_of_storage_are_lost(behind: Cloud, faults: StorageFaults) -> None:
    behind.upload("a.png", picture())
    sync = behind.sync()
    faults.begin("lost", share=0.3, seed=3)
    assert sync.upload("a.png").outcome == "embedded"
    assert faults.end() > 0
    assert len(behind.model.calls(200)) == 1


def test_the_error_of_an_unreachable_server_does_not_show_the_signature(
    cloud: Cloud, azurite: Azurite, nobody: str
) -> None:
    gone = azurite.connection_string.replace(azurite.blob_url, f"https://{nobody}/devstoreaccount1")
    rest = cloud.with_settings(ImageStorage=gone).rest()
    with pytest.raises(StorageError, match=r"did not answer HEAD .*a\.png: .*refused") as raised:
        rest.send("HEAD", url(cloud, rest), effort=ONCE)
    assert raised.value.status is None
    assert "sig=" not in str(raised.value)


def test_a_connection_string_may_hold_a_signature_instead_of_a_key(cloud: Cloud, azurite: Azurite) -> None:
    cloud.upload("a.png", b"picture")
    signed = cloud.with_settings(ImageStorage=azurite.connection_string).rest()._signature()
    services = f"BlobEndpoint={azurite.blob_url};QueueEndpoint={azurite.queue_url}"
    rest = cloud.with_settings(ImageStorage=f"{services};SharedAccessSignature={signed}").rest()
    assert rest.read(url(cloud, rest)) == b"picture"


def test_the_short_connection_string_of_the_emulator_works(cloud: Cloud) -> None:
    assert "sig=" in cloud.with_settings(ImageStorage="UseDevelopmentStorage=true").rest()._signature()


@pytest.mark.usefixtures("clock")
def test_an_identity_without_a_token_is_a_storage_error_that_says_what_to_check(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    rest = cloud.rest()
    with pytest.raises(StorageError, match="AZURE_CLIENT_ID"):
        rest.read(url(cloud, rest))


@pytest.mark.usefixtures("clock")
def test_threads_share_one_token_until_it_is_about_to_expire(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    fetch = Identity._fetch

    def counted(self: Identity, scope: str, fresh: bool) -> Any:
        fetched.append(scope)
        return fetch(self, scope, fresh)

    monkeypatch.setattr(Identity, "_fetch", counted)
    app = cloud.app_identity()
    start = threading.Barrier(8)

    def fetch_token(_: int) -> str:
        start.wait()
        return app.token("https://storage.azure.com/.default")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(fetch_token, range(8)))) == 1
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
def test_a_large_image_is_downloaded_in_parts(
    cloud: Cloud, azurite: Azurite, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    for module in ("storage.rest", "storage.images"):
        monkeypatch.setattr(f"shared.{module}.LARGE", 100)
    if by == "connection string":
        cloud = cloud.with_settings(ImageStorage=azurite.connection_string)
        monkeypatch.setattr("azure.core.pipeline.transport.RequestsTransport.send", _trusting(azurite))
    cloud.upload("Zoë #1.png", picture())
    sync = cloud.sync()
    assert sync.upload("Zoë #1.png").outcome == "embedded"
    assert cloud.record("Zoë #1.png")["bytes"] == len(picture())


def _trusting(azurite: Azurite) -> object:
    from azure.core.pipeline.transport import RequestsTransport

    send = RequestsTransport.send

    def trusting(self: RequestsTransport, request: object, **options: object) -> object:
        return send(self, request, **{**options, "connection_verify": str(azurite.ca_file)})

    return trusting


def test_a_large_image_that_has_changed_is_a_conflict_and_a_missing_container_an_error(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.images.LARGE", 100)
    cloud.upload("a.png", picture("red"))
    reader = cloud.image_reader()
    found = reader.find("a.png", with_content=True)
    assert found is not None
    assert found.content is None
    cloud.upload("a.png", picture("blue"))
    with pytest.raises(Conflict), reader.download(found):
        pass
    cloud.images.delete_container()
    with pytest.raises(StorageError) as raised, reader.download(found):
        pass
    assert (raised.value.status, raised.value.code) == (404, "ContainerNotFound")


def in_members(data: bytes) -> bytes:
    """A gzip file as several tools write it: one member after the other, then padding."""
    return b"".join(gzip.compress(data[start : start + 50]) for start in range(0, len(data), 50)) + bytes(512)


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", in_members),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
    ],
)
def test_an_image_stored_with_a_content_encoding_is_decompressed(
    cloud: Cloud, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    stored = compress(picture())
    cloud.images.upload_blob("a.png", stored, content_settings=ContentSettings(content_encoding=encoding))
    assert cloud.sync().upload("a.png").outcome == "embedded"
    assert (cloud.record("a.png")["bytes"], cloud.record("a.png")["width"]) == (len(stored), 80)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, raw_deflate])
@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
@pytest.mark.parametrize("content", [b"\0", random.Random(1).randbytes(1000)])
def test_decompression_loses_nothing_and_stops_at_the_limit(
    compress: Callable[[bytes], bytes], size: int, content: bytes
) -> None:
    data = (content * (size // len(content) + 1))[:size]
    encoding = "gzip" if compress is gzip.compress else "deflate"
    assert _decoded(compress(data), encoding, size) == data
    if size:
        with pytest.raises(PictureError, match="IMAGE_MAX_BYTES"):
            _decoded(compress(data), encoding, size - 1)


@pytest.mark.parametrize("members", [1, 1000])
def test_decompression_takes_no_more_than_was_set_aside_for_it(cloud: Cloud, members: int) -> None:
    part = gzip.compress(random.Random(1).randbytes(10**7 // members), 1)
    image = Image("a", "", "", len(part) * members, {}, "gzip")
    content = part * members
    tracemalloc.start()
    decoded = _decoded(content, "gzip", 10**7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(decoded) == 10**7
    # What is set aside includes the compressed bytes, which are not counted here.
    reader = cloud.with_settings(IMAGE_MAX_BYTES=str(10**7)).image_reader()
    assert peak <= reader._held(image) - image.size + 2**20


@pytest.mark.parametrize(
    ("encoding", "stored", "code"),
    [
        ("gzip", gzip.compress(bytes(10**6)), "too_many_bytes"),
        ("gzip", gzip.compress(bytes(60_000)) * 2, "too_many_bytes"),
        ("deflate", raw_deflate(bytes(10**6)), "too_many_bytes"),
        ("gzip", gzip.compress(b"") * 4_001, "damaged_image"),
        ("gzip", picture(), "damaged_image"),
        ("deflate", picture(), "damaged_image"),
        ("gzip", raw_deflate(picture()), "damaged_image"),
    ],
    ids=["bomb", "two members", "raw bomb", "many members", "no gzip", "no deflate", "no gzip but deflate"],
)
def test_an_image_that_cannot_be_decompressed_within_the_limit_is_a_failure(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, encoding: str, stored: bytes, code: str
) -> None:
    monkeypatch.setattr("shared.storage.images._MAX_MEMBERS", 4_000)
    cloud.images.upload_blob("a.png", stored, content_settings=ContentSettings(content_encoding=encoding))
    assert cloud.with_settings(IMAGE_MAX_BYTES="100000").sync().upload("a.png").code == code


def test_the_content_of_a_found_image_is_released_when_it_is_taken(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    reader = cloud.image_reader()
    found = reader.find("a.png", with_content=True)
    assert found is not None
    for _ in range(2):
        with reader.download(found) as data:
            assert data == picture()
        assert found.content is None
        assert reader._budget._free == reader._budget._size
    with pytest.raises(Conflict), reader.download(replace(found, etag="0x0")):
        pass
    reader._max_bytes = 10
    with (
        pytest.raises(PictureError, match="IMAGE_MAX_BYTES"),
        reader.read_blob(cloud.settings.images_container, "a.png", deadline=math.inf),
    ):
        pass


def test_bytes_that_nobody_takes_are_released_too(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    reader = cloud.image_reader()
    found = reader.find("a.png", with_content=True)
    assert found is not None
    assert reader._budget._free == reader._budget._size - len(picture())
    for _ in range(2):
        found.forget()
        assert (found.content, reader._budget._free) == (None, reader._budget._size)


def test_bytes_do_not_come_along_while_the_process_holds_too_much(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    reader = cloud.image_reader()
    with reader._budget.reserve(reader._budget._size):
        found = reader.find("a.png", with_content=True)
        assert found is not None
        assert found.content is None
    with reader.download(found) as data:
        assert data == picture()


def test_the_room_of_bytes_that_did_not_arrive_is_given_back(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.upload("a.png", picture())
    reader = cloud.image_reader()
    opens = Rest.open

    def broken(self: Rest, *arguments: Any, **more: Any) -> Any:
        headers, _ = opens(self, *arguments, **more) or ({}, b"")
        return headers, None

    monkeypatch.setattr(Rest, "open", broken)
    image = reader.find("a.png", with_content=True)
    assert image is not None
    assert (image.content, reader._budget._free) == (None, reader._budget._size)


def without_room(cloud: Cloud) -> Images:
    reader = cloud.image_reader()
    assert reader._budget.try_reserve(reader._budget._size)
    return reader


def test_an_image_for_which_there_is_no_memory_in_time_waits_on_the_queue(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.uploads.sync._MAX_TIME", 0.1)
    cloud.upload("a.png", picture())
    report = cloud.sync(images=without_room(cloud)).upload("a.png")
    assert (report.outcome, "memory" in str(report.message)) == ("deferred", True)
    assert cloud.failure("a.png") is None


def test_a_blob_for_which_there_is_no_memory_in_time_is_not_waited_for(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    reader = without_room(cloud)
    with (
        pytest.raises(TimeoutError),
        reader.read_blob(cloud.settings.images_container, "a.png", deadline=time.monotonic()),
    ):
        pass


@pytest.mark.parametrize("large", [100, 10**6])
def test_a_blob_that_a_caller_waits_for_is_read_with_brief_effort(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    for module in ("storage.rest", "storage.images"):
        monkeypatch.setattr(f"shared.{module}.LARGE", large)
    efforts: list[Effort] = []

    def noting(read: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, effort: Effort = FULL, **options: Any) -> Any:
            efforts.append(effort)
            return read(*arguments, effort=effort, **options)

        return noted

    monkeypatch.setattr(Rest, "send", noting(Rest.send))
    monkeypatch.setattr(Rest, "read_large", noting(Rest.read_large))
    cloud.upload("a.png", picture())
    with cloud.image_reader().read_blob(cloud.settings.images_container, "a.png", deadline=math.inf) as data:
        assert data == picture()
    assert [effort is BRIEF for effort in efforts] == [True, True]


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a server that says the same to every request, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.recv(2**16)
                    connection.sendall(answer)

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_blob_is_missing_also_where_a_proxy_has_dropped_the_code(cloud: Cloud) -> None:
    with answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone") as address:
        rest = reached_by_string(cloud, address)
        assert rest.open(url(cloud, rest), lambda _: True) is None
        assert rest.read(url(cloud, rest)) is None


def test_an_error_whose_body_breaks_off_is_no_blob(cloud: Cloud) -> None:
    with answering(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 100\r\n\r\n<Err") as address:
        rest = reached_by_string(cloud, address)
        with pytest.raises(StorageError) as raised:
            rest.open(url(cloud, rest), lambda _: True)
    assert raised.value.status == 403


@contextmanager
def hanging() -> Iterator[tuple[str, list[socket.socket]]]:
    """The address of a server that takes connections and says nothing, and what it has taken."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


def time_left() -> float:
    """The seconds of an invocation after all that a sync waits for the model."""
    minutes = json.loads((REPO_ROOT / "host.json").read_text())["functionTimeout"].split(":")[1]
    return int(minutes) * 60 - _MAX_TIME


def reached_by_string(cloud: Cloud, address: str) -> Rest:
    services = ";".join(f"{service}Endpoint={address}/account" for service in ("Blob", "Queue"))
    string = f"AccountName=account;AccountKey=bm9uZQ==;{services}"
    return cloud.with_settings(ImageStorage=string).rest()


def test_storage_that_hangs_is_given_up_before_the_platform_gives_up_on_the_process(cloud: Cloud, clock: Clock) -> None:
    with hanging() as (address, taken):
        rest = reached_by_string(cloud, address)
        with pytest.raises(StorageError):
            rest.read(url(cloud, rest), effort=replace(FULL, timeout=urllib3.Timeout(0.1)))
        assert len(taken) * float(FULL.timeout.read_timeout or math.inf) + sum(clock.waits) < time_left()


def test_a_large_download_that_hangs_is_given_up_as_soon(cloud: Cloud, clock: Clock) -> None:
    with hanging() as (address, taken):
        rest = reached_by_string(cloud, address)
        with pytest.raises(StorageError):
            rest.read_large(url(cloud, rest), "0x1", effort=replace(FULL, parts={**FULL.parts, "read_timeout": 0.1}))
        assert len(taken) > 1, "each part is tried again"
        assert len(taken) * FULL.parts["read_timeout"] + sum(clock.waits) < time_left()


def test_an_identity_that_hangs_is_given_up_as_soon(
    cloud: Cloud, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = identity_module._TIMEOUTS["read_timeout"]
    monkeypatch.setattr(identity_module, "_TIMEOUTS", {**identity_module._TIMEOUTS, "read_timeout": 0.1})
    with hanging() as (address, taken):
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/msi/token")
        with pytest.raises(IdentityError):
            cloud.app_identity().token("https://storage.azure.com/.default")
        assert len(taken) * seconds + sum(clock.waits) < time_left()


def test_a_query_waits_for_storage_briefly(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    efforts: list[Effort] = []
    request = Rest._request

    def noted(self: Rest, method: str, url: str, query: str, headers: Any, content: Any, effort: Effort) -> Answer:
        efforts.append(effort)
        return request(self, method, url, query, headers, content, effort)

    monkeypatch.setattr(Rest, "_request", noted)
    options = QueryOptions(ModelOptions("query"), time.monotonic() + 60)
    [answer] = cloud.queries().answer([Query("input[0]", text="red")], options, QueryReport())
    assert (answer.cached, len(efforts), set(map(id, efforts))) == (False, 3, {id(BRIEF)})
