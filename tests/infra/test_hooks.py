"""What happens before and after a deployment: hooks register, wait, subscribe, make sure, and never let the key out.

`az` and `azd` are fakes on PATH; `az` answers line by line what a test has written down. PowerShell runs the same tests
where it is installed; everywhere `test_scripts.py` parses its scripts and holds them against the others.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.infra.deployments import HOOK_NAMES, HOOKS, INFRA, parameters, snapshot

KEY = "the-key-that-nobody-may-see=="

# Each call answers with the next line of its file, and with the last one for ever. What begins with ERROR goes to
# stderr, and the call fails; escapes such as \\n and \\0377 are bytes.
AZ = """#!/bin/sh
echo "az $*" >>"$ANSWERS/log"
answer() {
  line=$(head -n 1 "$ANSWERS/$1")
  if [ "$(wc -l <"$ANSWERS/$1")" -gt 1 ]; then
    sed 1d "$ANSWERS/$1" >"$ANSWERS/rest"
    mv "$ANSWERS/rest" "$ANSWERS/$1"
  fi
  case $line in
    ERROR*) printf '%b\\n' "$line" >&2; exit 1 ;;
    *) printf '%b' "$line" ;;
  esac
}
case "$*" in
  "account show "*) answer account ;;
  "provider show "*) answer provider ;;
  "provider register "*) answer register ;;
  *"/host/default/sync?"*) answer sync ;;
  *"/host/default/listkeys?"*) answer key ;;
  *"/functions?"*) answer function ;;
  "deployment group create "*) answer deployment ;;
  "resource list "*) answer resources ;;
  *"/config/appsettings/list?"*) answer settings ;;
  *"/deployments?"*) answer deployments ;;
  "cognitiveservices model list "*) answer counter ;;
  "cognitiveservices usage list "*) answer quota ;;
  *) echo "not expected: $*" >&2; exit 2 ;;
esac
"""

AZD = """#!/bin/sh
echo "azd $*" >>"$ANSWERS/log"
[ ! -e "$ANSWERS/azd-fails" ]
"""

HANDSHAKE = f"ERROR: Webhook validation handshake failed https://app/runtime/webhooks/blobs?functionName=x&code={KEY}"


@dataclass(frozen=True)
class Answer:
    """What answers at the app's address. ``kind`` is its content type: none, as some proxies have it, by default."""

    status: int
    body: bytes
    kind: str = ""
    location: str = ""


WELL = Answer(200, b'{"status":"ok"}', "application/json")
UNWELL = Answer(503, b'{"error":{"code":"missing_role","message":"Give it."}}', "application/json")
PAGE = "<!DOCTYPE html>\n<html><title>Sign in to the network</title></html>"


class Health(BaseHTTPRequestHandler):
    """The app's health: one answer after the other, and the last for ever."""

    answers: list[Answer]

    def do_GET(self) -> None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(answer.status)
        for name, value in (("content-type", answer.kind), ("location", answer.location)):
            if value:
                self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass
class Cloud:
    """What the fakes answer, and what they were asked."""

    folder: Path
    shell: str
    url: str
    health: list[Answer]

    def answers(self, what: str, *lines: str) -> None:
        (self.folder / what).write_text("".join(f"{line}\n" for line in lines))

    def asked(self, beginning: str = "") -> list[str]:
        log = self.folder / "log"
        return [line for line in log.read_text().splitlines() if line.startswith(beginning)] if log.exists() else []

    def run(self, hook: str = "postdeploy", **environment: str) -> subprocess.CompletedProcess[str]:
        outputs = {name: f"the-{name.lower().replace('_', '-')}" for name in snapshot("defaults")["outputs"]}
        script = {"sh": ["sh", f"{hook}.sh"], "pwsh": ["pwsh", "-NoProfile", "-File", f"{hook}.ps1"]}[self.shell]
        ran = subprocess.run(
            [*script[:-1], str(HOOKS / script[-1])],
            env={
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "ANSWERS": str(self.folder),
                # azd gives what main.bicep puts out, and the subscription.
                **outputs,
                "UPLOAD_EVENTS": "webhook",
                "PRIVATE_APP": "false",
                "FUNCTION_APP_URL": self.url,
                "AZURE_SUBSCRIPTION_ID": "the-subscription",
                "AZURE_ENV_NAME": "pictures",
                f"{hook.upper()}_PAUSE": "0",
                f"{hook.upper()}_TIMEOUT": "900",
                **environment,
            },
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
        everything = ran.stdout + ran.stderr + "".join(self.asked())
        assert KEY not in everything, "the key came out"
        return ran


SHELLS = ["sh", *(["pwsh"] if shutil.which("pwsh") else [])]


@pytest.fixture(params=SHELLS)
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cloud]:
    for name, script in {"az": AZ, "azd": AZD}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    health = [WELL]
    handler = type("_Health", (Health,), {"answers": health})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        made = Cloud(tmp_path, request.param, f"http://127.0.0.1:{server.server_port}", health)
        # Nothing is deployed yet, and there is quota in plenty.
        for what in ("account", "register", "sync", "deployment", "resources"):
            made.answers(what, "")
        for what in ("function", "key"):
            made.answers(what, "true")
        made.answers("provider", "Registered")
        made.answers("counter", "AIServices.GlobalStandard.The-Model")
        made.answers("quota", "400.0 0.0")
        yield made
        server.shutdown()


