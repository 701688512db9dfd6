"""The managed-identity endpoint of App Service (protocol 2019-08-01), as much of it as azure-identity uses.

Simulated: the address and header that the platform gives an app, user-assigned identities by client id, tokens per
resource with a lifetime. Not simulated: a signature. The tokens are well-formed and expire, and the storage emulator
and the stand-in for the model check everything else about them. Loopback only.
"""

import base64
import http.server
import json
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from local.processes import STOPPING

_TENANT = "11111111-2222-3333-4444-555555555555"


@dataclass(frozen=True)
class Identity:
    """A running endpoint: the values of an app's IDENTITY_ENDPOINT and IDENTITY_HEADER."""

    endpoint: str
    header: str = field(repr=False)


class Token(NamedTuple):
    """A token from somewhere else, and when it expires, in seconds since 1970."""

    token: str
    expires_on: int


class IdentityError(Exception):
    """There is no token. The message says what to do."""


@contextmanager
def running(
    client_ids: Collection[str],
    *,
    lifetime: float = 24 * 3600,
    real: Callable[[str], Token | None] = lambda resource: None,
) -> Iterator[Identity]:
    """Answer token requests for these identities in a thread; a token lives for `lifetime` seconds.

    `real` may have a real token for a resource, in place of one that only the stand-ins accept.
    """
    header = secrets.token_hex(16)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            client_id = query.get("client_id")
            if url.path != "/msi/token":
                self._answer(404, {"statusCode": 404, "message": "no such path"})
            elif self.headers.get("X-IDENTITY-HEADER") != header:
                self._answer(401, {"statusCode": 401, "message": "X-IDENTITY-HEADER is missing or wrong"})
            elif "resource" not in query or query.get("api-version") != "2019-08-01":
                self._answer(400, {"statusCode": 400, "message": "resource and api-version=2019-08-01 are needed"})
            elif client_id is None or client_id not in client_ids:
                self._answer(400, {"statusCode": 400, "message": f"no managed identity with client id {client_id}"})
            else:
                self._answer(*self._token(query["resource"], client_id))

        def _token(self, resource: str, client_id: str) -> tuple[int, dict[str, object]]:
            response = _token_response(resource, client_id, lifetime)
            try:
                token = real(resource)
            except IdentityError as error:
                return 400, {"statusCode": 400, "message": str(error)}
            if token is not None:
                response |= {"access_token": token.token, "expires_on": str(token.expires_on)}
            return 200, response

        def _answer(self, status: int, body: dict[str, object]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Print nothing: tokens are requested all the time."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs=STOPPING, name="identity endpoint", daemon=True)
        thread.start()
        try:
            yield Identity(endpoint=f"http://127.0.0.1:{server.server_port}/msi/token", header=header)
        finally:
            server.shutdown()
            thread.join()


def _token_response(resource: str, client_id: str, lifetime: float) -> dict[str, object]:
    now = int(time.time())
    expires = int(now + lifetime)
    claims = {
        "aud": resource,
        "iss": f"https://sts.windows.net/{_TENANT}/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": expires,
        "appid": client_id,
        "oid": "99999999-0000-0000-0000-000000000001",
        "tid": _TENANT,
        "ver": "1.0",
    }
    parts = [_base64url({"alg": "RS256", "typ": "JWT", "kid": "local"}), _base64url(claims), "c2lnbmF0dXJl"]
    return {
        "access_token": ".".join(parts),
        "expires_on": str(expires),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": client_id,
    }


def _base64url(data: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()
