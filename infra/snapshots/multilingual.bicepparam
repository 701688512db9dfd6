using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param modelName = 'Cohere-embed-v3-multilingual'
