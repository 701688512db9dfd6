"""The program: loads the app, says where it listens, and runs it until SIGTERM."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

import uvicorn

from local.host import worker
from local.host.functions import Functions
from local.host.host_json import read_host_json
from local.host.http import Front
from local.host.invocations import Invocations
from local.host.triggers import Triggers
from local.host.worker import IndexingError
from local.processes import announce, listener
from local.storage import Storage

# The platform's name of the setting.
HOST_ID = "AzureFunctionsWebHost__hostid"


async def serve(app: Path, *, port: int, lease: float, refusals: int, extension: bool) -> None:
    """Load the app, print where it listens as the first line of stdout, and run it until SIGTERM.

    Raises IndexingError when the app cannot be loaded.
    """
    key = os.environ.pop("FUNCTIONS_KEY")
    own_connection = os.environ.pop("AzureWebJobsStorage")
    host_json = read_host_json((app / "host.json").read_text(), os.environ, cores=os.cpu_count() or 1, lease=lease)
    accounts: dict[str, Storage] = {}

    def storage(connection: str) -> Storage:
        """The account of a connection. An identity-based one is the host's own account: there is only one here."""
        connection_string = os.environ.get(connection, own_connection)
        if connection_string not in accounts:
            ca_file = os.environ.get("REQUESTS_CA_BUNDLE")
            accounts[connection_string] = Storage(connection_string, Path(ca_file) if ca_file else None)
        return accounts[connection_string]

    functions = Functions(await worker.index(app), os.environ, host_json.timeout)
    triggers = Triggers(functions, host_json, storage, os.environ.get(HOST_ID, "local"))
    front = Front(functions, triggers, route_prefix=host_json.route_prefix, key=key, refusals=refusals)
    listening = listener(port)
    announce(listening)
    asgi = front.app(Invocations(functions).routes() if extension else [])
    config = uvicorn.Config(
        asgi,
        access_log=False,
        lifespan="off",
        log_config=None,
        # As the real host's server, Kestrel (KeepAliveTimeout). Uvicorn's 5 s are those of httpx as well: a connection
        # that both give up at the same moment loses the request that comes just then.
        timeout_keep_alive=130,
        timeout_graceful_shutdown=2,
    )
    async with asyncio.TaskGroup() as group:
        pumping = None if extension else group.create_task(triggers.pump())
        await uvicorn.Server(config).serve(sockets=[listening])
        if pumping:
            pumping.cancel()


def main() -> None:
    """Run the host, as `python -m local.host` does."""
    parser = argparse.ArgumentParser(prog="python -m local.host", description="Run a function app on this machine.")
    parser.add_argument("--app", type=Path, required=True, help="the folder with function_app.py and host.json")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--lease", type=float, default=600, help="seconds a message stays hidden if the process dies")
    parser.add_argument("--refusals", type=int, default=0, help="calls of the webhook to answer with 401 at first")
    parser.add_argument(
        "--extension", action="store_true", help="leave events and queues to a program that posts to /invocations"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("azure", "httpx", "httpcore", "urllib3", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    status = 0
    try:
        asyncio.run(
            serve(
                options.app.resolve(),
                port=options.port,
                lease=options.lease,
                refusals=options.refusals,
                extension=options.extension,
            )
        )
    except IndexingError as error:
        print(f"The function app cannot be loaded. {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        pass
    sys.stdout.flush()
    sys.stderr.flush()
    # A function that still runs holds a thread that would keep the process alive. The platform does not wait either.
    os._exit(status)


if __name__ == "__main__":
    main()
