"""The Bicep and the code say the same: settings, containers, queues, roles, functions, and what is packaged."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from shared.settings import Settings, read_settings
from shared.storage.names import space_of
from shared.storage.queues import QUEUE, REQUESTS_POISON, UPLOADS_POISON
from tests.infra.bicep import FILES, INFRA, Bicep, Declared, Expression, faults, properties, text

ROOT = INFRA.parent
MAIN = Bicep(INFRA / "main.bicep")
SOURCES = {path: path.read_text() for path in FILES}


def called(symbol: str) -> Declared:
    return next(module for module in MAIN.modules() if module.symbol == symbol)


def passed(symbol: str) -> dict[str, Any]:
    """What main.bicep passes to a module, as far as it is known before anything is deployed."""
    return {name: MAIN.value(value) for name, value in properties(called(symbol).properties["params"]).items()}


def app_settings(**given: Any) -> dict[str, str]:
    """The app's settings as main.bicep deploys them, with made-up names for what Azure will name."""
    named = {
        "suffix": "core.windows.net",
        "hostAccountName": "sthost",
        "dataAccountName": "stdata",
        "identityClientId": "11111111-1111-1111-1111-111111111111",
        "foundryEndpoint": "https://ai.services.ai.azure.com/models",
        "applicationInsightsName": "appi",
    }
    app = Bicep(INFRA / "modules/app.bicep", {**passed("app"), **named, **given})
    listed = app.value("settings") + (app.value("dimensions") if given.get("embeddingDimensions") else [])
    listed += app.value("prefix") if given.get("queuePrefix") else []
    return {
        item["name"]: "InstrumentationKey=…" if isinstance(item["value"], Expression) else item["value"]
        for item in listed
    }


class Asked(Mapping[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values_, self.names = values, set[str]()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


# What the platform reads itself, and where it says so.
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(INFRA)))
def test_every_bicep_file_parses(path: Path) -> None:
    assert faults(path) == []


def test_a_file_that_is_no_bicep_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "broken.bicep").write_text("resource x 'A/b@2025-01-01' = {\n  name: \n")
    assert faults(tmp_path / "broken.bicep")


def test_the_deployed_settings_are_complete_and_right() -> None:
    settings = read_settings(app_settings())
    assert settings.host_queue_service_uri == "https://sthost.queue.core.windows.net"
    assert settings.foundry_api_key is None
    assert settings.storage_connection_string is None
    assert settings.client_id == "11111111-1111-1111-1111-111111111111"


def test_every_deployed_setting_is_known_to_the_code_or_the_platform() -> None:
    deployed = app_settings(embeddingDimensions=256)
    asked = Asked(deployed)
    read_settings(asked)
    assert set(deployed) - asked.names - PLATFORM == set()


def test_every_setting_of_the_code_is_in_the_readme() -> None:
    asked = Asked({})
    with pytest.raises(ValueError, match="App settings to fix"):
        read_settings(asked)
    readme = (ROOT / "README.md").read_text()
    ours = {name for name in asked.names if not name.startswith("AzureWebJobsStorage")}
    assert {name for name in ours if f"`{name}`" not in readme} == set()


def deployed_settings() -> Settings:
    return read_settings(app_settings())


def test_every_container_that_the_code_uses_is_created() -> None:
    settings = deployed_settings()
    assert {settings.images_container, settings.embeddings_container} <= set(passed("dataStorage")["containers"])
    package = passed("app")["packageContainer"]
    assert passed("hostStorage")["containers"] == [package]


def test_every_queue_that_the_code_uses_is_created_and_no_other() -> None:
    assert set(passed("dataStorage")["queues"]) == {QUEUE, REQUESTS_POISON, UPLOADS_POISON}


def test_a_prefix_is_before_the_names_of_all_queues_but_the_platform_s_own() -> None:
    main = Bicep(MAIN.path, {"queuePrefix": "team-a-"})
    queues = main.value(properties(called("dataStorage").properties["params"])["queues"])
    assert set(queues) == {f"team-a-{QUEUE}", f"team-a-{REQUESTS_POISON}", UPLOADS_POISON}
    assert read_settings(app_settings(queuePrefix="team-a-")).queue_prefix == "team-a-"
    assert "QUEUE_PREFIX" not in app_settings()


