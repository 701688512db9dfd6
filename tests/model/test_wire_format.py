"""The error bodies of the service, each as observed."""

import msgspec
import pytest

from shared.model.wire_format import ServiceError, read_error, requested_wait

NESTED = {"error": {"code": "no_model_name", "message": "No model specified in request.", "details": "No model …"}}
FLAT_401 = {"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, …, or have expired."}
FLAT_FILTER = {"status": 400, "code": "content_filter", "message": "The response was filtered", "type": None}
FLAT_422 = {
    "status": 422,
    "code": "parameter_not_supported",
    "detail": {"loc": ["body", "dimensions"], "input": 7},
    "message": "One of the parameters contain invalid values.",
}
PACKED_422 = {
    "error": {
        "code": "Invalid input",
        "message": '{"detail":[{"type":"extra_forbidden","loc":["body","text"],"msg":"Extra inputs"}]}',
        "status": 422,
    }
}
STATUS_ONLY = {"status": "Serverless endpoint not found"}
STRING = {"error": "model is overloaded"}


@pytest.mark.parametrize(
    ("body", "code", "message", "fields"),
    [
        (NESTED, "no_model_name", "No model specified", set()),
        (FLAT_401, "401", "Access token is missing", set()),
        (FLAT_FILTER, "content_filter", "The response was filtered", set()),
        (FLAT_422, "parameter_not_supported", "invalid values", {"dimensions"}),
        (PACKED_422, "Invalid input", "extra_forbidden", {"text"}),
        (STATUS_ONLY, "Serverless endpoint not found", "Serverless endpoint not found", set()),
        (STRING, "", "model is overloaded", set()),
    ],
)
def test_every_shape_of_error_is_read_into_its_code_message_and_fields(
    body: dict[str, object], code: str, message: str, fields: set[str]
) -> None:
    error = read_error(msgspec.json.encode(body))
    assert error.code == code
    assert message in error.message
    assert error.fields == fields


def test_a_parameter_that_is_not_allowed_is_read_as_a_field() -> None:
    message = "Extra parameters ['input_type', 'dimensions'] are not allowed when extra-parameters is not set"
    assert read_error(msgspec.json.encode({"error": {"message": message}})).fields == {"input_type", "dimensions"}


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", b"\xff\xfe", b"[1]", b"null", b'{"error": null}', b"[" * 100_000]
)
def test_any_other_body_is_kept_as_text_and_raises_nothing(body: bytes) -> None:
    error = read_error(body)
    assert error.code == ""
    assert len(error.message) <= len(body)


FINDING = {"type": "string_type", "loc": ["body", "input"], "msg": "Input should be a string", "input": "s3cret"}
AS_TEXT = """1 validation error for Request
input.0
  Input should be a string [type=string_type, input_value='s3cret, and more', input_type=str]"""


@pytest.mark.parametrize(
    "body",
    [
        [FINDING],
        {"detail": [FINDING]},
        {"message": msgspec.json.encode([FINDING]).decode()},
        {"error": {"message": msgspec.json.encode({"detail": [FINDING]}).decode()}},
        {"error": {"message": AS_TEXT}},
        {"detail": AS_TEXT},
    ],
)
def test_what_was_wrong_with_an_input_is_told_without_the_input(body: object) -> None:
    error = read_error(msgspec.json.encode(body))
    assert "Input should be a string" in error.message
    assert "s3cret" not in error.message


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms", "x-ms-retry-after-ms"])
def test_a_wait_of_too_many_digits_is_none(name: str) -> None:
    assert requested_wait({name: "9" * 5000}, ServiceError("", "")) is None


def test_a_long_message_is_cut_and_loses_its_image_data() -> None:
    error = read_error(msgspec.json.encode({"message": "data:image/png;base64," + "QUJD" * 500 + " " + "x" * 5000}))
    assert "QUJD" not in error.message
    assert len(error.message) <= 1001
