// A length of vectors of its own, and no texts or metadata of images.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param modelName = 'embed-v-4-0'
param embeddingDimensions = 256
param textMetadata = '-'
param imageMetadata = '-'
