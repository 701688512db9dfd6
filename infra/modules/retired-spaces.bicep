// Storage deletes the millions of blobs of a space by itself, a day or two after it is told to.
param accountName string
param container string

@description('Folders of the container that are deleted.')
param spaces array

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName
}

// A policy that the template leaves out would stay, and one without a rule is refused: so there is always a rule, which is off
// where nothing is to be deleted. The last slash matters: without it, a space would take those with it whose names begin so.
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
