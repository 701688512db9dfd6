// Who may do what with images, records, queues and undelivered events: each role is on a container or a queue, none on the
// account, which may be somebody else's.
param principalId string
param accountName string
param imagesContainer string
param embeddingsContainer string
param deadLetterContainer string
param queues array

@description('Who else may upload images and read embeddings. Empty: nobody.')
param personId string

param personType string

@description('By which azd down finds these again.')
param mark string

var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe' // Storage Blob Data Contributor
var blobReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1' // Storage Blob Data Reader
var queueContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88' // Storage Queue Data Contributor
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource images 'containers' existing = {
      name: imagesContainer
    }

    resource embeddings 'containers' existing = {
      name: embeddingsContainer
    }

    resource deadLetters 'containers' existing = {
      name: deadLetterContainer
    }
  }

  resource queueService 'queueServices' existing = {
    name: 'default'
  }
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = [
  for item in queues: {
    parent: account::queueService
    name: item
  }
]

// Images are read and listed, and never written: not even metadata.
resource readImages 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account::blobs::images
  name: guid(account::blobs::images.id, principalId, blobReader)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, blobReader)
  }
}

// Records and the index of search are written, read, listed and removed.
resource writeEmbeddings 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account::blobs::embeddings
  name: guid(account::blobs::embeddings.id, principalId, blobContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, blobContributor)
  }
}

// Events that could not be delivered are read, put on the queue, and deleted; those that hold no event are marked.
resource takeDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account::blobs::deadLetters
  name: guid(account::blobs::deadLetters.id, principalId, blobContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, blobContributor)
  }
}

// The app puts requests on its queue and the host takes them off; what fails five times the host puts on a poison
// queue, which the app empties. No other queue of the account is of any use to them.
resource workQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (item, index) in queues: {
    scope: queue[index]
    name: guid(queue[index].id, principalId, queueContributor)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      description: mark
      roleDefinitionId: subscriptionResourceId(definitions, queueContributor)
    }
  }
]

// Whoever deploys wants to upload a first picture ...
resource personWritesImages 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(personId)) {
  scope: account::blobs::images
  name: guid(account::blobs::images.id, personId, blobContributor)
  properties: {
    principalId: personId
    principalType: personType
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, blobContributor)
  }
}

// ... and to see its embedding.
resource personReadsEmbeddings 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(personId)) {
  scope: account::blobs::embeddings
  name: guid(account::blobs::embeddings.id, personId, blobReader)
  properties: {
    principalId: personId
    principalType: personType
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, blobReader)
  }
}
