// retiredSpaces (RETIRED_SPACES) has embed-v-4-0, which the app writes to
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param retiredSpaces = ['embed-v-4-0']
