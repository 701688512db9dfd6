"""A private network closes what it should, and nothing of it is made where none is asked for."""

import pytest

from tests.infra.deployments import made, names, snapshot


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


def test_a_private_network_closes_everything_but_what_event_grid_and_the_allowed_addresses_use() -> None:
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