def test_without_a_virtual_network_there_is_nothing_to_register(cloud: Cloud) -> None:
    for value in ("", "false"):
        assert cloud.run("preprovision", VNET_ENABLED=value).returncode == 0
    assert cloud.asked("az provider") == []


def test_with_a_virtual_network_its_provider_is_registered_and_waited_for(cloud: Cloud) -> None:
    cloud.answers("provider", "NotRegistered", "Registering", "", "<html>Sign in</html>", "Registered\\r\\n")
    ran = cloud.run("preprovision", VNET_ENABLED="true")
    assert ran.returncode == 0, ran.stderr
    [registered] = cloud.asked("az provider register")
    assert "--namespace Microsoft.App --subscription the-subscription" in registered
    assert len(cloud.asked("az provider show")) == 5


def test_a_provider_that_is_registered_already_is_left_alone(cloud: Cloud) -> None:
    assert cloud.run("preprovision", VNET_ENABLED="True").returncode == 0
    assert cloud.asked("az provider register") == []


def test_somebody_who_may_not_register_a_provider_is_told_so(cloud: Cloud) -> None:
    cloud.answers("provider", "NotRegistered")
    cloud.answers("register", "ERROR: (AuthorizationFailed)\\nThe client has no right to register Microsoft.App")
    ran = cloud.run("preprovision", VNET_ENABLED="true")
    assert ran.returncode == 1
    assert "Contributor" in ran.stderr
    assert "ERROR: (AuthorizationFailed) The client has no right" in ran.stderr


def test_a_registration_that_does_not_end_says_what_az_complains_of(cloud: Cloud) -> None:
    cloud.answers("provider", "ERROR: the service is down")
    ran = cloud.run("preprovision", VNET_ENABLED="true", PREPROVISION_TIMEOUT="0")
    assert ran.returncode == 1
    assert "not been registered after 0 s" in ran.stderr
    assert "the service is down" in ran.stderr


def test_a_subscription_is_chosen_before_anything_is_registered_in_it(cloud: Cloud) -> None:
    ran = cloud.run("preprovision", VNET_ENABLED="true", AZURE_SUBSCRIPTION_ID="")
    assert ran.returncode == 1
    assert "azd env set AZURE_SUBSCRIPTION_ID" in ran.stderr
    assert cloud.asked() == []


PROVIDERS = "/subscriptions/the-subscription/resourceGroups/rg-pictures/providers"
FOUNDRY = f"{PROVIDERS}/Microsoft.CognitiveServices/accounts/ai-x"
SITE = f"{PROVIDERS}/Microsoft.Web/sites/func-x"
MODELS = json.loads((INFRA / "models.json").read_text())
DEFAULT = parameters()["modelName"]["defaultValue"]


def deployed(cloud: Cloud, model: str, api: str, capacity: int, name: str = "") -> None:
    """An app runs with this deployment, beside another one."""
    cloud.answers("resources", rf"{PROVIDERS}/Microsoft.Storage/storageAccounts/x\r\n{FOUNDRY}\r\n{SITE}\r\n")
    path = {"models": "/models", "cohere": "/providers/cohere/v2"}[api]
    cloud.answers("settings", f"{name or model} https://ai-x.services.ai.azure.com{path}\\r\\n")
    cloud.answers("deployments", rf"another gpt-4o 50\r\n{name or model} {model} {capacity}\r\n")


