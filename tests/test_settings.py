"""App settings: read once, checked, and named if they are wrong."""

import re

import httpx
import hypothesis
import pytest
import urllib3
from azure.storage.blob import BlobServiceClient
from hypothesis import strategies as st

from local.model import cohere
from local.model.models import MODELS, PATHS
from shared import known_models
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
TEXTS = [
    "FOUNDRY_ENDPOINT",
    "FOUNDRY_MODEL",
    "IMAGES_CONTAINER",
    "EMBEDDINGS_CONTAINER",
    "QUEUE_PREFIX",
    "TEXT_METADATA",
    "RECONCILE_SCHEDULE",
    "ImageStorage__blobServiceUri",
    "ImageStorage__queueServiceUri",
    "ImageStorage__credential",
]
NUMBERS = [
    "FOUNDRY_CONCURRENCY",
    "FOUNDRY_TIMEOUT",
    "EMBEDDING_DIMENSIONS",
    "IMAGE_MAX_BYTES",
    "IMAGE_MAX_PIXELS",
    "MODEL_MAX_BYTES",
    "MODEL_MAX_PIXELS",
    "QUERY_RETENTION_DAYS",
]
OPTIONAL = [
    "AZURE_CLIENT_ID",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__queueServiceUri",
    "FOUNDRY_API_KEY",
    "FOUNDRY_API_VERSION",
    "FOUNDRY_SCOPE",
    "IMAGE_NAMES",
    "ImageStorage",
    "QUERY_RECORDS",
]


def test_a_length_that_a_known_model_does_not_have_is_an_error_that_lists_those_it_has() -> None:
    message = error_message(FOUNDRY_MODEL="embed-v-4-0", EMBEDDING_DIMENSIONS="768")
    assert "EMBEDDING_DIMENSIONS is 768: the vectors of embed-v-4-0 have 256, 512, 1024, 1536" in message


@pytest.mark.parametrize(
    ("model", "path"),
    [("Cohere-embed-v3-english", "/providers/cohere/v2"), ("cohere-embed-v5-pro", "/models")],
)
def test_a_known_model_that_does_not_answer_at_the_endpoint_is_an_error_that_says_where_it_does(
    model: str, path: str
) -> None:
    endpoint = f"https://contoso.services.ai.azure.com{path}"
    other = {"/models": "/providers/cohere/v2", "/providers/cohere/v2": "/models"}[path]
    message = error_message(FOUNDRY_MODEL=model, FOUNDRY_ENDPOINT=endpoint)
    assert f"FOUNDRY_ENDPOINT ends in {path}" in message
    assert f"answers on {other} alone" in message


@pytest.mark.parametrize("path", ["/models", "/providers/cohere/v2"])
@pytest.mark.parametrize("dimensions", ["", "256", "1536"])
def test_what_a_known_model_has_is_accepted(path: str, dimensions: str) -> None:
    endpoint = f"https://contoso.services.ai.azure.com{path}"
    accepted = {"FOUNDRY_MODEL": "embed-v-4-0", "FOUNDRY_ENDPOINT": endpoint, "EMBEDDING_DIMENSIONS": dimensions}
    assert read_settings({**KEYLESS, **accepted}).foundry_endpoints == (endpoint,)


def test_several_endpoints_are_separated_by_blanks() -> None:
    one, other = "https://west.services.ai.azure.com/models", "https://east.services.ai.azure.com/models"
    settings = read_settings({**KEYLESS, "FOUNDRY_ENDPOINT": f"{one}/  {other}"})
    assert settings.foundry_endpoints == (one, other)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("https://east.services.ai.azure.com/providers/cohere/v2", "must all end in /models, or all in"),
        ("https://contoso.services.ai.azure.com/models/", "names an endpoint twice"),
        ("https://east.services.ai.azure.com", "must end in /models or"),
        ("http://east.example/models", "must begin with https://"),
        (" ", "none around them"),
    ],
)
def test_endpoints_that_are_not_the_same_model_in_several_places_are_refused(other: str, said: str) -> None:
    assert said in error_message(FOUNDRY_ENDPOINT=f"https://contoso.services.ai.azure.com/models {other}")


