// What companies ask for: names and tags of their own, their workspace and search service, and no public way in. The account
// is empty.
using '../main.bicep'

param environmentName = 'pictures'
param location = 'westeurope'
param resourceGroupName = 'rg-weu-pictures-prod'
param tags = 'owner=team-a, cost-center=42, note=a=b'
param existingStorageAccountId = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-photographs/providers/Microsoft.Storage/storageAccounts/stphotographs'
param existingLogWorkspaceId = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-logs/providers/Microsoft.OperationalInsights/workspaces/log-all'
param searchService = '/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-search/providers/Microsoft.Search/searchServices/srch-all'
param principalId = '22222222-2222-2222-2222-222222222222'
param principalType = 'Group'
param uploadEvents = 'queue'
param vnetEnabled = true
param privateApp = true
