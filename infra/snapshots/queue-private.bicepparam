// No public way in: uploads over the queue, and the app in the virtual network alone.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param uploadEvents = 'queue'
param vnetEnabled = true
param privateApp = true