@pytest.mark.parametrize("dimensions", [0, 256])
def test_only_the_records_of_queries_expire(dimensions: int) -> None:
    main = Bicep(MAIN.path, {"embeddingDimensions": dimensions})
    prefix = main.value(properties(called("dataStorage").properties["params"])["expiringPrefix"])
    settings = read_settings(app_settings(**({"embeddingDimensions": dimensions} if dimensions else {})))
    assert prefix == f"{settings.embeddings_container}/{space_of(settings)}/queries/"


# The roles that the code needs: who, which role, on what. Each has its reason beside it in the Bicep.
NEEDED = {
    ("roles", "hostBlobs", "Storage Blob Data Owner", "hostAccount"),
    ("roles", "hostQueues", "Storage Queue Data Contributor", "hostAccount"),
    ("roles", "hostTables", "Storage Table Data Contributor", "hostAccount"),
    ("roles", "readImages", "Storage Blob Data Reader", "dataAccount::blobs::images"),
    ("roles", "writeEmbeddings", "Storage Blob Data Contributor", "dataAccount::blobs::embeddings"),
    ("roles", "workQueues", "Storage Queue Data Contributor", "queue[index]"),
    ("roles", "publishLogs", "Monitoring Metrics Publisher", "insights"),
    ("roles", "personWritesImages", "Storage Blob Data Contributor", "dataAccount::blobs::images"),
    ("roles", "personReadsEmbeddings", "Storage Blob Data Reader", "dataAccount::blobs::embeddings"),
    ("foundry-role", "callModels", "Cognitive Services User", "foundry"),
    ("topic", "sendDeletions", "Storage Queue Data Message Sender", "account::queueService::requests"),
    ("topic", "keepDeadLetters", "Storage Blob Data Contributor", "account::blobs::deadLetters"),
}

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


def assignments() -> Iterator[tuple[Bicep, Declared]]:
    for path in FILES:
        for resource in Bicep(path).resources():
            if resource.kind.startswith("Microsoft.Authorization/roleAssignments@"):
                yield Bicep(path), resource


def assigned_role(bicep: Bicep, assignment: Declared) -> str:
    definition = properties(assignment.properties["properties"])["roleDefinitionId"]
    return ROLES[bicep.value(definition.named_children[1].named_children[1])]


def test_every_role_that_the_code_needs_is_assigned_and_no_other() -> None:
    assigned = {
        (bicep.path.stem, role.symbol, assigned_role(bicep, role), text(role.properties["scope"]))
        for bicep, role in assignments()
    }
    assert assigned == NEEDED


def test_each_role_has_its_reason_above_it() -> None:
    for bicep, role in assignments():
        above, _, _ = SOURCES[bicep.path].partition(f"resource {role.symbol} ")
        assert above.splitlines()[-1].startswith("// "), f"{bicep.path}: {role.symbol}"


def test_the_roles_are_there_before_the_app() -> None:
    assert "roles" in [text(item) for item in called("app").properties["dependsOn"].named_children]
    # The model's role comes first by what the app is given of it.
    assert text(properties(called("app").properties["params"])["foundryEndpoint"]).startswith("foundryRole.outputs")


def resources_of(provider: str) -> list[tuple[Path, dict[str, Any]]]:
    """The properties of all resources of a type that are made here."""
    return [
        (path, Bicep(path).value(resource.properties["properties"]))
        for path in FILES
        for resource in Bicep(path).resources()
        if resource.kind.startswith(f"{provider}@") and not resource.existing
    ]


def test_no_storage_account_takes_keys_or_old_tls_or_shows_blobs_to_all() -> None:
    accounts = resources_of("Microsoft.Storage/storageAccounts")
    assert accounts
    for _, account in accounts:
        assert account["allowSharedKeyAccess"] is False
        assert account["allowBlobPublicAccess"] is False
        assert account["minimumTlsVersion"] == "TLS1_2"
        assert account["supportsHttpsTrafficOnly"] is True


def test_neither_model_nor_logs_take_keys() -> None:
    [(_, foundry)] = resources_of("Microsoft.CognitiveServices/accounts")
    [(_, insights)] = resources_of("Microsoft.Insights/components")
    [(_, workspace)] = resources_of("Microsoft.OperationalInsights/workspaces")
    assert foundry["disableLocalAuth"] is True
    assert insights["DisableLocalAuth"] is True
    assert workspace["features"]["disableLocalAuth"] is True


