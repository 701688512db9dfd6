"""Images as people's tools write them in JSON: what browsers take is taken, and what they refuse is refused."""

import base64
import binascii
import random
import re
from urllib.parse import quote, unquote_to_bytes

import hypothesis
import pytest
from hypothesis import strategies as st

from shared.errors import QueryError
from shared.queries.formats.data_urls import decode_image

DATA = random.Random(3).randbytes(1000)  # its base64 has "+", "/" and two "="
PLAIN = base64.b64encode(DATA).decode()
URL = f"data:image/png;base64,{PLAIN}"
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()


def error(image: str) -> QueryError:
    with pytest.raises(QueryError) as raised:
        decode_image(image, "input[0].image")
    assert raised.value.target == "input[0].image"
    return raised.value


@pytest.mark.parametrize(
    "image",
    [
        PLAIN,
        base64.encodebytes(DATA).decode(),
        base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
        f" \t{PLAIN}\n\f ",
        PLAIN.rstrip("="),
        PLAIN.rstrip("=") + "\n",
        URL_SAFE,
        URL_SAFE.rstrip("="),
        URL,
        f"\n {URL}\n",
        URL.rstrip("="),
        f"data:image/png;base64,{URL_SAFE}",
        f"data:image/png;base64,{base64.encodebytes(DATA).decode()}",
        f"data:image/png;base64,{base64.encodebytes(DATA).decode().replace('\n', '%0A')}",
        f"data:image/png;base64,{base64.encodebytes(DATA).decode().replace('\n', '%0d%0a')}",
        f"data:image/png;base64,{quote(PLAIN, safe='')}",
        f"data:image/png;base64,{''.join(f'%{ord(sign):02x}' for sign in PLAIN)}",
        f"data:image/png;base64,{PLAIN}#fragment",
        f"data:;base64,{PLAIN}",
        f"DATA:image/png;charset=utf-8;  BASE64 ,{PLAIN}",
        f"data:image/png,{quote(DATA)}",
        f"data:,{''.join(f'%{byte:02X}' for byte in DATA)}",
    ],
)
def test_an_image_is_taken_as_tools_write_it(image: str) -> None:
    assert "+" in PLAIN
    assert "/" in PLAIN
    assert PLAIN.endswith("==")
    assert decode_image(image, "") == DATA


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PLAIN[:-3], "length or padding"),
        (PLAIN + "=", "length or padding"),
        (PLAIN.rstrip("=") + "=", "length or padding"),
        (PLAIN + PLAIN, "base64"),
        (PLAIN.replace("+", "-"), "mixes"),
        (PLAIN.replace("+", "%2B"), "base64"),
        (PLAIN.replace("+", "*"), "base64"),
        (PLAIN.replace("+", "\0"), "base64"),
        (PLAIN.replace("+", "\v"), "base64"),
        (PLAIN.replace("+", "\u00e9"), "beyond ASCII"),
        (URL.replace("+", "%2"), "hexadecimal"),
        (URL.replace("+", "%25"), "base64"),
        (URL.replace("+", "%E9"), "base64"),
        (URL.replace(",", ""), "data:image/png;base64,<data>"),
        (URL.replace(";base64", ""), "data:image/png;base64,<data>"),
        (URL.replace(";base64", ";base64;a=b"), "data:image/png;base64,<data>"),
        (URL.replace(";", "%3B"), "data:image/png;base64,<data>"),
        (" https://example.com/a.png", "links are not followed"),
    ],
)
def test_what_browsers_refuse_is_refused_with_the_reason(image: str, message: str) -> None:
    refused = error(image)
    assert refused.code == "invalid_request"
    assert message in str(refused)
    assert PLAIN[:20] not in str(refused)


@pytest.mark.parametrize("image", ["", " \n", "data:image/png;base64,", "data:image/png;base64,%20#a"])
def test_no_bytes_are_an_error_of_their_own(image: str) -> None:
    assert error(image).code == "empty"


def forgiving(text: str) -> bytes | None:
    """The algorithm, step by step as the standard has it; ``None`` for failure."""
    text = re.sub(r"[\t\n\f\r ]", "", text)
    if len(text) % 4 == 0:
        text = re.sub(r"={1,2}$", "", text)
    if len(text) % 4 == 1 or re.search(r"[^A-Za-z0-9+/]", text):
        return None
    return binascii.a2b_base64(text + "=" * (-len(text) % 4))


@hypothesis.settings(derandomize=True, max_examples=500, deadline=None)
@hypothesis.given(st.text("Aa7+/= \n\t\f*\u00e9", max_size=12) | st.text("AQg=", max_size=9))
def test_base64_is_forgiven_as_much_as_the_standard_says(text: str) -> None:
    expected = forgiving(text)
    if expected:
        assert decode_image(text, "") == expected
        assert decode_image(f"data:;base64,{text}", "") == expected
    else:
        error(text)


@hypothesis.settings(derandomize=True, max_examples=500, deadline=None)
@hypothesis.given(st.lists(st.sampled_from(["%41", "%c3", "%3D", "=", "==", "a", "%25", "%0a", "_", "\u00e9"])))
def test_escapes_are_read_as_elsewhere(parts: list[str]) -> None:
    body = "%89" + "".join(parts)
    assert decode_image(f"data:image/png,{body}", "") == unquote_to_bytes(body)
