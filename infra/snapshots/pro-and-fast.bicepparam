// Pictures are embedded by one model, queries by a smaller one of the same space.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param modelName = 'Cohere-Embed-V5-Pro'
param queryModelName = 'Cohere-Embed-V5-Fast'
