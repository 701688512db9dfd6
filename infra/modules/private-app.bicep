// The address of the app and of its deployment (scm) site in the virtual network: one endpoint serves both.
param name string
param location string
param tags object
param appName string
param networkId string

@description('The subnet of private endpoints.')
param subnetId string

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: appName
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: 'privatelink.azurewebsites.net'
  location: 'global'
  tags: tags
}

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = {
  parent: zone
  name: 'link-${name}'
  location: 'global'
  properties: {
    registrationEnabled: false
    virtualNetwork: { id: networkId }
  }
}

resource endpoint 'Microsoft.Network/privateEndpoints@2025-05-01' = {
  name: 'pe-app-${name}'
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      {
        name: 'app'
        properties: { privateLinkServiceId: app.id, groupIds: ['sites'] }
      }
    ]
  }
}

resource names 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      { name: replace(zone.name, '.', '-'), properties: { privateDnsZoneId: zone.id } }
    ]
  }
  dependsOn: [link]
}
