"""Runs the hooks of azd with fakes of ``az``, ``azd`` and the app, under each shell that is installed.

``az`` answers line by line what a test has written down. Other answers than those of :func:`hooks` are a test's own.
"""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.conftest import PATIENCE
from tests.infra.deployments import HOOKS, INFRA, parameters, snapshot

KEY = "the-key-that-nobody-may-see=="

# Each call answers with the next line of its file, and with the last one for ever. What begins with ERROR goes to
# stderr, and the call fails; escapes such as \\n and \\0377 are bytes. What has a name and no file is not there.
AZ = """#!/bin/sh
echo "az $*" >>"$ANSWERS/log"
answer() {
  exec 3<"$ANSWERS/$1"
  IFS= read -r line <&3
  if IFS= read -r next <&3; then
    { printf '%s\\n' "$next"; cat <&3; } >"$ANSWERS/rest"
    mv "$ANSWERS/rest" "$ANSWERS/$1"
  fi
  exec 3<&-
  case $line in
    ERROR*) printf '%b\\n' "$line" >&2; exit 1 ;;
    *) printf '%b' "$line" ;;
  esac
}
# The file has the name of the last thing in the address.
url=$5
answer_item() {
  item=${url%%[?]*}
  item=$1-${item##*/}
  if [ -e "$ANSWERS/$item" ]; then answer "$item"; else
    echo "ERROR: Not Found({'error': {'code': 'ResourceNotFound'}})" >&2
    exit 1
  fi
}
case "$*" in
  "account show "*) answer account ;;
  "provider list "*) answer providers ;;
  "provider register "*) answer register ;;
  "resource list "*) answer resources ;;
  "deployment group create "*) answer deployment ;;
  "eventgrid system-topic list "*) answer topics ;;
  "cognitiveservices model list "*) answer catalogue ;;
  "cognitiveservices usage list "*) answer quota ;;
  "cognitiveservices account list-deleted "*) answer deleted ;;
  "functionapp list-flexconsumption-locations "*) answer regions ;;
  "functionapp function keys list "*) answer vectorizer-key ;;
  "functionapp function keys set "*) answer new-vectorizer-key ;;
  "rest --method delete "*) answer delete ;;
  "rest --method put --url https://"*)
    for argument in "$@"; do
      case $argument in @*) cat "${argument#@}" >>"$ANSWERS/put" ;; esac
    done
    answer search-put
    ;;
  "rest --method get --url https://"*) answer_item search ;;
  *"/host/default/sync?"*) answer sync ;;
  *"/host/default/listkeys?"*functionKeys*) answer function-key ;;
  *"/host/default/listkeys?"*) answer key ;;
  *"/functions?"*) answer function ;;
  *"/config/appsettings/list?"*) answer settings ;;
  *"/permissions?"*) answer rights ;;
  *"/roleAssignments?"*) answer roles ;;
  *"/eventSubscriptions?"*) answer subscriptions ;;
  *"/Microsoft.Storage/skus?"*) answer skus ;;
  *"/containers?"*) answer containers ;;
  *"/containers/"* | *"/queues/"*) answer_item item ;;
  *"/deployments?"*) answer deployments ;;
  *"/deployments/"*) answer limits ;;
  *"/storageAccounts/"*) answer storage ;;
  *"/searchServices/"*) answer service ;;
  *subscriptionPolicies*) answer offer ;;
  *) echo "not expected: $*" >&2; exit 2 ;;
esac
"""

AZD = """#!/bin/sh
echo "azd $*" >>"$ANSWERS/log"
[ ! -e "$ANSWERS/azd-fails" ]
"""

MODELS = json.loads((INFRA / "models.json").read_text())
DEFAULT = parameters()["modelName"]["defaultValue"]
ALL_MODELS = r"\n".join(
    f"{name} 1 DataZoneStandard= GlobalStandard=AIServices.GlobalStandard.{name}" for name in MODELS
)
PROVIDERS = ("Web", "Storage", "EventGrid", "ManagedIdentity", "Insights", "OperationalInsights", "CognitiveServices")
# Nothing is deployed yet, everything is allowed, and there is quota in plenty.
ANSWERS = {
    "account": "",
    "providers": r"\n".join(f"Microsoft.{name}" for name in (*PROVIDERS, "Network", "App", "Search")),
    "register": "",
    "resources": "",
    "rights": "* ! ",
    "regions": r"swedencentral\nwesteurope\nwestus",
    "skus": r"Standard_LRS\nStandard_ZRS\nPremium_LRS",
    "catalogue": ALL_MODELS,
    "quota": "400.0 0.0",
    "deleted": "",
    "offer": "PayAsYouGo_2014-09-01",
    "sync": "",
    "deployment": "",
    "function": "true",
    "key": "true",
    "function-key": KEY,
    "limits": r"token 300000.0 60\nrequest 300.0 60",
    "vectorizer-key": KEY,
    "search-put": "",
    "roles": "",
    "subscriptions": "",
    "delete": "",
}


