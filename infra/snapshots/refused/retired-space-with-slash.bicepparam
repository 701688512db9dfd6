// retiredSpaces (RETIRED_SPACES) has an empty name, or one with a slash
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param retiredSpaces = ['another-space/images']
