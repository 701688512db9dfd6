// Uploads over the queue: nothing of the app is asked for.
using '../events.bicep'

param functionAppName = 'func-pictures'
param systemTopicName = 'events-pictures'
param dataAccountName = 'stdatapictures'
param imagesContainer = 'images'
param uploadEvents = 'queue'
