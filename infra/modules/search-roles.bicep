// Lets whoever deploys put the index on a search service, and try it.
param name string

@description('Empty: nobody.')
param personId string

param personType string

@description('By which azd down finds these again.')
param mark string

var serviceContributor = '7ca78c08-252a-4471-8644-bb5ff32d4ba0' // Search Service Contributor
var dataReader = '1407120a-92aa-4202-b7e9-c0e197c71c8f' // Search Index Data Reader
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource service 'Microsoft.Search/searchServices@2025-05-01' existing = {
  name: name
}

// The hook after the deployment puts index, data source and indexer there ...
resource personPutsIndex 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(personId)) {
  scope: service
  name: guid(service.id, personId, serviceContributor)
  properties: {
    principalId: personId
    principalType: personType
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, serviceContributor)
  }
}

// ... and a first search shows whether they work.
resource personSearches 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(personId)) {
  scope: service
  name: guid(service.id, personId, dataReader)
  properties: {
    principalId: personId
    principalType: personType
    description: mark
    roleDefinitionId: subscriptionResourceId(definitions, dataReader)
  }
}

var noIdentity = 'The search service ${name} has no identity, as which it could read the records. Give it one: az search service update --name ${name} --resource-group <group> --identity-type SystemAssigned'

output principalId string = service.?identity.?principalId ?? fail(noIdentity)
