"""The managed-identity endpoint, as azure-identity and storage see it."""

import base64
import json
import time

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient

from local import identity
from local.azurite import Azurite
from local.identity import Identity
from tests.conftest import CLIENT_ID, PATIENCE

RESOURCE = "https://cognitiveservices.azure.com"


def ask(endpoint: Identity, header: str, **query: str) -> httpx.Response:
    headers = {"X-IDENTITY-HEADER": header}
    return httpx.get(endpoint.endpoint, params=query, headers=headers, trust_env=False, timeout=PATIENCE)


@pytest.fixture
def app(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, given an identity as the platform gives it to an app."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", identity.endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", identity.header)


@pytest.mark.usefixtures("app")
def test_an_app_gets_a_token_for_the_resource_it_names() -> None:
    with ManagedIdentityCredential(client_id=CLIENT_ID) as credential:
        token = credential.get_token(f"{RESOURCE}/.default").token
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["aud"] == RESOURCE
    assert claims["exp"] > time.time() + 3600


@pytest.mark.usefixtures("app")
def test_an_unknown_identity_gets_no_token() -> None:
    with (
        ManagedIdentityCredential(client_id="ffffffff-0000-0000-0000-000000000000") as credential,
        pytest.raises(ClientAuthenticationError),
    ):
        credential.get_token(f"{RESOURCE}/.default")


def test_a_request_without_the_header_is_refused(identity: Identity) -> None:
    query = {"resource": RESOURCE, "api-version": "2019-08-01", "client_id": CLIENT_ID}
    assert ask(identity, identity.header, **query).status_code == 200
    assert ask(identity, "wrong", **query).status_code == 401


def test_the_lifetime_of_a_token_can_be_set() -> None:
    with identity.running([CLIENT_ID], lifetime=60) as endpoint:
        query = {"resource": RESOURCE, "api-version": "2019-08-01", "client_id": CLIENT_ID}
        before = time.time()
        expires = int(ask(endpoint, endpoint.header, **query).json()["expires_on"])
    assert before + 59 < expires <= time.time() + 60


@pytest.mark.usefixtures("app")
def test_storage_lets_in_only_those_with_a_token(azurite: Azurite) -> None:
    verify = str(azurite.ca_file)
    with (
        ManagedIdentityCredential(client_id=CLIENT_ID) as credential,
        BlobServiceClient(azurite.blob_url, credential, connection_verify=verify) as service,
    ):
        assert list(service.list_containers(name_starts_with="none-such")) == []
    with (
        BlobServiceClient(azurite.blob_url, connection_verify=verify) as anonymous,
        pytest.raises(HttpResponseError),
    ):
        next(iter(anonymous.list_containers()))
