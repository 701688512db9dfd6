"""A proxy in front of storage that fails on demand: TLS in, TLS out, the emulator's own certificate.

    faults = StorageFaults()
    with stack.running(storage_faults=faults):
        faults.begin("lost", share=0.1)
        faults.end()

Requests and answers pass through unchanged, piece by piece: paths, Host, Authorization, ranges, bodies. A request must
have a Content-Length, as those of the storage SDKs do.
"""

import http.client
import math
import random
import re
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
from local.processes import STOPPING

FaultKind = Literal["cut", "lost", "slow", "401", "no_role", "firewall", "changed", "immutable", "500", "503"]

_ERRORS: dict[str, tuple[int, str, str]] = {
    "401": (401, "InvalidAuthenticationInfo", "Authentication information is not given in the correct format."),
    "no_role": (
        403,
        "AuthorizationPermissionMismatch",
        "This request is not authorized to perform this operation using this permission.",
    ),
    "firewall": (403, "AuthorizationFailure", "This request is not authorized to perform this operation."),
    "changed": (412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."),
    "immutable": (
        409,
        "BlobImmutableDueToPolicy",
        "This operation is not permitted as the blob is immutable due to a policy.",
    ),
    "500": (500, "InternalError", "The server encountered an internal error. Please retry the request."),
    "503": (503, "ServerBusy", "The server is busy."),
}
# Azurite closes a connection that has been idle for five seconds. A request sent at that moment would be lost.
_LONGEST_IDLE = 2.0
_PIECE = 64 * 1024


@dataclass(frozen=True)
class _Fault:
    kind: FaultKind
    share: float
    times: float
    seconds: float
    requests: str


class StorageFaults:
    """The proxy's switch: which fault requests meet, if any. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fault: _Fault | None = None
        self._random = random.Random()
        self.met = 0
        """How many requests have met the fault since it began."""

    def begin(
        self,
        kind: FaultKind,
        *,
        share: float = 1.0,
        times: float = math.inf,
        seconds: float = 1.0,
        seed: int = 0,
        requests: str = "",
    ) -> None:
        """From now on, fail that share of the requests in this way, at most `times` of them.

        Only requests whose verb and path match the pattern `requests` count, such as "PUT .*/images/".

        `cut` drops the connection before anything is forwarded. `lost` drops it once storage has answered: the request
        is done, and its sender never learns of it. `slow` waits `seconds` first. The rest are answers of storage.
        """
        with self._lock:
            self._fault = _Fault(kind, share, times, seconds, requests)
            self._random, self.met = random.Random(seed), 0

    def end(self) -> int:
        """Let every request through from now on. Returns how many met the fault."""
        with self._lock:
            self._fault = None
            return self.met

    def next(self, request: str) -> _Fault | None:
        """The fault that this request, its verb and path, meets."""
        with self._lock:
            fault = self._fault
            if fault is None or not re.match(fault.requests, request):
                return None
            if self.met >= fault.times or self._random.random() >= fault.share:
                return None
            self.met += 1
            return fault

    @contextmanager
    def before(self, storage: Azurite) -> Iterator[tuple[str, str]]:
        """Serve in threads. Yields the URLs of the blob and queue services for the clients that should meet faults."""
        with ExitStack() as parts:
            blob_url = parts.enter_context(_serving(storage.blob_url, storage, self))
            yield blob_url, parts.enter_context(_serving(storage.queue_url, storage, self))


@contextmanager
def _serving(url: str, storage: Azurite, faults: StorageFaults) -> Iterator[str]:
    """Run a proxy for one service. Yields its URL, which has the account in its path like the emulator's own."""
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
        # Each connection does its handshake in its own thread: a slow client must not hold up the others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs=STOPPING, name="storage faults", daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}{service.path}"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: clients that disconnect midway are what this is for."""


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
        fault = self.faults.next(f"{self.command} {self.path}")
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
                    self._pass_on(response)

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

    def _pass_on(self, response: http.client.HTTPResponse) -> None:
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
        """Answer in storage's place, the way it does: a body of XML, and the code in a header for HEAD."""
        for _ in self._body():
            pass  # an unread body would be taken for the next request
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
        """Print nothing: storage has a log of its own."""
