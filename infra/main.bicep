// Everything the app needs, in one resource group, without a key. `azd up` deploys this, then the app, then
// events.bicep, which needs the running app. On its own:
//   az deployment sub create -l <location> -f infra/main.bicep -p environmentName=<name> location=<location>
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('Name of this deployment, from which every other name is derived.')
param environmentName string

@description('Region of everything but the model. It must offer Flex Consumption.')
param location string

@description('The resource group, created if it does not exist. Empty: rg-<environmentName>.')
param resourceGroupName string = ''

@maxLength(2000)
@description('Tags of everything that is created, such as owner=team-a, cost-center=42.')
param tags string = ''

@description('Object id of a person, group or pipeline who may upload images and read embeddings. Empty: nobody but the app.')
param principalId string = ''

@description('What principalId is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param principalType string = 'User'

@description('Resource id of an existing storage account that holds the images, in any group or subscription of the tenant. Records and queues are added to it. Empty: a new one is created.')
param existingStorageAccountId string = ''

@description('Names of containers and queues that are in the existing account already, and are left as they are. With azd a hook sets it.')
param alreadyInStorage array = []

@description('Resource id of the Event Grid system topic that the existing account has already, since there can be only one. With azd a hook sets it.')
param existingEventTopicId string = ''

@description('Resource id of an existing Foundry (Azure AI services) resource with a deployment of each model. Empty: a new one is created.')
param existingFoundryResourceId string = ''

@description('Resource ids of further Foundry resources, each with deployments of the same names, over which the app spreads its calls.')
param additionalFoundryResourceIds array = []

@description('Region of a new Foundry resource, which must offer the model. Empty: location.')
param foundryLocation string = ''

@description('The model to deploy. infra/models.json has what is known of each.')
@allowed([
  'Cohere-embed-v3-english'
  'Cohere-embed-v3-multilingual'
  'embed-v-4-0'
  'Cohere-Embed-V5-Pro'
  'Cohere-Embed-V5-Fast'
])
param modelName string = 'embed-v-4-0'

@description('Version of the model in the model catalogue.')
param modelVersion string = '1'

@description('The API on which the model is asked: models (/models) or cohere (/providers/cohere/v2). Empty: the better one of those on which it answers.')
@allowed(['', 'models', 'cohere'])
param modelApi string = ''

@minValue(0)
@description('Capacity of the model deployment, in the units of its quota. 0: that of the model in infra/models.json.')
param modelCapacity int = 0

@description('Name of the model deployment, and of the folder of all embeddings. Empty: modelName.')
param modelDeploymentName string = ''

@description('The model that embeds queries, whose vectors may be compared with those of modelName. Empty: modelName does.')
@allowed([
  ''
  'Cohere-embed-v3-english'
  'Cohere-embed-v3-multilingual'
  'embed-v-4-0'
  'Cohere-Embed-V5-Pro'
  'Cohere-Embed-V5-Fast'
])
param queryModelName string = ''

@minValue(0)
@description('Capacity of the deployment of queryModelName. 0: that of the model in infra/models.json.')
param queryModelCapacity int = 0

@description('Name of the deployment of queryModelName. Empty: queryModelName.')
param queryModelDeploymentName string = ''

@minValue(0)
@maxValue(65536)
@description('Length of the vectors to request from the model. 0: the model decides.')
param embeddingDimensions int = 0

@description('Version of the API of the model.')
param foundryApiVersion string = '2024-05-01-preview'

@description('Entra scope of the token for the model.')
param foundryScope string = 'https://cognitiveservices.azure.com/.default'

@minValue(1)
@maxValue(32)
@description('Calls to the model in flight in an instance of each function group. Its concurrent uploads and its threads follow from it.')
param foundryConcurrency int = 8

@minValue(5)
@maxValue(220)
@description('Deadline of a query, in seconds.')
param foundryTimeout int = 90

@description('Tokens of the model in a day (UTC) after which nothing more is embedded until the next. 0: embedding is paused. Empty: no limit.')
param dailyTokenLimit string = ''

@minLength(1)
@description('Share of the quota of the model, from 0.05 to 1, that a backlog may use. The rest is for queries and fresh uploads.')
param backlogShare string = '0.9'

@minLength(3)
@maxLength(63)
@description('Container that is watched for images.')
param imagesContainer string = 'images'

@minLength(3)
@maxLength(63)
@description('Container that the app writes to. It must differ from imagesContainer.')
param embeddingsContainer string = 'embeddings'

@maxLength(38)
@description('What the names of the queues begin with, where several apps share the account: lower-case letters, digits and dashes, such as team-a-.')
param queuePrefix string = ''

@minValue(1)
@maxValue(1000000000000)
@description('Larger blobs are rejected before they are downloaded.')
param imageMaxBytes int = 104857600

@minValue(1)
@maxValue(1000000000000)
@description('Larger pictures are rejected before they are decoded.')
param imageMaxPixels int = 200000000

@minValue(3136)
@maxValue(1000000000000)
@description('Most pixels of the picture that is sent to the model.')
param modelMaxPixels int = 2458624

@minValue(100000)
@maxValue(1000000000000)
@description('Most bytes of the picture that is sent to the model.')
param modelMaxBytes int = 5000000

@maxLength(2000)
@description('Patterns such as *.jpg, photos/* of the names that are images, separated by commas. Empty: all names are.')
param imageNames string = ''

@minLength(1)
@description('Key of the blob metadata whose text is embedded together with the image. A dash, which cannot be a key: none.')
param textMetadata string = 'text'

@description('What is stored of queries: full, vector (no text) or off.')
@allowed(['full', 'vector', 'off'])
param queryRecords string = 'full'

@minValue(1)
@maxValue(36500)
@description('Days after which the nightly audit removes the record of a query. The same query then calls the model once more.')
param queryRetentionDays int = 90

@description('on: the app keeps an index of its embeddings and answers /api/search. off: neither.')
@allowed(['on', 'off'])
param search string = 'on'

@description('Azure AI Search over the embeddings: basic (a new service), or the resource id of an existing one. Empty: none.')
param searchService string = ''

@maxLength(99)
@description('Spaces (names of folders in the embeddings container) whose blobs storage deletes. Not the one that the app writes to.')
param retiredSpaces array = []

@minLength(1)
@description('When the audit runs: NCRONTAB, in UTC.')
param reconcileSchedule string = '0 0 3 * * *'

@description('How uploads reach the app: webhook (at once, by a key) or queue (without a key or a call, up to 5 seconds later, or after a cold start).')
@allowed(['webhook', 'queue'])
param uploadEvents string = 'webhook'

@description('Memory of one instance, in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@minValue(1)
@maxValue(1000)
@description('Most instances of each function group. Most regions refuse less than 40, and no more work on a backlog than its quota feeds. See docs/scaling.md.')
param maximumInstanceCount int = 40

@minValue(1)
@maxValue(1000)
@description('Concurrent HTTP requests in an instance. The default of the platform for Python is 1: an instance for each request.')
param httpPerInstanceConcurrency int = 16

@minValue(0)
@description('Instances kept warm for queries. Each is paid for around the clock; 0 means that the first query after a pause waits.')
param alwaysReadyHttpInstances int = 0

@description('Redundancy of the account with the images and embeddings. Empty: Standard_ZRS, or Standard_LRS in a region without zones.')
@allowed(['', 'Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS', 'Standard_RAGRS', 'Standard_RAGZRS'])
param dataRedundancy string = ''

@minValue(1)
@maxValue(365)
@description('Days in which a deleted or overwritten blob can be restored.')
param softDeleteDays int = 7

@description('Keep storage and model off the public network: private endpoints, and a virtual network for the app.')
param vnetEnabled bool = false

@description('Close the public endpoint of the app, which can then be called in the virtual network only. Needs vnetEnabled, and queue as uploadEvents.')
param privateApp bool = false

@description('With vnetEnabled: public addresses (IPv4, or CIDR up to /30) that may still reach the account with the images, to upload for example.')
param allowedIpRanges array = []

@description('Email address that alerts are sent to. Empty: alerts are in the portal only.')
param alertEmail string = ''

@minValue(30)
@maxValue(730)
@description('Days for which logs are kept.')
param logRetentionDays int = 30

@description('Resource id of an existing Log Analytics workspace, whose own settings decide how long logs are kept. Empty: a new one is created.')
param existingLogWorkspaceId string = ''

@description('Price of a million tokens of the model in your currency, for the estimate in the workbook. Empty: that of modelName in US dollars.')
param tokenPrice string = ''

var chosenGroup = empty(resourceGroupName) ? 'rg-${environmentName}' : resourceGroupName
var chosenGroupId = toLower('${subscription().id}/resourceGroups/${chosenGroup}/')
var given = [existingStorageAccountId, existingLogWorkspaceId, searchService]
var endangered = filter(given, id => startsWith(toLower(id), chosenGroupId))
var wouldBeDeleted = 'The resource group ${chosenGroup}, which azd down deletes with all that is in it, holds ${join(endangered, ', ')}: set RESOURCE_GROUP to another name, with azd env set.'
var groupName = empty(endangered) ? chosenGroup : fail(wouldBeDeleted)
var tagPairs = filter(split(tags, ','), pair => !empty(trim(pair)))
var notATag = 'tags (TAGS) is ${tags}: give pairs such as owner=team-a, cost-center=42, with azd env set.'
var tagsRight = empty(filter(tagPairs, pair => !contains(pair, '=')))
var givenTags = tagsRight ? tagPairs : fail(notATag)
var chosenTags = toObject(givenTags, tag => trim(split(tag, '=')[0]), tag => trim(join(skip(split(tag, '='), 1), '=')))
// azd finds by its tag what it has deployed.
var allTags = union(chosenTags, { 'azd-env-name': environmentName })
// What is added to things that were there before carries this mark, by which azd down finds it again: infra/hooks/postdown.sh.
var mark = 'image-embeddings/${subscription().subscriptionId}/${environmentName}'
var token = toLower(uniqueString(subscription().id, environmentName, location))
// Names are made here and given to every module, instead of being read from the module that uses them first. So what a
// deployment will make, and who may do what with it, is known before it runs (infra/snapshots).
var appName = 'func-${token}'
var hostAccountName = 'sthost${token}'
var makesStorage = empty(existingStorageAccountId)
// /subscriptions/<2>/resourceGroups/<4>/providers/Microsoft.Storage/storageAccounts/<8>
var storageParts = split(existingStorageAccountId, '/')
var dataSubscription = makesStorage ? subscription().subscriptionId : storageParts[2]
var dataGroup = makesStorage ? groupName : storageParts[4]
var dataAccountName = makesStorage ? 'stdata${token}' : last(storageParts)
var applicationInsightsName = 'appi-${token}'
var packageContainer = 'app-package'
var deadLetterContainer = 'dead-letter-events'
var containers = [imagesContainer, embeddingsContainer, deadLetterContainer]
// The queues that the triggers of function_app.py read, and two that no trigger reads. The poison queues are created
// here, not by the platform at the first failure, so that roles can be assigned on them.
var requestsQueue = '${queuePrefix}embedding-requests'
var waitingQueues = ['${queuePrefix}embedding-waiting', '${queuePrefix}embedding-backlog']
var queues = concat([requestsQueue, '${requestsQueue}-poison', 'webjobs-blobtrigger-poison'], waitingQueues)
// Event Grid allows one system topic for each account. One that is there already serves its owner, too.
var makesTopic = empty(existingEventTopicId)
var topicParts = split(existingEventTopicId, '/')
var topicSubscription = makesTopic ? dataSubscription : topicParts[2]
var topicGroup = makesTopic ? dataGroup : topicParts[4]
var topicName = makesTopic ? 'events-${token}' : last(topicParts)
var notASearchService = 'searchService (SEARCH_SERVICE) is ${searchService}: set it to basic, to the resource id of a search service, or to nothing, with azd env set.'
var isSearchId = contains(toLower(searchService), '/providers/microsoft.search/searchservices/')
var makesSearch = searchService == 'basic'
var searches = makesSearch || isSearchId ? true : empty(searchService) ? false : fail(notASearchService)
var searchParts = split(searchService, '/')
var searchSubscription = isSearchId ? searchParts[2] : subscription().subscriptionId
var searchGroup = isSearchId ? searchParts[4] : groupName
var searchName = isSearchId ? last(searchParts) : 'srch-${token}'
var models = loadJsonContent('models.json')
var model = models[modelName]
var deploymentName = empty(modelDeploymentName) ? modelName : modelDeploymentName
var apiPaths = { models: '/models', cohere: '/providers/cohere/v2' }
var otherApi = 'modelApi (MODEL_API) is ${modelApi}, and ${modelName} does not answer there: set MODEL_API to ${join(model.apis, ' or ')}, or to nothing, with azd env set.'
// The deployment of a resource that is there already may be of any model.
var mayUseApi = empty(modelApi) || !makesFoundry || contains(model.apis, modelApi)
var apiPath = apiPaths[mayUseApi ? (empty(modelApi) ? model.apis[0] : modelApi) : fail(otherApi)]
var queryName = empty(queryModelDeploymentName) ? queryModelName : queryModelDeploymentName
var queryModel = empty(queryModelName) ? model : models[queryModelName]
var otherSpace = 'queryModelName (QUERY_MODEL_NAME) is ${queryModelName}, whose vectors must not be compared with those of ${modelName}: set it to a model of the same space, or to nothing, with azd env set.'
var sameDeployment = 'The deployments of modelName and queryModelName are both called ${deploymentName}: set QUERY_MODEL_DEPLOYMENT_NAME to another name, or QUERY_MODEL_NAME to nothing, with azd env set.'
var queriesApart = !empty(queryModelName)
var queryNameRight = queryName != deploymentName ? queryName : fail(sameDeployment)
var queryDeploymentName = !queriesApart ? '' : queryModel.space == model.space ? queryNameRight : fail(otherSpace)
var modelDeployment = {
  name: deploymentName
  model: modelName
  capacity: modelCapacity == 0 ? model.capacity : modelCapacity
}
var queryDeployment = {
  name: queryDeploymentName
  model: queryModelName
  capacity: queryModelCapacity == 0 ? queryModel.capacity : queryModelCapacity
}
var space = embeddingDimensions == 0 ? deploymentName : '${deploymentName}-${embeddingDimensions}'
var spaceInUse = 'retiredSpaces (RETIRED_SPACES) has ${space}, which the app writes to: its embeddings would be deleted. Take it off the list, with azd env set.'
var notASpace = 'retiredSpaces (RETIRED_SPACES) has an empty name, or one with a slash: give names of folders in the embeddings container, with azd env set.'
var notInYourAccount = 'retiredSpaces (RETIRED_SPACES) needs a rule of the whole storage account, and the one of existingStorageAccountId (EXISTING_STORAGE_ACCOUNT_ID) is left as it is: set RETIRED_SPACES to [], with azd env set, and delete the folders as docs/operations.md says.'
var mayRetire = makesStorage || empty(retiredSpaces)
var retiredNamesRight = !contains(retiredSpaces, '') && !contains(string(retiredSpaces), '/')
var deletable = mayRetire ? retiredSpaces : fail(notInYourAccount)
var retired = contains(deletable, space) ? fail(spaceInUse) : retiredNamesRight ? deletable : fail(notASpace)
// These offer Flex Consumption, but no zone-redundant storage.
var regionsWithoutZones = [
  'australiasoutheast'
  'northcentralus'
  'southindia'
  'ukwest'
  'westcentralus'
  'westus'
]
var zones = !contains(regionsWithoutZones, toLower(replace(location, ' ', '')))
var defaultRedundancy = zones ? 'Standard_ZRS' : 'Standard_LRS'
var tooManyWarm = 'alwaysReadyHttpInstances (ALWAYS_READY_HTTP_INSTANCES) is ${alwaysReadyHttpInstances}, more than maximumInstanceCount (MAXIMUM_INSTANCE_COUNT), which is ${maximumInstanceCount}: lower the one or raise the other, with azd env set.'
var warm = alwaysReadyHttpInstances <= maximumInstanceCount ? alwaysReadyHttpInstances : fail(tooManyWarm)
var needsQueue = 'privateApp (PRIVATE_APP) is true and uploadEvents (UPLOAD_EVENTS) is webhook: Event Grid cannot call a private app. Set UPLOAD_EVENTS to queue, or PRIVATE_APP to false, with azd env set.'
var needsNetwork = 'privateApp (PRIVATE_APP) is true and vnetEnabled (VNET_ENABLED) is false: nobody could call the app. Set VNET_ENABLED to true, or PRIVATE_APP to false, with azd env set.'
// In one expression: a variable that fails does so wherever it is used.
var closed = !privateApp ? false : uploadEvents != 'queue' ? fail(needsQueue) : vnetEnabled ? true : fail(needsNetwork)
var makesFoundry = empty(existingFoundryResourceId)
// /subscriptions/<2>/resourceGroups/<4>/providers/Microsoft.CognitiveServices/accounts/<8>
var foundryParts = split(existingFoundryResourceId, '/')
var foundrySubscription = makesFoundry ? subscription().subscriptionId : foundryParts[2]
var foundryGroup = makesFoundry ? groupName : foundryParts[4]
var foundryName = makesFoundry ? 'ai-${token}' : last(foundryParts)

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: groupName
  location: location
  tags: allTags
}

// The hooks look at these, in whichever group they are.
var topicId = resourceId(topicSubscription, topicGroup, 'Microsoft.EventGrid/systemTopics', topicName)
var dataAccountId = resourceId(dataSubscription, dataGroup, 'Microsoft.Storage/storageAccounts', dataAccountName)
var searchId = resourceId(searchSubscription, searchGroup, 'Microsoft.Search/searchServices', searchName)
var foundryId = resourceId(foundrySubscription, foundryGroup, 'Microsoft.CognitiveServices/accounts', foundryName)

module identity 'modules/identity.bicep' = {
  scope: group
  params: {
    name: 'id-${token}'
    location: location
    tags: allTags
  }
}

module hostStorage 'modules/storage.bicep' = {
  scope: group
  params: {
    name: hostAccountName
    location: location
    tags: allTags
    redundancy: 'Standard_LRS'
    containers: [packageContainer]
    softDeleteDays: softDeleteDays
    publicAccess: vnetEnabled ? 'none' : 'all'
  }
}

module dataStorage 'modules/storage.bicep' = if (makesStorage) {
  scope: group
  params: {
    name: dataAccountName
    location: location
    tags: allTags
    redundancy: empty(dataRedundancy) ? defaultRedundancy : dataRedundancy
    containers: containers
    queues: queues
    softDeleteDays: softDeleteDays
    // Event Grid puts events on the queue, and what it cannot deliver into a container, as a trusted service: a firewall can
    // let it in, a closed public endpoint cannot.
    publicAccess: vnetEnabled ? 'trusted' : 'all'
    allowedIpRanges: allowedIpRanges
  }
}

// An account that is there already gets what is missing in it, and nothing of its own is changed.
module storageAdditions 'modules/storage-additions.bicep' = if (!makesStorage) {
  scope: resourceGroup(dataSubscription, dataGroup)
  params: {
    accountName: dataAccountName
    imagesContainer: imagesContainer
    containers: filter(containers, name => !contains(alreadyInStorage, name))
    queues: filter(queues, name => !contains(alreadyInStorage, name))
    mark: mark
  }
}

module retiredSpacesRule 'modules/retired-spaces.bicep' = if (makesStorage) {
  scope: group
  params: {
    accountName: dataAccountName
    container: embeddingsContainer
    spaces: retired
  }
  dependsOn: [dataStorage]
}

module newFoundry 'modules/foundry.bicep' = if (makesFoundry) {
  scope: group
  params: {
    name: foundryName
    location: empty(foundryLocation) ? location : foundryLocation
    tags: allTags
    modelVersion: modelVersion
    deployments: queriesApart ? [modelDeployment, queryDeployment] : [modelDeployment]
    publicAccess: !vnetEnabled
  }
}

// The role is on this one resource, which may be in another group or subscription.
module foundryRole 'modules/foundry-role.bicep' = {
  scope: resourceGroup(foundrySubscription, foundryGroup)
  params: {
    name: foundryName
    principalId: identity.outputs.principalId
    mark: mark
  }
  dependsOn: [newFoundry]
}

module moreFoundry 'modules/more-foundry.bicep' = if (!empty(additionalFoundryResourceIds)) {
  params: {
    resourceIds: additionalFoundryResourceIds
    principalId: identity.outputs.principalId
    mark: mark
    apiPath: apiPath
  }
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  params: {
    workspaceName: 'log-${token}'
    existingWorkspaceId: existingLogWorkspaceId
    applicationInsightsName: applicationInsightsName
    location: location
    tags: allTags
    retentionDays: logRetentionDays
  }
}

module roles 'modules/roles.bicep' = {
  scope: group
  params: {
    principalId: identity.outputs.principalId
    hostAccountName: hostAccountName
    applicationInsightsName: applicationInsightsName
  }
  dependsOn: [hostStorage, monitoring]
}

module dataRoles 'modules/data-roles.bicep' = {
  scope: resourceGroup(dataSubscription, dataGroup)
  params: {
    principalId: identity.outputs.principalId
    accountName: dataAccountName
    imagesContainer: imagesContainer
    embeddingsContainer: embeddingsContainer
    deadLetterContainer: deadLetterContainer
    queues: queues
    personId: principalId
    personType: principalType
    mark: mark
  }
  dependsOn: [dataStorage, storageAdditions]
}

module newSearch 'modules/search.bicep' = if (makesSearch) {
  scope: group
  params: {
    name: searchName
    location: location
    tags: allTags
  }
}

module searchRoles 'modules/search-roles.bicep' = if (searches) {
  scope: resourceGroup(searchSubscription, searchGroup)
  params: {
    name: searchName
    personId: principalId
    personType: principalType
    mark: mark
  }
  dependsOn: [newSearch]
}

module recordsRole 'modules/records-role.bicep' = if (searches) {
  scope: resourceGroup(dataSubscription, dataGroup)
  params: {
    accountName: dataAccountName
    embeddingsContainer: embeddingsContainer
    principalId: searchRoles!.outputs.principalId
    mark: mark
  }
  dependsOn: [dataRoles]
}

module network 'modules/network.bicep' = if (vnetEnabled) {
  scope: group
  params: {
    name: token
    location: location
    tags: allTags
    hostAccountName: hostAccountName
    dataSubscription: dataSubscription
    dataGroup: dataGroup
    dataAccountName: dataAccountName
    foundrySubscription: foundrySubscription
    foundryGroup: foundryGroup
    foundryName: foundryName
  }
  dependsOn: [hostStorage, dataStorage, newFoundry]
}

var otherEndpoints = empty(additionalFoundryResourceIds) ? '' : ' ${join(moreFoundry!.outputs.endpoints, ' ')}'
var appSettings = {
  FOUNDRY_ENDPOINT: '${foundryRole.outputs.address}${apiPath}${otherEndpoints}'
  FOUNDRY_MODEL: deploymentName
  FOUNDRY_QUERY_MODEL: queryDeploymentName
  FOUNDRY_API_VERSION: foundryApiVersion
  FOUNDRY_SCOPE: foundryScope
  FOUNDRY_CONCURRENCY: string(foundryConcurrency)
  FOUNDRY_TIMEOUT: string(foundryTimeout)
  DAILY_TOKEN_LIMIT: dailyTokenLimit
  BACKLOG_SHARE: backlogShare
  EMBEDDING_DIMENSIONS: embeddingDimensions == 0 ? '' : string(embeddingDimensions)
  IMAGES_CONTAINER: imagesContainer
  EMBEDDINGS_CONTAINER: embeddingsContainer
  IMAGE_MAX_BYTES: string(imageMaxBytes)
  IMAGE_MAX_PIXELS: string(imageMaxPixels)
  MODEL_MAX_BYTES: string(modelMaxBytes)
  MODEL_MAX_PIXELS: string(modelMaxPixels)
  IMAGE_NAMES: imageNames
  TEXT_METADATA: textMetadata == '-' ? '' : textMetadata
  QUERY_RECORDS: queryRecords
  QUERY_RETENTION_DAYS: string(queryRetentionDays)
  RECONCILE_SCHEDULE: reconcileSchedule
  SEARCH: search
}
// The host cannot resolve an empty setting in the name of a queue.
var queueSettings = empty(queuePrefix) ? {} : { QUEUE_PREFIX: queuePrefix }

module app 'modules/app.bicep' = {
  scope: group
  params: {
    name: appName
    planName: 'plan-${token}'
    location: location
    tags: allTags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    hostAccountName: hostAccountName
    packageContainer: packageContainer
    dataAccountName: dataAccountName
    settings: union(appSettings, queueSettings)
    callsInFlight: foundryConcurrency
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    httpPerInstanceConcurrency: httpPerInstanceConcurrency
    alwaysReadyHttpInstances: warm
    applicationInsightsName: applicationInsightsName
    subnetId: vnetEnabled ? network!.outputs.appSubnetId : ''
    publicAccess: !closed
  }
  // Roles come first, so that the first start of the app finds them.
  dependsOn: [roles, dataRoles]
}

module privateEndpoint 'modules/private-app.bicep' = if (closed) {
  scope: group
  params: {
    name: token
    location: location
    tags: allTags
    appName: appName
    networkId: network!.outputs.networkId
    subnetId: network!.outputs.endpointSubnetId
  }
  dependsOn: [app]
}

module topic 'modules/topic.bicep' = if (makesTopic) {
  scope: resourceGroup(dataSubscription, dataGroup)
  params: {
    name: topicName
    // Where the events come from.
    location: makesStorage ? location : storageAdditions!.outputs.location
    tags: makesStorage ? allTags : union(allTags, { 'image-embeddings': mark })
    dataAccountName: dataAccountName
  }
  dependsOn: [dataStorage]
}

module givenTopic 'modules/given-topic.bicep' = if (!makesTopic) {
  scope: resourceGroup(topicSubscription, topicGroup)
  params: {
    name: topicName
  }
}

module topicRoles 'modules/topic-roles.bicep' = {
  scope: resourceGroup(dataSubscription, dataGroup)
  params: {
    principalId: makesTopic ? topic!.outputs.principalId : givenTopic!.outputs.principalId
    dataAccountName: dataAccountName
    requestsQueue: requestsQueue
    deadLetterContainer: deadLetterContainer
    mark: mark
  }
  // After containers and queues, whoever has made them.
  dependsOn: [dataRoles]
}

module alerts 'modules/alerts.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    applicationInsightsName: applicationInsightsName
    alertEmail: alertEmail
  }
  dependsOn: [monitoring]
}

