"""The proxy in front of storage: invisible until it is told to fail, and then failing as it was told."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError, ServiceRequestError, ServiceResponseError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueServiceClient

from local.azurite import Azurite
from local.faults import FaultKind, StorageFaults
from local.identity import Identity
from tests.conftest import CLIENT_ID


@pytest.fixture(scope="module")
def switch() -> StorageFaults:
    return StorageFaults()


@pytest.fixture(scope="module")
def urls(azurite: Azurite, switch: StorageFaults) -> Iterator[tuple[str, str]]:
    with switch.before(azurite) as urls:
        yield urls


@pytest.fixture
def faults(switch: StorageFaults) -> Iterator[StorageFaults]:
    yield switch
    switch.end()


@pytest.fixture
def container(
    azurite: Azurite,
    urls: tuple[str, str],
    identity: Identity,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ContainerClient]:
    """A container of its own, reached through the proxy by a client that has a token and tries nothing twice."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", identity.endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", identity.header)
    with ExitStack() as clients:
        credential = clients.enter_context(ManagedIdentityCredential(client_id=CLIENT_ID))
        ca_file = str(azurite.ca_file)
        service = BlobServiceClient(urls[0], credential=credential, connection_verify=ca_file, retry_total=0)
        yield clients.enter_context(service).create_container(f"faults-{uuid.uuid4()}")


def test_what_is_sent_and_answered_goes_through_as_it_is(container: ContainerClient) -> None:
    data = os.urandom(3_000_000)
    container.upload_blob("a b/#1 ü.bin", data, metadata={"text": "a%20b"})
    blob = container.get_blob_client("a b/#1 ü.bin")
    assert blob.download_blob().readall() == data
    assert blob.download_blob(offset=1000, length=2000).readall() == data[1000:3000]
    assert blob.get_blob_properties().metadata == {"text": "a%20b"}
    assert [found.name for found in container.list_blobs()] == ["a b/#1 ü.bin"]
    with pytest.raises(ResourceNotFoundError):
        container.get_blob_client("nothing").get_blob_properties()


def test_queues_go_through_as_well(azurite: Azurite, urls: tuple[str, str]) -> None:
    connection_string = azurite.connection_string.replace(azurite.queue_url, urls[1])
    with QueueServiceClient.from_connection_string(
        connection_string, connection_verify=str(azurite.ca_file)
    ) as service:
        queue = service.create_queue("through-the-proxy")
        queue.send_message("hello")
        assert [message.content for message in queue.receive_messages()] == ["hello"]


def test_a_connection_that_is_cut_has_done_nothing(container: ContainerClient, faults: StorageFaults) -> None:
    faults.begin("cut")
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        container.upload_blob("a", b"a")
    faults.end()
    assert not container.get_blob_client("a").exists()


def test_when_the_answer_is_lost_the_work_is_still_done(container: ContainerClient, faults: StorageFaults) -> None:
    faults.begin("lost")
    with pytest.raises(ServiceResponseError):
        container.upload_blob("a", b"a")
    faults.end()
    assert container.get_blob_client("a").exists()


@pytest.mark.parametrize(
    ("kind", "code"), [("401", "InvalidAuthenticationInfo"), ("500", "InternalError"), ("503", "ServerBusy")]
)
def test_errors_look_like_those_of_storage(
    container: ContainerClient, faults: StorageFaults, kind: FaultKind, code: str
) -> None:
    faults.begin(kind)
    for ask in (
        lambda: container.upload_blob("a", b"a" * 100_000),
        lambda: container.get_blob_client("a").get_blob_properties(),
        lambda: container.get_blob_client("a").download_blob(),
    ):
        with pytest.raises(HttpResponseError) as raised:
            ask()
        assert (str(raised.value.status_code), raised.value.error_code) == (kind, code)  # type: ignore[attr-defined] # azure-core sets error_code on storage errors only
    assert faults.end() == 3
    assert not container.get_blob_client("a").exists(), "nothing was forwarded"


def test_slow_storage_still_answers(container: ContainerClient, faults: StorageFaults) -> None:
    faults.begin("slow", seconds=0.3)
    start = time.monotonic()
    container.upload_blob("a", b"a")
    assert time.monotonic() - start >= 0.3


def test_only_that_share_of_requests_fails_and_the_seed_says_which(
    container: ContainerClient, faults: StorageFaults
) -> None:
    def failures() -> list[int]:
        faults.begin("503", share=0.3, seed=7)
        failed = []
        for number in range(40):
            try:
                container.get_container_properties()
            except HttpResponseError:
                failed.append(number)
        return failed

    first = failures()
    assert 4 <= len(first) <= 20
    assert first == failures()
    assert faults.met == len(first)


def test_a_fault_can_be_over_by_itself(container: ContainerClient, faults: StorageFaults) -> None:
    faults.begin("503", times=1)
    with pytest.raises(HttpResponseError):
        container.get_container_properties()
    container.get_container_properties()
    assert faults.met == 1