def test_the_one_key_that_there_must_be_is_read_in_one_place_and_put_out_nowhere() -> None:
    readers = {path.name for path, source in SOURCES.items() if re.search(r"\blist[A-Z]\w*\(", source)}
    assert readers == {"events.bicep"}
    assert Bicep(INFRA / "events.bicep").outputs() == set()


def subscriptions() -> dict[str, Any]:
    """What Event Grid is told to deliver, by the symbol of the subscription."""
    events = Bicep(INFRA / "events.bicep", {"imagesContainer": "images", "key": "…"})
    return {
        resource.symbol: events.value(resource.properties["properties"])
        for resource in events.resources()
        if not resource.existing
    }


def test_new_images_go_to_the_function_that_embeds_them() -> None:
    [name] = re.findall(r"functionName=Host\.Functions\.(\w+)&", SOURCES[INFRA / "events.bicep"])
    assert re.search(rf"@work\.blob_trigger\(.*\ndef {name}\(", (ROOT / "function_app.py").read_text())
    [condition] = subscriptions()["uploads"]["filter"]["advancedFilters"]
    assert condition["key"] == "data.api"


def test_deletions_go_to_the_queue_that_the_app_reads_without_a_key() -> None:
    delivery = subscriptions()["deletions"]["deliveryWithResourceIdentity"]
    assert delivery["destination"]["properties"]["queueName"] == QUEUE == passed("topic")["requestsQueue"]
    assert delivery["identity"] == {"type": "SystemAssigned"}


def test_each_subscription_takes_one_kind_of_event_of_the_images_container_and_loses_none() -> None:
    kinds = {"uploads": "Microsoft.Storage.BlobCreated", "deletions": "Microsoft.Storage.BlobDeleted"}
    dead_letters = passed("topic")["deadLetterContainer"]
    assert subscriptions().keys() == kinds.keys()
    for name, subscription in subscriptions().items():
        assert subscription["filter"]["includedEventTypes"] == [kinds[name]]
        assert subscription["filter"]["subjectBeginsWith"] == "/blobServices/default/containers/images/blobs/"
        assert subscription["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}
        kept = subscription["deadLetterWithResourceIdentity"]["deadLetterDestination"]["properties"]
        assert kept["blobContainerName"] == dead_letters
    assert dead_letters in passed("dataStorage")["containers"]


def test_every_module_is_given_just_what_it_takes() -> None:
    for module in MAIN.modules():
        parameters = Bicep(INFRA / module.kind).parameters()
        given = set(properties(module.properties["params"]))
        assert given <= set(parameters), module.symbol
        assert {name for name, default in parameters.items() if default is None} <= given, module.symbol


def test_every_parameter_that_azd_passes_exists_and_the_required_ones_are_passed() -> None:
    passed_on = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    parameters = MAIN.parameters()
    assert set(passed_on) <= set(parameters)
    assert {name for name, default in parameters.items() if default is None} <= set(passed_on)


def test_every_private_endpoint_has_a_name_in_the_network() -> None:
    network = Bicep(INFRA / "modules/network.bicep", {"suffix": "core.windows.net"})
    zones = network.value("zones")
    named = {
        endpoint["name"]: [zones[number] for number in endpoint["zones"]] for endpoint in network.value("endpoints")
    }
    for account in ("host", "data"):
        for service in ("blob", "queue", "table"):
            assert named[f"{account}-{service}"] == [f"privatelink.{service}.core.windows.net"]
    assert "privatelink.services.ai.azure.com" in named["foundry"]


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


@pytest.mark.parametrize(("calls", "uploads"), [(8, 16), (1, 16), (32, 64)])
def test_there_is_a_thread_for_everything_that_may_run_at_once(calls: int, uploads: int) -> None:
    settings = app_settings(foundryConcurrency=calls)
    queues = host().extensions.queues
    assert settings["AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism"] == str(uploads)
    at_once = uploads + queues.batch_size + queues.new_batch_threshold
    assert at_once < int(settings["PYTHON_THREADPOOL_THREAD_COUNT"])


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
