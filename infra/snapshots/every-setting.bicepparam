// Each setting of the app with another value than its default.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param resourceGroupName = 'rg-of-another-name'
param modelDeploymentName = 'another-model'
param queryModelName = 'embed-v-4-0'
param queryModelDeploymentName = 'another-query-model'
param embeddingDimensions = 512
param foundryApiVersion = '2025-01-01'
param foundryScope = 'https://ai.azure.com/.default'
param foundryConcurrency = 32
param foundryTimeout = 60
param dailyTokenLimit = '50000000'
param backlogShare = '0.75'
param imagesContainer = 'photographs'
param embeddingsContainer = 'vectors'
param queuePrefix = 'team-a-'
param imageNames = '*.jpg, *.png'
param imageMaxBytes = 1000001
param imageMaxPixels = 1000002
param modelMaxPixels = 1000003
param modelMaxBytes = 1000004
param textMetadata = 'caption'
param queryRecords = 'vector'
param search = 'off'
param queryRetentionDays = 30
param reconcileSchedule = '0 30 1 * * *'
