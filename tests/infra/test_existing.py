"""Into what is there already only what is missing is deployed, under a mark, and nothing of it is changed."""

import json
import re

import pytest

from tests.infra.deployments import APPS, EXISTING, INFRA, already, made, names, snapshot

GROUP = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-photographs"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/stphotographs"
MARK = "image-embeddings/00000000-0000-0000-0000-000000000000/pictures"
OWN = "00000000-0000-0000-0000-000000000000"
ADDED = {
    "Microsoft.Storage/storageAccounts/blobServices/containers",
    "Microsoft.Storage/storageAccounts/queueServices/queues",
    "Microsoft.Authorization/roleAssignments",
    "Microsoft.EventGrid/systemTopics",
}


def elsewhere(deployment: str) -> list[dict[str, object]]:
    """The resources outside of the subscription of the app."""
    found = snapshot(deployment)["predictedResources"]
    # An id that Bicep could not shorten is an expression; it names the subscription first all the same.
    return [
        item for item in found if re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", item["id"])[:1] != [OWN]
    ]


@pytest.mark.parametrize("deployment", EXISTING)
def test_to_what_is_there_only_containers_queues_roles_and_a_topic_are_added(deployment: str) -> None:
    assert {item["type"] for item in elsewhere(deployment)} <= ADDED
    assert len(elsewhere(deployment)) > 5


@pytest.mark.parametrize("deployment", EXISTING)
def test_everything_that_is_added_carries_the_mark_but_the_images(deployment: str) -> None:
    assert snapshot(deployment)["outputs"]["ADDITIONS_MARK"] == MARK
    for item in elsewhere(deployment):
        of_the_owner = str(item["id"]).endswith("/containers/images")
        assert (MARK in json.dumps(item)) != of_the_owner, item["id"]


@pytest.mark.parametrize("deployment", EXISTING)
def test_what_the_account_has_already_is_left_out(deployment: str) -> None:
    kinds = ("blobServices/containers", "queueServices/queues")
    added = {name for kind in kinds for name in names(deployment, f"Microsoft.Storage/storageAccounts/{kind}")}
    assert added.isdisjoint(already(deployment))
    assert ("images" in added) == (deployment == "company")


def test_the_events_of_the_account_come_from_a_topic_beside_it_or_from_the_one_that_is_there() -> None:
    [topic] = made("existing-storage", "Microsoft.EventGrid/systemTopics")
    assert topic["id"].startswith(f"{GROUP}/")
    assert topic["properties"]["source"] == ACCOUNT
    assert topic["tags"]["image-embeddings"] == MARK
    # Where the account is, which only Azure knows.
    assert "storageAdditions" in topic["location"]
    assert made("existing-topic", "Microsoft.EventGrid/systemTopics") == []
    assert snapshot("existing-topic")["outputs"]["EVENT_TOPIC_ID"].endswith(
        "/rg-events/providers/Microsoft.EventGrid/systemTopics/photographs"
    )


def test_on_a_topic_of_others_the_subscriptions_have_names_and_labels_of_their_own() -> None:
    kind = "Microsoft.EventGrid/systemTopics/eventSubscriptions"
    ours = {
        name: item["properties"]["labels"]
        for name, item in zip(names("events-existing", kind), made("events-existing", kind), strict=True)
    }
    assert ours.keys() == {f"func-pictures-{name}" for name in names("events", kind)}
    assert all(labels == [MARK.replace("0", "2")] for labels in ours.values())


def test_the_key_of_the_webhook_is_read_where_the_app_is() -> None:
    [uploads] = [
        item
        for item in made("events-existing", "Microsoft.EventGrid/systemTopics/eventSubscriptions")
        if item["name"].endswith("func-pictures-uploads")
    ]
    url = uploads["properties"]["destination"]["properties"]["endpointUrl"]
    assert "22222222-2222-2222-2222-222222222222" in url
    assert "rg-app" in url


def test_the_private_network_leads_to_the_account_that_is_there() -> None:
    ids = [
        connection["properties"]["privateLinkServiceId"]
        for endpoint in made("company", "Microsoft.Network/privateEndpoints")
        for connection in endpoint["properties"]["privateLinkServiceConnections"]
    ]
    assert ids.count(ACCOUNT) == 2


@pytest.mark.parametrize("deployment", APPS)
def test_everything_that_can_have_tags_has_those_that_were_asked_for(deployment: str) -> None:
    asked = {"owner": "team-a", "cost-center": "42", "note": "a=b"} if deployment == "company" else {}
    tagged = [item["tags"] for item in snapshot(deployment)["predictedResources"] if "tags" in item]
    assert len(tagged) > 10
    for tags in tagged:
        assert (asked | {"azd-env-name": "pictures"}).items() <= tags.items()


def test_logs_go_to_the_workspace_that_is_there() -> None:
    assert made("company", "Microsoft.OperationalInsights/workspaces") == []
    [insights] = made("company", "Microsoft.Insights/components")
    assert insights["properties"]["WorkspaceResourceId"].endswith(
        "/rg-logs/providers/Microsoft.OperationalInsights/workspaces/log-all"
    )


def test_a_search_service_is_made_or_the_one_that_is_there_is_used() -> None:
    [service] = made("search-service", "Microsoft.Search/searchServices")
    assert (service["sku"]["name"], service["identity"]["type"]) == ("basic", "SystemAssigned")
    assert snapshot("search-service")["outputs"]["SEARCH_SERVICE_ID"] == service["id"]
    assert made("company", "Microsoft.Search/searchServices") == []
    assert snapshot("company")["outputs"]["SEARCH_SERVICE_ID"].endswith("/searchServices/srch-all")
    assert snapshot("defaults")["outputs"]["SEARCH_SERVICE_ID"] == ""


def test_what_azd_down_would_delete_is_refused() -> None:
    refused = {path.stem for path in (INFRA / "snapshots/refused").glob("*.bicepparam")}
    assert {
        "storage-in-the-group-that-is-deleted",
        "retired-space-in-an-existing-account",
        "search-service-of-no-kind",
        "tag-without-a-value",
    } <= refused
