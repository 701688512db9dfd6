using '../events.bicep'

param functionAppName = 'func-pictures'
param systemTopicName = 'events-pictures'
param dataAccountName = 'stdatapictures'
param imagesContainer = 'images'
