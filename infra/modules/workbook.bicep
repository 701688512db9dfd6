// One page on how the app is doing, made from infra/queries.
param name string
param location string
param tags object
param applicationInsightsName string

@description('Price of a million tokens, as a decimal number.')
param tokenPrice string

var tokens = replace(loadTextContent('../queries/tokens.kql'), '{price}', tokenPrice)
var charts = [
  { title: 'Images by outcome', query: loadTextContent('../queries/images.kql'), as: 'barchart' }
  { title: 'Why images fail', query: loadTextContent('../queries/failures.kql'), as: 'table' }
  { title: 'Time of an image by step (ms)', query: loadTextContent('../queries/latency.kql'), as: 'linechart' }
  { title: 'Tokens and estimated cost', query: tokens, as: 'table' }
  { title: 'Messages on the queues', query: loadTextContent('../queries/queues.kql'), as: 'linechart' }
  { title: 'Age of the first message (s)', query: loadTextContent('../queries/queue-age.kql'), as: 'linechart' }
  { title: 'Why images wait', query: loadTextContent('../queries/deferred.kql'), as: 'table' }
  { title: 'Images put off (%)', query: loadTextContent('../queries/throttled.kql'), as: 'linechart' }
  { title: 'What waited and was worked off', query: loadTextContent('../queries/dispatch.kql'), as: 'linechart' }
  { title: 'Queries', query: loadTextContent('../queries/queries.kql'), as: 'linechart' }
  { title: 'Time of a query by step (ms)', query: loadTextContent('../queries/query-latency.kql'), as: 'linechart' }
  { title: 'Searches', query: loadTextContent('../queries/searches.kql'), as: 'linechart' }
  { title: 'Time of a search by step (ms)', query: loadTextContent('../queries/search-latency.kql'), as: 'linechart' }
  { title: 'What is searched for', query: loadTextContent('../queries/search-kinds.kql'), as: 'table' }
  { title: 'Audits', query: loadTextContent('../queries/audits.kql'), as: 'table' }
  { title: 'Sizes of images', query: loadTextContent('../queries/sizes.kql'), as: 'table' }
  { title: 'What an operator should read', query: loadTextContent('../queries/problems.kql'), as: 'table' }
]

var timeRange = {
  type: 9
  name: 'time'
  content: {
    version: 'KqlParameterItem/1.0'
    parameters: [
      {
        id: '6f0a8f5c-6f6e-4c06-9c1a-8d1c0c8f3d11'
        version: 'KqlParameterItem/1.0'
        name: 'TimeRange'
        label: 'Time range'
        type: 4
        isRequired: true
        value: { durationMs: 86400000 }
        typeSettings: {
          selectableValues: [{ durationMs: 3600000 }, { durationMs: 86400000 }, { durationMs: 604800000 }]
          allowCustom: true
        }
      }
    ]
    style: 'pills'
    queryType: 0
    resourceType: 'microsoft.insights/components'
  }
}

var pages = [
  for chart in charts: {
    type: 3
    name: chart.title
    content: {
      version: 'KqlItem/1.0'
      title: chart.title
      query: chart.query
      size: 0
      timeContextFromParameter: 'TimeRange'
      queryType: 0
      resourceType: 'microsoft.insights/components'
      visualization: chart.as
    }
  }
]

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'image-embeddings')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    category: 'workbook'
    displayName: name
    sourceId: insights.id
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat([timeRange], pages)
      fallbackResourceIds: [insights.id]
    })
  }
}
