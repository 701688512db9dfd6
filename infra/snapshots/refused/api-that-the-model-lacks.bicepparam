// modelApi (MODEL_API) is models, and Cohere-Embed-V5-Pro does not answer there: set MODEL_API to cohere
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param modelName = 'Cohere-Embed-V5-Pro'
param modelApi = 'models'
