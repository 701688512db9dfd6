// searchService (SEARCH_SERVICE) is free
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param searchService = 'free'
