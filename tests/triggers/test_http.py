"""What a caller is told about an error of the model, and how a complaint finds its log line."""

import json
import logging
from typing import Any

import azure.functions as func
import pytest

from shared.errors import ModelUnavailable, SettingError
from shared.log import Report
from shared.triggers.http import DEFAULT_RETRY_AFTER, Routes, failure_response, identified, json_response


@pytest.mark.parametrize(
    ("asked", "told"), [(None, DEFAULT_RETRY_AFTER), (0.0, DEFAULT_RETRY_AFTER), (7.2, 8), (86_400.0, 300)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_caller_is_told_to_wait_no_longer_than_the_app_itself_does(
    status: int, asked: float | None, told: int
) -> None:
    response = failure_response(ModelUnavailable("Not now.", status=status, retry_after=asked))
    assert (response.status_code, response.headers["retry-after"]) == (status, str(told))


def asked(**headers: str) -> func.HttpRequest:
    return func.HttpRequest(method="GET", url="/", headers=headers, body=b"")


@identified
def logging_function(req: func.HttpRequest) -> func.HttpResponse:
    Report(outcome="answered").log("query")
    return json_response({})


def test_an_answer_and_its_log_line_have_the_same_ids(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers = [logging_function(asked(**{"x-ms-client-request-id": "a-1"})), logging_function(asked())]
    lines = [json.loads(record.message) for record in caplog.records]
    Report(outcome="answered").log("query")
    assert [answer.headers["x-ms-request-id"] for answer in answers] == [line["request_id"] for line in lines]
    assert lines[0]["request_id"] != lines[1]["request_id"]
    assert (answers[0].headers["x-ms-client-request-id"], lines[0]["client_request_id"]) == ("a-1", "a-1")
    assert "x-ms-client-request-id" not in answers[1].headers
    assert "client_request_id" not in lines[1]
    assert "request_id" not in json.loads(caplog.records[-1].message)


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("a/b+c=_:.-9", "a/b+c=_:.-9"),
        ("x" * 200, "x" * 128),
        ('a"b\r\nset-cookie: c', "abset-cookie:c"),
        ("\u202eNa\u00efve", "Nave"),
    ],
)
def test_of_a_client_s_id_only_128_safe_characters_are_kept(sent: str, echoed: str) -> None:
    answer = logging_function(asked(**{"x-ms-client-request-id": sent}))
    assert answer.headers["x-ms-client-request-id"] == echoed


def test_an_app_without_its_settings_names_the_request_too() -> None:
    @Routes().route("any", methods=["GET"])
    def unset(req: func.HttpRequest) -> func.HttpResponse:
        raise SettingError("FOUNDRY_MODEL is missing.")

    function: Any = unset
    answer = function(asked(**{"x-ms-client-request-id": "a-1"}))
    assert (answer.status_code, answer.headers["x-ms-client-request-id"]) == (503, "a-1")
    assert answer.headers["x-ms-request-id"]


def test_a_line_of_a_request_that_fails_has_its_ids(caplog: pytest.LogCaptureFixture) -> None:
    @identified
    def failing(req: func.HttpRequest) -> func.HttpResponse:
        Report(outcome="error").log("query", logging.WARNING)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing(asked(**{"x-ms-client-request-id": "a-1"}))
    assert json.loads(caplog.records[-1].message)["client_request_id"] == "a-1"
