"""Azure AI Search: the skill and the vectorizer, as the service calls them."""

import json
import logging
import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

import function_app
from shared import application as process
from shared.errors import ModelUnavailable, StorageError
from shared.pictures.limits import Limits, Prepared
from shared.pictures.prepare import prepare
from shared.queries.azure_ai_search import AzureAISearch, WebApiRequest
from shared.queries.queries import Query, QueryOptions, QueryReport
from shared.storage.images import Images
from shared.storage.memory_budget import MemoryBudget
from tests.conftest import Cloud
from tests.drawing import data_url, picture
from tests.functions import bindings, call
from tests.queries.search_requests import bare, envelope, error_of, skill, vectorizer

# The skill


@pytest.mark.parametrize("name", ["skill", "vectorizer"])
def test_the_routes_are_posts_that_need_a_key(name: str) -> None:
    trigger = bindings(function_app.api.blueprint, name)
    assert trigger["route"] == name
    assert [str(getattr(m, "value", m)) for m in trigger["methods"]] == ["POST"]
    assert "FUNCTION" in str(trigger["authLevel"]).upper()


@pytest.mark.either_format
def test_a_result_has_the_protocol_s_shape(cloud: Cloud) -> None:
    [result] = skill({"text": "a red thing"})
    assert result == {"recordId": "0", "data": {"vector": result["data"]["vector"]}, "errors": None, "warnings": None}
    assert len(result["data"]["vector"]) == 1024
    assert cloud.model.calls()[0]["input_type"] == cloud.wire_format.input_types["document"]


@pytest.mark.parametrize(
    "image",
    [
        bare(picture("red", format="JPEG")),
        data_url(picture()),
        {
            "$type": "file",
            "contentType": "image/jpeg",
            "data": bare(picture("red", format="JPEG")),
            "width": 80,
            "height": 60,
        },
        {"$type": "file", "url": "https://elsewhere.example/a.png", "data": bare(picture())},
    ],
    ids=["base64", "data URL", "normalized image", "file_data"],
)
def test_an_image_may_be_base64_a_data_url_or_an_indexer_s_object(cloud: Cloud, image: object) -> None:
    [result] = skill({"image": image})
    assert len(result["data"]["vector"]) == 1024
    assert [call["bytes"] is not None for call in cloud.model.calls()] == [True]


@pytest.mark.either_format
def test_an_image_with_a_text_is_fused(cloud: Cloud) -> None:
    [fused] = skill({"image": data_url(picture()), "text": "a red thing"})
    [alone] = skill({"image": data_url(picture())})
    assert fused["data"] != alone["data"]
    assert [call["text"] for call in cloud.model.calls()] == ["a red thing", None]


def test_inputs_that_a_document_lacks_may_be_null_or_empty(cloud: Cloud) -> None:
    results = skill({"text": "red", "image": None, "imageUrl": None}, {"text": "", "image": data_url(picture())})
    assert all(result["errors"] is None for result in results)


@pytest.mark.either_format
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


@pytest.mark.either_format
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


@pytest.mark.either_format
def test_a_request_may_have_a_thousand_records(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    results = skill(*({"text": "red" if index % 2 else "blue"} for index in range(1000)))
    assert {len(result["data"]["vector"]) for result in results} == {1024}
    assert len(cloud.model.calls()) == 1
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


@pytest.mark.either_format
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


@pytest.mark.either_format
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


@pytest.mark.either_format
def test_one_vector_is_enough_for_an_answer(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    skill({"text": "known"})
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    known, throttled = skill({"text": "known"}, {"text": "another"})
    assert len(known["data"]["vector"]) == 1024
    assert error_of(throttled)
    assert '"code":"records_failed","message":"1 of 2 records failed; the first: ' in caplog.text


@pytest.mark.either_format
def test_a_request_whose_records_are_all_at_fault_is_not_retried(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "content_filter"})
    refused, bad = skill({"text": "red"}, {"image": "?"})
    assert "filtered" in error_of(refused)
    assert "base64" in error_of(bad)


@pytest.mark.either_format
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
    request = msgspec.convert(envelope(*({"text": str(index)} for index in range(5))), WebApiRequest)
    *first, last = search.skill(request, QueryReport()).values
    assert all(result.errors is None for result in first)
    assert last.errors is not None
    assert "make the skill's batchSize smaller" in last.errors[0].message
    assert len({asked.deadline for asked in options}) == 1, "all groups share the deadline of the request"
    assert [call["inputs"] for call in cloud.model.calls()] == [4], "and nothing is paid for after it"


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


@pytest.mark.either_format
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
    assert cloud.model.calls()[0]["input_type"] == cloud.wire_format.input_types["query"]


@pytest.mark.either_format
def test_a_query_and_a_document_of_the_same_words_are_cached_separately(cloud: Cloud) -> None:
    skill({"text": "red"})
    vectorizer({"text": "red"})
    types = cloud.wire_format.input_types
    assert [call["input_type"] for call in cloud.model.calls()] == [types["document"], types["query"]]


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


def test_no_content_of_a_request_is_logged(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    skill({"text": "a private thing"}, {"text": 1}, {"image": data_url(picture())}, {"image": "cHJpdmF0ZQ=="})
    vectorizer({"text": "a private thing"})
    assert '"event":"query"' in caplog.text
    for secret in ("private", "cHJpdmF0ZQ", "base64,", "Bearer", "eyJ", "[0."):
        assert secret not in caplog.text


def test_a_picture_for_which_there_is_no_memory_is_waited_for_until_the_deadline(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    images = cloud.image_reader()
    assert images._budget.try_reserve(images._budget._size)
    search = AzureAISearch(replace(cloud.settings, foundry_timeout=1), images, cloud.queries())
    url = f"{cloud.settings.blob_service_uri}/{cloud.settings.images_container}/a.png"
    request = msgspec.convert(envelope({"imageUrl": url}), WebApiRequest)
    with pytest.raises(ModelUnavailable, match="FOUNDRY_TIMEOUT") as raised:
        search.vectorizer(request, QueryReport())
    assert raised.value.status == 504
