// What the topic may do. Apart from the topic, so that each role is named by the identity it is for: a topic that is
// deleted and made again has another identity, and Azure refuses to give an existing role assignment to another one.
param principalId string
param dataAccountName string
param requestsQueue string
param deadLetterContainer string

@description('By which azd down finds these again.')
param mark string

var queueSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a' // Storage Queue Data Message Sender
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe' // Storage Blob Data Contributor
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dataAccountName

  resource queueService 'queueServices' existing = {
    name: 'default'

    resource requests 'queues' existing = {
      name: requestsQueue
    }
  }

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource deadLetters 'containers' existing = {
      name: deadLetterContainer
    }
  }
}

// The topic puts events on the app's queue, and reads nothing.
resource sendEvents 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account::queueService::requests
  name: guid(account::queueService::requests.id, principalId, queueSender)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, queueSender)
  }
}

// Events that cannot be delivered are kept here instead of being dropped.
resource keepDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account::blobs::deadLetters
  name: guid(account::blobs::deadLetters.id, principalId, blobContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, blobContributor)
  }
}
