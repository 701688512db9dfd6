"""A proxy in front of storage that fails when it is told to: TLS in, TLS out, the emulator's own certificate.

    faults = StorageFaults()
    with stack.running(storage_faults=faults):
        faults.begin("lost", share=0.1)
        faults.end()

What a client sends and what storage answers go through as they are, piece by piece: paths, Host, Authorization,
ranges, bodies. A request must say how long it is, which those of the storage SDKs do.
"""

import http.client
import math
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from local.azurite import Azurite

FaultKind = Literal["cut", "lost", "slow", "401", "no_role", "firewall", "500", "503"]

_ERRORS: dict[str, tuple[int, str, str]] = {
    "401": (401, "InvalidAuthenticationInfo", "Authentication information is not given in the correct format."),
    "no_role": (
        403,
        "AuthorizationPermissionMismatch",
        "This request is not authorized to perform this operation using this permission.",
    ),
    "firewall": (403, "AuthorizationFailure", "This request is not authorized to perform this operation."),
    "500": (500, "InternalError", "The server encountered an internal error. Please retry the request."),
    "503": (503, "ServerBusy", "The server is busy."),
}
# Azurite closes a connection that has been idle for five seconds. A request sent at that moment would be lost.
_LONGEST_IDLE = 2.0
_PIECE = 64 * 1024
# How often a server looks whether it is to stop, in seconds.
_STOPPING = {"poll_interval": 0.05}


@dataclass(frozen=True)
class _Fault:
    kind: FaultKind
    share: float
    times: float
    seconds: float


class StorageFaults:
    """The switch of the proxy: which fault requests meet, if any. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fault: _Fault | None = None
        self._random = random.Random()
        self.met = 0
        """How many requests have met the fault since it began."""

    def begin(
        self, kind: FaultKind, *, share: float = 1.0, times: float = math.inf, seconds: float = 1.0, seed: int = 0
    ) -> None:
        """From now on, until told otherwise or so many `times`, fail that share of the requests in this way.

        `cut` drops the connection before anything is forwarded, `lost` once storage has answered: what was asked
        for is done and nobody learns of it. `slow` waits so many seconds first, the rest are answers of storage.
        """
        with self._lock:
            self._fault, self._random, self.met = _Fault(kind, share, times, seconds), random.Random(seed), 0

    def end(self) -> int:
        """Let every request through from now on; how many met the fault."""
        with self._lock:
            self._fault = None
            return self.met

    def next(self) -> _Fault | None:
        """The fault that the next request meets."""
        with self._lock:
            fault = self._fault
            if fault is None or self.met >= fault.times or self._random.random() >= fault.share:
                return None
            self.met += 1
            return fault

    @contextmanager
    def before(self, storage: Azurite) -> Iterator[tuple[str, str]]:
        """Serve in threads; the URLs of the blob and the queue service for whoever should meet the faults."""
        with ExitStack() as parts:
            blob_url = parts.enter_context(_serving(storage.blob_url, storage, self))
            yield blob_url, parts.enter_context(_serving(storage.queue_url, storage, self))


@contextmanager
def _serving(url: str, storage: Azurite, faults: StorageFaults) -> Iterator[str]:
    """A proxy for one service; its URL, which has the account in its path like the emulator's own."""
    service = urlsplit(url)
    trusting = ssl.create_default_context(cafile=storage.ca_file)

    class Handler(_Handler):
        def setup(self) -> None:
            super().setup()
            self.faults = faults
            self.upstream = http.client.HTTPSConnection(service.netloc, context=trusting)

    with _Server(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(storage.ca_file, storage.key_file)
        # Shaking hands belongs to each connection's own thread: a client that is slow at it must not stop the others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs=_STOPPING, name="storage faults", daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}{service.path}"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away in the middle are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and the connection to storage that goes with it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faults: StorageFaults
    upstream: http.client.HTTPSConnection
    last_used = 0.0

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def answer(self) -> None:
        fault = self.faults.next()
        match fault.kind if fault else None:
            case "cut":
                self._hang_up()
            case kind if kind in _ERRORS:
                self._refuse(*_ERRORS[kind])
            case kind:
                if fault and kind == "slow":
                    time.sleep(fault.seconds)
                response = self._forward()
                if kind == "lost":
                    response.close()
                    self._hang_up()
                else:
                    self._give_back(response)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the base class's names

    def _forward(self) -> http.client.HTTPResponse:
        if time.monotonic() - self.last_used > _LONGEST_IDLE:
            self.upstream.close()
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"connection", "expect"}:
                self.upstream.putheader(name, value)
        self.upstream.endheaders()
        for piece in self._body():
            self.upstream.send(piece)
        response = self.upstream.getresponse()
        self.last_used = time.monotonic()
        return response

    def _give_back(self, response: http.client.HTTPResponse) -> None:
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in {"connection", "keep-alive"}:
                self.send_header(name, value)
        self.end_headers()
        while piece := response.read(_PIECE):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if response.chunked else piece)
        if response.chunked and self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer in storage's place, as it does: a header for a client that asked with HEAD, and a body of XML."""
        for _ in self._body():
            pass  # what is not read would be taken for the next request
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-ms-error-code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: storage has a log of its own."""
