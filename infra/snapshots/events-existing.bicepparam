// Subscriptions on a topic of somebody else, in another subscription than the app.
using '../events.bicep'

param functionAppName = 'func-pictures'
param functionAppSubscription = '22222222-2222-2222-2222-222222222222'
param functionAppGroup = 'rg-app'
param systemTopicName = 'photographs'
param dataAccountId = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-photographs/providers/Microsoft.Storage/storageAccounts/stphotographs'
param imagesContainer = 'images'
param namePrefix = 'func-pictures-'
param mark = 'image-embeddings/22222222-2222-2222-2222-222222222222/pictures'
