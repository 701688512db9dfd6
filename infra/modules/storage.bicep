// A storage account without keys: Entra only, TLS 1.2, nothing public, everything restorable for some days.
param name string
param location string
param tags object

@description('SKU of the account.')
param redundancy string

param containers array
param queues array = []

@description('Days in which a deleted or overwritten blob, or a deleted container, can be restored.')
param softDeleteDays int

@description('Who reaches the account over the public network: all (with a token), trusted (Azure\'s own services that the account trusts, and allowedIpRanges), or none.')
@allowed(['all', 'trusted', 'none'])
param publicAccess string

param allowedIpRanges array = []

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  //checkov:skip=CKV_AZURE_35:closed where vnetEnabled asks for it; open otherwise, with tokens only, so that anybody can try
  //checkov:skip=CKV_AZURE_206:the host's account holds nothing that a deployment does not bring back; the data account is zone-redundant unless told otherwise
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: redundancy }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicAccess == 'none' ? 'Disabled' : 'Enabled'
    networkAcls: {
      // Event Grid must reach the account to set up its topic, whatever else is closed.
      bypass: 'AzureServices'
      defaultAction: publicAccess == 'all' ? 'Allow' : 'Deny'
      ipRules: [for addresses in allowedIpRanges: { value: addresses, action: 'Allow' }]
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: softDeleteDays }
    containerDeleteRetentionPolicy: { enabled: true, days: softDeleteDays }
  }
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for item in containers: {
    parent: blobs
    name: item
    properties: { publicAccess: 'None' }
  }
]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for item in queues: {
    parent: queueService
    name: item
  }
]
