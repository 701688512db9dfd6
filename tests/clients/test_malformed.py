"""Two thousand requests that no client should send: each gets an error it can read, and the app is as before.

An app of each wire format gets half of them.
"""

import base64
import gzip
import io
import json
import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from bench.machine import memory_mib
from bench.site import host_process
from local.stack import Stack
from tests.conftest import PATIENCE, Model

NUMBER = 1000
SEEDS = {"foundry": 1, "cohere": 101}
# What the process may grow by. Its caches and pools are full after the first requests, which are not counted.
MOST_GROWTH_MIB = 32
IMAGES, TEXTS = "images/embeddings", "embeddings"


@dataclass(frozen=True)
class Malformed:
    """One request; the headers say what comes on top of the key."""

    kind: str
    route: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


def _png(chance: random.Random) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (8, 8), chance.randbytes(192)).resize((64, 48)).save(file, "PNG")
    return file.getvalue()


def _good(chance: random.Random, route: str) -> dict[str, Any]:
    """A body without fault, for others to damage."""
    if route == TEXTS:
        return {"input": [f"a thing {chance.random()}"]}
    return {"input": [{"image": "data:image/png;base64," + base64.b64encode(_png(chance)).decode()}]}


def _any_route(chance: random.Random) -> str:
    return chance.choice([IMAGES, TEXTS])


def _json(kind: str, route: str, body: object, **more: Any) -> Malformed:
    return Malformed(kind, route, json.dumps(body).encode(), **more)


def _wrong_value(chance: random.Random) -> object:
    """A value that fits no field of the API."""
    return chance.choice(
        [True, False, -1, 1.5, 10**30, -(10**400), 1e308, [], [[]], {}, {"a": {}}, [None], "\0", "\ud800", "🙂" * 100]
    )


# Each makes one malformed request.


def broken_json(chance: random.Random) -> Malformed:
    route = _any_route(chance)
    body = bytearray(json.dumps(_good(chance, route)).encode())
    match chance.randrange(5):
        case 0:
            del body[chance.randrange(len(body)) :]
        case 1:
            body += chance.choice([b"}", b"]", b",", b"{}", b"\0", b"null"])
        case 2:
            body[chance.choice([0, 1, len(body) - 1])] = chance.choice(b"'<#@\\")
        case 3:
            body = bytearray(chance.choice([b"input=red", b"<a/>", b"input: [red]", b"NaN", b"'red'", b"\0" * 100]))
        case _:
            body = bytearray(chance.randbytes(chance.randrange(1, 5000)))
            body[0] |= 0x80
    return Malformed("broken JSON", route, bytes(body))


def other_encoding(chance: random.Random) -> Malformed:
    route = _any_route(chance)
    text = json.dumps({"input": ["naïve"]}, ensure_ascii=False)
    encoding = chance.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "latin-1", "utf-7", "cp037"])
    if encoding == "utf-7":
        return Malformed("other encoding", route, b'{"input": +IiIi-}')
    return Malformed("other encoding", route, text.encode(encoding))


def invalid_utf8(chance: random.Random) -> Malformed:
    bad = chance.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"])
    place = chance.choice([b'{"input": ["a %s"]}', b'{"input": [{"image": "%s"}]}', b'{"inp%sut": ["a"]}'])
    return Malformed("invalid UTF-8", _any_route(chance), place.replace(b"%s", bad))


def no_object(chance: random.Random) -> Malformed:
    body: object = chance.choice([None, True, 1, "red", [], ["red"], [{"input": "red"}], 1.5, "", {}])
    return _json("no object", _any_route(chance), body)


def wrong_input(chance: random.Random) -> Malformed:
    route = _any_route(chance)
    value = _wrong_value(chance)
    if route == TEXTS and isinstance(value, str):
        value = chance.choice([" ", "", "\n", " data:image/png;base64,AAAA", "\ud800"])
    inputs = [value, [value], [[value]], {"0": value}, None, [None]]
    if route == TEXTS:
        inputs += [["red", value]]
    else:
        good = _good(chance, IMAGES)["input"][0]
        text = value if not isinstance(value, str) else 1
        inputs += [[{"image": value}], [{**good, "text": text}], [good, {"image": value}], [{"text": "red"}], ["red"]]
    return _json("wrong input", route, {"input": chance.choice(inputs)})


