// A Foundry resource with one deployment of an embedding model, reached with tokens only.
param name string
param location string
param tags object
param modelName string
param modelVersion string
param modelCapacity int
param deploymentName string

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

resource deployment 'Microsoft.CognitiveServices/accounts/deployments@2025-12-01' = {
  parent: foundry
  name: deploymentName
  sku: { name: 'GlobalStandard', capacity: modelCapacity }
  properties: {
    model: { format: 'Cohere', name: modelName, version: modelVersion }
    // A new version of a model is a new space: vectors of two versions must not be mixed unawares.
    versionUpgradeOption: 'NoAutoUpgrade'
  }
}
