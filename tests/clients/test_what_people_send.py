"""What real people's tools send: the good is taken, and an error says what is wrong and what to send instead."""

import base64
import gzip
import io
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from local.stack import Stack
from tests.conftest import PATIENCE, Model
from tests.wire_formats import WireFormat

IMAGES, TEXTS = "/images/embeddings", "/embeddings"


def picture(format: str = "PNG") -> bytes:
    """A picture that no other test has, so that each asks the model."""
    file = io.BytesIO()
    noise = random.Random(format).randbytes(64 * 48 * 3)
    Image.frombytes("RGB", (64, 48), noise).save(file, format)
    return file.getvalue()


PNG = picture()
BASE64 = base64.b64encode(PNG).decode()


@pytest.fixture(scope="module")
def http(running: Stack, endpoint: str) -> Iterator[httpx.Client]:
    key = {"x-functions-key": running.functions_key}
    with httpx.Client(base_url=endpoint, headers=key, trust_env=False, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="module")
def expected(http: httpx.Client) -> list[float]:
    """The embedding of the picture."""
    return embedding(http.post(IMAGES, json={"input": [{"image": BASE64}]}))


def embedding(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    vector: list[float] = answer.json()["data"][0]["embedding"]
    return vector


def error(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()["error"]
    assert found["code"] == answer.headers["x-ms-error-code"]
    return found


# JSON


@pytest.mark.parametrize(
    "image",
    [
        base64.encodebytes(PNG).decode(),
        BASE64.rstrip("="),
        base64.urlsafe_b64encode(PNG).decode(),
        f"data:image/png;base64,\n{base64.encodebytes(PNG).decode()}",
        f"data:image/png;base64,{BASE64.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}",
    ],
    ids=["line breaks", "no padding", "URL-safe", "data URL with line breaks", "data URL with escapes"],
)
def test_base64_is_taken_as_tools_write_it(http: httpx.Client, expected: list[float], image: str) -> None:
    assert embedding(http.post(IMAGES, json={"input": [{"image": image}]})) == expected


def test_a_search_service_s_base64_is_taken_in_the_same_way(running: Stack, http: httpx.Client) -> None:
    url = f"{running.functions_url}/api/vectorizer"
    vectors = [
        http.post(url, json={"values": [{"recordId": "0", "data": {"imageBinary": {"data": image}}}]}).json()
        for image in (BASE64, base64.encodebytes(PNG).decode())
    ]
    assert vectors[0] == vectors[1]
    assert len(vectors[0]["values"][0]["data"]["vector"]) == 1536


def test_a_byte_order_mark_is_skipped(http: httpx.Client) -> None:
    body = b'\xef\xbb\xbf{"input": ["red"]}'
    assert embedding(http.post(TEXTS, content=body)) == embedding(http.post(TEXTS, json={"input": ["red"]}))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_another_encoding_than_utf_8_is_named(http: httpx.Client, encoding: str) -> None:
    for route, body in ((TEXTS, {"input": ["red"]}), (IMAGES, {"input": [{"image": BASE64}]})):
        found = error(http.post(route, content=json.dumps(body).encode(encoding)))
        assert found["code"] == "invalid_json"
        assert f"it is in {encoding[:6].upper()}. Send it in UTF-8" in found["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is empty"),
        (b'{"input": ["\\ud83d"]}', "half of a character"),
        (b'{"input": ["a\\\\\\ude00b"]}', "half of a character"),
        (b'{"input": ["\\\\ud83d', "truncated"),
        (b'{"input": ["na\xefve"]}', "not UTF-8"),
    ],
)
def test_json_that_cannot_be_read_is_told_what_is_wrong_with_it(http: httpx.Client, body: bytes, message: str) -> None:
    found = error(http.post(TEXTS, content=body))
    assert found["code"] == "invalid_json"
    assert message in found["message"]


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}, {"content-encoding": "br"}])
@pytest.mark.parametrize("route", [TEXTS, IMAGES])
def test_a_compressed_body_is_called_one(http: httpx.Client, route: str, headers: dict[str, str]) -> None:
    body = gzip.compress(b'{"input": ["red"]}') if headers.get("content-encoding") != "br" else b"\x0b\x02\x80red\x03"
    found = error(http.post(route, content=body, headers=headers))
    assert found["target"] == "content-encoding"
    assert f"compressed ({headers.get('content-encoding', 'gzip')})" in found["message"]


