using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param modelName = 'embed-v-4-0'
param embeddingDimensions = 256
