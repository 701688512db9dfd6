// Storage itself deletes the blobs of retired spaces, millions if need be, within a day or two.
param accountName string
param container string

@description('Folders of the container that are deleted.')
param spaces array

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName
}

// A policy that the template leaves out would stay, and one without a rule is refused. So there is always a rule, disabled
// if nothing is to be deleted. The last slash matters: without it, spaces whose names only begin like this one would go too.
resource policy 'Microsoft.Storage/storageAccounts/managementPolicies@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        for (space, index) in empty(spaces) ? ['no-space'] : spaces: {
          name: 'retired-${index}'
          enabled: !empty(spaces)
          type: 'Lifecycle'
          definition: {
            filters: { blobTypes: ['blockBlob'], prefixMatch: ['${container}/${space}/'] }
            actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: 0 } } }
          }
        }
      ]
    }
  }
}
