"""The program: serves the stand-in on a loopback port until a signal."""

import argparse
import asyncio
import contextlib

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from local.model.service import Service
from local.processes import announce, listener
from shared.parsing import learn_shapes


class Protocol(H11Protocol):
    """HTTP as uvicorn speaks it. A request can also reach its connection, to drop it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # narrowed by uvicorn
        """Put the connection where the application finds it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def main() -> None:
    """Run the stand-in, as `python -m local.model` does."""
    parser = argparse.ArgumentParser(prog="python -m local.model", description="A stand-in for the model.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--api-key", help="require this key instead of a token")
    parser.add_argument("--also", nargs="*", default=[], help="names of further deployments, each below /<name>")
    options = parser.parse_args()
    learn_shapes("local.model")
    listening = listener(options.port)
    config = uvicorn.Config(
        Service(options.api_key).app({name: Service(options.api_key) for name in options.also}),
        http=Protocol,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    announce(listening)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
