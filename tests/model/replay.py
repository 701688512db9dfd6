"""Observed answers of the real service, replayed over HTTP."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from shared.model.client import _HARMLESS_PNG

type Replay = tuple[int, object]
EMBEDDING = {"data": [{"index": 0, "embedding": [0.5] * 1024}]}


@contextlib.contextmanager
def replaying(
    respond: Callable[[bytes], Replay], headers: Mapping[str, str] = MappingProxyType({}), path: str = "/models"
) -> Iterator[str]:
    """A server that answers a request's body with a status and a body; yields its ``FOUNDRY_ENDPOINT``."""

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
        yield f"http://127.0.0.1:{server.server_port}{path}"
        server.shutdown()


@contextlib.contextmanager
def answering(
    status: int, body: object, headers: Mapping[str, str] = MappingProxyType({}), *, takes_harmless: bool = True
) -> Iterator[str]:
    """A server that gives the same answer to every request, but for the harmless one if it takes that."""
    harmless = _HARMLESS_PNG.encode()

    def respond(asked: bytes) -> Replay:
        return (200, EMBEDDING) if takes_harmless and harmless in asked else (status, body)

    with replaying(respond, headers) as endpoint:
        yield endpoint
