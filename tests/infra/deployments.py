"""What each deployment in ``infra/snapshots`` would make, as Bicep says it."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from shared.settings import read_settings

INFRA = Path(__file__).parents[2] / "infra"
ROOT = INFRA.parent
HOOKS = INFRA / "hooks"
HOOK_NAMES = ["preprovision", "postdeploy", "predown", "postdown"]
HOOK_SCRIPTS = sorted(path.relative_to(HOOKS).with_suffix("").as_posix() for path in HOOKS.rglob("*.sh"))
SOURCES = {path: path.read_text() for path in sorted(INFRA.rglob("*.bicep"))}
# Deployments of main.bicep, and those of them into an account that is there already.
APPS = [
    path.stem for path in sorted((INFRA / "snapshots").glob("*.bicepparam")) if "'../main.bicep'" in path.read_text()
]
EXISTING = [
    name for name in APPS if "param existingStorageAccountId" in (INFRA / f"snapshots/{name}.bicepparam").read_text()
]

IDENTITY = "11111111-1111-1111-1111-111111111111"
"""The client id that Azure will have given the app's identity, in :func:`app_settings`."""


@cache
def snapshot(deployment: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((INFRA / f"snapshots/{deployment}.snapshot.json").read_text())
    return read


@cache
def parameters(template: str = "main") -> dict[str, dict[str, Any]]:
    """The parameters of a template, compiled: ``type``, ``defaultValue``, ``minValue``, ``allowedValues`` …"""
    compiled: dict[str, dict[str, dict[str, Any]]] = json.loads((INFRA / "snapshots/parameters.json").read_text())
    return compiled[template]


def made(deployment: str, kind: str) -> list[dict[str, Any]]:
    """The resources of one type, in the template's order."""
    return [resource for resource in snapshot(deployment)["predictedResources"] if resource["type"] == kind]


def names(deployment: str, kind: str) -> list[str]:
    """The last parts of their names: an account's container without the account."""
    return [resource["name"].rpartition("/")[2] for resource in made(deployment, kind)]


def already(deployment: str) -> list[str]:
    """The containers and queues that an account of somebody else has, in this deployment."""
    given = re.search(
        r"^param alreadyInStorage = \[(.*)\]$", (INFRA / f"snapshots/{deployment}.bicepparam").read_text(), re.M
    )
    return re.findall("'([^']*)'", given[1]) if given else []


def app_settings(deployment: str = "defaults") -> dict[str, str]:
    """The settings that the app will have, with made-up values for what only Azure can say."""
    [app] = made(deployment, "Microsoft.Web/sites")
    return {item["name"]: _filled(item["value"]) for item in app["properties"]["siteConfig"]["appSettings"]}


class _Asked(Mapping[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values, self.names = values, set[str]()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def known_settings() -> set[str]:
    """Every setting that the code reads."""
    asked = _Asked(app_settings())
    read_settings(asked)
    return asked.names


def _filled(value: str) -> str:
    if not value.startswith("["):
        return value
    if found := re.fullmatch(r"\[format\('([^']*)', '([^']*)', environment\(\)\.suffixes\.storage\)\]", value):
        return found[1].format(found[2], "core.windows.net")
    if found := re.search(r"\.address\.value, '([^']*)'", value):
        resources = ("ai", "ai-2") if ".endpoints." in value else ("ai",)
        return " ".join(f"https://{resource}.services.ai.azure.com{found[1]}" for resource in resources)
    return IDENTITY if ".clientId." in value else "…"
