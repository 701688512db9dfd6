"""What Bicep says would be deployed is what the code needs: containers, queues, roles, networks, events, threads.

``infra/snapshots`` holds what Bicep says; ``make snapshots`` writes it anew.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from infra import bicep
from shared.operations.dead_letters import CONTAINER as DEAD_LETTERS
from shared.settings import read_settings
from shared.storage.names import space_of
from shared.storage.queues import QUEUE, REQUESTS_POISON, UPLOADS_POISON
from tests.infra.deployments import (
    APPS,
    IDENTITY,
    INFRA,
    ROOT,
    SOURCES,
    app_settings,
    known_settings,
    made,
    names,
    parameters,
    snapshot,
)


def test_the_snapshots_are_made_from_the_templates_as_they_are() -> None:
    assert bicep.DIGEST.read_text() == bicep.digest(), "infra has changed since its snapshots were made: make snapshots"


def test_every_deployment_of_the_snapshots_has_one() -> None:
    folder = INFRA / "snapshots"
    deployments = {path.stem for path in folder.glob("*.bicepparam")}
    assert {path.name.removesuffix(".snapshot.json") for path in folder.glob("*.snapshot.json")} == deployments


def test_no_snapshot_names_a_subscription_that_could_be_real() -> None:
    for path in (INFRA / "snapshots").glob("*.*"):
        for subscription in re.findall(r"/subscriptions/([^/\"']+)", path.read_text()):
            assert len(set(subscription.replace("-", ""))) == 1, path.name


@pytest.mark.parametrize("deployment", APPS)
def test_the_deployed_settings_are_complete_and_right(deployment: str) -> None:
    settings = read_settings(app_settings(deployment))
    host = app_settings(deployment)["AzureWebJobsStorage__queueServiceUri"]
    assert settings.host_queue_service_uri == host
    assert settings.foundry_api_key is None
    assert settings.storage_connection_string is None
    assert settings.client_id == IDENTITY


# What Flex Consumption takes of siteConfig. A site that names another property is refused, with code 51021, even where
# its value is null. These are in the schema of the Terraform provider's azurerm_function_app_flex_consumption.
SITE_CONFIG = {"appSettings", "http20Enabled", "minTlsVersion", "scmMinTlsVersion"}

# What the platform and the host read of the app settings; all else is the app's own.
PLATFORM = {
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "ImageStorage__credential",
    "ImageStorage__clientId",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "PYTHON_THREADPOOL_THREAD_COUNT",
    "AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT",
}
# https://learn.microsoft.com/azure/azure-functions/functions-app-settings#flex-consumption-plan-deprecations
NOT_ON_FLEX = re.compile(
    "ENABLE_ORYX_BUILD|FUNCTIONS_(EXTENSION_VERSION|WORKER_.*|MAX_HTTP_CONCURRENCY)|SCM_DO_BUILD_DURING_DEPLOYMENT|WEBSITE_.*"
)


@pytest.mark.parametrize("deployment", APPS)
def test_the_site_has_only_what_flex_consumption_takes(deployment: str) -> None:
    [app] = made(deployment, "Microsoft.Web/sites")
    assert set(app["properties"]["siteConfig"]) <= SITE_CONFIG
    assert [name for name in {*app_settings(deployment), *PLATFORM} if NOT_ON_FLEX.fullmatch(name)] == []


@pytest.mark.parametrize("deployment", APPS)
def test_every_deployed_setting_is_known_to_the_code_or_the_platform(deployment: str) -> None:
    assert set(app_settings(deployment)) - known_settings() - PLATFORM == set()


@pytest.mark.parametrize("deployment", APPS)
def test_the_accounts_that_the_settings_name_are_those_that_are_made(deployment: str) -> None:
    settings = app_settings(deployment)
    accounts = names(deployment, "Microsoft.Storage/storageAccounts")
    for connection, account in zip(("AzureWebJobsStorage", "ImageStorage"), accounts, strict=True):
        for service in ("blob", "queue"):
            uri = settings[f"{connection}__{service}ServiceUri"]
            assert uri == f"https://{account}.{service}.core.windows.net"


@pytest.mark.parametrize("deployment", APPS)
def test_every_container_that_the_code_uses_is_created(deployment: str) -> None:
    settings = read_settings(app_settings(deployment))
    containers = names(deployment, "Microsoft.Storage/storageAccounts/blobServices/containers")
    assert containers == ["app-package", settings.images_container, settings.embeddings_container, DEAD_LETTERS]
    [app] = made(deployment, "Microsoft.Web/sites")
    assert "'app-package'" in app["properties"]["functionAppConfig"]["deployment"]["storage"]["value"]


@pytest.mark.parametrize(
    ("deployment", "region", "redundancy"),
    [("defaults", "westeurope", "Standard_ZRS"), ("multilingual", "westus", "Standard_LRS")],
)
def test_images_are_kept_across_zones_where_the_region_has_them(deployment: str, region: str, redundancy: str) -> None:
    _, data = made(deployment, "Microsoft.Storage/storageAccounts")
    assert (data["location"], data["sku"]["name"]) == (region, redundancy)


def test_soft_delete_is_decided_by_the_template_alone() -> None:
    for blobs in made("defaults", "Microsoft.Storage/storageAccounts/blobServices"):
        kept = {"enabled": True, "days": parameters()["softDeleteDays"]["defaultValue"]}
        assert blobs["properties"]["deleteRetentionPolicy"] == kept
        assert "isVersioningEnabled" not in blobs["properties"], "an indexer would see no deletion"
    docs = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    assert [path.name for path in docs if "delete-retention" in path.read_text()] == []


@pytest.mark.parametrize("deployment", APPS)
def test_every_queue_that_the_code_uses_is_created_and_no_other(deployment: str) -> None:
    queues = names(deployment, "Microsoft.Storage/storageAccounts/queueServices/queues")
    prefix = read_settings(app_settings(deployment)).queue_prefix
    assert sorted(queues) == sorted([prefix + QUEUE, prefix + REQUESTS_POISON, UPLOADS_POISON])


def deleted(deployment: str) -> list[str]:
    """The beginnings of paths (container/name) that storage is told to delete, in any account."""
    policies = made(deployment, "Microsoft.Storage/storageAccounts/managementPolicies")
    rules = [rule for policy in policies for rule in policy["properties"]["policy"]["rules"]]
    assert rules, "without a rule, one of an earlier deployment would stay"
    return [prefix for rule in rules if rule["enabled"] for prefix in rule["definition"]["filters"]["prefixMatch"]]


def test_storage_deletes_the_retired_spaces_and_nothing_whose_name_only_begins_like_theirs() -> None:
    assert deleted("retired-spaces") == ["embeddings/Cohere-embed-v3-english/", "embeddings/embed-v-4-0-256/"]
    assert snapshot("retired-spaces")["outputs"]["EMBEDDING_SPACE"] == "embed-v-4-0"


@pytest.mark.parametrize("deployment", [name for name in APPS if name != "retired-spaces"])
def test_storage_deletes_nothing_that_it_was_not_told_to(deployment: str) -> None:
    assert deleted(deployment) == []


@pytest.mark.parametrize("deployment", APPS)
def test_the_space_that_the_deployment_names_is_the_apps(deployment: str) -> None:
    assert snapshot(deployment)["outputs"]["EMBEDDING_SPACE"] == space_of(read_settings(app_settings(deployment)))


@pytest.mark.parametrize("deployment", APPS)
def test_the_app_asks_for_the_deployment_of_the_model_that_is_made(deployment: str) -> None:
    deployed = names(deployment, "Microsoft.CognitiveServices/accounts/deployments")
    assert deployed in ([], [app_settings(deployment)["FOUNDRY_MODEL"]])


# The roles that the code needs: who, which role, on what. Each has its reason beside it in the Bicep.
NEEDED = {
    ("identity", "Storage Blob Data Owner", "sthost"),
    ("identity", "Storage Queue Data Contributor", "sthost"),
    ("identity", "Storage Table Data Contributor", "sthost"),
    ("identity", "Storage Blob Data Reader", "images"),
    ("identity", "Storage Blob Data Contributor", "embeddings"),
    ("identity", "Storage Blob Data Contributor", DEAD_LETTERS),
    ("identity", "Storage Queue Data Contributor", QUEUE),
    ("identity", "Storage Queue Data Contributor", REQUESTS_POISON),
    ("identity", "Storage Queue Data Contributor", UPLOADS_POISON),
    ("identity", "Monitoring Metrics Publisher", "appi-"),
    ("topic", "Storage Queue Data Message Sender", QUEUE),
    ("topic", "Storage Blob Data Contributor", DEAD_LETTERS),
}
NEW_FOUNDRY = {("identity", "Cognitive Services User", "ai-")}
EXISTING_FOUNDRY = {("identity", "Cognitive Services User", "ai-models")}
PERSON = {("person", "Storage Blob Data Contributor", "images"), ("person", "Storage Blob Data Reader", "embeddings")}

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
}
ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"


def assigned(deployment: str) -> list[tuple[str, str, str]]:
    """Who is given which role on what: the last part of its id, without what makes names unique."""
    unique = snapshot(deployment)["outputs"]["DATA_ACCOUNT_NAME"].removeprefix("stdata")
    found = []
    for assignment in made(deployment, ASSIGNMENTS):
        principal = re.search(r"format\('(\w+)-\{0\}'", assignment["properties"]["principalId"])
        role = ROLES[assignment["properties"]["roleDefinitionId"].rpartition("/")[2]]
        scope = scope_of(assignment).rpartition("/")[2].removesuffix(unique)
        found.append((principal[1] if principal else "person", role, scope))
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
        ("private-network", NEEDED | NEW_FOUNDRY | PERSON),
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
    "whoever deployed": "person",
}


def test_the_page_on_security_lists_every_role_that_is_assigned_and_no_other() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE
    )
    listed = {(HOLDERS[who], role) for who, roles, _ in rows if who in HOLDERS for role in roles.split(", ")}
    assert listed == {(who, role) for who, role, _ in NEEDED | NEW_FOUNDRY | PERSON}
    named = {name for who, _, where in rows if who in HOLDERS for name in re.findall(r"`([\w-]+)`", where)}
    assert named <= {where for _, _, where in NEEDED | PERSON}


def test_the_role_on_a_foundry_resource_of_another_subscription_is_given_there() -> None:
    given = [scope_of(item) for item in made("existing-foundry", ASSIGNMENTS) if "CognitiveServices" in scope_of(item)]
    assert given == [
        "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-models"
        "/providers/Microsoft.CognitiveServices/accounts/ai-models"
    ]
    assert made("existing-foundry", "Microsoft.CognitiveServices/accounts") == []


def test_each_role_is_named_by_what_it_is_on_whom_it_is_for_and_which_it_is() -> None:
    # Azure refuses an assignment of the same name for another principal, so an identity made anew needs another name.
    for assignment in made("defaults", ASSIGNMENTS):
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
    app = SOURCES[INFRA / "main.bicep"].partition("\nmodule app ")[2].partition("\nmodule ")[0]
    assert "dependsOn: [roles]" in app
    # The model's role comes first by what the app is given of it.
    assert "FOUNDRY_ENDPOINT: foundryRole.outputs." in app


@pytest.mark.parametrize("deployment", APPS)
def test_no_storage_account_takes_keys_or_old_tls_or_shows_blobs_to_all(deployment: str) -> None:
    accounts = [account["properties"] for account in made(deployment, "Microsoft.Storage/storageAccounts")]
    assert len(accounts) == 2
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
    [workspace] = made(deployment, "Microsoft.OperationalInsights/workspaces")
    assert insights["properties"]["DisableLocalAuth"] is True
    assert workspace["properties"]["features"]["disableLocalAuth"] is True
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


def subscriptions(deployment: str = "events") -> dict[str, Any]:
    """What Event Grid is told to deliver, by the name of the subscription."""
    made_ = made(deployment, "Microsoft.EventGrid/systemTopics/eventSubscriptions")
    return {subscription["name"].rpartition("/")[2]: subscription["properties"] for subscription in made_}


IMAGES = "/blobServices/default/containers/images/blobs/"
KINDS = {
    "uploads": "BlobCreated",
    "uploads-unsafe": "BlobCreated",
    "uploads-unsafe-ending": "BlobCreated",
    "deletions": "BlobDeleted",
}
# "String comparisons are case-insensitive", all conditions must hold, and of each any value: "Event filtering".
CONDITIONS: dict[str, Callable[[str, list[str]], bool]] = {
    "StringIn": lambda text, values: text in values,
    "StringContains": lambda text, values: any(value in text for value in values),
    "StringNotContains": lambda text, values: not any(value in text for value in values),
    "StringEndsWith": lambda text, values: text.endswith(tuple(values)),
    "StringNotEndsWith": lambda text, values: not text.endswith(tuple(values)),
}


def told_of_upload(name: str) -> set[str]:
    """The subscriptions that get the event of an upload under this name."""
    event = {"subject": IMAGES + name, "data.api": "PutBlob"}
    return {
        subscription
        for subscription, properties in subscriptions().items()
        if KINDS[subscription] == "BlobCreated"
        and all(
            CONDITIONS[condition["operatorType"]](
                event[condition["key"]].lower(), [value.lower() for value in condition["values"]]
            )
            for condition in properties["filter"]["advancedFilters"]
        )
    }


def test_new_images_go_to_the_function_that_embeds_them() -> None:
    uploads = subscriptions()["uploads"]
    [name] = re.findall(r"functionName=Host\.Functions\.(\w+)&", uploads["destination"]["properties"]["endpointUrl"])
    assert re.search(rf"@uploads\.blob_trigger\(.*\ndef {name}\(", (ROOT / "function_app.py").read_text())


@pytest.mark.parametrize("name", ["a b.jpg", "trip/a#1.jpg", "a..b/.c/d", "ü/図.png", "a&code=1+2=3"])
def test_a_name_that_the_blob_trigger_can_carry_goes_to_it_alone(name: str) -> None:
    assert told_of_upload(name) == {"uploads"}


@pytest.mark.parametrize(
    "name",
    [
        *("/x.jpg", "/", "//", "a//b.jpg", "a/", "a//", "q?x=1.jpg", "back\\slash.jpg", "100%.jpg", "%2E%2e/q.jpg"),
        *(".", "..", "./q.jpg", "../q.jpg", "a/./q.jpg", "a/../q.jpg", "a/.", "a/..", "lost \ufffd.jpg"),
    ],
)
def test_a_name_that_the_blob_trigger_would_change_comes_over_the_queue(name: str) -> None:
    assert told_of_upload(name)
    assert "uploads" not in told_of_upload(name)


@pytest.mark.parametrize(("deployment", "webhook"), [("events", {"uploads"}), ("events-queue", set[str]())])
def test_all_but_the_webhook_goes_to_the_queue_that_the_app_reads_without_a_key(
    deployment: str, webhook: set[str]
) -> None:
    for name, subscription in subscriptions(deployment).items():
        delivery = subscription["deliveryWithResourceIdentity"]
        # Event Grid takes one of the two.
        assert (subscription.get("destination") is not None) == (delivery is None) == (name in webhook)
        if delivery:
            assert delivery["destination"]["properties"]["queueName"] == QUEUE
            assert delivery["identity"] == {"type": "SystemAssigned"}


@pytest.mark.parametrize("deployment", ["events", "events-queue"])
def test_each_subscription_takes_one_kind_of_event_of_the_images_container_and_loses_none(deployment: str) -> None:
    assert subscriptions(deployment).keys() == KINDS.keys()
    for name, subscription in subscriptions(deployment).items():
        assert subscription["filter"]["includedEventTypes"] == [f"Microsoft.Storage.{KINDS[name]}"]
        assert subscription["filter"]["subjectBeginsWith"] == IMAGES
        assert subscription["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}
        kept = subscription["deadLetterWithResourceIdentity"]["deadLetterDestination"]["properties"]
        assert kept["blobContainerName"] == DEAD_LETTERS


def test_no_subscription_filters_by_more_values_than_event_grid_takes() -> None:
    for subscription in subscriptions().values():
        conditions = subscription["filter"].get("advancedFilters", [])
        assert sum(len(condition["values"]) for condition in conditions) <= 25


def test_the_hooks_are_given_the_names_of_what_is_made() -> None:
    outputs = snapshot("defaults")["outputs"]
    assert outputs["FUNCTION_APP_NAME"] in names("defaults", "Microsoft.Web/sites")
    assert outputs["EVENT_TOPIC_NAME"] in names("defaults", "Microsoft.EventGrid/systemTopics")
    assert outputs["DATA_ACCOUNT_NAME"] in names("defaults", "Microsoft.Storage/storageAccounts")
    assert outputs["AZURE_RESOURCE_GROUP"] in names("defaults", "Microsoft.Resources/resourceGroups")


@pytest.mark.parametrize(("deployment", "of_the_app"), [("private-network", set[str]()), ("queue-private", {"app"})])
def test_every_private_endpoint_has_a_name_in_the_network(deployment: str, of_the_app: set[str]) -> None:
    zones = {
        group["name"].partition("/")[0].removeprefix("pe-").rpartition("-")[0]: [
            zone["name"] for zone in group["properties"]["privateDnsZoneConfigs"]
        ]
        for group in made(deployment, "Microsoft.Network/privateEndpoints/privateDnsZoneGroups")
    }
    endpoints = {
        connection["name"]: connection["properties"]
        for endpoint in made(deployment, "Microsoft.Network/privateEndpoints")
        for connection in endpoint["properties"]["privateLinkServiceConnections"]
    }
    assert zones.keys() == endpoints.keys()
    # What the host and the app use: no other private endpoint is paid for.
    used = {"host-blob", "host-queue", "host-table", "data-blob", "data-queue", "foundry"}
    assert endpoints.keys() == used | of_the_app
    for name, properties in endpoints.items():
        [service] = properties["groupIds"]
        account = properties["privateLinkServiceId"].rpartition("/")[2]
        if name == "foundry":
            assert account in names(deployment, "Microsoft.CognitiveServices/accounts")
            assert "privatelink-services-ai-azure-com" in zones[name]
        elif name == "app":
            assert service == "sites"
            assert account in names(deployment, "Microsoft.Web/sites")
            assert zones[name] == ["privatelink-azurewebsites-net"]
        else:
            assert account.startswith(f"st{name.partition('-')[0]}")
            assert zones[name] == [
                f"[replace(format('privatelink.{service}.{{0}}', environment().suffixes.storage), '.', '-')]"
            ]
    [network] = made(deployment, "Microsoft.Network/virtualNetworks")
    [app] = made(deployment, "Microsoft.Web/sites")
    assert [subnet["name"] for subnet in network["properties"]["subnets"]] == ["app", "endpoints"]
    assert "appSubnetId" in app["properties"]["virtualNetworkSubnetId"]


def test_a_private_network_closes_everything_but_the_way_of_event_grid_and_of_the_addresses_let_in() -> None:
    host, data = (account["properties"] for account in made("private-network", "Microsoft.Storage/storageAccounts"))
    [foundry] = made("private-network", "Microsoft.CognitiveServices/accounts")
    assert host["publicNetworkAccess"] == foundry["properties"]["publicNetworkAccess"] == "Disabled"
    assert data["publicNetworkAccess"] == "Enabled"
    assert data["networkAcls"]["defaultAction"] == "Deny"
    assert [rule["value"] for rule in data["networkAcls"]["ipRules"]] == ["203.0.113.7", "198.51.100.0/24"]


@pytest.mark.parametrize(
    ("deployment", "access"), [("defaults", "Enabled"), ("private-network", "Enabled"), ("queue-private", "Disabled")]
)
def test_the_app_is_called_over_the_public_network_unless_it_is_private(deployment: str, access: str) -> None:
    [app] = made(deployment, "Microsoft.Web/sites")
    assert app["properties"]["publicNetworkAccess"] == access


def test_without_a_private_network_none_of_it_is_made() -> None:
    assert not [
        item for item in snapshot("defaults")["predictedResources"] if item["type"].startswith("Microsoft.Network/")
    ]
    [app] = made("defaults", "Microsoft.Web/sites")
    assert app["properties"]["virtualNetworkSubnetId"] is None


class _Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A part of host.json, with the names and ranges of the schema at https://json.schemastore.org/host.json."""


