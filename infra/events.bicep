// Subscribes the app to events of new and deleted images. It is deployed after the app, apart from main.bicep: the Functions
// host makes the key of its webhook when it first runs, and Event Grid calls the webhook before it subscribes it. By then
// the topic's identity has had its roles for some minutes, too, which delivery to the queue needs.
//
// It is deployed where the topic is, which may be another group than the app's.
param functionAppName string
param functionAppSubscription string = subscription().subscriptionId
param functionAppGroup string = resourceGroup().name
param systemTopicName string

@description('Resource id of the account with the images, the queues and undelivered events.')
param dataAccountId string

param imagesContainer string

@description('What the names of the subscriptions begin with, on a topic that others use, too.')
param namePrefix string = ''

@description('By which azd down finds the subscriptions again.')
param mark string = ''

@description('How uploads reach the app: webhook (Event Grid calls it, with a key) or queue (no key, no call).')
@allowed(['webhook', 'queue'])
param uploadEvents string = 'webhook'

param deadLetterContainer string = 'dead-letter-events'
param requestsQueue string = 'embedding-requests'

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  scope: resourceGroup(functionAppSubscription, functionAppGroup)
  name: functionAppName
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: systemTopicName
}

// The one key of this deployment, read for the webhook only: Event Grid cannot sign in to a Functions webhook with Entra. It
// goes from one service of Azure to another, and is in no parameter, output or history of a deployment.
var key = listKeys('${app.id}/host/default', '2024-11-01').systemKeys.blobs_extension
var webhook = 'https://${app.properties.defaultHostName}/runtime/webhooks/blobs'
var toWebhook = {
  endpointType: 'WebHook'
  properties: {
    endpointUrl: '${webhook}?functionName=Host.Functions.embed_uploaded_image&code=${key}'
    // One by one: an event that the app cannot take must not hold up others.
    maxEventsPerBatch: 1
  }
}

// The last slash matters: without it, images-archive would match images.
var images = '/blobServices/default/containers/${imagesContainer}/blobs/'
var retries = { maxDeliveryAttempts: 30, eventTimeToLiveInMinutes: 1440 }
var identity = { type: 'SystemAssigned' }
var labels = empty(mark) ? [] : [mark]
// What cannot be delivered within a day, or at all, is kept: the app takes it from there.
var deadLetters = {
  identity: identity
  deadLetterDestination: {
    endpointType: 'StorageBlob'
    properties: { resourceId: dataAccountId, blobContainerName: deadLetterContainer }
  }
}
// Straight to the queue, with the topic's own identity: no webhook, no key.
var toQueue = {
  identity: identity
  destination: {
    endpointType: 'StorageQueue'
    properties: {
      resourceId: dataAccountId
      queueName: requestsQueue
      // For ever: an app that is off for weeks still learns of everything.
      queueMessageTimeToLiveInSeconds: -1
    }
  }
}
// One upload in pieces, over SFTP, or to an account with folders raises several events; these mean that it is complete.
var complete = {
  operatorType: 'StringIn'
  key: 'data.api'
  values: ['PutBlob', 'PutBlockList', 'CopyBlob', 'FlushWithClose', 'SftpCommit']
}
// The blob trigger reads the name from the event's URL. Of these names it would make another name, or none, which ends the
// host. They have doubled slashes (so leading ones, too), dot segments, a question mark or a backslash (5C), which mean
// something else in a URL, a percent sign, which may be escaped or not, or the character that stands for a lost one (FFFD).
// They come over the queue, on which the app reads the event itself.
var unsafe = ['//', '/./', '/../', '?', '\u{5C}', '%', '\u{FFFD}']
var unsafeEndings = ['/', '/.', '/..']

resource uploads 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: '${namePrefix}uploads'
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    labels: labels
    destination: uploadEvents == 'webhook' ? toWebhook : null
    deliveryWithResourceIdentity: uploadEvents == 'queue' ? toQueue : null
    filter: {
      includedEventTypes: ['Microsoft.Storage.BlobCreated']
      subjectBeginsWith: images
      // All of these must hold. A subscription may have 25 values in its filters.
      advancedFilters: [
        complete
        { operatorType: 'StringNotContains', key: 'subject', values: unsafe }
        { operatorType: 'StringNotEndsWith', key: 'subject', values: unsafeEndings }
      ]
    }
    retryPolicy: retries
    deadLetterWithResourceIdentity: deadLetters
  }
}

// What `uploads` leaves out, whichever way uploads come, so that a change of the way leaves no subscription behind. A name
// that both of these let through comes twice, which does no harm.
resource unsafeUploads 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = [
  for item in [
    { name: 'uploads-unsafe', condition: { operatorType: 'StringContains', key: 'subject', values: unsafe } }
    {
      name: 'uploads-unsafe-ending'
      condition: { operatorType: 'StringEndsWith', key: 'subject', values: unsafeEndings }
    }
  ]: {
    parent: topic
    name: '${namePrefix}${item.name}'
    properties: {
      eventDeliverySchema: 'EventGridSchema'
      labels: labels
      deliveryWithResourceIdentity: toQueue
      filter: {
        includedEventTypes: ['Microsoft.Storage.BlobCreated']
        subjectBeginsWith: images
        advancedFilters: [complete, item.condition]
      }
      retryPolicy: retries
      deadLetterWithResourceIdentity: deadLetters
    }
  }
]

// In an account with folders (a hierarchical namespace), a rename is an event of its own, and so is everything that happens
// to a whole folder. Other accounts never send these.
resource renames 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: '${namePrefix}renames'
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    labels: labels
    deliveryWithResourceIdentity: toQueue
    filter: {
      includedEventTypes: [
        'Microsoft.Storage.BlobRenamed'
        'Microsoft.Storage.DirectoryRenamed'
        'Microsoft.Storage.DirectoryDeleted'
      ]
      subjectBeginsWith: images
    }
    retryPolicy: retries
    deadLetterWithResourceIdentity: deadLetters
  }
}

resource deletions 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: '${namePrefix}deletions'
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    labels: labels
    deliveryWithResourceIdentity: toQueue
    filter: {
      includedEventTypes: ['Microsoft.Storage.BlobDeleted']
      subjectBeginsWith: images
    }
    retryPolicy: retries
    deadLetterWithResourceIdentity: deadLetters
  }
}