module workbook 'modules/workbook.bicep' = {
  scope: group
  params: {
    name: 'Image embeddings (${environmentName})'
    location: location
    tags: allTags
    applicationInsightsName: applicationInsightsName
    tokenPrice: empty(tokenPrice) ? model.price : tokenPrice
  }
  dependsOn: [monitoring]
}

// azd stores these and passes them to the hooks. None is a key: no key is read here.
output AZURE_RESOURCE_GROUP string = group.name
output FUNCTION_APP_NAME string = appName
output FUNCTION_APP_URL string = app.outputs.url
output PRIVATE_APP string = closed ? 'true' : 'false'
output UPLOAD_EVENTS string = uploadEvents
output EVENT_TOPIC_ID string = topicId
output DATA_ACCOUNT_ID string = dataAccountId
output DATA_ACCOUNT_NAME string = dataAccountName
output IMAGES_CONTAINER string = imagesContainer
output EMBEDDINGS_CONTAINER string = embeddingsContainer
output EMBEDDING_SPACE string = space
// What an index of the vectors has to know, of a model that infra/models.json knows.
output VECTOR_LENGTH string = string(embeddingDimensions == 0 ? model.dimensions : embeddingDimensions)
output REQUESTS_QUEUE string = requestsQueue
output SEARCH_SERVICE_ID string = searches ? searchId : ''
// What an estimate of a backlog has to know.
output FOUNDRY_RESOURCE_ID string = foundryId
output FOUNDRY_MODEL string = deploymentName
output IMAGE_TOKENS string = string(model.tokens)
output MILLION_TOKENS_COST string = empty(tokenPrice) ? model.price : tokenPrice
output ADDITIONS_MARK string = mark
