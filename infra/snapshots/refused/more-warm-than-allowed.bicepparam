// alwaysReadyHttpInstances (ALWAYS_READY_HTTP_INSTANCES) is 3, more than maximumInstanceCount (MAXIMUM_INSTANCE_COUNT), which is 2
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param maximumInstanceCount = 2
param alwaysReadyHttpInstances = 3
