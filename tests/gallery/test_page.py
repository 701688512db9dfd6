"""GET /api/gallery and its files: small, the same for everybody, and open to nothing from elsewhere."""

import gzip
import re

import azure.functions as func
import pytest

import function_app
from shared.gallery import page


def get(file: str | None = None, **headers: str) -> func.HttpResponse:
    """The response to a browser, which needs no key and no settings."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    route = {} if file is None else {"file": file}
    request = func.HttpRequest("GET", "/", body=b"", headers=named, route_params=route)
    answer: func.HttpResponse = function_app.gallery(request) if file is None else function_app.gallery_file(request)
    return answer


def policy() -> dict[str, str]:
    parts = [part.partition(" ") for part in get().headers["content-security-policy"].split("; ")]
    return {name: value for name, _, value in parts}


def test_nothing_inline_nothing_from_elsewhere_and_no_frame_around_it() -> None:
    assert policy() == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    for file in page.files():
        headers = get(file).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache"


def test_it_names_no_other_host_and_every_file_that_it_names_is_there() -> None:
    everything = b"".join(file.plain for name, file in page.files().items() if not name.endswith(".svg")).decode()
    assert set(re.findall(r"\w+://", everything)) == set()
    html = get().get_body().decode()
    named = set(re.findall(r'(?:href|src)="gallery/([^"]+)"', html))
    imported = set(re.findall(r'from "\./([^"]+)"', everything))
    assert named | imported | {page.INDEX} == page.files().keys()
    # What a module imports is asked for with the page, not once the module has come.
    assert imported <= named


@pytest.mark.parametrize("file", page.files())
def test_a_file_comes_compressed_to_who_takes_that_and_not_again_to_who_has_it(file: str) -> None:
    plain = get(file)
    assert plain.mimetype in {"text/html", "text/css", "text/javascript", "image/svg+xml"}
    compressed = get(file, accept_encoding="gzip, deflate, br")
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed.get_body()) == plain.get_body()
    assert "accept-encoding" in plain.headers["vary"]
    again = get(file, if_none_match=plain.headers["etag"])
    assert (again.status_code, again.get_body()) == (304, b"")


@pytest.mark.parametrize("file", ["nothing.js", "..", "__init__.py", "../page.py", ""])
def test_there_are_no_other_files(file: str) -> None:
    answer = get(file)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (404, "not_found")


def test_all_of_it_is_less_than_60_kb() -> None:
    assert sum(len(file.compressed) for file in page.files().values()) < 60_000
