// Uploads over the queue: nothing of the app is asked for.
using '../events.bicep'

param functionAppName = 'func-pictures'
param systemTopicName = 'events-pictures'
param dataAccountId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-pictures/providers/Microsoft.Storage/storageAccounts/stdatapictures'
param imagesContainer = 'images'
param uploadEvents = 'queue'
