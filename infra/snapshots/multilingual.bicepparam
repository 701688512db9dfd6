// In a region without zones.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westus'
param modelName = 'Cohere-embed-v3-multilingual'