_Span = Annotated[str, msgspec.Meta(pattern=r"^[0-9][0-9]:[0-5][0-9]:[0-5][0-9]$")]


class _Blobs(_Strict):
    max_degree_of_parallelism: Annotated[int, msgspec.Meta(ge=1)]
    poison_blob_threshold: Annotated[int, msgspec.Meta(ge=1)]


class _Queues(_Strict):
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=32)]
    new_batch_threshold: Annotated[int, msgspec.Meta(ge=0)]
    max_dequeue_count: Annotated[int, msgspec.Meta(ge=1)]
    visibility_timeout: _Span
    max_polling_interval: _Span
    message_encoding: Literal["base64", "none"]


class _Extensions(_Strict):
    blobs: _Blobs
    queues: _Queues


class _Bundle(_Strict):
    id: Literal["Microsoft.Azure.Functions.ExtensionBundle"]
    version: Annotated[str, msgspec.Meta(pattern=r"^\[\d+\.\*, \d+\.\d+\.\d+\)$")]


class _Sampling(_Strict):
    is_enabled: bool
    excluded_types: Annotated[
        str, msgspec.Meta(pattern="^(Dependency|Event|Exception|PageView|Request|Trace)(;(Exception|Request|Trace))*$")
    ]


class _ApplicationInsights(_Strict):
    sampling_settings: _Sampling


