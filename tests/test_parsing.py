"""JSON from outside: what is read as what, and which words an error has for the usual causes."""

import json
import subprocess
import sys

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from local.azurite import REPO_ROOT
from shared.errors import QueryError
from shared.gallery.failures import FailuresRequest
from shared.gallery.newest import NewestRequest
from shared.parsing import convert_strings, read_json
from shared.queries.formats.search_api import SearchRequest


def error_message(body: bytes) -> str:
    with pytest.raises(QueryError) as raised:
        read_json(body)
    assert raised.value.code == "invalid_json"
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1024.0", 1024),
        ("1e3", 1000),
        ("-2.50E+1", -25),
        ("9007199254740992.0", 2**53),
        ("1.5", 1.5),
        ("1e300", 1e300),
        ("12345678901234567890.0", 12345678901234567890.0),
    ],
)
def test_a_number_is_an_integer_if_it_is_one(text: str, value: float) -> None:
    read = read_json(text.encode())
    assert read == value
    assert type(read) is type(value)


def test_a_number_beyond_all_floats_is_an_error() -> None:
    assert "out of range" in error_message(b"[1e400]")


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf", b" \n"])
def test_an_empty_body_is_called_empty(body: bytes) -> None:
    assert "The body is empty" in error_message(body)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["7", "{}", '{"input": ["na\u00efve"]}'])
def test_other_encodings_are_told_with_and_without_a_mark(encoding: str, text: str) -> None:
    assert f"it is in {encoding[:6].upper()}." in error_message(text.encode(encoding))


def test_bytes_that_are_no_utf_8_are_told() -> None:
    assert "bytes that are not UTF-8" in error_message(b'["\xff"]')


@hypothesis.settings(derandomize=True, max_examples=500, deadline=None)
@hypothesis.given(
    st.lists(st.sampled_from(["\\ud83d", "\\uDE00", "\\u0041", "\\\\", "\\n", "\\\\ud83d", "d83d", "\u00ef", "u"]))
)
def test_half_a_character_is_told_and_a_whole_one_is_read(parts: list[str]) -> None:
    text = f'["{"".join(parts)}"]'
    [expected] = json.loads(text)
    try:
        expected.encode()
    except UnicodeEncodeError:
        assert "half of a character" in error_message(text.encode())
    else:
        assert read_json(text.encode()) == [expected]


@pytest.mark.parametrize(
    ("shape", "field", "text"),
    [(NewestRequest, "since", "null"), (NewestRequest, "since", "0.5"), (FailuresRequest, "code", "null")],
)
def test_a_string_stands_for_nothing_but_numbers_and_truths(shape: type[msgspec.Struct], field: str, text: str) -> None:
    with pytest.raises(QueryError) as raised:
        convert_strings({field: text}, shape)
    assert raised.value.target == field


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"top": "7"}, SearchRequest(top=7)),
        ({"min_score": "1e-1"}, SearchRequest(min_score=0.1)),
        ({"prefix": "7", "like": "null"}, SearchRequest(prefix="7", like="null")),
    ],
)
def test_a_string_is_read_as_what_the_field_is(given: dict[str, str], meant: SearchRequest) -> None:
    assert convert_strings(given, SearchRequest) == meant


# Whoever learns a shape asks for the annotations of its class. A module that the app imports later, when it is needed,
# is imported here after the app has learned its shapes: one that such a module has is learned too late.
LEARN_AGAIN = """
import importlib, pkgutil, sys
import msgspec
import function_app, shared
from shared.parsing import _structs

for module in pkgutil.walk_packages(shared.__path__, "shared."):
    importlib.import_module(module.name)
shapes = [shape for shape in _structs(msgspec.Struct) if shape.__module__.startswith("shared.")]
learned_now = []
def watch(frame, event, _):
    if event == "call" and frame.f_code.co_name == "get_class_annotations":
        learned_now.append(frame.f_locals["obj"])
sys.setprofile(watch)
for shape in shapes:
    msgspec.json.Decoder(shape)
sys.setprofile(None)
print(len(shapes) > 50, [f"{shape.__module__}.{shape.__name__}" for shape in learned_now])
"""


def test_every_shape_is_learned_before_a_thread_decodes_it_also_those_of_modules_that_are_imported_late() -> None:
    command = [sys.executable, "-W", "ignore", "-c", LEARN_AGAIN]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True []", "define these where function_app.py imports them"
