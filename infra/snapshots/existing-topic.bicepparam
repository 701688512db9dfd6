// An account with images and a system topic, in another subscription, each in a group of its own; another app has made a
// container there that this one needs, too.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param existingStorageAccountId = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-photographs/providers/Microsoft.Storage/storageAccounts/stphotographs'
param existingEventTopicId = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-events/providers/Microsoft.EventGrid/systemTopics/photographs'
param alreadyInStorage = ['photographs', 'dead-letter-events', 'webjobs-blobtrigger-poison']
param imagesContainer = 'photographs'
param queuePrefix = 'search-'
