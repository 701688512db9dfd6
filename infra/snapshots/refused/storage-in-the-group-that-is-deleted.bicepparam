// The resource group rg-pictures, which azd down deletes with all that is in it, holds /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/RG-Pictures/providers/Microsoft.Storage/storageAccounts/stphotographs
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param existingStorageAccountId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/RG-Pictures/providers/Microsoft.Storage/storageAccounts/stphotographs'
