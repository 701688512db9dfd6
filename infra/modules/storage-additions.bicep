// What an account that is there already lacks: containers and queues. Everything else of it stays as its owner has it: keys,
// network rules, soft delete, versioning, tags. A container that is there must not be in the list: it would get the
// properties below.
param accountName string

@description('The container that is watched. What is in it is the owner\'s, so it has no mark, and azd down leaves it.')
param imagesContainer string

param containers array
param queues array

@description('By which azd down finds these again.')
param mark string

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName

  resource blobs 'blobServices' existing = {
    name: 'default'
  }

  resource queueService 'queueServices' existing = {
    name: 'default'
  }
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for item in containers: {
    parent: account::blobs
    name: item
    properties: {
      publicAccess: 'None'
      metadata: item == imagesContainer ? {} : { madefor: mark }
    }
  }
]

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for item in queues: {
    parent: account::queueService
    name: item
    properties: { metadata: { madefor: mark } }
  }
]

output location string = account.location