@dataclass(frozen=True)
class Answer:
    """What answers at the app's address. ``kind`` is its content type: none, as some proxies have it, by default."""

    status: int
    body: bytes
    kind: str = ""
    location: str = ""


WELL = Answer(200, b'{"status":"ok"}', "application/json")


class _App(BaseHTTPRequestHandler):
    """The app: one answer after the other for each method, and the last for ever."""

    health: list[Answer]
    audits: list[Answer]
    posts: list[tuple[str, str, str]]

    def do_GET(self) -> None:
        self._answer(self.health)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.posts.append((self.path, self.headers.get("x-functions-key", ""), body))
        self._answer(self.audits)

    def _answer(self, answers: list[Answer]) -> None:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(answer.status)
        for name, value in (("content-type", answer.kind), ("location", answer.location)):
            if value:
                self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def audit(images: int, calls: int, finished_at: str | None = "2026-11-27T03:00:41Z") -> Answer:
    """The report of an audit that counts so many images, of which so many need a call; other numbers are in the way."""
    report = {
        "finished_at": finished_at,
        "images": images,
        "current": images - calls,
        "estimate": {"calls": calls, "total_tokens": None},
        "index": {"images": 12345, "missing": 3},
    }
    return Answer(200, json.dumps(report).encode(), "application/json")


@dataclass
class Hooks:
    """What the fakes answer, and what they were asked."""

    folder: Path
    shell: str
    url: str
    health: list[Answer]
    audits: list[Answer] = field(default_factory=list)
    posts: list[tuple[str, str, str]] = field(default_factory=list)
    """The route, the key and the body of each call of the app that is no look at its health."""
    stdin: int = subprocess.DEVNULL

    def answers(self, what: str, *lines: str) -> None:
        (self.folder / what).write_text("".join(f"{line}\n" for line in lines))

    def asked(self, beginning: str = "") -> list[str]:
        log = self.folder / "log"
        return [line for line in log.read_text().splitlines() if line.startswith(beginning)] if log.exists() else []

    def kept(self) -> dict[str, str]:
        """What the hook has set in the azd environment."""
        found = {}
        for line in self.asked("azd env set "):
            words = line.removeprefix("azd env set ").removesuffix(" --environment pictures")
            assert words != line.removeprefix("azd env set "), line
            name, _, value = words.partition(" ")
            found[name] = value
        return found

    def run(self, hook: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a hook as azd does: those after the first provision know a deployment of ``defaults``."""
        script = {"sh": ["sh", f"{hook}.sh"], "pwsh": ["pwsh", "-NoProfile", "-File", f"{hook}.ps1"]}[self.shell]
        ran = subprocess.run(
            [*script[:-1], str(HOOKS / script[-1])],
            env={
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "ANSWERS": str(self.folder),
                # azd gives what main.bicep has put out, once it has been deployed.
                **({} if hook == "preprovision" else {**_outputs(), "FUNCTION_APP_URL": self.url}),
                "AZURE_SUBSCRIPTION_ID": "the-subscription",
                "AZURE_ENV_NAME": "pictures",
                f"{hook.upper()}_PAUSE": "0",
                f"{hook.upper()}_TIMEOUT": "900",
                **environment,
            },
            stdin=self.stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
        everything = ran.stdout + ran.stderr + "".join(self.asked())
        assert KEY not in everything, "the key came out"
        return ran


def _outputs() -> dict[str, str]:
    nowhere = "00000000-0000-0000-0000-000000000000"
    outputs: dict[str, str] = snapshot("defaults")["outputs"]
    return {name: value.replace(nowhere, "the-subscription") for name, value in outputs.items()}


SHELLS = ["sh", *(["pwsh"] if shutil.which("pwsh") else [])]


@contextmanager
def running(folder: Path, shell: str) -> Iterator[Hooks]:
    """The fakes, with the answers of a subscription in which everything is right."""
    for name, script in {"az": AZ, "azd": AZD}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    health, audits, posts = [WELL], [audit(0, 0)], list[tuple[str, str, str]]()
    handler = type("_ThisApp", (_App,), {"health": health, "audits": audits, "posts": posts})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        made = Hooks(folder, shell, f"http://127.0.0.1:{server.server_port}", health, audits, posts)
        for what, answer in ANSWERS.items():
            made.answers(what, answer)
        yield made
        server.shutdown()
