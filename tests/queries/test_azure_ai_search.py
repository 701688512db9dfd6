"""Azure AI Search: the skill and the vectorizer as the service calls them, and the definitions that it is given."""

import base64
import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from azure.storage.blob import BlobServiceClient

import function_app
from local.azurite import Azurite
from shared import application as process
from shared.errors import ModelUnavailable, StorageError
from shared.pictures.limits import Limits, Prepared
from shared.pictures.prepare import prepare
from shared.queries.azure_ai_search import MAX_RECORDS, AzureAISearch, SearchRequest, SearchVector
from shared.queries.queries import Query, QueryOptions, QueryReport
from shared.settings import Settings
from shared.storage.images import Images
from shared.storage.memory_budget import MemoryBudget
from shared.triggers.blob_name import BlobName
from shared.uploads.records import EmbeddingRecord
from tests.conftest import Cloud
from tests.test_function_app import bindings, call, data_url, picture, start_anew

DEFINITIONS = Path(__file__).parents[2] / "infra" / "search"


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """Give each test an application of its own, as a new process has."""
    yield
    start_anew()


def bare(data: bytes) -> str:
    return base64.b64encode(data).decode()


def envelope(*inputs: object) -> dict[str, Any]:
    return {"values": [{"recordId": str(index), "data": data} for index, data in enumerate(inputs)]}


def skill(*inputs: object) -> list[dict[str, Any]]:
    """The results for records with these inputs, from an answer of 200."""
    status, _, body = call(function_app.skill, envelope(*inputs))
    assert status == 200
    assert list(body) == ["values"]
    results: list[dict[str, Any]] = body["values"]
    assert [result["recordId"] for result in results] == [str(index) for index in range(len(inputs))]
    return results


def vectorizer(*inputs: object) -> tuple[int, dict[str, str], Any]:
    return call(function_app.vectorizer, envelope(*inputs))


def error_of(result: dict[str, Any]) -> str:
    assert result["data"] == {}
    [error] = result["errors"]
    message: str = error["message"]
    return message


# The skill


@pytest.mark.parametrize("name", ["skill", "vectorizer"])
def test_the_routes_are_posts_that_need_a_key(name: str) -> None:
    trigger = bindings(function_app.api.blueprint, name)
    assert trigger["route"] == name
    assert [str(getattr(m, "value", m)) for m in trigger["methods"]] == ["POST"]
    assert "FUNCTION" in str(trigger["authLevel"]).upper()


def test_a_result_has_the_protocol_s_shape(cloud: Cloud) -> None:
    [result] = skill({"text": "a red thing"})
    assert result == {"recordId": "0", "data": {"vector": result["data"]["vector"]}, "errors": None, "warnings": None}
    assert len(result["data"]["vector"]) == 1024
    assert cloud.model.calls()[0]["input_type"] == "document"


@pytest.mark.parametrize(
    "image",
    [
        bare(picture("red", "JPEG")),
        data_url(picture()),
        {"$type": "file", "contentType": "image/jpeg", "data": bare(picture("red", "JPEG")), "width": 80, "height": 60},
        {"$type": "file", "url": "https://elsewhere.example/a.png", "data": bare(picture())},
    ],
    ids=["base64", "data URL", "normalized image", "file_data"],
)
def test_an_image_may_be_base64_a_data_url_or_an_indexer_s_object(cloud: Cloud, image: object) -> None:
    [result] = skill({"image": image})
    assert len(result["data"]["vector"]) == 1024
    assert cloud.model.calls()[0]["route"] == "/models/images/embeddings"


def test_an_image_with_a_text_is_fused(cloud: Cloud) -> None:
    fused, alone = skill({"image": data_url(picture()), "text": "a red thing"}, {"image": data_url(picture())})
    assert fused["data"] != alone["data"]
    assert {call["text"] for call in cloud.model.calls()} == {"a red thing", None}


def test_inputs_that_a_document_lacks_may_be_null_or_empty(cloud: Cloud) -> None:
    results = skill({"text": "red", "image": None, "imageUrl": None}, {"text": "", "image": data_url(picture())})
    assert all(result["errors"] is None for result in results)


