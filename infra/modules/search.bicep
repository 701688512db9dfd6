// A search service that takes tokens only.
param name string
param location string
param tags object

resource service 'Microsoft.Search/searchServices@2025-05-01' = {
  //checkov:skip=CKV_AZURE_208:the indexer catches up by itself; replicas for an SLA cost as much again
  //checkov:skip=CKV_AZURE_209:the app answers searches itself; who needs the SLA here sets replicaCount
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
