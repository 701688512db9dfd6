"""Forms as browsers and their like write them: the one file is found, and an error says why there is none."""

import pytest

from shared.errors import QueryError
from shared.queries.formats.forms import read_form

PNG = b"\x89PNG\r\n\x1a\n\r\n--\r\n\0"
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
HEADER = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A body as a browser writes it."""
    written = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    return written + f"--{BOUNDARY}--\r\n".encode()


FILE = ('name="image"; filename="bike.png"\r\nContent-Type: image/png', PNG)
TEXT = ('name="text"', "na\u00efve".encode())
NOT_CHOSEN = ('name="more"; filename=""\r\nContent-Type: application/octet-stream', b"")


@pytest.mark.parametrize(
    "body",
    [
        form(FILE),
        form(TEXT, NOT_CHOSEN, FILE),
        form(("name=image\r\nContent-Type: image/png", PNG)),
        form(("name=image\r\ncontent-type: application/octet-stream", PNG)),
        form(('name="image"; filename="Zo\u00eb \\"1\\".png"', PNG), ("", b"nameless")),
        b"preamble\r\n" + form(FILE) + b"epilogue",
    ],
)
@pytest.mark.parametrize("header", [HEADER, f'Multipart/Form-Data; charset=utf-8; boundary="{BOUNDARY}"'])
def test_the_one_file_of_a_form_is_found(body: bytes, header: str) -> None:
    found = read_form(body, header)
    assert (found.name, found.image) == ("image", PNG)
    assert found.fields.get("text") in {None, "na\u00efve"}


def test_an_empty_file_that_was_chosen_is_a_file() -> None:
    assert read_form(form(('name="a"; filename="empty.png"', b""), TEXT), HEADER).image == b""


def test_a_file_without_a_name_of_its_field_is_called_the_body() -> None:
    assert read_form(form(('filename="a.png"', PNG)), HEADER).name == "body"


def test_no_line_shows_the_image() -> None:
    assert "PNG" not in repr(read_form(form(FILE), HEADER)).replace("name='image'", "")


@pytest.mark.parametrize(
    ("body", "header", "target", "message"),
    [
        (form(TEXT), HEADER, None, "0 files; send one"),
        (form(NOT_CHOSEN), HEADER, None, "0 files; send one"),
        (form(FILE, FILE), HEADER, None, "2 files; send one"),
        (form(FILE, ('name="text"', b"\xff")), HEADER, "text", "not UTF-8"),
        (form(FILE, *[TEXT] * 64), HEADER, None, "count exceeded"),
        (form(FILE)[:-20], HEADER, None, "end of multipart"),
        (form(FILE).replace(b"form-data", b"attachment"), HEADER, None, "Wrong type"),
        (form(FILE).replace(b"\r\n", b"\n"), HEADER, None, "cannot be read"),
        (form(FILE), HEADER + "other", None, "end of multipart"),
        (b"", HEADER, None, "end of multipart"),
        (b'{"input": []}', HEADER, None, "end of multipart"),
        (form(FILE), "multipart/form-data", "content-type", "Do not set that header"),
        (form(FILE), "multipart/form-data; boundary=", "content-type", "Do not set that header"),
    ],
)
def test_a_form_that_cannot_be_taken_is_told_why(body: bytes, header: str, target: str | None, message: str) -> None:
    with pytest.raises(QueryError, match=message) as raised:
        read_form(body, header)
    assert (raised.value.code, raised.value.target) == ("invalid_request", target)
