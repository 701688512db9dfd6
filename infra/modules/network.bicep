// The virtual network: a subnet for the app, a subnet for private endpoints of both accounts and of the model, and the
// private names for them. The app's own is in private-app.bicep: the app needs this network first.
param name string
param location string
param tags object
param hostAccountName string
param dataSubscription string
param dataGroup string
param dataAccountName string
param foundrySubscription string
param foundryGroup string
param foundryName string

@description('Addresses of the network, which hold those of both subnets.')
param addressPrefix string = '10.0.0.0/16'

@description('Addresses of the app\'s instances: one each, so at least as many as there may be instances, of all groups of functions.')
param appSubnetPrefix string = '10.0.0.0/22'

@description('Addresses of the private endpoints.')
param endpointSubnetPrefix string = '10.0.4.0/24'

var suffix = environment().suffixes.storage
// Each endpoint names its zones by their place in this list.
var zones = [
  'privatelink.blob.${suffix}'
  'privatelink.queue.${suffix}'
  'privatelink.table.${suffix}'
  'privatelink.cognitiveservices.azure.com'
  'privatelink.openai.azure.com'
  'privatelink.services.ai.azure.com'
]
var endpoints = [
  { name: 'host-blob', id: hostAccount.id, group: 'blob', zones: [0] }
  { name: 'host-queue', id: hostAccount.id, group: 'queue', zones: [1] }
  { name: 'host-table', id: hostAccount.id, group: 'table', zones: [2] }
  { name: 'data-blob', id: dataAccount.id, group: 'blob', zones: [0] }
  { name: 'data-queue', id: dataAccount.id, group: 'queue', zones: [1] }
  { name: 'foundry', id: foundry.id, group: 'account', zones: [3, 4, 5] }
]

resource hostAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostAccountName
}

resource dataAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  scope: resourceGroup(dataSubscription, dataGroup)
  name: dataAccountName
}

resource foundry 'Microsoft.CognitiveServices/accounts@2025-12-01' existing = {
  scope: resourceGroup(foundrySubscription, foundryGroup)
  name: foundryName
}

// Nothing has to come in from the internet: neither to the app's outbound subnet nor to the endpoints.
resource rules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = {
  name: 'nsg-${name}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'deny-internet-inbound'
        properties: {
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: 'vnet-${name}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressPrefix] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: appSubnetPrefix
          networkSecurityGroup: { id: rules.id }
          delegations: [
            // Flex Consumption runs on Container Apps' network; the provider Microsoft.App must be registered.
            { name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: endpointSubnetPrefix
          networkSecurityGroup: { id: rules.id }
          privateEndpointNetworkPolicies: 'Enabled'
        }
      }
    ]
  }

  resource appSubnet 'subnets' existing = {
    name: 'app'
  }

  resource endpointSubnet 'subnets' existing = {
    name: 'endpoints'
  }
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for item in zones: {
    name: item
    location: 'global'
    tags: tags
  }
]

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (item, index) in zones: {
    parent: zone[index]
    name: 'link-${name}'
    location: 'global'
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: network.id }
    }
  }
]

resource endpoint 'Microsoft.Network/privateEndpoints@2025-05-01' = [
  for item in endpoints: {
    name: 'pe-${item.name}-${name}'
    location: location
    tags: tags
    properties: {
      subnet: { id: network::endpointSubnet.id }
      privateLinkServiceConnections: [
        {
          name: item.name
          properties: { privateLinkServiceId: item.id, groupIds: [item.group] }
        }
      ]
    }
  }
]

resource names 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = [
  for (item, index) in endpoints: {
    parent: endpoint[index]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        for number in item.zones: {
          name: replace(zones[number], '.', '-')
          properties: { privateDnsZoneId: zone[number].id }
        }
      ]
    }
    dependsOn: [link]
  }
]

output networkId string = network.id
output appSubnetId string = network::appSubnet.id
output endpointSubnetId string = network::endpointSubnet.id