def kept(cloud: Cloud) -> dict[str, str]:
    """What the hook has set in the azd environment."""
    calls = [line.split() for line in cloud.asked("azd env set ")]
    assert all(call[-2:] == ["--environment", "pictures"] for call in calls)
    return {call[3]: call[4] for call in calls}


def test_an_app_that_was_deployed_with_the_former_default_keeps_its_model(cloud: Cloud) -> None:
    deployed(cloud, "Cohere-embed-v3-english", "models", 1)
    ran = cloud.run("preprovision")
    assert ran.returncode == 0, ran.stderr
    # The API and the capacity are those of this model anyway, and are not in the way of another one.
    assert kept(cloud) == {"MODEL_NAME": "Cohere-embed-v3-english"}
    assert "MODEL_NAME is set to it. docs/models.md" in ran.stdout
    [asked] = cloud.asked("az resource list")
    assert "--subscription the-subscription --tag azd-env-name=pictures" in asked


@pytest.mark.parametrize("model", MODELS)
def test_an_app_keeps_its_model_its_api_and_its_capacity_where_the_defaults_are_others(
    cloud: Cloud, model: str
) -> None:
    deployed(cloud, model, api := MODELS[model]["apis"][-1], 7)
    assert cloud.run("preprovision").returncode == 0
    others = {"MODEL_NAME": (model, DEFAULT), "MODEL_API": (api, MODELS[model]["apis"][0])}
    expected = {name: now for name, (now, default) in others.items() if now != default}
    assert kept(cloud) == {**expected, "MODEL_CAPACITY": "7"}


@pytest.mark.parametrize("model", MODELS)
def test_what_is_as_the_template_would_have_it_is_not_set(cloud: Cloud, model: str) -> None:
    deployed(cloud, model, MODELS[model]["apis"][0], MODELS[model]["capacity"])
    assert cloud.run("preprovision", MODEL_NAME=model).returncode == 0
    assert kept(cloud) == {}


def test_what_somebody_has_set_is_left_alone(cloud: Cloud) -> None:
    deployed(cloud, "Cohere-embed-v3-english", "models", 1)
    chosen = {"MODEL_NAME": "embed-v-4-0", "MODEL_API": "models", "MODEL_CAPACITY": "10"}
    assert cloud.run("preprovision", **chosen).returncode == 0
    assert cloud.asked() == []


def test_another_model_starts_with_its_own_api_and_what_its_quota_allows(cloud: Cloud) -> None:
    deployed(cloud, "embed-v-4-0", "models", 1)
    cloud.answers("quota", "50.0 0.0")
    chosen = {"MODEL_NAME": "Cohere-Embed-V5-Pro", "AZURE_LOCATION": "westeurope"}
    assert cloud.run("preprovision", **chosen).returncode == 0
    assert kept(cloud) == {"MODEL_CAPACITY": "50"}


def test_a_model_in_a_deployment_of_another_name_is_known_by_what_azure_says_of_it(cloud: Cloud) -> None:
    deployed(cloud, "Cohere-embed-v3-multilingual", "models", 1, name="pictures-model")
    assert cloud.run("preprovision", MODEL_DEPLOYMENT_NAME="pictures-model").returncode == 0
    assert kept(cloud) == {"MODEL_NAME": "Cohere-embed-v3-multilingual"}


EXISTING = f"{PROVIDERS}/Microsoft.CognitiveServices/accounts/of-somebody"


def test_a_resource_of_somebody_else_is_asked_too(cloud: Cloud) -> None:
    deployed(cloud, "Cohere-embed-v3-english", "models", 20, name="theirs")
    options = {"EXISTING_FOUNDRY_RESOURCE_ID": EXISTING, "MODEL_DEPLOYMENT_NAME": "theirs"}
    assert cloud.run("preprovision", **options).returncode == 0
    # Its capacity is somebody else's matter.
    assert kept(cloud) == {"MODEL_NAME": "Cohere-embed-v3-english"}
    [asked] = [line for line in cloud.asked("az rest") if "/deployments?" in line]
    assert f"--url {EXISTING}/deployments" in asked


def test_a_resource_that_may_not_be_read_goes_by_the_name_of_the_deployment(cloud: Cloud) -> None:
    deployed(cloud, "Cohere-embed-v3-english", "models", 1)
    cloud.answers("deployments", "ERROR: (AuthorizationFailed)")
    assert cloud.run("preprovision", EXISTING_FOUNDRY_RESOURCE_ID=EXISTING).returncode == 0
    assert kept(cloud) == {"MODEL_NAME": "Cohere-embed-v3-english"}


