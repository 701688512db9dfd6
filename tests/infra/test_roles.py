"""Every role that the code needs is assigned, no other is, and no service takes a key where a role would do."""

import json
import re
from typing import Any

import pytest

from shared.operations.dead_letters import CONTAINER as DEAD_LETTERS
from shared.storage.queues import BACKLOG, QUEUE, REQUESTS_POISON, UPLOADS_POISON, WAITING
from tests.infra.deployments import APPS, EXISTING, INFRA, SOURCES, made, snapshot

# The roles that the code needs: who, which role, on what. Each has its reason beside it in the Bicep.
NEEDED = {
    ("identity", "Storage Blob Data Owner", "sthost"),
    ("identity", "Storage Queue Data Contributor", "sthost"),
    ("identity", "Storage Table Data Contributor", "sthost"),
    ("identity", "Storage Blob Data Reader", "images"),
    ("identity", "Storage Blob Data Contributor", "embeddings"),
    ("identity", "Storage Blob Data Contributor", DEAD_LETTERS),
    ("identity", "Storage Queue Data Contributor", QUEUE),
    ("identity", "Storage Queue Data Contributor", WAITING),
    ("identity", "Storage Queue Data Contributor", BACKLOG),
    ("identity", "Storage Queue Data Contributor", REQUESTS_POISON),
    ("identity", "Storage Queue Data Contributor", UPLOADS_POISON),
    ("identity", "Monitoring Metrics Publisher", "appi-"),
    ("topic", "Storage Queue Data Message Sender", QUEUE),
    ("topic", "Storage Blob Data Contributor", DEAD_LETTERS),
}
NEW_FOUNDRY = {("identity", "Cognitive Services User", "ai-")}
EXISTING_FOUNDRY = {("identity", "Cognitive Services User", "ai-models")}
ADDITIONAL_FOUNDRY = {
    ("identity", "Cognitive Services User", "ai-sweden"),
    ("identity", "Cognitive Services User", "ai-virginia"),
}
PERSON = {("person", "Storage Blob Data Contributor", "images"), ("person", "Storage Blob Data Reader", "embeddings")}


def search(service: str) -> set[tuple[str, str, str]]:
    """What a search service and whoever puts an index there need."""
    return {
        ("search", "Storage Blob Data Reader", "embeddings"),
        ("person", "Search Service Contributor", service),
        ("person", "Search Index Data Reader", service),
    }


def renamed(roles: set[tuple[str, str, str]], **names: str) -> set[tuple[str, str, str]]:
    """The same roles on containers and queues of other names."""
    return {(who, role, names.get(where.replace("-", "_"), where)) for who, role, where in roles}


# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "Storage Queue Data Message Sender",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "a97b65f3-24c7-4388-baec-2e87135dc908": "Cognitive Services User",
    "7ca78c08-252a-4471-8644-bb5ff32d4ba0": "Search Service Contributor",
    "1407120a-92aa-4202-b7e9-c0e197c71c8f": "Search Index Data Reader",
}
ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"


def assigned(deployment: str) -> list[tuple[str, str, str]]:
    """Who is given which role on what: the last part of its id, without what makes names unique."""
    unique = snapshot(deployment)["outputs"]["FUNCTION_APP_NAME"].removeprefix("func-")
    holders = {"identity": "identity", "topic": "topic", "givenTopic": "topic", "searchRoles": "search"}
    found = []
    for assignment in made(deployment, ASSIGNMENTS):
        principal = re.search(r"format\('(\w+)-\{0\}'", assignment["properties"]["principalId"])
        role = ROLES[assignment["properties"]["roleDefinitionId"].rpartition("/")[2]]
        scope = scope_of(assignment).rpartition("/")[2].removesuffix(unique)
        found.append((holders[principal[1]] if principal else "person", role, scope))
    return found


def scope_of(assignment: dict[str, Any]) -> str:
    if found := re.match(r"\[extensionResourceId\('([^']+)'", assignment["id"]):
        return found[1]
    scope: str = assignment["id"].partition(f"/providers/{ASSIGNMENTS}/")[0]
    return scope


@pytest.mark.parametrize(
    ("deployment", "needed"),
    [
        ("defaults", NEEDED | NEW_FOUNDRY),
        ("existing-foundry", NEEDED | EXISTING_FOUNDRY),
        ("several-foundry", NEEDED | NEW_FOUNDRY | ADDITIONAL_FOUNDRY),
        ("private-network", NEEDED | NEW_FOUNDRY | PERSON),
        ("existing-storage", NEEDED | NEW_FOUNDRY | PERSON),
        (
            "existing-topic",
            renamed(
                NEEDED | NEW_FOUNDRY,
                images="photographs",
                embedding_requests=f"search-{QUEUE}",
                embedding_requests_poison=f"search-{REQUESTS_POISON}",
                embedding_waiting=f"search-{WAITING}",
                embedding_backlog=f"search-{BACKLOG}",
            ),
        ),
        ("search-service", NEEDED | NEW_FOUNDRY | PERSON | search("srch-")),
        ("company", NEEDED | NEW_FOUNDRY | PERSON | search("srch-all")),
    ],
)
def test_every_role_that_the_code_needs_is_assigned_and_no_other(
    deployment: str, needed: set[tuple[str, str, str]]
) -> None:
    assert sorted(assigned(deployment)) == sorted(needed)


