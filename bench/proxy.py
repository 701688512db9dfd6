"""What a query costs through the app instead of directly to the model, and what a cache hit costs.

The app and the model are called by turns, where the model answers at once and where it takes 100 ms. Figures without a
suffix are over HTTP: they include the stand-in for the Functions host, which is Python here and not .NET, and runs in
the app's process. Those that end in ``_function`` are of the functions alone, called in their own process. The app is
called with ``Cache-Control: no-cache``, so that it never answers from its cache, and it stores every answer. Storage,
the model, the app and the client share the cores of this machine.
"""

import base64
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from functools import cache, partial
from itertools import count
from urllib.parse import urlencode

import azure.functions as func
import httpx

from bench import photographs
from bench.figures import Figure, Measurement
from bench.timing import seconds
from local import identity, stack
from local.azurite import REPO_ROOT
from local.identity import Identity
from local.stack import Stack
from local.storage import connection_parts

_MODEL = "Cohere-embed-v3-english"
IDENTITY = "00000000-0000-0000-0000-000000000000"
_AT_ONCE = 32
# Rounds by the model's latency in milliseconds.
_ROUNDS = {0: 200, 100: 20}
_WARM_UP = 5
# More than the app keeps in memory, so that the first of them come from storage.
_TEXTS = 700
_REPEATED = 150

_numbers = count()


@dataclass(frozen=True)
class Site:
    """Ways to call. ``app`` takes a route, a body and whether to bypass the cache; returns ``hit`` or ``miss``."""

    app: Callable[[str, bytes, bool], str]
    model: Callable[[str, bytes], object]
    behave: Callable[[float], object]


def added_text(site: Site) -> Measurement:
    """Milliseconds that the app adds to a text query."""
    return _added(site, "embeddings", _text)


def added_image(site: Site) -> Measurement:
    """Milliseconds that the app adds to a query with a PNG of 512 x 512 pixels."""
    picture = base64.b64encode(photographs.png_small().read_bytes()).decode()
    body = json.dumps({"model": _MODEL, "input": [{"image": f"data:image/png;base64,{picture}"}]}).encode()
    return _added(site, "images/embeddings", lambda: body)


def cache_hit(site: Site) -> Measurement:
    """Milliseconds for a text that the app has in memory."""
    text = _text()
    site.app("embeddings", text, False)
    return _hits([_known(site, text) for _ in range(_ROUNDS[0])])


def cache_hit_stored(site: Site) -> Measurement:
    """Milliseconds for a text that the app has in storage only."""
    texts = [_text() for _ in range(_TEXTS)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda text: site.app("embeddings", text, False), texts))
    return _hits([_known(site, text) for text in texts[:_REPEATED]])


def rps_vs_direct(site: Site) -> Measurement:
    """Texts a second through the app over texts a second directly, 32 at once, three rounds by turns."""
    site.behave(100)
    ratios, rates = [], []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        # The first round opens the connections.
        for calls in (2 * _AT_ONCE, 9 * _AT_ONCE, 9 * _AT_ONCE, 9 * _AT_ONCE):
            texts = [_text() for _ in range(calls)]
            direct = _per_second(threads, lambda text: site.model("embeddings", text), texts)
            through = _per_second(threads, lambda text: site.app("embeddings", text, True), texts)
            ratios.append(through / direct)
            rates.append(f"{through:.0f}/{direct:.0f}")
    source = f"requests/s: {', '.join(rates[1:])}; FOUNDRY_CONCURRENCY={_AT_ONCE}"
    return Measurement.median(ratios[1:], source)


def _text() -> bytes:
    text = f"a red bicycle, number {next(_numbers)} of {os.getpid()}"
    return json.dumps({"model": _MODEL, "input": [text]}).encode()


def _added(site: Site, route: str, make: Callable[[], bytes]) -> Measurement:
    """What the app adds, the larger of both latencies, with the middle half of the differences of single rounds."""
    found = []
    for latency, rounds in _ROUNDS.items():
        site.behave(latency)
        times = []
        for turn in range(rounds + _WARM_UP):
            body = make()
            taken = _ms(partial(site.model, route, body)), _ms(partial(site.app, route, body, True))
            # The first calls find a process that has just started.
            times += [taken] if turn >= _WARM_UP else []
        direct, through = (statistics.median(each) for each in zip(*times, strict=True))
        low, _, high = statistics.quantiles([slow - fast for fast, slow in times], n=4)
        found.append(Measurement(through - direct, low, high, f"{through:.1f} - {direct:.1f} ms"))
    return replace(max(found, key=lambda each: each.value), source=", ".join(each.source for each in found))


def _known(site: Site, text: bytes) -> float:
    known = []
    taken = _ms(lambda: known.append(site.app("embeddings", text, False)))
    if known != ["hit"]:
        raise RuntimeError(f"A repeated text should be a cache hit; x-embedding-cache says {known}.")
    return taken


def _hits(times: list[float]) -> Measurement:
    low, middle, high = statistics.quantiles(times, n=4)
    return Measurement(middle, low, high, f"{len(times)} queries")


def _per_second(threads: ThreadPoolExecutor, call: Callable[[bytes], object], texts: list[bytes]) -> float:
    return len(texts) / (_ms(lambda: list(threads.map(call, texts))) / 1000)


def _ms(work: Callable[[], object]) -> float:
    return seconds(work) * 1000


MEASURED = {each.__name__: each for each in (added_text, added_image, cache_hit, cache_hit_stored, rps_vs_direct)}