def test_a_bad_record_gets_an_error_and_the_others_get_vectors(cloud: Cloud) -> None:
    records: list[tuple[object, str]] = [
        ({}, "nothing to embed"),
        ({"text": " "}, "nothing to embed"),
        ({"text": 1}, "Expected `str"),
        ({"image": {"$type": "file"}}, "missing required field `data`"),
        ({"image": "?"}, "not valid base64"),
        ({"image": {"data": ""}}, "no bytes"),
        ({"image": bare(b"hello")}, "not a picture"),
        ({"image": data_url(picture()), "imageUrl": "https://elsewhere.example/a.png"}, "one image"),
        ({"text": "data:image/png;base64,AAAA"}, "data URL of an image"),
    ]
    *bad, good = skill(*(inputs for inputs, _ in records), {"text": "a red thing"})
    for result, (_, message) in zip(bad, records, strict=True):
        assert message in error_of(result)
    assert len(good["data"]["vector"]) == 1024
    assert len(cloud.model.calls()) == 1


def test_a_record_that_the_model_rejects_gets_an_error(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "content_filter", "match": "bad"})
    refused, good = skill({"text": "a bad thing"}, {"text": "a good thing"})
    assert "filtered" in error_of(refused)
    assert len(good["data"]["vector"]) == 1024


def test_a_misspelled_input_is_a_warning(cloud: Cloud) -> None:
    [result] = skill({"text": "red", "imageURL": "https://elsewhere.example/a.png"})
    assert len(result["data"]["vector"]) == 1024
    [warning] = result["warnings"]
    assert "imageURL" in warning["message"]
    assert "elsewhere" not in warning["message"]