def test_a_model_that_is_not_known_keeps_its_api(cloud: Cloud) -> None:
    deployed(cloud, "somebody-s-clip", "models", 1, name="theirs")
    options = {"EXISTING_FOUNDRY_RESOURCE_ID": EXISTING, "MODEL_DEPLOYMENT_NAME": "theirs"}
    assert cloud.run("preprovision", **options).returncode == 0
    assert kept(cloud) == {"MODEL_API": "models"}


def test_several_endpoints_are_of_one_api(cloud: Cloud) -> None:
    deployed(cloud, "embed-v-4-0", "models", 300)
    cloud.answers(
        "settings", "embed-v-4-0 https://a.services.ai.azure.com/models https://b.services.ai.azure.com/models"
    )
    assert cloud.run("preprovision").returncode == 0
    assert kept(cloud) == {"MODEL_API": "models"}


@pytest.mark.parametrize("what", ["resources", "settings", "deployments"])
def test_a_model_that_azure_does_not_tell_is_not_replaced_by_the_default(cloud: Cloud, what: str) -> None:
    deployed(cloud, "Cohere-embed-v3-english", "models", 1)
    cloud.answers(what, r"ERROR: (Throttled)\nThe service is busy")
    ran = cloud.run("preprovision")
    assert ran.returncode == 1
    assert "Set MODEL_NAME, MODEL_API and MODEL_CAPACITY" in ran.stderr
    assert "ERROR: (Throttled) The service is busy" in ran.stderr
    assert kept(cloud) == {}


def test_a_setting_that_azd_does_not_take_ends_with_how_to_set_it(cloud: Cloud) -> None:
    deployed(cloud, "Cohere-embed-v3-english", "models", 1)
    (cloud.folder / "azd-fails").touch()
    ran = cloud.run("preprovision")
    assert ran.returncode == 1
    assert "azd env set MODEL_NAME Cohere-embed-v3-english; then: azd provision" in ran.stderr


def test_a_first_deployment_takes_the_defaults_where_the_quota_is_large_enough(cloud: Cloud) -> None:
    ran = cloud.run("preprovision", AZURE_LOCATION="westeurope")
    assert ran.returncode == 0, ran.stderr
    assert kept(cloud) == {}
    [counter] = cloud.asked("az cognitiveservices model list")
    [quota] = cloud.asked("az cognitiveservices usage list")
    assert "--location westeurope --subscription the-subscription" in counter
    assert f"[?model.format=='Cohere' && model.name=='{DEFAULT}']" in counter
    assert "[?name.value=='AIServices.GlobalStandard.The-Model']" in quota


@pytest.mark.parametrize("quota", ["20.0 0.0", "300.0 280.0", "20 0"])
def test_a_first_deployment_takes_what_is_left_of_a_smaller_quota(cloud: Cloud, quota: str) -> None:
    cloud.answers("quota", quota)
    ran = cloud.run("preprovision", AZURE_LOCATION="westeurope", FOUNDRY_LOCATION="swedencentral")
    assert ran.returncode == 0
    assert kept(cloud) == {"MODEL_CAPACITY": "20"}
    assert "swedencentral has 20 units left" in ran.stdout
    assert "--location swedencentral" in cloud.asked("az cognitiveservices usage list")[0]


@pytest.mark.parametrize("quota", ["20.0 20.0", "20.0 30.0"])
def test_a_quota_that_is_used_up_is_said_to_be_and_left_to_azure(cloud: Cloud, quota: str) -> None:
    cloud.answers("quota", quota)
    ran = cloud.run("preprovision", AZURE_LOCATION="westeurope")
    assert ran.returncode == 0
    assert "Nothing is left of the quota for embed-v-4-0 in westeurope" in ran.stdout
    assert kept(cloud) == {}


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("counter", ""),
        ("counter", "ERROR: no right"),
        ("quota", ""),
        ("quota", "ERROR: no right"),
        ("quota", "null null"),
    ],
)
def test_a_quota_that_azure_does_not_tell_is_no_reason_to_stop(cloud: Cloud, what: str, answer: str) -> None:
    cloud.answers(what, answer)
    ran = cloud.run("preprovision", AZURE_LOCATION="westeurope")
    assert ran.returncode == 0, ran.stderr
    assert (
        "az cognitiveservices usage list --location westeurope; then: azd env set MODEL_CAPACITY <units>" in ran.stdout
    )
    assert kept(cloud) == {}


