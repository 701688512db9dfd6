// As an app keeps it that was deployed with this model before there was another API.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param modelName = 'embed-v-4-0'
param modelApi = 'models'
param modelCapacity = 1