PRO, FAST = "Cohere-Embed-V5-Pro", "Cohere-Embed-V5-Fast"
COHERE = "https://contoso.services.ai.azure.com/providers/cohere/v2"


def test_queries_are_embedded_by_the_model_of_the_images_unless_another_is_named() -> None:
    assert read_settings(KEYLESS).foundry_query_model == "Cohere-embed-v3-english"
    pair = {"FOUNDRY_ENDPOINT": COHERE, "FOUNDRY_MODEL": PRO, "FOUNDRY_QUERY_MODEL": FAST}
    assert read_settings({**KEYLESS, **pair}).foundry_query_model == FAST


def test_two_known_models_that_share_no_space_are_refused() -> None:
    message = error_message(FOUNDRY_ENDPOINT=COHERE, FOUNDRY_MODEL="embed-v-4-0", FOUNDRY_QUERY_MODEL=FAST)
    assert "FOUNDRY_QUERY_MODEL" in message
    assert "cannot be compared with those of embed-v-4-0" in message


def test_a_query_model_that_does_not_answer_at_the_endpoint_is_refused() -> None:
    message = error_message(FOUNDRY_MODEL="mine", FOUNDRY_QUERY_MODEL=FAST)
    assert f"{FAST} answers on /providers/cohere/v2 alone" in message


def test_a_deployment_of_another_name_may_have_any_length() -> None:
    assert read_settings({**KEYLESS, "FOUNDRY_MODEL": "mine", "EMBEDDING_DIMENSIONS": "7"}).embedding_dimensions == 7


def test_the_known_models_are_as_the_stand_in_serves_them() -> None:
    assert {model.name: (model.dimensions, set(model.paths), model.space) for model in known_models.MODELS} == {
        name: (model.lengths, {PATHS[form] for form in model.formats}, model.space or name)
        for name, model in MODELS.items()
        if name != "plain-embed"
    }


def test_the_pictures_that_models_take_are_those_that_the_stand_in_decodes() -> None:
    assert known_models.image_types("https://contoso.services.ai.azure.com/models") == {"image/png"}
    taken = known_models.image_types("https://contoso.services.ai.azure.com/providers/cohere/v2")
    assert taken == {f"image/{file.lower()}" for file in cohere.FILES}


def error_message(**changes: str) -> str:
    with pytest.raises(SettingError) as raised:
        read_settings({**KEYLESS, **changes})
    return str(raised.value)


def test_the_required_settings_are_enough() -> None:
    settings = read_settings(KEYLESS)
    assert settings.foundry_endpoints == ("https://contoso.services.ai.azure.com/models",)
    assert settings.foundry_api_version == "2024-05-01-preview"
    assert settings.foundry_scope == "https://cognitiveservices.azure.com/.default"
    assert settings.foundry_api_key is None
    assert (settings.foundry_concurrency, settings.embedding_dimensions) == (8, None)
    assert (settings.images_container, settings.embeddings_container) == ("images", "embeddings")
    assert (settings.image_max_bytes, settings.image_max_pixels) == (104_857_600, 200_000_000)
    assert (settings.model_max_bytes, settings.model_max_pixels) == (5_000_000, 2_458_624)
    assert (settings.text_metadata, settings.query_records) == ("text", "full")


