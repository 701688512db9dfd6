using '../events.bicep'

param functionAppName = 'func-pictures'
param systemTopicName = 'events-pictures'
param dataAccountId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-pictures/providers/Microsoft.Storage/storageAccounts/stdatapictures'
param imagesContainer = 'images'
