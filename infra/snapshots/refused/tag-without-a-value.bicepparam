// tags (TAGS) is team-a, cost-center=42
using '../../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param tags = 'team-a, cost-center=42'
