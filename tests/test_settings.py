"""App settings: read once, checked, and named if they are wrong."""

import pytest

from shared.errors import SettingError
from shared.settings import read_settings

KEYLESS = {
    "FOUNDRY_ENDPOINT": "https://contoso.services.ai.azure.com/models",
    "FOUNDRY_MODEL": "Cohere-embed-v3-english",
    "ImageStorage__blobServiceUri": "https://contoso.blob.core.windows.net/",
    "ImageStorage__queueServiceUri": "https://contoso.queue.core.windows.net/",
    "ImageStorage__credential": "managedidentity",
    "ImageStorage__clientId": "11111111-2222-3333-4444-555555555555",
}


def error_message(**changes: str) -> str:
    with pytest.raises(SettingError) as raised:
        read_settings({**KEYLESS, **changes})
    return str(raised.value)


def test_the_required_settings_are_enough() -> None:
    settings = read_settings(KEYLESS)
    assert settings.foundry_endpoint == "https://contoso.services.ai.azure.com/models"
    assert settings.foundry_api_version == "2024-05-01-preview"
    assert settings.foundry_scope == "https://cognitiveservices.azure.com/.default"
    assert settings.foundry_api_key is None
    assert (settings.foundry_concurrency, settings.embedding_dimensions) == (8, None)
    assert (settings.images_container, settings.embeddings_container) == ("images", "embeddings")
    assert (settings.image_max_bytes, settings.image_max_pixels) == (104_857_600, 200_000_000)
    assert (settings.model_max_bytes, settings.model_max_pixels) == (5_000_000, 2_458_624)
    assert (settings.text_metadata, settings.query_records) == ("text", "full")


@pytest.mark.parametrize("name", KEYLESS)
def test_a_missing_setting_is_named(name: str) -> None:
    assert f"{name} is missing" in error_message(**{name: ""})


def test_one_message_names_every_problem() -> None:
    message = error_message(FOUNDRY_MODEL="", FOUNDRY_CONCURRENCY="many", QUERY_RECORDS="some")
    assert all(name in message for name in ("FOUNDRY_MODEL", "FOUNDRY_CONCURRENCY", "QUERY_RECORDS"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOUNDRY_ENDPOINT", "contoso"),
        ("FOUNDRY_ENDPOINT", "https://<resource>.example/models"),
        ("FOUNDRY_ENDPOINT", "http://contoso.example/models"),
        ("FOUNDRY_ENDPOINT", "https://contoso.services.ai.azure.com"),
        ("FOUNDRY_ENDPOINT", "https://contoso.services.ai.azure.com/api/projects/one"),
        ("FOUNDRY_ENDPOINT", "https://contoso.services.ai.azure.com/models?code=1"),
        ("FOUNDRY_MODEL", "a/b"),
        ("FOUNDRY_CONCURRENCY", "0"),
        ("FOUNDRY_CONCURRENCY", "33"),
        ("EMBEDDING_DIMENSIONS", "-1"),
        ("IMAGE_MAX_BYTES", "1e6"),
        ("MODEL_MAX_PIXELS", "100"),
        ("IMAGES_CONTAINER", "Images"),
        ("IMAGES_CONTAINER", "a--b"),
        ("EMBEDDINGS_CONTAINER", "ab"),
        ("TEXT_METADATA", "my-text"),
        ("QUERY_RECORDS", "all"),
        ("ImageStorage__blobServiceUri", "http://contoso.blob.core.windows.net"),
        ("ImageStorage__credential", "key"),
    ],
)
def test_an_invalid_setting_is_named_with_its_value(name: str, value: str) -> None:
    assert f"{name} is {value!r}: it must be" in error_message(**{name: value})


def test_images_and_embeddings_cannot_share_a_container() -> None:
    message = error_message(EMBEDDINGS_CONTAINER="images")
    assert "IMAGES_CONTAINER and EMBEDDINGS_CONTAINER are both 'images'" in message


def test_a_token_is_sent_without_tls_only_on_this_machine() -> None:
    for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
        endpoint = f"http://{host}/models"
        assert read_settings({**KEYLESS, "FOUNDRY_ENDPOINT": endpoint}).foundry_endpoint == endpoint


def test_a_connection_string_replaces_the_four_settings_of_an_identity_based_connection() -> None:
    settings = read_settings(
        {
            "FOUNDRY_ENDPOINT": KEYLESS["FOUNDRY_ENDPOINT"],
            "FOUNDRY_MODEL": "embed-v-4-0",
            "ImageStorage": "DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=aGVsbG8=",
        }
    )
    assert settings.storage_connection_string is not None
    assert settings.blob_service_uri == "https://contoso.blob.core.windows.net"
    assert settings.queue_service_uri == "https://contoso.queue.core.windows.net"
    assert settings.client_id is None


def test_the_short_connection_string_of_the_emulator_works_and_one_that_names_no_service_is_rejected() -> None:
    settings = read_settings({**KEYLESS, "ImageStorage": "UseDevelopmentStorage=true"})
    assert settings.blob_service_uri == "http://127.0.0.1:10000/devstoreaccount1"
    assert settings.queue_service_uri == "http://127.0.0.1:10001/devstoreaccount1"
    with pytest.raises(SettingError, match="ImageStorage"):
        read_settings({**KEYLESS, "ImageStorage": "AccountKey=s3cret"})


def test_the_app_s_own_calls_use_the_identity_of_storage_unless_another_is_set() -> None:
    assert read_settings(KEYLESS).client_id == KEYLESS["ImageStorage__clientId"]
    assert read_settings({**KEYLESS, "AZURE_CLIENT_ID": "another"}).client_id == "another"


def test_an_empty_text_metadata_key_turns_pairs_off() -> None:
    assert read_settings({**KEYLESS, "TEXT_METADATA": ""}).text_metadata == ""


def test_printed_settings_show_no_secret() -> None:
    shown = repr(
        read_settings({**KEYLESS, "FOUNDRY_API_KEY": "s3cret", "ImageStorage": "AccountName=contoso;AccountKey=s3cret"})
    )
    assert "s3cret" not in shown
