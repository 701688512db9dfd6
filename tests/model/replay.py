"""Observed answers of the real service, replayed over HTTP."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from shared.model.client import HARMLESS_PNG
from tests.conftest import Cloud

type Replay = tuple[int, object]
VECTOR = [0.5] * 1024


@contextlib.contextmanager
def replaying(
    cloud: Cloud, respond: Callable[[bytes], Replay], headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Cloud]:
    """The cloud, before a model that answers a request's body with a status and a body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = respond(self.rfile.read(int(self.headers["content-length"])))
            content = body if isinstance(body, bytes) else msgspec.json.encode(body)
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}{cloud.wire_format.path}"
        yield cloud.with_settings(FOUNDRY_ENDPOINT=endpoint)
        server.shutdown()


@contextlib.contextmanager
def answering(
    cloud: Cloud,
    status: int,
    body: object,
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    takes_harmless: bool = True,
) -> Iterator[Cloud]:
    """The cloud, before a model with the same answer to every request, but for the harmless one if it takes that."""
    harmless = HARMLESS_PNG.encode()

    def respond(asked: bytes) -> Replay:
        return (200, cloud.wire_format.vectors(VECTOR)) if takes_harmless and harmless in asked else (status, body)

    with replaying(cloud, respond, headers) as replayed:
        yield replayed
