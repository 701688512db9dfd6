// Who may do what. Each role is given on the smallest thing that the code needs it for.
param principalId string
param hostAccountName string
param dataAccountName string
param imagesContainer string
param embeddingsContainer string
param deadLetterContainer string
param queues array
param applicationInsightsName string

@description('Who else may upload images and read embeddings. Empty: nobody.')
param personId string

param personType string

var blobOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b' // Storage Blob Data Owner
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe' // Storage Blob Data Contributor
var blobReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1' // Storage Blob Data Reader
var queueContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88' // Storage Queue Data Contributor
var tableContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3' // Storage Table Data Contributor
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb' // Monitoring Metrics Publisher
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource hostAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostAccountName
}

resource dataAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dataAccountName

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
    parent: dataAccount::queueService
    name: item
  }
]

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

// The Functions host keeps its locks, keys and timers in blobs, and reads the app's package there. It makes containers
// of its own, so this is on the account; nothing but the host is in it.
resource hostBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostAccount
  name: guid(hostAccount.id, principalId, blobOwner)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(definitions, blobOwner)
  }
}

// The blob trigger's own queue is made by the host, under a name that only the host knows.
resource hostQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostAccount
  name: guid(hostAccount.id, principalId, queueContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(definitions, queueContributor)
  }
}

// The host writes its diagnostic events (why it did not start, say) into a table.
resource hostTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostAccount
  name: guid(hostAccount.id, principalId, tableContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(definitions, tableContributor)
  }
}

// Images are read and listed, and never written: not even metadata.
resource readImages 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: dataAccount::blobs::images
  name: guid(dataAccount::blobs::images.id, principalId, blobReader)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(definitions, blobReader)
  }
}

// Records and the index of search are written, read, listed and removed.
resource writeEmbeddings 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: dataAccount::blobs::embeddings
  name: guid(dataAccount::blobs::embeddings.id, principalId, blobContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(definitions, blobContributor)
  }
}

// Events that could not be delivered are read, put on the queue, and deleted; those that hold no event are marked.
resource takeDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: dataAccount::blobs::deadLetters
  name: guid(dataAccount::blobs::deadLetters.id, principalId, blobContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
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
      roleDefinitionId: subscriptionResourceId(definitions, queueContributor)
    }
  }
]

// Application Insights takes logs only from who may publish them: local authentication is off.
resource publishLogs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, principalId, metricsPublisher)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(definitions, metricsPublisher)
  }
}

// Whoever deploys wants to upload a first picture ...
resource personWritesImages 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(personId)) {
  scope: dataAccount::blobs::images
  name: guid(dataAccount::blobs::images.id, personId, blobContributor)
  properties: {
    principalId: personId
    principalType: personType
    roleDefinitionId: subscriptionResourceId(definitions, blobContributor)
  }
}

// ... and to see its embedding.
resource personReadsEmbeddings 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(personId)) {
  scope: dataAccount::blobs::embeddings
  name: guid(dataAccount::blobs::embeddings.id, personId, blobReader)
  properties: {
    principalId: personId
    principalType: personType
    roleDefinitionId: subscriptionResourceId(definitions, blobReader)
  }
}
