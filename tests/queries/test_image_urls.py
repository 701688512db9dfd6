"""An imageUrl names an image of the app's own account, and nothing else is ever fetched."""

import json
import logging
from typing import Any

import msgspec
import pytest
from azure.storage.blob import BlobServiceClient

from local.azurite import Azurite
from shared.queries.azure_ai_search import AzureAISearch, WebApiRequest
from shared.queries.queries import QueryReport
from shared.settings import Settings
from shared.storage.images import Images
from tests.conftest import Cloud
from tests.drawing import data_url, picture
from tests.queries.search_requests import envelope, error_of, skill, vectorizer


def test_an_image_of_the_app_s_own_account_is_fetched(cloud: Cloud) -> None:
    name = "trip/50% ü b#1?.png"
    cloud.upload(name, picture())
    url = cloud.images.get_blob_client(name).url
    of_url, of_data = skill({"imageUrl": url}, {"image": data_url(picture())})
    assert of_url["data"] == of_data["data"]
    assert vectorizer({"imageUrl": url})[0] == 200


def test_the_scheme_and_the_host_may_be_in_capitals(cloud: Cloud) -> None:
    cloud.upload("A.png", picture())
    account = cloud.settings.blob_service_uri
    [result] = skill({"imageUrl": f"{account.upper()}/{cloud.settings.images_container}/A.png"})
    assert result["errors"] is None


def test_images_of_other_containers_of_the_account_are_fetched_too(cloud: Cloud, azurite: Azurite) -> None:
    with BlobServiceClient.from_connection_string(
        azurite.connection_string, connection_verify=str(azurite.ca_file)
    ) as service:
        other = service.create_container(f"{cloud.settings.images_container}-other")
        other.upload_blob("a.png", picture())
        [result] = skill({"imageUrl": other.get_blob_client("a.png").url})
    assert result["errors"] is None


def test_a_sas_is_ignored_and_never_shown(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="image_embeddings")
    cloud.upload("a.png", picture())
    url = cloud.images.get_blob_client("a.png").url
    sas = "sv=2026-01-01&sr=b&sig=c2VjcmV0"
    good, missing, encoded, elsewhere = skill(
        {"imageUrl": f"{url}?{sas}"},
        {"imageUrl": f"{url}.gone?{sas}"},
        {"imageUrl": f"{url}%3F{sas}"},
        {"imageUrl": f"https://elsewhere.example/a.png?{sas}"},
    )
    assert good["errors"] is None
    assert "BlobNotFound" in error_of(missing)
    assert "the first '?' must not be encoded" in error_of(encoded)
    assert "own account" in error_of(elsewhere)
    status, _, answer = vectorizer({"imageUrl": f"{url}.gone?{sas}"})
    assert (status, answer["error"]["code"]) == (400, "image_not_readable")
    assert "c2VjcmV0" not in caplog.text + json.dumps([missing, encoded, elsewhere, answer])


def test_a_missing_blob_and_one_that_is_no_picture_get_errors_that_say_so(cloud: Cloud) -> None:
    cloud.upload("a.txt", b"hello")
    account, container = cloud.settings.blob_service_uri, cloud.settings.images_container
    text, missing, nowhere = skill(
        {"imageUrl": f"{account}/{container}/a.txt"},
        {"imageUrl": f"{account}/{container}/gone.png"},
        {"imageUrl": f"{account}/no-such-container/a.png"},
    )
    assert "not a picture" in error_of(text)
    assert "(BlobNotFound)" in error_of(missing)
    assert "(ContainerNotFound)" in error_of(nowhere)
    assert "Storage Blob Data Reader" in error_of(nowhere)


