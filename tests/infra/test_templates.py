"""What Bicep says would be deployed is what the code needs: settings, containers, queues, spaces and models.

``infra/snapshots`` holds what Bicep says; ``make snapshots`` writes it anew.
"""

import json
import re

import pytest

from infra import bicep
from shared.known_models import COHERE_PATH, FOUNDRY_PATH, known
from shared.known_models import MODELS as KNOWN
from shared.operations.dead_letters import CONTAINER as DEAD_LETTERS
from shared.settings import read_settings
from shared.storage.names import space_of
from shared.storage.queues import BACKLOG, QUEUE, REQUESTS_POISON, UPLOADS_POISON, WAITING
from tests.infra.deployments import (
    APPS,
    EXISTING,
    IDENTITY,
    INFRA,
    ROOT,
    already,
    app_settings,
    known_settings,
    made,
    names,
    parameters,
    snapshot,
)

MODELS = json.loads((INFRA / "models.json").read_text())


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
    host, *own = names(deployment, "Microsoft.Storage/storageAccounts")
    data = snapshot(deployment)["outputs"]["DATA_ACCOUNT_NAME"]
    assert own == ([] if deployment in EXISTING else [data])
    for connection, account in {"AzureWebJobsStorage": host, "ImageStorage": data}.items():
        for service in ("blob", "queue"):
            uri = settings[f"{connection}__{service}ServiceUri"]
            assert uri == f"https://{account}.{service}.core.windows.net"


@pytest.mark.parametrize("deployment", APPS)
def test_every_container_that_the_code_uses_is_created(deployment: str) -> None:
    settings = read_settings(app_settings(deployment))
    containers = names(deployment, "Microsoft.Storage/storageAccounts/blobServices/containers")
    needed = ["app-package", settings.images_container, settings.embeddings_container, DEAD_LETTERS]
    assert containers == [name for name in needed if name not in already(deployment)]
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
    needed = {UPLOADS_POISON, *(prefix + queue for queue in (QUEUE, REQUESTS_POISON, WAITING, BACKLOG))}
    assert sorted(queues) == sorted(needed - set(already(deployment)))


def deleted(deployment: str) -> list[str]:
    """The beginnings of paths (container/name) that storage is told to delete, in any account."""
    policies = made(deployment, "Microsoft.Storage/storageAccounts/managementPolicies")
    rules = [rule for policy in policies for rule in policy["properties"]["policy"]["rules"]]
    # The rules of an account that is there already are its owner's.
    assert bool(rules) == (deployment not in EXISTING), "without a rule, one of an earlier deployment would stay"
    return [prefix for rule in rules if rule["enabled"] for prefix in rule["definition"]["filters"]["prefixMatch"]]


def test_storage_deletes_the_retired_spaces_and_nothing_whose_name_only_begins_like_theirs() -> None:
    assert deleted("retired-spaces") == ["embeddings/Cohere-embed-v3-english/", "embeddings/embed-v-4-0-256/"]
    assert snapshot("retired-spaces")["outputs"]["EMBEDDING_SPACE"] == "embed-v-4-0"


@pytest.mark.parametrize("deployment", [name for name in APPS if name != "retired-spaces"])
def test_storage_deletes_no_space_that_is_not_retired(deployment: str) -> None:
    assert deleted(deployment) == []


@pytest.mark.parametrize("deployment", APPS)
def test_the_space_that_the_deployment_names_is_the_apps(deployment: str) -> None:
    assert snapshot(deployment)["outputs"]["EMBEDDING_SPACE"] == space_of(read_settings(app_settings(deployment)))


@pytest.mark.parametrize("deployment", APPS)
def test_the_app_asks_for_the_deployments_of_the_models_that_are_made(deployment: str) -> None:
    deployed = names(deployment, "Microsoft.CognitiveServices/accounts/deployments")
    settings = app_settings(deployment)
    assert deployed in ([], [name for name in (settings["FOUNDRY_MODEL"], settings["FOUNDRY_QUERY_MODEL"]) if name])


def test_what_the_template_knows_of_the_models_is_what_the_code_knows() -> None:
    apis = {FOUNDRY_PATH: "models", COHERE_PATH: "cohere"}
    assert list(MODELS) == [model.name for model in KNOWN] == parameters()["modelName"]["allowedValues"]
    assert parameters()["queryModelName"]["allowedValues"] == ["", *MODELS]
    assert parameters()["modelApi"]["allowedValues"] == ["", *apis.values()]
    for model in KNOWN:
        known = MODELS[model.name]
        # The first is chosen: the one that takes photographs as they are, and several texts in a call.
        assert known["apis"] == sorted(apis[path] for path in model.paths)
        assert known["space"] == model.space
        assert known["dimensions"] == model.dimensions[0]
        assert float(known["price"]) == model.price.dollars