def test_a_request_may_have_a_thousand_records(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    results = skill(*({"text": "red" if index % 2 else "blue"} for index in range(1000)))
    assert {len(result["data"]["vector"]) for result in results} == {1024}
    assert len(cloud.model.calls()) == 2
    line = next(json.loads(record.message) for record in caplog.records if '"query"' in record.message)
    assert (line["inputs"], line["cache"], line["total_tokens"]) == (1000, "mixed", 2)
    status, _, body = call(function_app.skill, envelope(*({"text": "red"} for _ in range(1001))))
    assert (status, body["error"]["code"], body["error"]["target"]) == (413, "request_too_large", "values")


def test_no_records_get_no_results(cloud: Cloud) -> None:
    assert skill() == []


def test_images_of_storage_are_downloaded_one_after_the_other_by_what_fits_into_memory(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = process.application().azure_ai_search._images
    monkeypatch.setattr(images, "_budget", MemoryBudget(len(picture()) + 1))
    held: list[int] = []

    def watched(data: bytes, limits: Limits) -> Prepared:
        held.append(images._budget._free)
        return prepare(data, limits)

    monkeypatch.setattr("shared.queries.queries.prepare", watched)
    cloud.upload("a.png", picture())
    url = cloud.images.get_blob_client("a.png").url
    results = skill(*({"imageUrl": url, "text": str(index)} for index in range(6)))
    assert all(result["errors"] is None for result in results)
    assert held == [1] * 6


def test_search_gets_vectors_of_the_app_s_dimensions(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_MODEL", "embed-v-4-0")
    monkeypatch.setenv("EMBEDDING_DIMENSIONS", "256")
    [result] = skill({"text": "red"})
    assert len(result["data"]["vector"]) == 256
    assert len(vectorizer({"text": "red"})[2]["values"][0]["data"]["vector"]) == 256


# Envelopes


@pytest.mark.parametrize("function", [function_app.skill, function_app.vectorizer], ids=["skill", "vectorizer"])
@pytest.mark.parametrize(
    ("body", "target", "message"),
    [
        (b"{", None, "not JSON"),
        ([], None, "Expected `object`"),
        ({}, None, "missing required field `values`"),
        ({"values": {}}, "values", "Expected `array`"),
        ({"values": [1]}, "values[0]", "Expected `object`"),
        ({"values": [{"data": {}}]}, "values[0]", "missing required field `recordId`"),
        ({"values": [{"recordId": 1, "data": {}}]}, "values[0].recordId", "Expected `str`"),
        ({"values": [{"recordId": "1"}]}, "values[0]", "missing required field `data`"),
        ({"values": [{"recordId": "1", "data": "red"}]}, "values[0].data", "Expected `object`"),
        ({"values": [{"recordId": "1", "data": {}}] * 2}, "values[1].recordId", "appears twice"),
    ],
)
def test_a_malformed_envelope_is_a_400_that_names_the_field(
    cloud: Cloud, function: Any, body: object, target: str | None, message: str
) -> None:
    status, headers, answer = call(function, body)
    assert status == 400
    assert message in answer["error"]["message"]
    assert answer["error"].get("target") == target
    assert headers["x-ms-error-code"] == answer["error"]["code"]
    assert cloud.model.calls() == []


# A model or storage that is unavailable


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("behaviour", "status", "code", "retry_after"),
    [
        ({"throttle": {"calls": 0, "window_s": 60}}, 429, "too_many_requests", True),
        ({"fault": {"kind": "503"}}, 503, "model_unavailable", True),
        ({"fault": {"kind": "500"}}, 503, "model_unavailable", True),
        ({"fault": {"kind": "unauthorized"}}, 502, "model_misconfigured", False),
    ],
)
def test_a_request_fails_so_that_the_indexer_retries_it_if_no_record_got_a_vector(
    cloud: Cloud, behaviour: dict[str, Any], status: int, code: str, retry_after: bool
) -> None:
    cloud.model.behave(**behaviour)
    found, headers, answer = call(function_app.skill, envelope({"text": "red"}, {"text": "blue"}, {"image": "?"}))
    assert (found, answer["error"]["code"]) == (status, code)
    assert ("retry-after" in headers) == retry_after


def test_one_vector_is_enough_for_an_answer(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    skill({"text": "known"})
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    known, throttled = skill({"text": "known"}, {"text": "another"})
    assert len(known["data"]["vector"]) == 1024
    assert error_of(throttled)
    assert '"code":"records_failed","message":"1 of 2 records failed; the first: ' in caplog.text


def test_a_request_whose_records_are_all_at_fault_is_not_retried(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "content_filter"})
    refused, bad = skill({"text": "red"}, {"image": "?"})
    assert "filtered" in error_of(refused)
    assert "base64" in error_of(bad)


def test_a_record_whose_turn_comes_too_late_gets_an_error_that_says_what_to_do(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queries.azure_ai_search.MAX_QUERIES", 4)
    answerer = cloud.queries()
    answer_each = answerer.answer_each
    options: list[QueryOptions] = []

    def slow(group: list[Query], asked: QueryOptions, report: QueryReport) -> Any:
        options.append(asked)
        late = len(options) > 1
        return answer_each(group, replace(asked, deadline=time.monotonic() - 1) if late else asked, report)

    monkeypatch.setattr(answerer, "answer_each", slow)
    search = AzureAISearch(cloud.settings, cloud.image_reader(), answerer)
    request = msgspec.convert(envelope(*({"text": str(index)} for index in range(5))), SearchRequest)
    *first, last = search.skill(request, QueryReport()).values
    assert all(result.errors is None for result in first)
    assert last.errors is not None
    assert "make the skill's batchSize smaller" in last.errors[0].message
    assert len({asked.deadline for asked in options}) == 1, "all groups share the deadline of the request"
    assert len(cloud.model.calls()) == 4, "and nothing is paid for after it"


def test_failing_storage_is_a_503_if_every_record_needs_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise StorageError("Storage gave no answer")

    monkeypatch.setattr(Images, "read_blob", fail)
    url = f"{cloud.settings.blob_service_uri}/images/a.png"
    for function in (function_app.skill, function_app.vectorizer):
        status, headers, answer = call(function, envelope({"imageUrl": url}))
        assert (status, answer["error"]["code"]) == (503, "storage_unavailable")
        assert "retry-after" in headers
    failed, good = skill({"imageUrl": url}, {"text": "red"})
    assert "Storage gave no answer" in error_of(failed)
    assert len(good["data"]["vector"]) == 1024


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_busy_storage_is_not_the_record_s_fault(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise StorageError("server busy", status=status)

    monkeypatch.setattr(Images, "read_blob", fail)
    assert vectorizer({"imageUrl": f"{cloud.settings.blob_service_uri}/images/a.png"})[0] == 503


# The vectorizer


@pytest.mark.parametrize(
    "inputs",
    [
        {"text": "a red thing"},
        {"imageBinary": {"data": bare(picture())}},
        {"imageBinary": {"data": bare(picture())}, "text": "a red thing"},
    ],
    ids=["text", "imageBinary", "both"],
)
def test_the_vectorizer_returns_the_vector_under_the_name_that_search_expects(cloud: Cloud, inputs: object) -> None:
    status, _, body = vectorizer(inputs)
    assert status == 200
    [result] = body["values"]
    assert (result["recordId"], len(result["data"]["vector"])) == ("0", 1024)
    assert cloud.model.calls()[0]["input_type"] == "query"


def test_a_query_and_a_document_of_the_same_words_are_cached_separately(cloud: Cloud) -> None:
    skill({"text": "red"})
    vectorizer({"text": "red"})
    assert [call["input_type"] for call in cloud.model.calls()] == ["document", "query"]


@pytest.mark.parametrize(
    ("inputs", "status", "target", "message"),
    [
        ([{"text": "red"}, {"text": "blue"}], 400, "values", "takes one"),
        ([], 400, "values", "takes one"),
        ([{}], 400, "values[0].data", "nothing to embed"),
        ([{"text": 1}], 400, "values[0].data.text", "Expected `str"),
        ([{"imageBinary": {"data": "?"}}], 400, "values[0].data.imageBinary", "base64"),
        ([{"imageBinary": {"data": bare(b"hello")}}], 400, "values[0].data.imageBinary", "not a picture"),
        ([{"imageUrl": "https://elsewhere.example/a.png"}], 400, "values[0].data.imageUrl", "own account"),
    ],
)
def test_a_query_that_cannot_be_embedded_is_an_error_status(
    cloud: Cloud, inputs: list[object], status: int, target: str, message: str
) -> None:
    found, _, answer = vectorizer(*inputs)
    assert (found, answer["error"]["target"]) == (status, target)
    assert message in answer["error"]["message"]
    assert cloud.model.calls() == []


# imageUrl


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

    def change_and_read(reader: Images, image: Any) -> bytes:
        cloud.images.upload_blob("a.png", picture("blue"), overwrite=True)
        return read(reader, image)

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
        request = msgspec.convert(envelope({"imageUrl": url}, {"text": "red"}), SearchRequest)
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
    request = msgspec.convert(envelope({"imageUrl": cloud.images.get_blob_client("a.png").url}), SearchRequest)
    result = search.skill(request, QueryReport()).values[0]
    assert result.errors is None
    signed = "BlobEndpoint=https://account.blob.core.windows.net/;QueueEndpoint=https://account.queue.core.windows.net/;SharedAccessSignature=sv=2026-01-01&sig=c2VjcmV0"
    sas = AzureAISearch(cloud.with_settings(ImageStorage=signed).settings, cloud.image_reader(), cloud.queries())
    request = msgspec.convert(envelope({"imageUrl": "https://elsewhere.example/a.png"}), SearchRequest)
    [error] = sas.skill(request, QueryReport()).values[0].errors or []
    assert "must start with https://account.blob.core.windows.net/: " in error.message


def test_no_content_of_a_request_is_logged(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    skill({"text": "a private thing"}, {"text": 1}, {"image": data_url(picture())}, {"image": "cHJpdmF0ZQ=="})
    vectorizer({"text": "a private thing"})
    assert '"event":"query"' in caplog.text
    for secret in ("private", "cHJpdmF0ZQ", "base64,", "Bearer", "eyJ", "[0."):
        assert secret not in caplog.text


# The definitions


def definition(name: str) -> Any:
    return json.loads((DEFINITIONS / f"{name}.json").read_text())


def named(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in items}


EDM = {
    str: "Edm.String",
    str | None: "Edm.String",
    datetime: "Edm.DateTimeOffset",
    list[float]: "Collection(Edm.Single)",
}


def test_the_index_has_the_fields_of_a_record_with_their_types() -> None:
    record = {field.name: field.type for field in msgspec.structs.fields(EmbeddingRecord)}
    fields = named(definition("index")["fields"])
    assert [name for name, field in fields.items() if field.get("key")] == ["key"]
    for name, field in fields.items():
        if record.get(name) is int:
            assert field["type"] in {"Edm.Int32", "Edm.Int64"}
        elif name != "key":
            assert field["type"] == EDM[record[name]], name
    # IMAGE_MAX_BYTES may allow more than an Int32 holds.
    assert fields["bytes"]["type"] == "Edm.Int64"
    assert {"name", "url", "embedding"} <= set(fields)


def test_the_vector_s_profile_leads_to_the_vectorizer() -> None:
    index = definition("index")
    search = index["vectorSearch"]
    [vector] = [field for field in index["fields"] if field["type"].startswith("Collection")]
    assert vector["dimensions"] == "<dimensions>"
    profile = named(search["profiles"])[vector["vectorSearchProfile"]]
    assert profile["algorithm"] in named(search["algorithms"])
    parameters = named(search["vectorizers"])[profile["vectorizer"]]["customWebApiParameters"]
    route = bindings(function_app.api.blueprint, "vectorizer")["route"]
    assert parameters["uri"] == f"https://<function-app-host>/api/{route}"
    assert parameters["httpMethod"] == "POST"


def test_the_indexer_reads_records_from_the_data_source_into_the_index() -> None:
    indexer, source = definition("indexer"), definition("datasource")
    assert indexer["dataSourceName"] == source["name"]
    assert indexer["targetIndexName"] == definition("index")["name"]
    assert indexer["parameters"]["configuration"]["parsingMode"] == "json"
    assert source["container"]["query"] == "<space>/images/"
    assert "Key" not in source["credentials"]["connectionString"]


def test_deletions_are_detected_because_the_key_is_the_blob_s_path() -> None:
    assert "NativeBlobSoftDelete" in definition("datasource")["dataDeletionDetectionPolicy"]["@odata.type"]
    mappings = {mapping["targetFieldName"]: mapping for mapping in definition("indexer")["fieldMappings"]}
    assert mappings["key"]["sourceFieldName"] == "metadata_storage_path"
    assert mappings["key"]["mappingFunction"]["name"] == "base64Encode"


def test_fields_that_are_also_blob_metadata_are_mapped_to_the_record_s_content(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    function_app.embed_uploaded_image(BlobName(cloud.settings.images_container, "a.png"))
    blob = cloud.embeddings.get_blob_client(f"{cloud.settings.foundry_model}/images/a.png.json")
    fields = set(named(definition("index")["fields"]))
    mapped = {mapping["targetFieldName"]: mapping for mapping in definition("indexer")["fieldMappings"]}
    assert fields - {"key"} <= set(json.loads(blob.download_blob().readall()))
    ambiguous = fields & set(blob.get_blob_properties().metadata)
    assert ambiguous == set(mapped) - {"key"}
    for name in ambiguous:
        assert mapped[name]["sourceFieldName"] == f"/{name}"


def test_the_skill_of_the_skillset_is_this_app_s() -> None:
    [skill] = definition("skillset")["skills"]
    assert skill["uri"] == f"https://<function-app-host>/api/{bindings(function_app.api.blueprint, 'skill')['route']}"
    assert {item["name"] for item in skill["inputs"]} <= {"text", "image", "imageUrl"}
    assert [item["name"] for item in skill["outputs"]] == list(SearchVector.__struct_fields__)
    assert skill["batchSize"] <= MAX_RECORDS
    # A record waits up to 90 s for its turn and takes up to 90 s itself; the service waits for at most 230 s.
    assert skill["timeout"] == "PT230S"


def test_every_placeholder_and_file_is_explained() -> None:
    guide = (DEFINITIONS.parent.parent / "docs" / "azure-ai-search.md").read_text()
    files = sorted(DEFINITIONS.iterdir())
    assert [file.name for file in files] == ["datasource.json", "index.json", "indexer.json", "skillset.json"]
    for file in files:
        assert f"`{file.name}`" in guide
        for placeholder in re.findall(r"<[^>]+>", file.read_text()):
            assert f"`{placeholder}`" in guide, placeholder
            assert f"s|{placeholder}|" in guide or f's|\\"{placeholder}\\"|' in guide, placeholder
        assert f" {file.name}" in guide


def test_a_picture_for_which_there_is_no_memory_is_waited_for_until_the_deadline(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    images = cloud.image_reader()
    assert images._budget.try_reserve(images._budget._size)
    search = AzureAISearch(replace(cloud.settings, foundry_timeout=1), images, cloud.queries())
    url = f"{cloud.settings.blob_service_uri}/{cloud.settings.images_container}/a.png"
    request = msgspec.convert(envelope({"imageUrl": url}), SearchRequest)
    with pytest.raises(ModelUnavailable, match="FOUNDRY_TIMEOUT") as raised:
        search.vectorizer(request, QueryReport())
    assert raised.value.status == 504