@pytest.mark.parametrize("name", ["m", "7", "e5", "m" * 128])
def test_a_deployment_may_have_any_name_that_the_message_allows(name: str) -> None:
    assert read_settings({**KEYLESS, "FOUNDRY_MODEL": name}).foundry_model == name
    assert "1 to 128 letters" in error_message(FOUNDRY_MODEL=f"{name}/")


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
        ("FOUNDRY_ENDPOINT", "https://[resource].services.ai.azure.com/models"),
        ("FOUNDRY_ENDPOINT", "https://[::1/models"),
        ("FOUNDRY_ENDPOINT", "https://user:password@contoso.example/models"),
        ("FOUNDRY_ENDPOINT", "https://contoso.example:99999/models"),
        ("FOUNDRY_ENDPOINT", "https://contoso\n.example/models"),
        ("FOUNDRY_API_KEY", "two words"),
        ("FOUNDRY_SCOPE", "caf\u00e9"),
        ("AzureWebJobsStorage__queueServiceUri", "https://[host].queue.core.windows.net"),
        ("AzureWebJobsStorage__accountName", "[host]"),
        ("ImageStorage", "AccountName=[account];AccountKey=aGVsbG8="),
        ("ImageStorage", "AccountName=contoso;AccountKey=no base64"),
        ("ImageStorage", "AccountName=contoso"),
        ("FOUNDRY_MODEL", "a/b"),
        ("FOUNDRY_MODEL", "-"),
        ("FOUNDRY_MODEL", "m-"),
        ("FOUNDRY_MODEL", "m" * 129),
        ("FOUNDRY_CONCURRENCY", "0"),
        ("FOUNDRY_CONCURRENCY", "33"),
        ("EMBEDDING_DIMENSIONS", "-1"),
        ("IMAGE_MAX_BYTES", "1e6"),
        ("MODEL_MAX_PIXELS", "100"),
        ("IMAGES_CONTAINER", "Images"),
        ("IMAGES_CONTAINER", "a--b"),
        ("EMBEDDINGS_CONTAINER", "ab"),
        ("TEXT_METADATA", "my-text"),
        ("QUEUE_PREFIX", "Team"),
        ("IMAGE_NAMES", " , ,"),
        ("IMAGE_NAMES", "*.jpg\n*.png"),
        ("IMAGE_NAMES", "*" * 2_001),
        ("QUEUE_PREFIX", "-team"),
        ("QUEUE_PREFIX", "team- "),
        ("IMAGES_CONTAINER", " images"),
        ("IMAGES_CONTAINER", " "),
        ("RECONCILE_SCHEDULE", "0 0 3 * * *\n"),
        ("RECONCILE_SCHEDULE", " 0 0 3 * * *"),
        ("FOUNDRY_CONCURRENCY", " 8"),
        ("TEXT_METADATA", " "),
        ("QUEUE_PREFIX", "team--"),
        ("QUEUE_PREFIX", "a" * 39),
        ("QUERY_RECORDS", "all"),
        ("ImageStorage__blobServiceUri", "http://contoso.blob.core.windows.net"),
        ("ImageStorage__credential", "key"),
    ],
)
def test_an_invalid_setting_is_named_with_what_it_must_be(name: str, value: str) -> None:
    assert re.search(rf"{name} is (invalid|no number|{re.escape(value)}): it must ", error_message(**{name: value}))


@pytest.mark.parametrize("name", [*TEXTS, *NUMBERS, "QUERY_RECORDS"])
def test_no_value_is_repeated_in_what_anyone_may_read(name: str) -> None:
    # No setting of any kind accepts these: a path with a signature, and the same in capitals with blanks.
    for value in ("https://contoso.example/?sig=s3cret", "AccountName=\u00e9 s3cret/"):
        message = error_message(**{name: value})
        assert name in message
        assert "s3cret" not in message
        assert "contoso" not in message


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_repeated(name: str) -> None:
    assert f"{name} is -5: it must be a whole number from " in error_message(**{name: "-5"})


def test_an_invalid_choice_is_answered_with_the_choices() -> None:
    assert "QUERY_RECORDS is invalid: it must be one of full, vector, off" in error_message(QUERY_RECORDS="all")


# The characters and words at which URLs, connection strings and numbers break.
_pieces = st.sampled_from(
    ["https://", "http://", "[", "]", "::1", "127.0.0.1", "localhost", ".services.ai.azure.com", "/models", "@", ":",
     "?", "#", "%", "..", "=", ";", "AccountName", "AccountKey", "aGVsbG8=", "BlobEndpoint", "QueueEndpoint", "0", "-",
     " ", "UseDevelopmentStorage=true", "EndpointSuffix", "\n", "\0", "\u00e9", "\udcff"]
)  # fmt: skip
_values = st.lists(st.one_of(_pieces, st.text(max_size=3)), max_size=8).map("".join)


