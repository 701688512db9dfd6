// What a search service may do. Apart from the service, so that the role is named by the identity it is for.
param accountName string
param embeddingsContainer string
param principalId string

@description('By which azd down finds the assignment again.')
param mark string

var blobReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1' // Storage Blob Data Reader

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource embeddings 'containers' existing = {
      name: embeddingsContainer
    }
  }
}

// The indexer copies the records, as the identity of its service.
resource readRecords 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account::blobs::embeddings
  name: guid(account::blobs::embeddings.id, principalId, blobReader)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: mark
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobReader)
  }
}
