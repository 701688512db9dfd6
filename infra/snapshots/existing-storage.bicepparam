// An account with images, in another subscription, that nobody has subscribed to: it has the container of the images alone.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param existingStorageAccountId = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-photographs/providers/Microsoft.Storage/storageAccounts/stphotographs'
param alreadyInStorage = ['images']
param principalId = '22222222-2222-2222-2222-222222222222'