@cache
def _measured(name: str) -> tuple[Measurement, Measurement]:
    """One figure over HTTP, then of the function alone, with the same storage and model."""
    settings = {"FOUNDRY_CONCURRENCY": str(_AT_ONCE)}
    with stack.running(model=_MODEL, settings=settings) as running, identity.running([IDENTITY]) as tokens:
        over_http = _over_http(name, running, tokens)
        environment = {**os.environ, **settings, **app_settings(running, tokens), "BENCH_FOUNDRY": running.foundry_url}
        command = [sys.executable, "-m", "bench.proxy", name]
        alone = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPO_ROOT)
    return over_http, Measurement(*json.loads(alone.stdout))


def _over_http(name: str, running: Stack, tokens: Identity) -> Measurement:
    key = {"x-functions-key": running.functions_key}
    with (
        _calling_the_model(running.foundry_url, tokens.endpoint, tokens.header) as (model, behave),
        _client(f"{running.functions_url}/api/models", key) as http,
    ):

        def app(route: str, body: bytes, fresh: bool) -> str:
            headers = {"content-type": "application/json", "cache-control": "no-cache" if fresh else ""}
            answer = http.post(f"/{route}", content=body, headers=headers).raise_for_status()
            cache: str = answer.headers["x-embedding-cache"]
            return cache

        return MEASURED[name](Site(app, model, behave))


def _alone(name: str) -> Measurement:
    """The figure of the functions in this process, which has the app settings."""
    import function_app

    functions = {"embeddings": function_app.text_embeddings, "images/embeddings": function_app.image_embeddings}

    def app(route: str, body: bytes, fresh: bool) -> str:
        headers = {"content-type": "application/json", "cache-control": "no-cache" if fresh else ""}
        call: Callable[[func.HttpRequest], func.HttpResponse] = functions[route]
        answer = call(func.HttpRequest("POST", "/", headers=headers, body=body))
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(answer.get_body().decode())
        cache: str = answer.headers["x-embedding-cache"]
        return cache

    environment = os.environ
    with _calling_the_model(
        environment["BENCH_FOUNDRY"], environment["IDENTITY_ENDPOINT"], environment["IDENTITY_HEADER"]
    ) as (model, behave):
        return MEASURED[name](Site(app, model, behave))


@contextmanager
def _calling_the_model(
    url: str, tokens: str, header: str
) -> Iterator[tuple[Callable[[str, bytes], object], Callable[[float], object]]]:
    """Functions that call the model without the app, with a token like the app's, and that set its latency."""
    wanted = {"api-version": "2019-08-01", "resource": "https://cognitiveservices.azure.com", "client_id": IDENTITY}
    given = httpx.get(f"{tokens}?{urlencode(wanted)}", headers={"X-IDENTITY-HEADER": header}).raise_for_status()
    headers = {"authorization": f"Bearer {given.json()['access_token']}", "content-type": "application/json"}
    with _client(url, headers) as http:

        def model(route: str, body: bytes) -> object:
            params = {"api-version": "2024-05-01-preview"}
            return http.post(f"/models/{route}", content=body, params=params).raise_for_status().json()

        def behave(latency_ms: float) -> object:
            # Cheap vectors, so that the model takes no CPU from the app.
            return http.post("/admin/behaviour", json={"latency_ms": latency_ms, "mode": "cheap"}).raise_for_status()

        yield model, behave


def _client(url: str, headers: dict[str, str]) -> httpx.Client:
    limits = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE)
    return httpx.Client(base_url=url, headers=headers, limits=limits, trust_env=False, timeout=60)


def app_settings(running: Stack, tokens: Identity) -> dict[str, str]:
    """The settings of a deployed app, for a process outside of the stack."""
    account = connection_parts(running.storage_connection_string)
    return {
        "FOUNDRY_ENDPOINT": f"{running.foundry_url}/models",
        "FOUNDRY_MODEL": _MODEL,
        "ImageStorage__blobServiceUri": account["BlobEndpoint"],
        "ImageStorage__queueServiceUri": account["QueueEndpoint"],
        "ImageStorage__credential": "managedidentity",
        "ImageStorage__clientId": IDENTITY,
        "IDENTITY_ENDPOINT": tokens.endpoint,
        "IDENTITY_HEADER": tokens.header,
        "SSL_CERT_FILE": running.ca_file,
        "REQUESTS_CA_BUNDLE": running.ca_file,
    }


def _http(name: str) -> Callable[[], Measurement]:
    return lambda: _measured(name)[0]


def _function(name: str) -> Callable[[], Measurement]:
    return lambda: _measured(name)[1]


FIGURES = [
    Figure("proxy_added_ms_text", "ms", "lower", 20, _http("added_text")),
    Figure("proxy_added_ms_text_function", "ms", "lower", 20, _function("added_text")),
    Figure("proxy_added_ms_image", "ms", "lower", 30, _http("added_image")),
    Figure("proxy_added_ms_image_function", "ms", "lower", 30, _function("added_image")),
    Figure("proxy_cache_hit_ms", "ms", "lower", 6, _http("cache_hit")),
    Figure("proxy_cache_hit_ms_function", "ms", "lower", 6, _function("cache_hit")),
    Figure("proxy_cache_hit_stored_ms", "ms", "lower", 15, _http("cache_hit_stored")),
    Figure("proxy_cache_hit_stored_ms_function", "ms", "lower", 15, _function("cache_hit_stored")),
    Figure("proxy_rps_vs_direct", "x", "higher", 0.7, _http("rps_vs_direct")),
    Figure("proxy_rps_vs_direct_function", "x", "higher", 0.7, _function("rps_vs_direct")),
]

if __name__ == "__main__":
    sys.stdout.write(json.dumps(astuple(_alone(sys.argv[1]))))