def wrong_option(chance: random.Random) -> Malformed:
    route = _any_route(chance)
    options = {
        "dimensions": [0, -1, 1.5, 65537, 10**30, 10**400, "256", True, [256], {}, "\ud800"],
        "input_type": ["search_query", "Query", "", 1, True, ["query"], {}, "x" * 10_000, "\0", "\ud800"],
        "encoding_format": ["int4", "FLOAT", "", 8, ["float"], {}, "float ", "\u202efloat", "\ud800"],
        "model": ["gpt", "", " embed-v-4-0", "EMBED-V-4-0", 1, ["embed-v-4-0"], {}, "x" * 100_000, "\ud800", "../../x"],
    }
    name = chance.choice(list(options))
    return _json("wrong option", route, {**_good(chance, route), name: chance.choice(options[name])})


def unknown_field(chance: random.Random) -> Malformed:
    route = _any_route(chance)
    body = _good(chance, route)
    names = ["inputs", "Input", "truncate", "extras", "", "\0", "__proto__", "\ud800", "x" * 10_000, "a\r\nb: c", "🙂"]
    if route == IMAGES and chance.random() < 0.5:
        body["input"][0][chance.choice(names)] = _wrong_value(chance)
    else:
        body |= {chance.choice(names): _wrong_value(chance) for _ in range(chance.randint(1, 3))}
    return _json("unknown field", route, body)


def unknown_fields_by_the_thousand(chance: random.Random) -> Malformed:
    body = {f"field {number}": number for number in range(chance.randrange(1000, 20_000))}
    return _json("unknown fields by the thousand", _any_route(chance), body)


def deep(chance: random.Random) -> Malformed:
    depth = chance.choice([500, 900, 1000, 1100, 5000, 50_000, 200_000])
    inner = chance.choice(["[", '{"a":', '[{"a":']) * depth
    if chance.random() < 0.5:
        closing = {"[": "]", "{": "}"}
        inner += "1" + "".join(closing[each] for each in reversed(inner) if each in closing)
    body = chance.choice(["%s", '{"input": %s}', '{"input": [%s]}', '{"input": ["red"], "other": %s}']) % inner
    passed_on = depth > 10_000 and chance.random() < 0.5
    return Malformed(
        "deep", _any_route(chance), body.encode(), {"extra-parameters": "pass-through"} if passed_on else {}
    )


def huge_number(chance: random.Random) -> Malformed:
    number = chance.choice(
        ["9" * 5000, "-" + "9" * 5000, "1e999999999", "0." + "1" * 5000, "1" + "0" * 100_000, "-0e-9"]
    )
    place = chance.choice(['{"input": ["red"], "dimensions": %s}', '{"input": %s}', '{"input": [%s]}'])
    return Malformed("huge number", _any_route(chance), (place % number).encode())


def huge_array(chance: random.Random) -> Malformed:
    number = chance.randrange(10_000, 100_000)
    route = _any_route(chance)
    item: object = chance.choice([1, "red", None, {}, [], {"image": "AAAA"}])
    return _json("huge array", route, {"input": [item] * number})


def bad_base64(chance: random.Random) -> Malformed:
    good = base64.b64encode(_png(chance)).decode()
    spot = chance.randrange(len(good))
    image = chance.choice(
        [
            good[:spot] + chance.choice("?*!\n\0é_-🙂") + good[spot + 1 :],
            good.rstrip("=") + "=" * 5,
            good.rstrip("=") + "=A",
            good + good[:1],
            "data:image/png;base64," + good[:spot] + chance.choice(["%", "%0", "%zz", "%00", "%ff"]) + good[spot:],
            "data:image/png," + good.replace("A", "%41"),
            "=" * 8,
            "",
            "data:image/png;base64,",
            "data:image/png;base64" + good,
            "data:image/png," + good,
            "data:;base64;," + good,
            "data:" + good,
            "https://example.com/a.png",
            "HTTP://169.254.169.254/metadata/identity",
            "file:///etc/passwd",
            base64.b85encode(_png(chance)).decode(),
            _png(chance).hex() + "0",
        ]
    )
    return _json("bad base64", IMAGES, {"input": [{"image": image}]})


