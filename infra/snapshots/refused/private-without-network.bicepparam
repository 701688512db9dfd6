// privateApp (PRIVATE_APP) is true and vnetEnabled (VNET_ENABLED) is false
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param uploadEvents = 'queue'
param privateApp = true