def test_a_content_encoding_that_is_none_means_nothing(http: httpx.Client) -> None:
    for encoding in ("identity", "utf-8"):
        assert embedding(http.post(TEXTS, json={"input": ["red"]}, headers={"content-encoding": encoding}))


@pytest.mark.parametrize("dimensions", ["256.0", "2.56e2", "256"])
def test_an_integer_may_be_written_with_a_point(http: httpx.Client, dimensions: str) -> None:
    body = f'{{"input": ["red"], "dimensions": {dimensions}}}'
    assert len(embedding(http.post(TEXTS, content=body.encode()))) == 256


@pytest.mark.parametrize("dimensions", ["256.5", "1e300", "-1.0", "1e400"])
def test_what_is_no_such_integer_is_refused(http: httpx.Client, dimensions: str) -> None:
    body = f'{{"input": ["red"], "dimensions": {dimensions}}}'
    assert error(http.post(TEXTS, content=body.encode()))["code"] in {"invalid_request", "invalid_json"}


def test_the_fields_of_other_clients_are_refused_by_a_message_that_names_the_header(http: httpx.Client) -> None:
    body = {"input": ["red"], "user": "u-1", "truncate": "END"}
    found = error(http.post(TEXTS, json=body))
    assert found["target"] == "truncate"
    assert "extra-parameters" in found["message"]
    assert embedding(http.post(TEXTS, json=body, headers={"extra-parameters": "drop"}))


# The picture as the body


