"""The pipelines store no secret, what azd is told to run is there, and the package holds the app alone."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.deployments import HOOK_NAMES, INFRA, ROOT, made

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_workflow_uses_a_stored_secret_or_may_write(path: Any) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert "secrets." not in path.read_text()
    assert workflow["permissions"].items() <= {"contents": "read", "id-token": "write"}.items()
    assert all("timeout-minutes" in job or "uses" in job for job in workflow["jobs"].values())


def test_ci_runs_what_everybody_runs() -> None:
    steps = read(".github/workflows/ci.yml")["jobs"]["test"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]


def test_everybody_has_the_same_bicep() -> None:
    places = [".github/workflows/ci.yml", ".devcontainer/devcontainer.json", "CONTRIBUTING.md"]
    versions = [re.findall(r"(?i)bicep.*?(v\d+\.\d+\.\d+)", (ROOT / place).read_text()) for place in places]
    assert [len(found) for found in versions] == [1, 1, 1]
    assert len({found[0] for found in versions}) == 1


def test_the_deployment_gives_azd_every_name_that_its_parameters_ask_for() -> None:
    asked = re.findall(r"\$\{(\w+)", (INFRA / "main.parameters.json").read_text())
    given = read(".github/workflows/azure-dev.yml")["jobs"]["deploy"]["env"]
    assert all(value == f"${{{{ vars.{name} }}}}" for name, value in given.items())
    # azd finds out by itself who it is signed in as.
    assert set(asked) - set(given) == {"AZURE_PRINCIPAL_ID", "AZURE_PRINCIPAL_TYPE"}
    # `azd pipeline config` sets those of azd itself, and those that it is told of.
    own = {"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID", "AZURE_ENV_NAME", "AZURE_LOCATION"}
    assert set(read("azure.yaml")["pipeline"]["variables"]) == set(given) - own


def test_nothing_is_deployed_that_has_not_passed_the_checks() -> None:
    jobs = read(".github/workflows/azure-dev.yml")["jobs"]
    assert jobs["checks"]["uses"] == "./.github/workflows/ci.yml"
    assert jobs["deploy"]["needs"] == "checks"
    # YAML takes the key `on` for true.
    assert "workflow_call" in read(".github/workflows/ci.yml")[True]


def test_the_docs_make_the_credential_of_the_environment_that_the_workflow_deploys_to() -> None:
    environment = read(".github/workflows/azure-dev.yml")["jobs"]["deploy"]["environment"]
    docs = (ROOT / "docs/deploy.md").read_text()
    assert f"repo:<owner>/<repository>:environment:{environment}" in docs


def test_actions_of_others_are_named_by_their_commit() -> None:
    used = [line for path in WORKFLOWS for line in re.findall(r"uses: ([^.].*)", path.read_text())]
    assert [line for line in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", line)] == []


def test_azd_deploys_this_folder_to_the_site_with_its_tag() -> None:
    [(service, options)] = read("azure.yaml")["services"].items()
    assert options == {"project": ".", "language": "python", "host": "function", "remoteBuild": True}
    [app] = made("defaults", "Microsoft.Web/sites")
    assert app["tags"]["azd-service-name"] == service


def test_the_hooks_that_azd_runs_are_there() -> None:
    hooks = read("azure.yaml")["hooks"]
    assert list(hooks) == HOOK_NAMES
    for name, ways in hooks.items():
        assert {way: options["run"] for way, options in ways.items()} == {
            "posix": f"infra/hooks/{name}.sh",
            "windows": f"infra/hooks/{name}.ps1",
        }
        assert os.access(INFRA / f"hooks/{name}.sh", os.X_OK)
        assert (INFRA / f"hooks/{name}.ps1").is_file()


def test_an_azd_that_deletes_groups_of_others_is_refused() -> None:
    assert read("azure.yaml")["requiredVersions"] == {"azd": ">= 1.24.1"}


def test_the_package_holds_the_app_and_nothing_else(tmp_path: Path) -> None:
    # .funcignore has the syntax of .gitignore, so git itself says what it leaves out.
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    (tmp_path / ".git").mkdir()
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "init", "-q", tmp_path], check=True, env=environment)
    (tmp_path / ".gitignore").write_text((ROOT / ".funcignore").read_text())
    told = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        cwd=tmp_path,
        input="\n".join(filter(None, files)),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    kept = set(filter(None, files)) - set(told.stdout.splitlines())
    top = {path for path in kept if not path.startswith("shared/")}
    assert top == {"function_app.py", "host.json", "requirements.txt", "LICENSE"}
    assert all(path.endswith(".py") or path.startswith("shared/gallery/files/") for path in kept - top)
    # Without these the app has a page that is empty.
    assert {"shared/gallery/files/index.html", "shared/gallery/files/app.js"} <= kept
