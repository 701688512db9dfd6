// A Foundry resource that is there already, in another subscription, and no person with a role.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param existingFoundryResourceId = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-models/providers/Microsoft.CognitiveServices/accounts/ai-models'
param modelDeploymentName = 'pictures-model'
