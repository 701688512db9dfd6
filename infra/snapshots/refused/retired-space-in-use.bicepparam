// retiredSpaces (RETIRED_SPACES) has Cohere-embed-v3-english, which the app writes to
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param retiredSpaces = ['Cohere-embed-v3-english']