@pytest.mark.parametrize(
    "kind", [None, "", "application/json", "text/plain", "application/x-www-form-urlencoded", "binary/octet-stream"]
)
def test_a_picture_is_taken_whatever_the_content_type_says(
    http: httpx.Client, model: Model, expected: list[float], kind: str | None
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    assert embedding(http.post(IMAGES, content=PNG, headers=headers)) == expected
    answer = http.post(
        IMAGES, content=PNG, headers={**headers, "cache-control": "no-cache"}, params={"text": "in the rain"}
    )
    assert embedding(answer) != expected
    assert [call["text"] for call in model.calls()] == ["in the rain"]


@pytest.mark.parametrize("format", ["JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_so_are_pictures_in_other_formats(http: httpx.Client, format: str) -> None:
    data = picture(format)
    typed = embedding(http.post(IMAGES, content=data, headers={"content-type": "image/*"}))
    assert embedding(http.post(IMAGES, content=data, headers={"content-type": "application/json"})) == typed


def test_a_damaged_picture_without_a_content_type_is_a_damaged_picture(http: httpx.Client) -> None:
    found = error(http.post(IMAGES, content=PNG[:300]))
    assert (found["code"], found["target"]) == ("damaged_image", "body")


def test_a_body_that_is_nothing_of_all_this_is_told_what_may_be_sent(http: httpx.Client) -> None:
    found = error(http.post(IMAGES, content=b"input=red"))
    assert found["code"] == "invalid_json"
    for way in ("Send JSON", "multipart/form-data", "image/jpeg"):
        assert way in found["message"]


@pytest.mark.parametrize(
    ("route", "kind", "body"),
    [
        (TEXTS, "image/png", PNG),
        (TEXTS, "multipart/form-data; boundary=x", b"--x--"),
        (TEXTS, "text/plain; charset=utf-8", b"a red bicycle"),
        (IMAGES, "application/x-www-form-urlencoded", b"input=red"),
        (IMAGES, "text/plain", b"a red bicycle"),
        ("/../search", "text/html", b"<p>"),
        ("/../reconcile", "application/xml", b"<a/>"),
        ("/../skill", "text/csv", b"a,b"),
    ],
)
def test_what_no_route_takes_is_415_with_what_it_takes(http: httpx.Client, route: str, kind: str, body: bytes) -> None:
    found = error(http.post(route, content=body, headers={"content-type": kind}), 415)
    assert (found["code"], found["target"]) == ("unsupported_media_type", "content-type")
    assert f"content-type is {kind.partition(';')[0]}. Send JSON" in found["message"]
    assert ("the image itself" in found["message"]) == (route in {IMAGES, "/../search"})


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
def test_json_is_taken_whatever_the_content_type_says_and_broken_json_is_called_that(
    http: httpx.Client, kind: str
) -> None:
    assert embedding(http.post(TEXTS, content=b' {"input": "red"}', headers={"content-type": kind}))
    found = error(http.post(TEXTS, content=b'{"input": "red"', headers={"content-type": kind}))
    assert found["code"] == "invalid_json"
    assert f"Its content-type is {kind}. Send JSON." in found["message"]


# Forms


def test_a_form_with_one_file_and_fields_is_taken(
    http: httpx.Client, model: Model, wire_format: WireFormat, expected: list[float]
) -> None:
    assert embedding(http.post(IMAGES, files={"image": ("bike.png", PNG)})) == expected
    fields = {"text": "na\u00efve \U0001f600", "dimensions": "256", "input_type": "document", "submit": "Search"}
    answer = http.post(IMAGES, data=fields, files={"whatever": ("Zo\u00eb.bin", PNG, "text/plain")})
    assert len(embedding(answer)) == 256
    [call] = model.calls()
    assert (call["text"], call["input_type"]) == ("na\u00efve \U0001f600", wire_format.input_types["document"])


def test_a_field_of_the_form_counts_before_the_query_string(http: httpx.Client) -> None:
    answer = http.post(
        IMAGES, params={"dimensions": "512", "encoding_format": "base64"}, data={"dimensions": "256"}, files={"a": PNG}
    )
    assert len(base64.b64decode(str(embedding(answer)))) == 4 * 256


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_s_form_is_taken(running: Stack, endpoint: str, tmp_path: Path, expected: list[float]) -> None:
    (tmp_path / "bike.png").write_bytes(PNG)
    command = ["curl", "-sS", f"{endpoint}{IMAGES}", "-H", f"x-functions-key: {running.functions_key}"]
    run = subprocess.run([*command, "-F", "image=@bike.png"], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(run.stdout)["data"][0]["embedding"] == expected


@pytest.mark.parametrize(
    ("file", "fields", "code", "target"),
    [
        (b"", {}, "empty", "image"),
        (b"words", {}, "not_an_image", "image"),
        (PNG, {"dimensions": "many"}, "invalid_request", "dimensions"),
        (PNG, {"dimensions": "0"}, "invalid_request", "dimensions"),
        (PNG, {"model": "other"}, "unknown_model", "model"),
    ],
)
def test_the_errors_of_a_form_name_its_fields(
    http: httpx.Client, file: bytes, fields: dict[str, str], code: str, target: str
) -> None:
    found = error(http.post(IMAGES, data=fields, files={"image": ("bike.png", file)}))
    assert (found["code"], found["target"]) == (code, target)


def test_a_form_without_a_file_is_told_how_to_send_one(http: httpx.Client) -> None:
    found = error(http.post(IMAGES, data={"text": "red"}, headers={"content-type": "multipart/form-data; boundary=x"}))
    assert "form cannot be read" in found["message"]
    found = error(http.post(IMAGES, files={"text": (None, b"red")}))
    assert "0 files; send one" in found["message"]
