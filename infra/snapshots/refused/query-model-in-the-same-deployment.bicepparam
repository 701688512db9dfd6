// The deployments of modelName and queryModelName are both called embed-v-4-0
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param queryModelName = 'embed-v-4-0'