DEPLOYED = {
    "defaults": [("embed-v-4-0", "embed-v-4-0", 300)],
    "english": [("Cohere-embed-v3-english", "Cohere-embed-v3-english", 1)],
    "embed-v4-on-models": [("embed-v-4-0", "embed-v-4-0", 1)],
    "pro-and-fast": [
        ("Cohere-Embed-V5-Pro", "Cohere-Embed-V5-Pro", 300),
        ("Cohere-Embed-V5-Fast", "Cohere-Embed-V5-Fast", 300),
    ],
    "several-foundry": [("embed-v-4-0", "embed-v-4-0", 300), ("queries", "embed-v-4-0", 50)],
    "existing-foundry": [],
}


@pytest.mark.parametrize("deployment", DEPLOYED)
def test_each_model_is_deployed_with_its_capacity(deployment: str) -> None:
    found = made(deployment, "Microsoft.CognitiveServices/accounts/deployments")
    assert [
        (item["name"].rpartition("/")[2], item["properties"]["model"]["name"], item["sku"]["capacity"])
        for item in found
    ] == DEPLOYED[deployment]
    for item in found:
        assert item["sku"]["name"] == "GlobalStandard"
        assert (item["properties"]["model"]["format"], item["properties"]["model"]["version"]) == ("Cohere", "1")
        assert item["properties"]["versionUpgradeOption"] == "NoAutoUpgrade"


def test_deployments_are_made_one_after_the_other() -> None:
    source = (INFRA / "modules/foundry.bicep").read_text()
    assert "@batchSize(1)\nresource deployment " in source


@pytest.mark.parametrize(
    ("deployment", "path"),
    [
        ("defaults", COHERE_PATH),
        ("english", FOUNDRY_PATH),
        ("multilingual", FOUNDRY_PATH),
        ("embed-v4-on-models", FOUNDRY_PATH),
        ("pro-and-fast", COHERE_PATH),
        ("existing-foundry", COHERE_PATH),
    ],
)
def test_the_endpoint_s_path_follows_from_the_model_unless_it_is_chosen(deployment: str, path: str) -> None:
    assert app_settings(deployment)["FOUNDRY_ENDPOINT"] == f"https://ai.services.ai.azure.com{path}"


def test_several_resources_are_several_endpoints_of_one_api() -> None:
    first, *others = app_settings("several-foundry")["FOUNDRY_ENDPOINT"].split(" ")
    assert first.endswith(COHERE_PATH)
    assert [other.endswith(COHERE_PATH) for other in others] == [True]


@pytest.mark.parametrize("deployment", APPS)
def test_an_index_is_told_the_length_of_the_vectors(deployment: str) -> None:
    settings = app_settings(deployment)
    model = known(settings["FOUNDRY_MODEL"]) or known(parameters()["modelName"]["defaultValue"])
    assert model
    expected = settings["EMBEDDING_DIMENSIONS"] or str(model.dimensions[0])
    assert snapshot(deployment)["outputs"]["VECTOR_LENGTH"] == expected


@pytest.mark.parametrize(("deployment", "price"), [("defaults", "0.12"), ("english", "0.10"), ("pro-and-fast", "0.12")])
def test_the_workbook_estimates_with_the_price_of_the_model(deployment: str, price: str) -> None:
    [workbook] = made(deployment, "Microsoft.Insights/workbooks")
    assert f"* {price} / " in json.dumps(workbook)


def test_the_hooks_are_given_the_names_of_what_is_made() -> None:
    outputs = snapshot("defaults")["outputs"]
    assert outputs["FUNCTION_APP_NAME"] in names("defaults", "Microsoft.Web/sites")
    [topic] = made("defaults", "Microsoft.EventGrid/systemTopics")
    assert outputs["EVENT_TOPIC_ID"] == topic["id"]
    assert outputs["DATA_ACCOUNT_ID"] == topic["properties"]["source"]
    [foundry] = made("defaults", "Microsoft.CognitiveServices/accounts")
    assert outputs["FOUNDRY_RESOURCE_ID"] == foundry["id"]
    assert outputs["FOUNDRY_MODEL"] in names("defaults", "Microsoft.CognitiveServices/accounts/deployments")
    assert outputs["DATA_ACCOUNT_NAME"] in names("defaults", "Microsoft.Storage/storageAccounts")
    assert outputs["AZURE_RESOURCE_GROUP"] in names("defaults", "Microsoft.Resources/resourceGroups")
