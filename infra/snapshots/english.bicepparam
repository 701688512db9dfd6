// As an app keeps it that was deployed when this model was the default.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param modelName = 'Cohere-embed-v3-english'