def bad_picture(chance: random.Random) -> Malformed:
    png = bytearray(_png(chance))
    match chance.randrange(3):
        case 0:
            del png[chance.randrange(8, len(png) // 2) :]
        case 1:
            png[16:24] = chance.randbytes(8)
        case _:
            png = bytearray(chance.randbytes(chance.randrange(1, 1000)))
    kind = chance.choice(
        ["image/png", "image/jpeg", "application/octet-stream", "image/", "image/*;q=🙂".encode().hex()]
    )
    if kind.startswith(("image/", "application/octet")):
        return Malformed("bad picture", IMAGES, bytes(png), {"content-type": kind})
    return _json("bad picture", IMAGES, {"input": [{"image": base64.b64encode(png).decode()}]})


def bad_parameter(chance: random.Random) -> Malformed:
    name, value = chance.choice(
        [
            ("dimensions", "0"),
            ("dimensions", "1.5"),
            ("dimensions", "9" * 1000),
            ("dimensions", ""),
            ("encoding_format", "int4"),
            ("input_type", "\0"),
            ("model", "x" * 1000),
            ("input_type", "🙂"),
        ]
    )
    return Malformed("bad parameter", IMAGES, _png(chance), {"content-type": "image/png"}, {name: value})


def wrong_content_type(chance: random.Random) -> Malformed:
    route = _any_route(chance)
    good = json.dumps(_good(chance, route)).encode()
    if route == IMAGES and chance.random() < 0.5:
        kind = chance.choice(["image/png", "IMAGE/PNG; charset=utf-8", "application/octet-stream", "image/svg+xml"])
        return Malformed("wrong content type", IMAGES, good, {"content-type": kind})
    kinds = [
        "application/json",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "",
        ";;;=",
        "a/b/c",
    ]
    kind = chance.choice([*kinds, "application/json; charset=" + "x" * 5000])
    # On the route of images a picture is one whatever its type says.
    body = chance.choice([_png(chance)[1:] if route == IMAGES else _png(chance), b"input=red", good[1:]])
    return Malformed("wrong content type", route, body, {"content-type": kind})


def bad_form(chance: random.Random) -> Malformed:
    file = b'content-disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + _png(chance)
    text = b'content-disposition: form-data; name="dimensions"\r\n\r\n' + chance.choice(
        [b"0", b"x", b"\xff", b"9" * 999]
    )
    part = chance.choice([file, text, file[:-40], file[30:], b"", b"\0" * 100, b"x" * 10_000, file.replace(b"\r", b"")])
    body = b"--x\r\n" + part + b"\r\n--x"
    match chance.randrange(4):
        case 0:
            body += b"\r\n" + text + b"\r\n--x--"
        case 1:
            body += (b"\r\n" + file + b"\r\n--x") * chance.choice([2, 70, 900]) + b"--"
        case 2:
            body += b"--" if part not in {file, file[:-40]} else b""
        case _:
            body = chance.choice([b"", b"--x", b"--x--", b"{}", body[: len(body) // 2], b"--x\r\n" * 10_000])
    kind = chance.choice(
        ["boundary=x", 'boundary="x"', "boundary=y", "boundary=", "boundary=\\", "boundary=" + "x" * 5000]
    )
    return Malformed("bad form", _any_route(chance), body, {"content-type": f"multipart/form-data; {kind}"})


def compressed(chance: random.Random) -> Malformed:
    route = _any_route(chance)
    body = gzip.compress(json.dumps(_good(chance, route)).encode())
    encoding = chance.choice(["gzip", "GZIP", "deflate", "br", "zstd", "identity", "x" * 5000, "gzip, gzip"])
    kind = chance.choice(["application/json", "image/png", "multipart/form-data; boundary=x"])
    headers = {"content-type": kind, "content-encoding": encoding}
    return Malformed("compressed", route, body, headers if chance.random() < 0.7 else {"content-type": kind})


def absurd_header(chance: random.Random) -> Malformed:
    route = _any_route(chance)
    value = chance.choice(["yes", "pass-through, drop", "\xff\xfe", "x" * 10_000, '"', "true", "0", "pass_through"])
    return _json("absurd header", route, _good(chance, route), headers={"extra-parameters": value})


def absurd_header_and_body(chance: random.Random) -> Malformed:
    name = chance.choice(
        ["cache-control", "accept", "x-ms-client-request-id", "user-agent", "api-key", "authorization", "traceparent"]
    )
    value = chance.choice(["\xff" * 100, "x" * 10_000, "no-cache" * 1000, ",;=" * 1000, "00-" + "z" * 32])
    broken = broken_json(chance)
    return Malformed("absurd header and body", broken.route, broken.body, {name: value})


def empty(chance: random.Random) -> Malformed:
    kind = chance.choice(["application/json", "image/png", "application/octet-stream", "text/plain"])
    return Malformed("empty", _any_route(chance), chance.choice([b"", b" ", b"\n" * 1000]), {"content-type": kind})


def too_large(chance: random.Random) -> Malformed:
    """A little over what the app takes: the host takes some megabytes more."""
    return Malformed("too large", _any_route(chance), b'{"input": ["' + b"x" * (20 * 2**20) + b'"]}')


# How often each comes, in proportion; the largest bodies cost a thousand times what the others do.
KINDS: dict[Callable[[random.Random], Malformed], float] = {
    broken_json: 12,
    other_encoding: 4,
    invalid_utf8: 5,
    no_object: 4,
    wrong_input: 14,
    wrong_option: 10,
    unknown_field: 8,
    unknown_fields_by_the_thousand: 1,
    deep: 6,
    huge_number: 5,
    huge_array: 2,
    bad_base64: 8,
    bad_picture: 6,
    bad_parameter: 4,
    wrong_content_type: 6,
    bad_form: 5,
    compressed: 2,
    absurd_header: 3,
    absurd_header_and_body: 4,
    empty: 3,
    too_large: 0.3,
}


def malformed(number: int, seed: int) -> Iterator[Malformed]:
    """So many of them, always the same for a seed."""
    chance = random.Random(seed)
    kinds = chance.choices(list(KINDS), list(KINDS.values()), k=number)
    return (make(chance) for make in kinds)


def complaint(request: Malformed, answer: httpx.Response) -> str | None:
    """What is wrong with the answer, if anything."""
    shown = f"{request.kind}: {request.route} {request.headers} {request.params} {request.body[:200]!r}"
    if not 400 <= answer.status_code < 500:
        return f"{answer.status_code} for {shown}"
    try:
        error = answer.json()["error"]
        right = isinstance(error["message"], str) and error["message"] and answer.headers["x-ms-error-code"]
    except (ValueError, KeyError, TypeError):
        right = False
    if not right or error["code"] != answer.headers["x-ms-error-code"] or len(answer.content) > 50_000:
        return f"{answer.status_code} {answer.content[:200]!r} for {shown}"
    return "a wait" if "retry-after" in answer.headers else None


def resident_mib(running: Stack) -> float:
    """The memory of the process that runs the functions."""
    process = host_process(running)
    assert process is not None, "the functions host is not among this process's children"
    return memory_mib("VmRSS", process)


@pytest.fixture(scope="module")
def http(running: Stack, endpoint: str) -> Iterator[httpx.Client]:
    key = {"x-functions-key": running.functions_key}
    with httpx.Client(base_url=endpoint, headers=key, trust_env=False, timeout=PATIENCE) as client:
        yield client


def is_answered(http: httpx.Client) -> bool:
    answers = [http.post(f"/{route}", json=_good(random.Random(), route)) for route in (IMAGES, TEXTS)]
    return [answer.status_code for answer in answers] == [200, 200]


def test_each_of_a_thousand_is_refused_in_our_shape_and_leaves_no_trace(
    running: Stack, http: httpx.Client, model: Model, spoken: str
) -> None:
    seed = SEEDS[spoken]

    def refused(request: Malformed) -> tuple[str, str | None]:
        headers = {name.encode(): value.encode("latin-1") for name, value in request.headers.items()}
        answer = http.post(f"/{request.route}", content=request.body, headers=headers, params=request.params)
        return request.kind, complaint(request, answer)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(refused, malformed(NUMBER // 4, seed=seed + 1)))
        before = resident_mib(running)
        answers = list(threads.map(refused, malformed(NUMBER, seed=seed)))
        grown = resident_mib(running) - before
        # How high the peak of a few large bodies at once is, is chance. A leak grows every time.
        for again in range(3):
            if grown < MOST_GROWTH_MIB:
                break
            before += grown
            list(threads.map(refused, malformed(NUMBER, seed=seed + 2 + again)))
            grown = resident_mib(running) - before
    assert [said for _, said in answers if said] == []
    assert len({kind for kind, _ in answers}) == len(KINDS)
    assert model.calls() == []
    assert grown < MOST_GROWTH_MIB
    assert is_answered(http)


def test_a_body_that_ends_too_early_does_no_harm(running: Stack, http: httpx.Client, model: Model, spoken: str) -> None:
    """The connection may just close: nobody is there to read an answer. What comes first must not be a 5xx."""
    chance = random.Random(SEEDS[spoken])
    address = urlsplit(running.functions_url)
    for _ in range(100):
        route = _any_route(chance)
        body = json.dumps(_good(chance, route)).encode()
        sent = body[: chance.randrange(len(body))]
        chunked = chance.random() < 0.5
        length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
        head = (
            f"POST /api/models/{route} HTTP/1.1\r\nhost: x\r\nx-functions-key: {running.functions_key}\r\n"
            f"content-type: application/json\r\n{length}\r\n\r\n"
        )
        with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
            connection.sendall(head.encode() + (f"{len(body):x}\r\n".encode() if chunked else b"") + sent)
            if chance.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(100)
                assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert model.calls() == []
    assert is_answered(http)
