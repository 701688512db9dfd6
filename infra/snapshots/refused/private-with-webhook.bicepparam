// privateApp (PRIVATE_APP) is true and uploadEvents (UPLOAD_EVENTS) is webhook
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param vnetEnabled = true
param privateApp = true
