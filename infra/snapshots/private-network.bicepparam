using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param vnetEnabled = true
param allowedIpRanges = ['203.0.113.7', '198.51.100.0/24']
param principalId = '22222222-2222-2222-2222-222222222222'
