using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
