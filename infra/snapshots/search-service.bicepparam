// A search service over the records, which the deployer may use.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param searchService = 'basic'
param principalId = '22222222-2222-2222-2222-222222222222'
