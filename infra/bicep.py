"""Runs Microsoft's Bicep compiler: ``make snapshots`` writes what it says of each deployment, ``make lint`` checks it.

``snapshots/*.bicepparam`` are deployments worth knowing. Next to each, a ``.snapshot.json`` has every resource that
Bicep would make of it, with names, scopes, roles and settings; what only Azure can say stays an expression.
``parameters.json`` has the parameters of both templates with their defaults and bounds. Tests read these files, so they
need no Bicep; ``inputs.sha256`` tells them when the files are older than what they were made from.
``refused/*.bicepparam`` are deployments that the templates refuse, in the words of their first line.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

INFRA = Path(__file__).parent
SNAPSHOTS = INFRA / "snapshots"
TEMPLATES = (INFRA / "main.bicep", INFRA / "events.bicep")
PARAMETERS, DIGEST = SNAPSHOTS / "parameters.json", SNAPSHOTS / "inputs.sha256"

# Where the deployments take place: nowhere. Names are made from these.
_NOWHERE = "00000000-0000-0000-0000-000000000000"
_SUBSCRIPTION = ("--tenant-id", _NOWHERE, "--subscription-id", _NOWHERE)
_PLACES = {
    "main.bicep": (*_SUBSCRIPTION, "--location", "westeurope"),
    "events.bicep": (*_SUBSCRIPTION, "--resource-group", "rg-pictures"),
}


def digest() -> str:
    """One line over all that the snapshots are made from: every template, query and set of parameters, the models."""
    inputs = [path for suffix in ("bicep", "bicepparam", "kql") for path in INFRA.rglob(f"*.{suffix}")]
    inputs.append(INFRA / "models.json")
    total = hashlib.sha256()
    for path in sorted(inputs):
        total.update(f"{path.relative_to(INFRA).as_posix()}\n".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{total.hexdigest()}\n"


def write() -> None:
    """Make all snapshots anew."""
    for path in _deployments():
        _snapshot(path, "overwrite")
        # Bicep writes outputs in any order.
        made = path.with_suffix(".snapshot.json")
        snapshot = json.loads(made.read_text())
        snapshot["outputs"] = dict(sorted(snapshot["outputs"].items()))
        made.write_text(json.dumps(snapshot, indent=2, ensure_ascii=False) + "\n")
    PARAMETERS.write_text(_parameters())
    DIGEST.write_text(digest())


def check() -> None:
    """Compile, lint, compare the layout and the snapshots; a warning is a fault, too."""
    for path in TEMPLATES:
        _bicep("lint", path)
    for path in sorted([*INFRA.rglob("*.bicep"), *INFRA.rglob("*.bicepparam")]):
        if _bicep("format", path, "--stdout") != path.read_text():
            raise SystemExit(f"{path.relative_to(INFRA.parent)} is not laid out as Bicep does it: bicep format {path}")
    for path in _deployments():
        _snapshot(path, "validate")
    for path in sorted(SNAPSHOTS.glob("refused/*.bicepparam")):
        words = path.read_text().partition("\n")[0].removeprefix("// ")
        refused = _run("snapshot", path, "--mode", "overwrite", *_PLACES["main.bicep"])
        if refused.returncode == 0 or words not in refused.stderr:
            raise SystemExit(f"{path.name} is not refused with {words!r}:\n{refused.stdout}{refused.stderr}")
    if PARAMETERS.read_text() != _parameters() or DIGEST.read_text() != digest():
        raise SystemExit("The snapshots are older than the templates: make snapshots")


def _deployments() -> list[Path]:
    return sorted(SNAPSHOTS.glob("*.bicepparam"))


def _parameters() -> str:
    """The parameters of each template, as it is compiled."""
    compiled = {path.stem: json.loads(_bicep("build", path, "--stdout"))["parameters"] for path in TEMPLATES}
    return json.dumps(compiled, indent=2) + "\n"


def _snapshot(path: Path, mode: str) -> None:
    template = next(name for name in _PLACES if f"using '../{name}'" in path.read_text())
    _bicep("snapshot", path, "--mode", mode, *_PLACES[template])


def _bicep(command: str, path: Path, *options: str) -> str:
    """What Bicep answers; ends the program where it has anything to say against the file."""
    ran = _run(command, path, *options)
    if ran.returncode != 0 or ran.stderr:
        raise SystemExit(f"bicep {command} {path.relative_to(INFRA.parent)}:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def _run(command: str, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bicep", command, str(path), *options], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    if not shutil.which("bicep"):
        raise SystemExit(
            "This needs Bicep: https://aka.ms/bicep-install, or `az bicep install` and ~/.azure/bin on PATH."
        )
    match sys.argv[1:]:
        case ["snapshots"]:
            write()
        case ["check"]:
            check()
        case _:
            raise SystemExit("python -m infra.bicep snapshots|check")
