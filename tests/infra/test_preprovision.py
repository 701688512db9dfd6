"""What happens before a deployment: what runs keeps its model, and what could not be finished is refused."""

import pytest

from shared.operations.dead_letters import CONTAINER as DEAD_LETTERS
from tests.infra.deployments import APPS, names, snapshot
from tests.infra.hooks import DEFAULT, MODELS, PROVIDERS, Hooks

WEST = {"AZURE_LOCATION": "westeurope"}
DENIED = r"ERROR: (AuthorizationFailed)\nThe client has no right"
SKIP = "To deploy all the same: azd env set SKIP_CHECKS true"


# What Azure answers, what is set, and what the refusal says to do.
REFUSALS: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "no right to give roles": (
        {"rights": "* ! Microsoft.Authorization/*/Delete Microsoft.Authorization/*/Write"},
        {},
        "Ask for the role Owner there, or for Role Based Access Control Administrator beside Contributor.",
    ),
    "a region without Flex Consumption": (
        {},
        {"AZURE_LOCATION": "Germany North"},
        "azd env set AZURE_LOCATION <region>. swedencentral westeurope westus",
    ),
    "a redundancy that the region lacks": (
        {},
        {"DATA_REDUNDANCY": "Standard_GZRS"},
        "azd env set DATA_REDUNDANCY <redundancy>. Standard_LRS Standard_ZRS",
    ),
    "a model that the region lacks": (
        {"catalogue": "another-model 1 GlobalStandard=x"},
        {},
        "westeurope does not offer embed-v-4-0. Choose another region for it: azd env set FOUNDRY_LOCATION <region>",
    ),
    "a version that the region lacks": (
        {},
        {"MODEL_VERSION": "7"},
        "westeurope offers embed-v-4-0 in version 1, not in 7. Choose that: azd env set MODEL_VERSION <version>",
    ),
    "a model without the sku": (
        {"catalogue": "embed-v-4-0 1 Standard=x"},
        {},
        "westeurope does not offer embed-v-4-0 as GlobalStandard",
    ),
    "a model for queries that the region lacks": (
        {"catalogue": "Cohere-Embed-V5-Pro 1 GlobalStandard=x"},
        {"MODEL_NAME": "Cohere-Embed-V5-Pro", "QUERY_MODEL_NAME": "Cohere-Embed-V5-Fast"},
        "westeurope does not offer Cohere-Embed-V5-Fast",
    ),
    "a quota that is used up": (
        {"quota": "20.0 30.0"},
        {},
        "Nothing is left of the quota for embed-v-4-0 in westeurope",
    ),
    "more than the quota allows": (
        {"quota": "400.0 0.0"},
        {"MODEL_CAPACITY": "500"},
        "the quota for embed-v-4-0 in westeurope allows 400. Lower it: azd env set MODEL_CAPACITY 400",
    ),
    "a subscription that cannot buy": (
        {"offer": "AzureForStudents_2018-01-01"},
        {"MODEL_NAME": "Cohere-embed-v3-english"},
        "(AzureForStudents_2018-01-01) cannot buy. Choose a model that Azure itself sells: azd env set MODEL_NAME",
    ),
    "no right to accept terms": (
        {"rights": "Microsoft.Authorization/* Microsoft.Web/* ! "},
        {"MODEL_NAME": "Cohere-embed-v3-multilingual"},
        "you may not accept its terms",
    ),
    "a deleted resource of the same name": (
        {
            "deleted": "/subscriptions/s/providers/Microsoft.CognitiveServices/locations/swedencentral"
            "/resourceGroups/RG-Pictures/deletedAccounts/ai-x"
        },
        {},
        "az cognitiveservices account purge --location swedencentral --resource-group rg-pictures --name ai-x",
    ),
}


