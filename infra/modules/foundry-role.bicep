// Lets the app call the models of a Foundry resource, and puts out their address.
param name string
param principalId string

@description('By which azd down finds the assignment again.')
param mark string

var cognitiveServicesUser = 'a97b65f3-24c7-4388-baec-2e87135dc908' // Cognitive Services User

resource foundry 'Microsoft.CognitiveServices/accounts@2025-12-01' existing = {
  name: name
}

// The app calls the models, and manages none. The other roles that may call them (Foundry User, Cognitive Services OpenAI
// User) reach further, to projects and agents, or not as far, to OpenAI's models alone. This one also allows listing the
// resource's keys, which open nothing where they are switched off (disableLocalAuth), as in foundry.bicep.
resource callModels 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: foundry
  name: guid(foundry.id, principalId, cognitiveServicesUser)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    description: mark
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', cognitiveServicesUser)
  }
}

// Without a subdomain of its own, a resource answers at the address of its region, which takes keys and no tokens.
var noSubdomain = 'The Foundry resource ${name} has no custom subdomain, so it takes no tokens from the app. Give it one, which cannot be undone: az cognitiveservices account update --name ${name} --resource-group <group> --custom-domain <name>'
var subdomain = foundry.properties.?customSubDomainName ?? fail(noSubdomain)

// Without the path, which says which API is spoken.
output address string = 'https://${subdomain}.services.ai.azure.com'