# The words of docs/security.md for those who have roles.
HOLDERS = {
    "the app": "identity",
    "the Functions host, as the app": "identity",
    "the Event Grid topic": "topic",
    "the search service": "search",
    "whoever deployed": "person",
}


def test_the_page_on_security_lists_every_role_that_is_assigned_and_no_other() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", (INFRA.parent / "docs/security.md").read_text(), re.MULTILINE
    )
    listed = {(HOLDERS[who], role) for who, roles, _ in rows if who in HOLDERS for role in roles.split(", ")}
    assert listed == {(who, role) for who, role, _ in NEEDED | NEW_FOUNDRY | PERSON | search("")}
    named = {name for who, _, where in rows if who in HOLDERS for name in re.findall(r"`([\w-]+)`", where)}
    assert named <= {where for _, _, where in NEEDED | PERSON}


def test_the_role_on_a_foundry_resource_of_another_subscription_is_given_there() -> None:
    given = [scope_of(item) for item in made("existing-foundry", ASSIGNMENTS) if "CognitiveServices" in scope_of(item)]
    assert given == [
        "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-models"
        "/providers/Microsoft.CognitiveServices/accounts/ai-models"
    ]
    assert made("existing-foundry", "Microsoft.CognitiveServices/accounts") == []


@pytest.mark.parametrize("deployment", ["defaults", "company"])
def test_each_role_is_named_by_what_it_is_on_whom_it_is_for_and_which_it_is(deployment: str) -> None:
    # Azure refuses an assignment of the same name for another principal, so an identity made anew needs another name.
    for assignment in made(deployment, ASSIGNMENTS):
        if not assignment["properties"]["principalId"].startswith("["):
            continue
        properties = assignment["properties"]
        principal, role = properties["principalId"].strip("[]"), properties["roleDefinitionId"].rpartition("/")[2]
        assert assignment["name"] == f"[guid('{scope_of(assignment)}', {principal}, '{role}')]"


def test_each_role_has_its_reason_above_it() -> None:
    found = 0
    for source in SOURCES.values():
        for above in source.split("'Microsoft.Authorization/roleAssignments@")[:-1]:
            assert above.splitlines()[-2].startswith("// "), above[-200:]
            found += 1
    assert found


def test_the_roles_are_there_before_the_app() -> None:
    source = SOURCES[INFRA / "main.bicep"]
    app = source.partition("\nmodule app ")[2].partition("\nmodule ")[0]
    assert "dependsOn: [roles, dataRoles]" in app
    # The model's role comes first by what the app is given of it.
    assert "union(appSettings, " in app
    settings = source.partition("\nvar appSettings = {")[2].partition("\n}")[0]
    assert "FOUNDRY_ENDPOINT: '${foundryRole.outputs." in settings


@pytest.mark.parametrize("deployment", APPS)
def test_no_storage_account_takes_keys_or_old_tls_or_shows_blobs_to_all(deployment: str) -> None:
    accounts = [account["properties"] for account in made(deployment, "Microsoft.Storage/storageAccounts")]
    assert len(accounts) == (1 if deployment in EXISTING else 2)
    for account in accounts:
        assert account["allowSharedKeyAccess"] is False
        assert account["allowBlobPublicAccess"] is False
        assert account["minimumTlsVersion"] == "TLS1_2"
        assert account["supportsHttpsTrafficOnly"] is True


@pytest.mark.parametrize("deployment", APPS)
def test_neither_model_nor_logs_nor_deployment_take_keys(deployment: str) -> None:
    for foundry in made(deployment, "Microsoft.CognitiveServices/accounts"):
        assert foundry["properties"]["disableLocalAuth"] is True
    [insights] = made(deployment, "Microsoft.Insights/components")
    assert insights["properties"]["DisableLocalAuth"] is True
    for workspace in made(deployment, "Microsoft.OperationalInsights/workspaces"):
        assert workspace["properties"]["features"]["disableLocalAuth"] is True
    for service in made(deployment, "Microsoft.Search/searchServices"):
        assert service["properties"]["disableLocalAuth"] is True
    ways = made(deployment, "Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    assert {way["name"].rpartition("/")[2]: way["properties"]["allow"] for way in ways} == {"ftp": False, "scm": False}


def test_the_one_key_that_there_must_be_is_read_in_one_place_and_put_out_nowhere() -> None:
    readers = {path.name for path, source in SOURCES.items() if re.search(r"\blist[A-Z]\w*\(", source)}
    assert readers == {"events.bicep"}
    assert snapshot("events")["outputs"] == {}


def test_with_uploads_over_the_queue_no_key_is_read_and_nothing_of_the_app_is_named() -> None:
    told = json.dumps(snapshot("events-queue"))
    assert "listKeys" not in told
    assert "Microsoft.Web" not in told