@pytest.mark.parametrize(("answers", "settings", "advice"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_deployed_is_refused_with_what_to_set(
    hooks: Hooks, answers: dict[str, str], settings: dict[str, str], advice: str
) -> None:
    for what, answer in answers.items():
        hooks.answers(what, answer)
    ran = hooks.run("preprovision", **{**WEST, **settings})
    assert ran.returncode == 1, ran.stdout
    assert advice in ran.stderr
    assert SKIP in ran.stderr
    assert hooks.kept() == {}
    assert hooks.asked("az provider register") == []


def test_who_knows_better_deploys_all_the_same(hooks: Hooks) -> None:
    for answers, _, _ in REFUSALS.values():
        for what, answer in answers.items():
            hooks.answers(what, answer)
    ran = hooks.run("preprovision", **{**WEST, "SKIP_CHECKS": "true"})
    assert ran.returncode == 0, ran.stderr


def test_where_azure_gives_no_clear_answer_the_deployment_goes_on_and_shows(hooks: Hooks) -> None:
    for what in ("rights", "regions", "skus", "catalogue", "quota", "deleted", "offer"):
        hooks.answers(what, DENIED)
    for settings in ({}, {"MODEL_NAME": "Cohere-embed-v3-english"}):
        ran = hooks.run("preprovision", **{**WEST, **settings})
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count("is not checked") == 4
    assert hooks.kept() == {}


def test_in_a_subscription_where_all_is_right_nothing_is_said_and_nothing_set(hooks: Hooks) -> None:
    ran = hooks.run("preprovision", **WEST)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert hooks.kept() == {}


@pytest.mark.parametrize(
    ("rights", "may"),
    [
        ("* ! ", True),
        ("Microsoft.Authorization/roleAssignments/* ! ", True),
        ("microsoft.authorization/*/write ! ", True),
        ("Microsoft.Authorization/*/read ! ", False),
        ("* ! Microsoft.Authorization/*/Write", False),
        # Two roles: what one leaves out another may allow.
        (r"* ! Microsoft.Authorization/*/Write\n*/read Microsoft.Authorization/roleAssignments/write ! ", True),
    ],
)
def test_roles_are_read_as_azure_reads_them(hooks: Hooks, rights: str, may: bool) -> None:
    hooks.answers("rights", rights)
    assert (hooks.run("preprovision", **WEST).returncode == 0) == may


def test_a_region_without_zones_gets_what_it_has(hooks: Hooks) -> None:
    hooks.answers("skus", r"Standard_LRS\nStandard_GRS")
    ran = hooks.run("preprovision", AZURE_LOCATION="West US")
    assert ran.returncode == 0, ran.stderr
    assert hooks.kept() == {"DATA_REDUNDANCY": "Standard_LRS"}
    [asked] = [line for line in hooks.asked("az rest") if "Microsoft.Storage/skus" in line]
    assert "contains(locations, 'westus')" in asked


def test_an_app_that_runs_has_shown_that_its_region_will_do(hooks: Hooks) -> None:
    deployed(hooks, "embed-v-4-0", "cohere", 300)
    hooks.answers("regions", "elsewhere")
    hooks.answers("skus", "Standard_GRS")
    assert hooks.run("preprovision", **WEST).returncode == 0
    assert hooks.kept() == {}


def test_a_purchase_is_announced_with_where_its_terms_are(hooks: Hooks) -> None:
    ran = hooks.run("preprovision", **WEST, MODEL_NAME="Cohere-embed-v3-english")
    assert ran.returncode == 0, ran.stderr
    assert "azuremarketplace.microsoft.com" in ran.stdout


def test_providers_are_registered_and_waited_for(hooks: Hooks) -> None:
    few, all_of_them = "Microsoft.Storage", r"\r\n".join(f"microsoft.{name.lower()}" for name in PROVIDERS)
    hooks.answers("providers", few, "", "<html>Sign in</html>", rf"{all_of_them}\r\n")
    ran = hooks.run("preprovision", **WEST)
    assert ran.returncode == 0, ran.stderr
    registered = [line.split()[4] for line in hooks.asked("az provider register")]
    assert registered == [f"Microsoft.{name}" for name in PROVIDERS if name != "Storage"]
    assert all("--subscription the-subscription" in line for line in hooks.asked("az provider"))
    assert len(hooks.asked("az provider list")) == 4


def test_every_provider_of_the_template_is_registered(hooks: Hooks) -> None:
    used = {item["type"].partition("/")[0] for name in APPS for item in snapshot(name)["predictedResources"]}
    # Microsoft.App is the network of Flex Consumption: no resource is of it, so nothing but the hook registers it.
    optional = {
        "Microsoft.Network": "VNET_ENABLED",
        "Microsoft.App": "VNET_ENABLED",
        "Microsoft.Search": "SEARCH_SERVICE",
    }
    used = (used | {"Microsoft.App"}) - {"Microsoft.Authorization", "Microsoft.Resources"}
    for settings in ({}, {"VNET_ENABLED": "True", "SEARCH_SERVICE": "basic"}):
        (hooks.folder / "log").unlink(missing_ok=True)
        hooks.answers("providers", "", r"\n".join(used))
        assert hooks.run("preprovision", **WEST, **settings).returncode == 0
        registered = {line.split()[4] for line in hooks.asked("az provider register")}
        assert registered == {name for name in used if name not in optional or optional[name] in settings}


def test_somebody_who_may_not_register_a_provider_is_told_so(hooks: Hooks) -> None:
    hooks.answers("providers", "Microsoft.Web")
    hooks.answers("register", DENIED + " to register")
    ran = hooks.run("preprovision")
    assert ran.returncode == 1
    assert "Microsoft.Storage could not be registered, which needs the role Contributor" in ran.stderr
    assert "ERROR: (AuthorizationFailed) The client has no right to register" in ran.stderr


def test_a_registration_that_does_not_end_says_what_az_complains_of(hooks: Hooks) -> None:
    hooks.answers("providers", "ERROR: the service is down")
    ran = hooks.run("preprovision", PREPROVISION_TIMEOUT="0")
    assert ran.returncode == 1
    assert "has not been registered after 0 s" in ran.stderr
    assert "the service is down" in ran.stderr


@pytest.mark.parametrize("setting", [{"VNET_ENABLED": "true"}, {"EXISTING_STORAGE_ACCOUNT_ID": "/subscriptions/x"}])
def test_what_cannot_do_without_the_hook_needs_a_subscription(hooks: Hooks, setting: dict[str, str]) -> None:
    ran = hooks.run("preprovision", AZURE_SUBSCRIPTION_ID="", **setting)
    assert ran.returncode == 1
    assert "azd env set AZURE_SUBSCRIPTION_ID" in ran.stderr
    assert hooks.asked() == []


@pytest.mark.parametrize("missing", ["AZURE_SUBSCRIPTION_ID", "AZURE_ENV_NAME"])
def test_before_a_subscription_is_chosen_nothing_is_asked(hooks: Hooks, missing: str) -> None:
    ran = hooks.run("preprovision", **{missing: ""})
    assert ran.returncode == 0
    assert "nothing is checked" in ran.stdout
    assert hooks.asked() == []


GROUP = "/subscriptions/the-subscription/resourceGroups/rg-pictures/providers"
FOUNDRY = f"{GROUP}/Microsoft.CognitiveServices/accounts/ai-x"
SITE = f"{GROUP}/Microsoft.Web/sites/func-x"


def deployed(hooks: Hooks, model: str, api: str, capacity: int, name: str = "") -> None:
    """An app runs with this deployment, beside another one."""
    hooks.answers("resources", rf"{GROUP}/Microsoft.Storage/storageAccounts/x\r\n{FOUNDRY}\r\n{SITE}\r\n")
    path = {"models": "/models", "cohere": "/providers/cohere/v2"}[api]
    hooks.answers("settings", f"{name or model} https://ai-x.services.ai.azure.com{path}\\r\\n")
    hooks.answers("deployments", rf"another gpt-4o 50\r\n{name or model} {model} {capacity}\r\n")


def test_an_app_that_was_deployed_with_the_former_default_keeps_its_model(hooks: Hooks) -> None:
    deployed(hooks, "Cohere-embed-v3-english", "models", 1)
    ran = hooks.run("preprovision")
    assert ran.returncode == 0, ran.stderr
    # The API and the capacity are those of this model anyway, and are not in the way of another one.
    assert hooks.kept() == {"MODEL_NAME": "Cohere-embed-v3-english"}
    assert "MODEL_NAME is set to it. docs/models.md" in ran.stdout
    [asked] = hooks.asked("az resource list")
    assert "--subscription the-subscription --tag azd-env-name=pictures" in asked


@pytest.mark.parametrize("model", MODELS)
def test_an_app_keeps_its_model_its_api_and_its_capacity_where_the_defaults_are_others(
    hooks: Hooks, model: str
) -> None:
    deployed(hooks, model, api := MODELS[model]["apis"][-1], 7)
    assert hooks.run("preprovision").returncode == 0
    others = {"MODEL_NAME": (model, DEFAULT), "MODEL_API": (api, MODELS[model]["apis"][0])}
    expected = {name: now for name, (now, default) in others.items() if now != default}
    assert hooks.kept() == {**expected, "MODEL_CAPACITY": "7"}


@pytest.mark.parametrize("model", MODELS)
def test_what_is_as_the_template_would_have_it_is_not_set(hooks: Hooks, model: str) -> None:
    deployed(hooks, model, MODELS[model]["apis"][0], MODELS[model]["capacity"])
    assert hooks.run("preprovision", MODEL_NAME=model).returncode == 0
    assert hooks.kept() == {}


def test_what_somebody_has_set_is_left_alone(hooks: Hooks) -> None:
    deployed(hooks, "Cohere-embed-v3-english", "models", 1)
    chosen = {"MODEL_NAME": "embed-v-4-0", "MODEL_API": "models", "MODEL_CAPACITY": "10"}
    assert hooks.run("preprovision", **chosen).returncode == 0
    assert hooks.kept() == {}


def test_another_model_starts_with_its_own_api_and_what_its_quota_allows(hooks: Hooks) -> None:
    deployed(hooks, "embed-v-4-0", "models", 1)
    hooks.answers("quota", "50.0 0.0")
    chosen = {"MODEL_NAME": "Cohere-Embed-V5-Pro", "AZURE_LOCATION": "westeurope"}
    assert hooks.run("preprovision", **chosen).returncode == 0
    assert hooks.kept() == {"MODEL_CAPACITY": "50"}


def test_a_model_in_a_deployment_of_another_name_is_known_by_what_azure_says_of_it(hooks: Hooks) -> None:
    deployed(hooks, "Cohere-embed-v3-multilingual", "models", 1, name="pictures-model")
    assert hooks.run("preprovision", MODEL_DEPLOYMENT_NAME="pictures-model").returncode == 0
    assert hooks.kept() == {"MODEL_NAME": "Cohere-embed-v3-multilingual"}


EXISTING = f"{GROUP}/Microsoft.CognitiveServices/accounts/of-somebody"


def test_a_resource_of_somebody_else_is_asked_too(hooks: Hooks) -> None:
    deployed(hooks, "Cohere-embed-v3-english", "models", 20, name="theirs")
    options = {"EXISTING_FOUNDRY_RESOURCE_ID": EXISTING, "MODEL_DEPLOYMENT_NAME": "theirs"}
    assert hooks.run("preprovision", **options).returncode == 0
    # Its capacity is somebody else's matter.
    assert hooks.kept() == {"MODEL_NAME": "Cohere-embed-v3-english"}
    [asked] = [line for line in hooks.asked("az rest") if "/deployments?" in line]
    assert f"--url {EXISTING}/deployments" in asked


def test_a_resource_that_may_not_be_read_goes_by_the_name_of_the_deployment(hooks: Hooks) -> None:
    deployed(hooks, "Cohere-embed-v3-english", "models", 1)
    hooks.answers("deployments", "ERROR: (AuthorizationFailed)")
    assert hooks.run("preprovision", EXISTING_FOUNDRY_RESOURCE_ID=EXISTING).returncode == 0
    assert hooks.kept() == {"MODEL_NAME": "Cohere-embed-v3-english"}


def test_a_model_that_is_not_known_keeps_its_api(hooks: Hooks) -> None:
    deployed(hooks, "somebody-s-clip", "models", 1, name="theirs")
    options = {"EXISTING_FOUNDRY_RESOURCE_ID": EXISTING, "MODEL_DEPLOYMENT_NAME": "theirs"}
    assert hooks.run("preprovision", **options).returncode == 0
    assert hooks.kept() == {"MODEL_API": "models"}


def test_several_endpoints_are_of_one_api(hooks: Hooks) -> None:
    deployed(hooks, "embed-v-4-0", "models", 300)
    hooks.answers(
        "settings", "embed-v-4-0 https://a.services.ai.azure.com/models https://b.services.ai.azure.com/models"
    )
    assert hooks.run("preprovision").returncode == 0
    assert hooks.kept() == {"MODEL_API": "models"}


@pytest.mark.parametrize("what", ["resources", "settings", "deployments"])
def test_a_model_that_azure_does_not_tell_is_not_replaced_by_the_default(hooks: Hooks, what: str) -> None:
    deployed(hooks, "Cohere-embed-v3-english", "models", 1)
    hooks.answers(what, r"ERROR: (Throttled)\nThe service is busy")
    ran = hooks.run("preprovision")
    assert ran.returncode == 1
    assert "Set MODEL_NAME, MODEL_API and MODEL_CAPACITY" in ran.stderr
    assert "ERROR: (Throttled) The service is busy" in ran.stderr
    assert hooks.kept() == {}


def test_a_setting_that_azd_does_not_take_ends_with_how_to_set_it(hooks: Hooks) -> None:
    deployed(hooks, "Cohere-embed-v3-english", "models", 1)
    (hooks.folder / "azd-fails").touch()
    ran = hooks.run("preprovision")
    assert ran.returncode == 1
    assert "azd env set MODEL_NAME Cohere-embed-v3-english; then: azd provision" in ran.stderr


def test_a_first_deployment_takes_the_default_where_the_quota_is_large_enough(hooks: Hooks) -> None:
    assert hooks.run("preprovision", **WEST).returncode == 0
    assert hooks.kept() == {}
    [catalogue] = hooks.asked("az cognitiveservices model list")
    [quota] = hooks.asked("az cognitiveservices usage list")
    assert "--location westeurope --subscription the-subscription" in catalogue
    assert f"[?name.value=='AIServices.GlobalStandard.{DEFAULT}']" in quota


@pytest.mark.parametrize("quota", ["20.0 0.0", "300.0 280.0", "20 0"])
def test_a_first_deployment_takes_what_is_left_of_a_smaller_quota(hooks: Hooks, quota: str) -> None:
    hooks.answers("quota", quota)
    ran = hooks.run("preprovision", **WEST, FOUNDRY_LOCATION="swedencentral")
    assert ran.returncode == 0
    assert hooks.kept() == {"MODEL_CAPACITY": "20"}
    assert "swedencentral has 20 units left" in ran.stdout
    assert "--location swedencentral" in hooks.asked("az cognitiveservices usage list")[0]


def test_what_a_deployment_has_already_is_not_asked_of_the_quota_again(hooks: Hooks) -> None:
    deployed(hooks, "embed-v-4-0", "cohere", 300)
    hooks.answers("quota", "300.0 300.0")
    assert hooks.run("preprovision", **WEST, MODEL_CAPACITY="300").returncode == 0
    assert hooks.run("preprovision", **WEST, MODEL_CAPACITY="301").returncode == 1


@pytest.mark.parametrize("answer", ["", "ERROR: no right", "null null"])
def test_a_quota_that_azure_does_not_tell_is_no_reason_to_stop(hooks: Hooks, answer: str) -> None:
    hooks.answers("quota", answer)
    ran = hooks.run("preprovision", **WEST)
    assert ran.returncode == 0, ran.stderr
    assert (
        "az cognitiveservices usage list --location westeurope; then: azd env set MODEL_CAPACITY <units>" in ran.stdout
    )
    assert hooks.kept() == {}


def test_the_deployment_for_queries_has_a_quota_of_its_own(hooks: Hooks) -> None:
    hooks.answers("quota", "400.0 0.0", "40.0 0.0")
    pair = {"MODEL_NAME": "Cohere-Embed-V5-Pro", "QUERY_MODEL_NAME": "Cohere-Embed-V5-Fast"}
    assert hooks.run("preprovision", **WEST, **pair).returncode == 0
    assert hooks.kept() == {"QUERY_MODEL_CAPACITY": "40"}
    assert ["Pro" in line for line in hooks.asked("az cognitiveservices usage list")] == [True, False]


def test_the_models_of_the_marketplace_have_one_unit_whatever_the_quota(hooks: Hooks) -> None:
    assert hooks.run("preprovision", **WEST, MODEL_NAME="Cohere-embed-v3-english").returncode == 0
    assert hooks.asked("az cognitiveservices usage") == []


def test_the_deployments_of_somebody_else_are_not_checked(hooks: Hooks) -> None:
    hooks.answers("catalogue", "another-model 1 Standard=x")
    hooks.answers("deployments", "")
    assert hooks.run("preprovision", **WEST, EXISTING_FOUNDRY_RESOURCE_ID=EXISTING).returncode == 0
    assert hooks.asked("az cognitiveservices") == []


ACCOUNT = (
    "/subscriptions/another/resourceGroups/rg-photographs/providers/Microsoft.Storage/storageAccounts/stphotographs"
)
TOPIC = "/subscriptions/another/resourceGroups/rg-events/providers/Microsoft.EventGrid/systemTopics/photographs"
MARK = "image-embeddings/the-subscription/pictures"
USES = {**WEST, "EXISTING_STORAGE_ACCOUNT_ID": ACCOUNT}
OPEN = "StorageV2 westeurope Enabled Allow https://stphotographs.blob.core.windows.net/ AzureServices"


def has_account(hooks: Hooks, **there: str) -> None:
    """Somebody's account with the container images, and with these containers and queues, each with its metadata."""
    hooks.answers("storage", OPEN)
    hooks.answers("topics", "")
    hooks.answers("containers", r"photographs\nscans")
    for name, metadata in {"images": "null", **there}.items():
        hooks.answers(f"item-{name}", metadata)


def test_of_an_account_that_is_there_the_template_is_told_what_it_has(hooks: Hooks) -> None:
    has_account(hooks, **{"webjobs-blobtrigger-poison": "{}", "embeddings": f'{{"madefor": "{MARK}"}}'})
    ran = hooks.run("preprovision", **USES)
    assert ran.returncode == 0, ran.stderr
    # What this deployment has made itself is made again: it stays as it is.
    assert hooks.kept() == {"ALREADY_IN_STORAGE": '["images","webjobs-blobtrigger-poison"]'}
    before = len(hooks.asked("azd env set"))
    assert hooks.run("preprovision", **USES, **hooks.kept()).returncode == 0
    assert len(hooks.asked("azd env set")) == before


def test_the_hook_asks_for_all_that_the_template_makes_in_an_account(hooks: Hooks) -> None:
    has_account(hooks)
    assert hooks.run("preprovision", **USES).returncode == 0
    kinds = ("blobServices/containers", "queueServices/queues")
    made_there = {
        name for kind in kinds for name in names("existing-storage", f"Microsoft.Storage/storageAccounts/{kind}")
    } - {"app-package"}
    asked = [line.split()[5] for line in hooks.asked(f"az rest --method get --url {ACCOUNT}/")]
    looked_at = {url.partition("?")[0].rpartition("/")[2] for url in asked if "/default/" in url}
    assert looked_at == made_there | {"images"}
    assert DEAD_LETTERS in looked_at


def test_a_topic_that_is_there_is_used_and_one_that_this_deployment_made_is_its_own(hooks: Hooks) -> None:
    has_account(hooks)
    others = f"/subscriptions/another/x /subscriptions/another/y {'0' * 8} null"
    theirs = f"{TOPIC} {ACCOUNT.upper()} 11111111 null"
    hooks.answers("topics", rf"{others}\n{theirs}")
    ran = hooks.run("preprovision", **USES)
    assert ran.returncode == 0, ran.stderr
    assert hooks.kept()["EXISTING_EVENT_TOPIC_ID"] == TOPIC
    assert "has the system topic photographs" in ran.stdout
    [asked] = hooks.asked("az eventgrid system-topic list")
    assert "--subscription another" in asked
    hooks.answers("topics", f'{TOPIC} {ACCOUNT} 11111111 {{"image-embeddings": "{MARK}"}}')
    assert hooks.run("preprovision", **USES, EXISTING_EVENT_TOPIC_ID=TOPIC).returncode == 0
    assert hooks.kept()["EXISTING_EVENT_TOPIC_ID"] == ""


CLOSED = OPEN.replace("Allow", "Deny")
UNUSABLE: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "no id": (
        {},
        {"EXISTING_STORAGE_ACCOUNT_ID": "stphotographs"},
        "az storage account show --name <account> --query id",
    ),
    "not to be read": ({"storage": "ERROR: no right"}, {}, "may you read it? ERROR: no right"),
    "no queues": ({"storage": OPEN.replace("StorageV2", "BlockBlobStorage")}, {}, "Use one of kind StorageV2"),
    "another address": ({"storage": OPEN.replace(".blob.", ".z1.blob.")}, {}, "has the address"),
    "closed": (
        {"storage": OPEN.replace("Enabled", "Disabled")},
        {},
        "--public-network-access Enabled --default-action Deny --bypass AzureServices",
    ),
    "a firewall": ({"storage": CLOSED}, {}, "azd env set VNET_ENABLED true"),
    "a firewall for Event Grid": (
        {"storage": CLOSED.replace("AzureServices", "Logging, Metrics")},
        {"VNET_ENABLED": "true"},
        f"az storage account update --ids {ACCOUNT} --bypass AzureServices",
    ),
    "no right to make containers": (
        {"rights": "Microsoft.Authorization/* Microsoft.Storage/*/read ! "},
        {},
        "Ask for the role Storage Account Contributor on it",
    ),
    "a topic without an identity": (
        {"topics": f"{TOPIC} {ACCOUNT} - null"},
        {},
        "--subscription another --resource-group rg-events --name photographs --identity systemassigned",
    ),
    "topics that cannot be listed": (
        {"topics": "ERROR: no right"},
        {},
        "Ask for the role Reader on its subscription. ERROR: no right",
    ),
    "queues of another app": ({"item-embedding-requests": "{}"}, {}, "azd env set QUEUE_PREFIX <prefix>-"),
    "contents that cannot be read": (
        {"item-embeddings": "ERROR: no right"},
        {},
        "containers/embeddings of EXISTING_STORAGE_ACCOUNT_ID cannot be read: ERROR: no right",
    ),
}


@pytest.mark.parametrize(("answers", "settings", "advice"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_account_that_will_not_do_is_refused_with_what_to_set(
    hooks: Hooks, answers: dict[str, str], settings: dict[str, str], advice: str
) -> None:
    has_account(hooks)
    for what, answer in answers.items():
        hooks.answers(what, answer)
    ran = hooks.run("preprovision", **{**USES, **settings})
    assert ran.returncode == 1, ran.stdout
    assert advice in ran.stderr


def test_a_container_that_is_not_there_is_asked_for_before_it_is_made(hooks: Hooks) -> None:
    has_account(hooks)
    (hooks.folder / "item-images").unlink()
    ran = hooks.run("preprovision", **USES)
    assert ran.returncode == 1
    assert "azd env set IMAGES_CONTAINER <name>; then: azd provision. There are: photographs scans" in ran.stderr
    ran = hooks.run("preprovision", **USES, IMAGES_CONTAINER="pictures")
    assert ran.returncode == 0, ran.stderr
    assert "an empty one is made" in ran.stdout


def test_an_account_far_from_the_app_is_worth_a_word(hooks: Hooks) -> None:
    has_account(hooks)
    ran = hooks.run("preprovision", **{**USES, "AZURE_LOCATION": "swedencentral"})
    assert ran.returncode == 0
    assert "every picture crosses regions" in ran.stdout
    assert "azd env set AZURE_LOCATION westeurope" in ran.stdout


SERVICE = "/subscriptions/another/resourceGroups/rg-search/providers/Microsoft.Search/searchServices/srch-all"


@pytest.mark.parametrize(
    ("service", "advice"),
    [
        ("11111111 basic null", ""),
        ("- free null", "azd env set SEARCH_SERVICE basic"),
        ("- basic null", f"az search service update --ids {SERVICE} --identity-type SystemAssigned"),
        ("11111111 basic {}", f"az search service update --ids {SERVICE} --auth-options aadOrApiKey"),
        ("ERROR: no right", "may you read it? ERROR: no right"),
    ],
)
def test_a_search_service_that_is_there_must_have_an_identity_and_take_roles(
    hooks: Hooks, service: str, advice: str
) -> None:
    hooks.answers("service", service)
    ran = hooks.run("preprovision", **WEST, SEARCH_SERVICE=SERVICE)
    assert ran.returncode == (1 if advice else 0), ran.stderr
    assert advice in ran.stderr


def test_it_says_how_to_sign_in(hooks: Hooks) -> None:
    hooks.answers("account", "ERROR: Please run az login")
    ran = hooks.run("preprovision")
    assert ran.returncode == 1
    assert "az login" in ran.stderr
