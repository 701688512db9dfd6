// The app on Flex Consumption. Settings that the platform manages itself (runtime, version, package, scale) are in
// functionAppConfig; the app's own come from main.bicep.
param name string
param planName string
param location string
param tags object
param identityId string
param identityClientId string
param hostAccountName string
param packageContainer string
param dataAccountName string

@description('The settings of docs/deploy.md, by the names that the code reads.')
param settings object

@description('Calls to the model in flight in one instance.')
param callsInFlight int

param instanceMemoryMB int
param maximumInstanceCount int
param httpPerInstanceConcurrency int
param alwaysReadyHttpInstances int
param applicationInsightsName string

@description('The subnet that the app sends through. Empty: none.')
param subnetId string

@description('Whether the app is called over the public network.')
param publicAccess bool

var suffix = environment().suffixes.storage
// An account's endpoints are not asked of it: with private endpoints their public names stay the same.
var hostService = {
  blob: 'https://${hostAccountName}.blob.${suffix}'
  queue: 'https://${hostAccountName}.queue.${suffix}'
  table: 'https://${hostAccountName}.table.${suffix}'
}
var dataService = {
  blob: 'https://${dataAccountName}.blob.${suffix}'
  queue: 'https://${dataAccountName}.queue.${suffix}'
}

// As in host.json, or two for each call that may be in flight: the host keeps about half of them at work.
var uploadsAtOnce = max(16, 2 * callsInFlight)
// In host.json: batchSize and newBatchThreshold.
var messagesAtOnce = 12
// A process serves one group of functions: all of HTTP, or the uploads, or one queue, or one timer. So it needs the threads of
// the largest, and 4 more for requests that come before another instance has started.
var threads = max(uploadsAtOnce, messagesAtOnce, httpPerInstanceConcurrency) + 4

var platformSettings = [
  { name: 'AzureWebJobsStorage__blobServiceUri', value: hostService.blob }
  { name: 'AzureWebJobsStorage__queueServiceUri', value: hostService.queue }
  { name: 'AzureWebJobsStorage__tableServiceUri', value: hostService.table }
  { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
  { name: 'AzureWebJobsStorage__clientId', value: identityClientId }
  // Both services are named: with the blob service alone, the host cannot write its poison messages and stops.
  { name: 'ImageStorage__blobServiceUri', value: dataService.blob }
  { name: 'ImageStorage__queueServiceUri', value: dataService.queue }
  { name: 'ImageStorage__credential', value: 'managedidentity' }
  { name: 'ImageStorage__clientId', value: identityClientId }
  { name: 'AZURE_CLIENT_ID', value: identityClientId }
  // Python's own default is 5 on one core.
  { name: 'PYTHON_THREADPOOL_THREAD_COUNT', value: string(threads) }
  { name: 'AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism', value: string(uploadsAtOnce) }
  // 20 MB of input are allowed, and JSON has them in base64.
  { name: 'FUNCTIONS_REQUEST_BODY_SIZE_LIMIT', value: '26214400' }
  { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insights.properties.ConnectionString }
  { name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'ClientId=${identityClientId};Authorization=AAD' }
]
var ownSettings = [for setting in items(settings): { name: setting.key, value: setting.value }]

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  //checkov:skip=CKV_AZURE_225:zones need two instances that are always on; while a zone is down, uploads wait in their queue
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  //checkov:skip=CKV_AZURE_222:Event Grid calls the webhook over the public network, and cannot do otherwise; closed where privateApp asks for it
  //checkov:skip=CKV_AZURE_17:Event Grid sends no client certificate; callers are known by a key or by Entra
  //checkov:skip=CKV_AZURE_212:Flex Consumption goes down to no instance by design
  //checkov:skip=CKV_AZURE_78:Flex Consumption has no FTP, and refuses a site that names ftpsState
  //checkov:skip=CKV_AZURE_213:Flex Consumption has no health check of the platform; an alert watches instead
  name: name
  location: location
  // azd finds by this tag where to deploy the service `app` of azure.yaml.
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    // Event Grid has no way into a private network: its webhook, guarded by a key of the platform, has to be public. With
    // uploads over the queue nothing has to be.
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${hostService.blob}/${packageContainer}'
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        triggers: { http: { perInstanceConcurrency: httpPerInstanceConcurrency } }
        alwaysReady: alwaysReadyHttpInstances == 0 ? [] : [{ name: 'http', instanceCount: alwaysReadyHttpInstances }]
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      http20Enabled: true
      appSettings: concat(platformSettings, ownSettings)
    }
  }
}

// No deployment by user name and password.
resource ftpPublishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource scmPublishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

output url string = 'https://${app.properties.defaultHostName}'
