// Three quotas: a resource of its own and two that are there already; queries have a deployment of their own on each.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param queryModelName = 'embed-v-4-0'
param queryModelDeploymentName = 'queries'
param queryModelCapacity = 50
param additionalFoundryResourceIds = [
  '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-models/providers/Microsoft.CognitiveServices/accounts/ai-sweden'
  '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-models/providers/Microsoft.CognitiveServices/accounts/ai-virginia'
]