@hypothesis.settings(derandomize=True, database=None, deadline=None, max_examples=800)
@hypothesis.given(st.dictionaries(st.sampled_from([*KEYLESS, *TEXTS, *NUMBERS, *OPTIONAL]), _values, max_size=4))
def test_any_environment_is_settings_that_work_or_one_error_that_names_a_setting(changes: dict[str, str]) -> None:
    try:
        read = read_settings({**KEYLESS, **changes})
    except SettingError as error:
        assert any(name in str(error) for name in [*KEYLESS, *changes])  # noqa: PT017 - both ends are right
        return
    # What was accepted is taken by the libraries that it is for.
    for url in (*read.foundry_endpoints, read.blob_service_uri, read.queue_service_uri, read.host_queue_service_uri):
        assert url is None or (httpx.URL(url).host and urllib3.util.parse_url(url).host)
    if read.storage_connection_string:
        with BlobServiceClient.from_connection_string(read.storage_connection_string) as service:
            assert service.url


def test_images_and_embeddings_cannot_share_a_container() -> None:
    message = error_message(EMBEDDINGS_CONTAINER="images")
    assert "IMAGES_CONTAINER and EMBEDDINGS_CONTAINER name the same container" in message


def test_a_token_is_sent_without_tls_only_on_this_machine() -> None:
    for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
        endpoint = f"http://{host}/models"
        assert read_settings({**KEYLESS, "FOUNDRY_ENDPOINT": endpoint}).foundry_endpoints == (endpoint,)


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


def test_a_prefix_of_queues_may_leave_no_more_than_a_queue_s_name_can_be_long() -> None:
    assert read_settings(KEYLESS).queue_prefix == ""
    for prefix in ("team-a-", "a" * 38):
        assert read_settings({**KEYLESS, "QUEUE_PREFIX": prefix}).queue_prefix == prefix


@pytest.mark.parametrize(("value", "patterns"), [("  ", ()), (" *.jpg , photos/*\n", ("*.jpg", "photos/*"))])
def test_blanks_around_the_patterns_of_names_do_not_count(value: str, patterns: tuple[str, ...]) -> None:
    assert read_settings({**KEYLESS, "IMAGE_NAMES": value}).image_names == patterns


def test_an_empty_text_metadata_key_turns_pairs_off() -> None:
    assert read_settings({**KEYLESS, "TEXT_METADATA": ""}).text_metadata == ""


def test_printed_settings_show_no_secret() -> None:
    shown = repr(
        read_settings(
            {**KEYLESS, "FOUNDRY_API_KEY": "s3cret", "ImageStorage": "AccountName=contoso;AccountKey=s3crets3"}
        )
    )
    assert "s3cret" not in shown


@pytest.mark.parametrize(("given", "share"), [(None, 0.9), ("0.5", 0.5), ("1", 1.0), (".25", 0.25), ("0.05", 0.05)])
def test_the_share_of_the_quota_is_read_as_a_number(given: str | None, share: float) -> None:
    environment = KEYLESS if given is None else {**KEYLESS, "BACKLOG_SHARE": given}
    assert read_settings(environment).backlog_share == share


@pytest.mark.parametrize("given", ["0", "0.04", "1.1", "90%", "-0.5", "nan", "much"])
def test_a_share_that_is_none_is_named(given: str) -> None:
    with pytest.raises(SettingError, match=r"BACKLOG_SHARE is .*: it must be a number from 0.05 to 1"):
        read_settings({**KEYLESS, "BACKLOG_SHARE": given})


@pytest.mark.parametrize(("given", "limit"), [(None, None), ("", None), ("0", 0), ("5000000", 5_000_000)])
def test_without_a_daily_limit_there_is_none_and_0_is_one(given: str | None, limit: int | None) -> None:
    environment = KEYLESS if given is None else {**KEYLESS, "DAILY_TOKEN_LIMIT": given}
    assert read_settings(environment).daily_token_limit == limit