def test_the_deployment_for_queries_has_a_quota_of_its_own(cloud: Cloud) -> None:
    cloud.answers("quota", "400.0 0.0", "40.0 0.0")
    pair = {"MODEL_NAME": "Cohere-Embed-V5-Pro", "QUERY_MODEL_NAME": "Cohere-Embed-V5-Fast"}
    assert cloud.run("preprovision", AZURE_LOCATION="westeurope", **pair).returncode == 0
    assert kept(cloud) == {"QUERY_MODEL_CAPACITY": "40"}
    assert ["Pro" in line for line in cloud.asked("az cognitiveservices model list")] == [True, False]


def test_the_models_of_the_marketplace_have_one_unit_whatever_the_quota(cloud: Cloud) -> None:
    assert cloud.run("preprovision", AZURE_LOCATION="westeurope", MODEL_NAME="Cohere-embed-v3-english").returncode == 0
    assert cloud.asked("az cognitiveservices") == []


@pytest.mark.parametrize("missing", ["AZURE_SUBSCRIPTION_ID", "AZURE_ENV_NAME"])
def test_before_a_subscription_is_chosen_nothing_is_asked(cloud: Cloud, missing: str) -> None:
    assert cloud.run("preprovision", **{missing: ""}).returncode == 0
    assert cloud.asked() == []


def test_a_deployment_that_went_well_ends_with_what_to_do_next(cloud: Cloud) -> None:
    ran = cloud.run()
    assert ran.returncode == 0, ran.stderr
    assert "az storage blob upload --auth-mode login --account-name the-data-account-name" in ran.stdout
    assert "the-embedding-space/images/a.jpg.json" in ran.stdout
    [deployed] = cloud.asked("az deployment group create")
    for name, parameter in parameters("events").items():
        assert "defaultValue" in parameter or f" {name}=the-" in deployed


def test_it_waits_until_the_key_is_there(cloud: Cloud) -> None:
    cloud.answers("key", "false", "false", "true")
    ran = cloud.run()
    assert ran.returncode == 0
    assert ran.stdout.count("Waiting for the app to start (function listed: true, webhook key: false)") == 2
    assert len([line for line in cloud.asked("az rest") if "/sync?" in line]) == 3


def test_it_waits_until_the_function_is_listed(cloud: Cloud) -> None:
    cloud.answers("function", "false", "true")
    ran = cloud.run()
    assert ran.returncode == 0
    assert "function listed: false" in ran.stdout


def test_a_second_run_does_the_same_again(cloud: Cloud) -> None:
    assert cloud.run().returncode == 0
    first = cloud.asked("az")
    assert cloud.run().returncode == 0
    assert cloud.asked("az")[len(first) :] == first


def test_it_tries_again_where_event_grid_got_no_answer(cloud: Cloud) -> None:
    cloud.answers("deployment", HANDSHAKE, HANDSHAKE, "")
    ran = cloud.run()
    assert ran.returncode == 0
    assert "attempt 2 of 5) ... ERROR: Webhook validation handshake failed" in ran.stdout


def test_it_shows_why_event_grid_did_not_subscribe_but_not_the_key(cloud: Cloud) -> None:
    cloud.answers("deployment", HANDSHAKE)
    ran = cloud.run()
    assert ran.returncode == 1
    assert "handshake failed" in ran.stderr
    assert "code=(not shown)" in ran.stderr
    assert "azd hooks run postdeploy" in ran.stderr
    assert len(cloud.asked("az deployment")) == 5


