// retiredSpaces (RETIRED_SPACES) needs a rule of the whole storage account
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param existingStorageAccountId = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-photographs/providers/Microsoft.Storage/storageAccounts/stphotographs'
param retiredSpaces = ['Cohere-embed-v3-english']
