// Two spaces of before, which storage deletes.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param modelName = 'embed-v-4-0'
param retiredSpaces = ['Cohere-embed-v3-english', 'embed-v-4-0-256']