def test_a_host_that_never_starts_ends_with_where_to_look(cloud: Cloud) -> None:
    cloud.answers("function", "false")
    cloud.answers("key", "false")
    ran = cloud.run(POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    assert "has not started" in ran.stderr
    assert "log stream" in ran.stderr
    assert cloud.asked("az deployment") == []


def test_a_wait_ends_by_the_clock_however_long_each_look_takes(cloud: Cloud) -> None:
    cloud.answers("key", "false")
    (cloud.folder / "az").write_text(AZ.replace("answer() {", "sleep 0.5\nanswer() {", 1))
    assert cloud.run(POSTDEPLOY_TIMEOUT="3").returncode == 1
    looks = [line for line in cloud.asked("az rest") if "/sync?" in line]
    assert len(looks) < 4


def test_a_wait_says_what_az_was_refused_for_but_not_the_key(cloud: Cloud) -> None:
    cloud.answers("function", f"ERROR: Forbidden: no right to list functions, see x?code%3D{KEY}", "true")
    ran = cloud.run()
    assert ran.returncode == 0
    assert "no right to list functions" in ran.stdout
    assert "code=(not shown)" in ran.stdout


@pytest.mark.parametrize("hook", HOOK_NAMES)
def test_it_says_how_to_sign_in(cloud: Cloud, hook: str) -> None:
    cloud.answers("account", "ERROR: Please run az login")
    ran = cloud.run(hook, VNET_ENABLED="true")
    assert ran.returncode == 1
    assert "az login" in ran.stderr


def test_it_names_what_it_was_not_given(cloud: Cloud) -> None:
    ran = cloud.run(EVENT_TOPIC_NAME="")
    assert ran.returncode == 1
    assert "EVENT_TOPIC_NAME is not set" in ran.stderr


def test_with_uploads_over_the_queue_there_is_no_key_to_ask_or_wait_for(cloud: Cloud) -> None:
    cloud.answers("key", "false")
    cloud.answers("function", "false")
    ran = cloud.run(UPLOAD_EVENTS="queue")
    assert ran.returncode == 0, ran.stderr
    assert not any("listkeys" in line for line in cloud.asked("az rest"))
    [deployed] = cloud.asked("az deployment group create")
    assert " uploadEvents=queue" in deployed


def test_with_uploads_over_the_queue_the_platform_is_told_of_the_package_until_it_listens(cloud: Cloud) -> None:
    cloud.answers("sync", "ERROR: 503 busy", "ERROR: 503 busy", "")
    ran = cloud.run(UPLOAD_EVENTS="queue")
    assert ran.returncode == 0, ran.stderr
    assert "(attempt 2 of 5) ... ERROR: 503 busy" in ran.stdout
    assert len([line for line in cloud.asked("az rest") if "/sync?" in line]) == 3
    assert "could not be told" not in ran.stderr


def test_a_platform_that_never_listens_does_not_keep_uploads_over_the_queue_from_being_subscribed(cloud: Cloud) -> None:
    cloud.answers("sync", "ERROR: 403 no right to sync")
    ran = cloud.run(UPLOAD_EVENTS="queue")
    assert ran.returncode == 0, ran.stderr
    [warning] = ran.stderr.strip().splitlines()
    assert warning.endswith("If nothing is embedded: azd hooks run postdeploy. ERROR: 403 no right to sync")
    assert len([line for line in cloud.asked("az rest") if "/sync?" in line]) == 5
    assert len(cloud.asked("az deployment group create")) == 1


# What the hooks and the fake `az` run besides.
TOOLS = ("cat", "date", "dirname", "grep", "head", "mktemp", "mv", "rm", "sed", "sh", "sleep", "tr", "wc")


@pytest.fixture
def no_curl(cloud: Cloud) -> str:
    """A PATH without curl."""
    tools = cloud.folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    return f"{cloud.folder}:{tools}"


# PowerShell asks for health by itself.
@pytest.mark.parametrize("cloud", ["sh"], indirect=True)
def test_without_curl_it_says_so_before_it_waits(cloud: Cloud, no_curl: str) -> None:
    ran = cloud.run(PATH=no_curl)
    assert ran.returncode == 1
    assert ran.stderr == "curl is needed to check the app's health.\n"
    assert cloud.asked("az rest") == []


@pytest.mark.parametrize("cloud", ["sh"], indirect=True)
def test_a_private_app_needs_no_curl(cloud: Cloud, no_curl: str) -> None:
    ran = cloud.run(PATH=no_curl, UPLOAD_EVENTS="queue", PRIVATE_APP="true")
    assert ran.returncode == 0, ran.stderr


def test_event_grid_is_given_the_webhook_unless_uploads_go_to_the_queue(cloud: Cloud) -> None:
    assert cloud.run().returncode == 0
    [deployed] = cloud.asked("az deployment group create")
    assert " uploadEvents=webhook" in deployed


def test_a_private_app_is_not_called_and_it_says_from_where_to_call_it(cloud: Cloud, nobody: str) -> None:
    private = snapshot("queue-private")["outputs"]["PRIVATE_APP"]
    ran = cloud.run(UPLOAD_EVENTS="queue", PRIVATE_APP=private, FUNCTION_APP_URL=f"http://{nobody}")
    assert ran.returncode == 0, ran.stderr
    assert len(cloud.asked("az deployment group create")) == 1
    assert f"From a machine in its network: curl http://{nobody}/api/health" in ran.stdout


def test_it_waits_until_the_app_s_roles_take_effect(cloud: Cloud) -> None:
    cloud.health[:] = [UNWELL, UNWELL, WELL]
    ran = cloud.run()
    assert ran.returncode == 0
    assert ran.stdout.count("Waiting for the app to be healthy") == 2


def test_an_app_that_stays_unhealthy_says_why(cloud: Cloud) -> None:
    cloud.health[:] = [UNWELL]
    ran = cloud.run(POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    assert "missing_role" in ran.stderr


# What a proxy, a gateway or a broken tool may answer in place of Azure, as the fake `az` writes it.
STRANGE = {
    "nothing": "",
    "null": "null",
    "a page": PAGE.replace("\n", "\\n"),
    "bytes": r"\0000\0001\0033[2J\0377\0376",
    "a page and an error": r"ERROR: 502 <html>\nBad gateway</html>",
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_only_a_true_of_az_counts(cloud: Cloud, strange: str) -> None:
    cloud.answers("sync", strange)
    cloud.answers("function", strange, "true")
    cloud.answers("key", strange, strange, "true")
    ran = cloud.run()
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Waiting for the app to start (function listed: false, webhook key: false)") == 1
    assert ran.stdout.count("Waiting for the app to start (function listed: true, webhook key: false)") == 1
    assert "\x1b" not in ran.stdout


@pytest.mark.parametrize("strange", ["a page", "a page and an error"])
def test_a_page_that_az_shows_is_reported_in_one_line(cloud: Cloud, strange: str) -> None:
    cloud.answers("key", STRANGE[strange])
    ran = cloud.run(POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    [line] = ran.stderr.strip().splitlines()
    assert "webhook key: false" in line
    assert "html>" in line


def test_a_page_instead_of_event_grid_is_cut_short(cloud: Cloud) -> None:
    cloud.answers("deployment", "ERROR: <html>" + "x" * 10_000)
    ran = cloud.run()
    assert ran.returncode == 1
    assert "<html>xxx" in ran.stderr
    assert len(ran.stderr) < 3_000


STRANGE_HEALTH = {
    "a page with 200": (Answer(200, PAGE.encode(), "text/html"), "Sign in to the network"),
    "a page as bytes": (Answer(200, PAGE.encode()), "Sign in to the network"),
    "nothing with 200": (Answer(200, b"", "application/json"), "status 200"),
    "other JSON with 200": (Answer(200, b'{"status":"starting"}', "application/json"), '"starting"'),
    "bytes of no text": (Answer(200, b"\x00\x01\x1b[2J\xff\xfe", "application/octet-stream"), "status 200"),
    "JSON of no type": (Answer(503, UNWELL.body), "missing_role"),
    "a gateway's page": (Answer(502, b"<html>Bad gateway</html>", "text/html; charset=utf-8"), "Bad gateway"),
    "nothing with 503": (Answer(503, b""), "status 503"),
    "a way round in circles": (Answer(302, b"", location="/api/health"), "not healthy"),
}


@pytest.mark.parametrize(("strange", "said"), STRANGE_HEALTH.values(), ids=STRANGE_HEALTH)
def test_only_the_app_s_own_answer_counts_as_healthy(cloud: Cloud, strange: Answer, said: str) -> None:
    cloud.health[:] = [strange]
    ran = cloud.run(POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Byte[]" not in ran.stderr
    assert "\x1b" not in ran.stderr


def test_an_app_that_does_not_answer_is_reported_as_such(cloud: Cloud, nobody: str) -> None:
    ran = cloud.run(POSTDEPLOY_TIMEOUT="0", FUNCTION_APP_URL=f"http://{nobody}")
    assert ran.returncode == 1
    assert re.search("refused|connect", ran.stderr)
    assert "status 000" in ran.stderr


def test_the_app_s_answer_is_understood_however_its_json_is_laid_out(cloud: Cloud) -> None:
    cloud.health[:] = [Answer(200, b'{ "status": "ok" }\n')]
    assert cloud.run(POSTDEPLOY_TIMEOUT="0").returncode == 0
