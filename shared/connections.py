"""How the storage clients of this process connect: enough connections for its threads, short waits between tries."""

from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport

# Threads of the worker (at most 32) and of an audit. requests keeps 10 connections a host unless told otherwise, and
# shakes hands anew for every further thread.
_CONNECTIONS = 64


# For a question to which "not now" is an answer: one try, and not for long.
ONCE: dict[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 10}


def transport() -> RequestsTransport:
    """A pool of connections of its own."""
    session = requests.Session()
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return RequestsTransport(session=session)


def options() -> dict[str, Any]:
    """Options of a storage client: a pool of connections, and five tries within about 18 s.

    The SDK's own first wait is 15 s, which is as long as a query may take altogether.
    """
    return {
        "transport": transport(),
        "retry_total": 4,
        "initial_backoff": 1,
        "increment_base": 2,
        "random_jitter_range": 1,
    }
