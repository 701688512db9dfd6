// A Foundry resource with deployments of embedding models, reached with tokens only.
param name string
param location string
param tags object
param modelVersion string

@description('The deployments: name, model and capacity of each.')
param deployments array

@description('Whether it can be reached over the public network (with a token).')
param publicAccess bool

resource foundry 'Microsoft.CognitiveServices/accounts@2025-12-01' = {
  //checkov:skip=CKV_AZURE_134:closed where vnetEnabled asks for it; open otherwise, with tokens only, so that anybody can try
  name: name
  location: location
  tags: tags
  kind: 'AIServices'
  sku: { name: 'S0' }
  identity: { type: 'SystemAssigned' }
  properties: {
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
    networkAcls: { defaultAction: publicAccess ? 'Allow' : 'Deny' }
  }
}

// One after the other: a resource refuses to make two deployments at once.
@batchSize(1)
resource deployment 'Microsoft.CognitiveServices/accounts/deployments@2025-12-01' = [
  for item in deployments: {
    parent: foundry
    name: item.name
    sku: { name: 'GlobalStandard', capacity: item.capacity }
    properties: {
      model: { format: 'Cohere', name: item.model, version: modelVersion }
      // A new version of a model is a new space: vectors of two versions must not be mixed unawares.
      versionUpgradeOption: 'NoAutoUpgrade'
    }
  }
]
