"""What ``azd down`` does beyond the group that it deletes: what was added elsewhere goes, and nothing else."""

import pytest

from tests.infra.hooks import Hooks

GROUP = "/subscriptions/another/resourceGroups"
ACCOUNT = f"{GROUP}/rg-photographs/providers/Microsoft.Storage/storageAccounts/stphotographs"
TOPIC = f"{GROUP}/rg-events/providers/Microsoft.EventGrid/systemTopics/photographs"
FOUNDRY = f"{GROUP}/rg-models/providers/Microsoft.CognitiveServices/accounts/ai-models"
SERVICE = f"{GROUP}/rg-search/providers/Microsoft.Search/searchServices/srch-all"
MARK = "image-embeddings/the-subscription/pictures"
MADE = f'{{"madefor": "{MARK}"}}'
ROLE = f"{ACCOUNT}/blobServices/default/containers/images/providers/Microsoft.Authorization/roleAssignments/r1"
SUBSCRIPTION = f"{TOPIC}/eventSubscriptions/func-uploads"


def deployed(hooks: Hooks, topic_tags: str = "null") -> None:
    """Somebody's account and topic, with a container, a queue, a subscription and a role of this deployment."""
    for name, metadata in {
        "images": "null",
        "embeddings": MADE,
        "embedding-requests": MADE,
        "webjobs-blobtrigger-poison": "{}",
    }.items():
        hooks.answers(f"item-{name}", metadata)
    hooks.answers("topics", f"{TOPIC} {ACCOUNT} 11111111 {topic_tags}")
    hooks.answers("subscriptions", SUBSCRIPTION)
    hooks.answers("roles", ROLE, "")


def test_what_lies_in_the_group_alone_needs_no_word(hooks: Hooks) -> None:
    ran = hooks.run("predown")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert hooks.asked() == []
    assert hooks.run("postdown").returncode == 0
    assert hooks.asked() == []


def test_what_was_added_elsewhere_is_said_before_azd_asks_and_not_touched(hooks: Hooks) -> None:
    deployed(hooks)
    ran = hooks.run("predown", EXISTING_STORAGE_ACCOUNT_ID=ACCOUNT)
    assert ran.returncode == 0, ran.stderr
    added = [
        SUBSCRIPTION,
        ROLE,
        f"{ACCOUNT}/blobServices/default/containers/embeddings",
        f"{ACCOUNT}/queueServices/default/queues/embedding-requests",
    ]
    assert hooks.kept() == {"TO_REMOVE": " ".join(added)}
    assert [line.strip() for line in ran.stdout.splitlines() if line.startswith("  ")] == added
    assert "The images in the container images of stphotographs stay" in ran.stdout
    assert not [line for line in hooks.asked("az") if "delete" in line]


def test_only_what_has_the_mark_of_this_deployment_is_its_own(hooks: Hooks) -> None:
    deployed(hooks)
    hooks.answers("item-embeddings", MADE.replace("pictures", "pictures-of-another"))
    assert hooks.run("predown", EXISTING_STORAGE_ACCOUNT_ID=ACCOUNT).returncode == 0
    assert "containers/embeddings" not in hooks.kept()["TO_REMOVE"]
    queries = [line for line in hooks.asked("az rest") if "roleAssignments?" in line or "eventSubscriptions?" in line]
    assert len(queries) >= 5
    assert all(f"=='{MARK}'].id" in query for query in queries)


def test_a_topic_that_this_deployment_made_goes_with_its_subscriptions(hooks: Hooks) -> None:
    deployed(hooks, f'{{"image-embeddings": "{MARK}"}}')
    assert hooks.run("predown", EXISTING_STORAGE_ACCOUNT_ID=ACCOUNT).returncode == 0
    assert hooks.kept()["TO_REMOVE"].split()[:2] == [SUBSCRIPTION, TOPIC]


def test_roles_on_foundry_resources_and_the_index_of_a_search_service_go_too(hooks: Hooks) -> None:
    hooks.answers("roles", f"{FOUNDRY}/providers/Microsoft.Authorization/roleAssignments/r2")
    hooks.answers("search-image-embeddings", f"The records of {MARK}")
    settings = {
        "EXISTING_FOUNDRY_RESOURCE_ID": FOUNDRY,
        "ADDITIONAL_FOUNDRY_RESOURCE_IDS": f'["{FOUNDRY}-2", "{FOUNDRY}-3"]',
        "SEARCH_SERVICE": SERVICE,
    }
    ran = hooks.run("predown", **settings)
    assert ran.returncode == 0, ran.stderr
    found = hooks.kept()["TO_REMOVE"].split()
    assert [url.partition("?")[0] for url in found[:3]] == [
        f"https://srch-all.search.windows.net/{item}"
        for item in ("indexers/image-embeddings", "datasources/image-embeddings", "indexes/images")
    ]
    assert len(found) == 3 + 4
    looked = [line for line in hooks.asked("az rest") if "roleAssignments?" in line]
    for scope in (FOUNDRY, f"{FOUNDRY}-2", f"{FOUNDRY}-3", SERVICE):
        assert any(f"--url {scope}/providers/" in line for line in looked)


@pytest.mark.parametrize("what", ["topics", "subscriptions", "roles", "item-embeddings"])
def test_what_cannot_be_read_stops_before_anything_is_deleted(hooks: Hooks, what: str) -> None:
    deployed(hooks)
    hooks.answers(what, "ERROR: no right")
    ran = hooks.run("predown", EXISTING_STORAGE_ACCOUNT_ID=ACCOUNT)
    assert ran.returncode == 1
    assert "ERROR: no right" in ran.stderr
    assert hooks.kept() == {}


def test_what_was_found_is_removed_each_in_its_own_way_and_what_is_gone_is_no_fault(hooks: Hooks) -> None:
    index = "https://srch-all.search.windows.net/indexes/images?api-version=2026-04-01"
    container = f"{ACCOUNT}/blobServices/default/containers/embeddings"
    hooks.answers("delete", "", "ERROR: (ResourceNotFound) It is not found.", "")
    ran = hooks.run("postdown", TO_REMOVE=" ".join([index, SUBSCRIPTION, TOPIC, ROLE, container]))
    assert ran.returncode == 0, ran.stderr
    removed = [line.removeprefix("az rest --method delete --url ") for line in hooks.asked("az rest")]
    assert removed == [
        f"{index} --resource https://search.azure.com --output none --only-show-errors",
        *(
            f"{item}?api-version={version} --output none --only-show-errors"
            for item, version in [
                (SUBSCRIPTION, "2025-02-15"),
                (TOPIC, "2025-02-15"),
                (ROLE, "2022-04-01"),
                (container, "2025-06-01"),
            ]
        ),
    ]
    assert hooks.kept() == {"TO_REMOVE": ""}


def test_what_could_not_be_removed_is_left_for_another_run(hooks: Hooks) -> None:
    hooks.answers("delete", "ERROR: locked", "")
    ran = hooks.run("postdown", TO_REMOVE=f"{SUBSCRIPTION} {ROLE}")
    assert ran.returncode == 1
    assert f"{SUBSCRIPTION} could not be removed: ERROR: locked" in ran.stderr
    assert "azd hooks run postdown" in ran.stderr
    assert hooks.kept() == {"TO_REMOVE": SUBSCRIPTION}