def test_a_blob_that_is_too_large_is_not_downloaded(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_MAX_BYTES", "100")
    cloud.upload("large.png", picture() + b" " * 100)
    url = cloud.images.get_blob_client("large.png").url
    monkeypatch.setattr(Images, "_read", lambda *_, **__: 1 / 0)
    status, _, answer = vectorizer({"imageUrl": url})
    assert (status, answer["error"]["code"]) == (413, "too_many_bytes")
    assert "IMAGE_MAX_BYTES allows 100" in answer["error"]["message"]


def test_a_blob_that_changes_meanwhile_is_not_downloaded(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.upload("a.png", picture())
    read = Images._read

    def change_and_read(reader: Images, image: Any, **options: Any) -> bytes:
        cloud.images.upload_blob("a.png", picture("blue"), overwrite=True)
        return read(reader, image, **options)

    monkeypatch.setattr(Images, "_read", change_and_read)
    [result] = skill({"imageUrl": cloud.images.get_blob_client("a.png").url})
    assert "(ConditionNotMet)" in error_of(result)


def urls_of_others(own: str, embeddings: str) -> dict[str, str]:
    """URLs that do not plainly name an image of the account ``own``."""
    scheme, _, host = own.partition("://")
    return {
        "another host": "https://elsewhere.example/images/a.png",
        "another account with the same suffix": "https://attacker.blob.core.windows.net/images/a.png",
        "our account as a subdomain": f"{own}.elsewhere.example/images/a.png",
        "our account as a prefix": f"{own}x/images/a.png",
        "a trailing dot": f"{own}./images/a.png",
        "our account as the user": f"{own}@elsewhere.example/images/a.png",
        "our account as user and password": f"{scheme}://{host}:x@elsewhere.example/images/a.png",
        "a user": f"{scheme}://user@{host}/images/a.png",
        "a port": f"{own}:8443/images/a.png",
        "the default port": f"{own}:443/images/a.png",
        "http": f"http://{host}/images/a.png",
        "file": "file:///etc/passwd",
        "ftp": f"ftp://{host}/images/a.png",
        "data": "data:image/png;base64,AAAA",
        "no scheme": f"//{host}/images/a.png",
        "a path": "/images/a.png",
        "more slashes": f"{scheme}:///{host}/images/a.png",
        "one slash": f"{scheme}:/{host}/images/a.png",
        "backslashes for slashes": f"{scheme}:\\\\{host}\\images\\a.png",
        "a backslash before the host": f"{own}\\@elsewhere.example/images/a.png",
        "an IP address": "https://169.254.169.254/metadata/identity/oauth2/token",
        "an IP address as a number": "https://2852039166/images/a.png",
        "an IPv6 address": "https://[::1]/images/a.png",
        "a host that looks like ours": f"{own}/images/a.png".replace("o", "\u043e"),
        "full-width letters": "https://\uff41ccount.blob.core.windows.net/images/a.png",
        "an encoded host": f"{scheme}://%61{host[1:]}/images/a.png",
        "a space before": f" {own}/images/a.png",
        "a line break": f"{own}\r\nHost: elsewhere.example/images/a.png",
        "a tab in the host": f"{own[:12]}\t{own[12:]}/images/a.png",
        "nothing": own,
        "no container": f"{own}/",
        "no blob": f"{own}/images",
        "an empty blob": f"{own}/images/",
        "an empty container": f"{own}//images/a.png",
        "another host as the path": f"{own}//elsewhere.example/images/a.png",
        "the embeddings": f"{own}/{embeddings}/a.json",
        "the embeddings in capitals": f"{own}/{embeddings.upper()}/a.json",
        "the embeddings with an encoded letter": f"{own}/%65{embeddings[1:]}/a.json",
        "the embeddings behind dots": f"{own}/images/../{embeddings}/a.json",
        "the embeddings behind encoded dots": f"{own}/images/%2e%2e/{embeddings}/a.json",
        "the embeddings behind half-encoded dots": f"{own}/images/.%2E/{embeddings}/a.json",
        "the embeddings behind dots encoded twice": f"{own}/images/%252e%252e/{embeddings}/a.json",
        "the embeddings behind an encoded slash": f"{own}/images/..%2f{embeddings}/a.json",
        "the embeddings behind a slash encoded twice": f"{own}/images/..%252f{embeddings}/a.json",
        "the embeddings behind a backslash": f"{own}/images/..%5C{embeddings}%5Ca.json",
        "dots as the container": f"{own}/../{embeddings}/a.json",
        "a container with an encoded slash": f"{own}/images%2Fa.png",
        "a container of the platform": f"{own}/$web/a.png",
        "a dot": f"{own}/images/./a.png",
        "a null": f"{own}/images/a%00.png",
        "an encoded line break": f"{own}/images/a%0d%0a.png",
        "bytes that are not UTF-8": f"{own}/images/%ff.png",
        "half an escape": f"{own}/images/%2.png",
        "a fragment": f"{own}/images/a.png#b",
        "a space": f"{own}/images/a b.png",
        "a letter that is not encoded": f"{own}/images/ü.png",
        "a name that is too long": f"{own}/images/{'a' * 1025}",
    }


@pytest.mark.parametrize("kind", urls_of_others("https://account.blob.core.windows.net", "embeddings"))
def test_only_plain_urls_of_the_app_s_own_account_are_fetched(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Images, "read_blob", lambda *_, **__: 1 / 0)
    own = cloud.settings.blob_service_uri
    for account in ("https://account.blob.core.windows.net", own):
        url = urls_of_others(account, cloud.settings.embeddings_container)[kind]
        search = AzureAISearch(settings_for(cloud, account), cloud.image_reader(), cloud.queries())
        request = msgspec.convert(envelope({"imageUrl": url}, {"text": "red"}), WebApiRequest)
        result = search.skill(request, QueryReport()).values[0]
        assert result.errors is not None
        assert result.errors[0].message.startswith("The imageUrl ")
        assert result.data.vector is None
        for target in ("etc/passwd", "169.254", "elsewhere", "attacker"):
            assert target not in result.errors[0].message


def settings_for(cloud: Cloud, account: str) -> Settings:
    return cloud.with_settings(ImageStorage__blobServiceUri=account).settings


def test_a_connection_string_s_blob_endpoint_is_the_app_s_account(cloud: Cloud, azurite: Azurite) -> None:
    cloud.upload("a.png", picture())
    emulator = cloud.with_settings(ImageStorage=azurite.connection_string)
    search = AzureAISearch(emulator.settings, emulator.image_reader(), emulator.queries())
    request = msgspec.convert(envelope({"imageUrl": cloud.images.get_blob_client("a.png").url}), WebApiRequest)
    result = search.skill(request, QueryReport()).values[0]
    assert result.errors is None
    signed = "BlobEndpoint=https://account.blob.core.windows.net/;QueueEndpoint=https://account.queue.core.windows.net/;SharedAccessSignature=sv=2026-01-01&sig=c2VjcmV0"
    sas = AzureAISearch(cloud.with_settings(ImageStorage=signed).settings, cloud.image_reader(), cloud.queries())
    request = msgspec.convert(envelope({"imageUrl": "https://elsewhere.example/a.png"}), WebApiRequest)
    [error] = sas.skill(request, QueryReport()).values[0].errors or []
    assert "must start with https://account.blob.core.windows.net/: " in error.message
