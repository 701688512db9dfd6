// queryModelName (QUERY_MODEL_NAME) is Cohere-Embed-V5-Fast, whose vectors must not be compared with those of embed-v-4-0
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param queryModelName = 'Cohere-Embed-V5-Fast'
