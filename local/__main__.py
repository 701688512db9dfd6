"""`python -m local serve`, `demo`, `upload` or `settings`: the local stack from a terminal."""

import os
import signal

if __name__ == "__main__":
    # Importing the rest takes a second. Until then there is nothing to clean up, and Ctrl-C needs no traceback.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import argparse
import contextlib
import dataclasses
import json
import sys
import threading
from functools import partial
from pathlib import Path

from local import stack
from local.azurite import REPO_ROOT
from local.processes import LISTENING
from local.real_model import RealModel, notice
from local.stack import Stack, StackError
from local.storage import connection_parts

MODEL = "Cohere-embed-v3-english"
STACK_FILE = REPO_ROOT / ".local/stack.json"
CORE_TOOLS_SETTINGS = {
    "IsEncrypted": False,
    "Values": {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "ImageStorage": "UseDevelopmentStorage=true",
        "FOUNDRY_ENDPOINT": "https://<resource>.services.ai.azure.com/models",
        "FOUNDRY_MODEL": MODEL,
    },
}


def main() -> int:
    """Run one of the commands and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local", description="The whole app on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run the stack until Ctrl-C")
    demo = commands.add_parser("demo", help="run the demo")
    demo.add_argument("--keep", action="store_true", help="keep everything running until Ctrl-C")
    uploading = commands.add_parser("upload", help="upload pictures to the stack that `serve` runs")
    for command in (serving, demo, uploading):
        command.add_argument("--file", type=Path, default=STACK_FILE, help="the file that describes the running stack")
    for command in (demo, uploading):
        command.add_argument("folder", nargs="?", type=Path, help="a folder of your own pictures")
    for command in (serving, demo):
        command.add_argument("--model", default=MODEL, help="a model that the stand-in serves, or a real deployment")
        command.add_argument("--query-model", default="", help="another model in the same space, for queries")
        command.add_argument("--endpoint", help="a real Foundry endpoint, asked and paid for instead of the stand-in")
    commands.add_parser("settings", help="print a local.settings.json for Azure Functions Core Tools")
    options = parser.parse_args()
    endpoint = getattr(options, "endpoint", None)
    real = RealModel.of_environment(endpoint, options.model) if endpoint else None
    match options.command:
        case "serve":
            return serve(options.file, options.model, options.query_model, real)
        case "demo":
            from local.demo import main as run_demo  # the other commands do not need its imports

            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on there is something to clean up
            keep = partial(stay, options.file) if options.keep else None
            return run_demo(options.folder, options.model, options.query_model, real, keep)
        case "upload":
            from local.upload import main as upload

            return upload(options.file, options.folder)
        case _:
            print(json.dumps(CORE_TOOLS_SETTINGS, indent=2))
            return 0


def serve(file: Path, model: str = MODEL, query_model: str = "", real: RealModel | None = None) -> int:
    """Run the stack until Ctrl-C or SIGTERM. `file` describes it as long as it runs."""
    if real:
        print(f"{notice(real)}\n", flush=True)
    try:
        settings = {"FOUNDRY_QUERY_MODEL": query_model}
        with stack.running(model=model, settings=settings, real_model=real, show=print_line) as running:
            stay(file, running)
    except KeyboardInterrupt:
        return 0
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def stay(file: Path, running: Stack) -> None:
    """Say what runs where, in `file` as well, until something interrupts this."""
    write_stack_file(file, running)
    try:
        print(description(file, running), flush=True)
        threading.Event().wait()
    finally:
        remove_stack_file(file)


def print_line(line: str) -> None:
    """Print a line of the functions' log, except the one that only the stack needs."""
    if not LISTENING.match(line):
        print(line, flush=True)


def write_stack_file(file: Path, running: Stack) -> None:
    """Write it in one step, readable by this user only: it holds keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(f".{running.pid}")
    new.touch(mode=0o600)
    new.write_text(json.dumps(dataclasses.asdict(running), indent=2) + "\n")
    new.replace(file)


def remove_stack_file(file: Path) -> None:
    """Remove it, unless another stack has replaced it."""
    with contextlib.suppress(FileNotFoundError):
        if json.loads(file.read_text())["pid"] == os.getpid():
            file.unlink()


def description(file: Path, running: Stack) -> str:
    """What runs where, a link to the gallery, and a search to paste."""
    storage = connection_parts(running.storage_connection_string)
    return f"""\
functions  {running.functions_url}/api
storage    {storage["BlobEndpoint"]} (certificate: {running.ca_file})
model      {running.foundry_url}
details    {file.absolute().relative_to(Path.cwd(), walk_up=True)}

The gallery shows and searches what is in the container "images". The link holds the key:

  {running.functions_url}/api/gallery#key={running.functions_key}

'make upload' puts the sample pictures there, 'make upload IMAGES=folder' your own. A search without the gallery:

  curl -s {running.functions_url}/api/search -H 'x-functions-key: {running.functions_key}' \\
    -H 'content-type: application/json' -d '{{"text": "a red car"}}'

Press Ctrl-C to stop.
"""


if __name__ == "__main__":
    sys.exit(main())