class _Logging(_Strict):
    log_level: dict[str, Literal["Trace", "Debug", "Information", "Warning", "Error", "Critical", "None"]]
    application_insights: _ApplicationInsights


class _Host(_Strict):
    version: Literal["2.0"]
    function_timeout: _Span
    extension_bundle: _Bundle
    extensions: _Extensions
    logging: _Logging


def host() -> _Host:
    return msgspec.json.decode((ROOT / "host.json").read_bytes(), type=_Host)


def test_host_json_says_only_what_the_host_understands() -> None:
    assert host().extensions.queues.max_dequeue_count == host().extensions.blobs.poison_blob_threshold


def test_log_lines_are_never_sampled_since_alerts_count_them() -> None:
    assert "Trace" in host().logging.application_insights.sampling_settings.excluded_types.split(";")


@pytest.mark.parametrize(("deployment", "uploads"), [("defaults", 16), ("every-setting", 64)])
def test_there_is_a_thread_for_everything_that_a_function_group_may_run_at_once(deployment: str, uploads: int) -> None:
    settings = app_settings(deployment)
    [app] = made(deployment, "Microsoft.Web/sites")
    queues = host().extensions.queues
    requests = app["properties"]["functionAppConfig"]["scaleAndConcurrency"]["triggers"]["http"][
        "perInstanceConcurrency"
    ]
    assert settings["AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism"] == str(uploads)
    largest = max(uploads, queues.batch_size + queues.new_batch_threshold, requests)
    assert largest < int(settings["PYTHON_THREADPOOL_THREAD_COUNT"])


def test_host_json_and_the_template_start_as_many_uploads_at_once() -> None:
    deployed = app_settings()["AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism"]
    assert host().extensions.blobs.max_degree_of_parallelism == int(deployed)


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
    assert all(path.endswith(".py") for path in kept - top)
