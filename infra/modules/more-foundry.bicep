// Lets the app call the models of several Foundry resources, in any group or subscription, and puts out where they answer.
targetScope = 'subscription'

param resourceIds array
param principalId string

@description('By which azd down finds the assignments again.')
param mark string

@description('The path of the API on which the models are asked.')
param apiPath string

// /subscriptions/<2>/resourceGroups/<4>/providers/Microsoft.CognitiveServices/accounts/<8>
module role 'foundry-role.bicep' = [
  for id in resourceIds: {
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      name: last(split(id, '/'))
      principalId: principalId
      mark: mark
    }
  }
]

output endpoints array = [for (id, index) in resourceIds: '${role[index].outputs.address}${apiPath}']
