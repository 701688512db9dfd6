// A search service that takes tokens only.
param name string
param location string
param tags object

resource service 'Microsoft.Search/searchServices@2025-05-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: 'basic' }
  // The indexer reads the records as this.
  identity: { type: 'SystemAssigned' }
  properties: {
    disableLocalAuth: true
    replicaCount: 1
    partitionCount: 1
    publicNetworkAccess: 'Enabled'
    semanticSearch: 'disabled'
  }
}
