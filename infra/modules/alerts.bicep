// What operators are alerted to. Each alert has a section in docs/operations.md: what it means and what to do.
param location string
param tags object
param applicationInsightsName string

@description('Email address that alerts are sent to. Empty: alerts are in the portal only.')
param alertEmail string

@minValue(1)
@description('Failed images in an hour that raise an alert, if they are more than failurePercent of all.')
param failures int = 10

@minValue(0)
@maxValue(99)
@description('Percent of the images in an hour.')
param failurePercent int = 5

@minValue(0)
@maxValue(99)
@description('Percent of the syncs in an hour that may find the quota spent.')
param throttledPercent int = 50

@minValue(1)
@description('Most milliseconds that 95 percent of the images should take.')
param slowMilliseconds int = 10000

// A rule looks back two days at most: with 48 or more it could never fire.
@minValue(1)
@maxValue(47)
@description('Most hours between two complete audits, with some to spare.')
param auditHours int = 26

var slow = replace(loadTextContent('../queries/alert-slow.kql'), '{milliseconds}', string(slowMilliseconds))
var throttled = replace(loadTextContent('../queries/alert-throttled.kql'), '{percent}', string(throttledPercent))
var overdue = replace(loadTextContent('../queries/alert-audit-overdue.kql'), '{hours}', string(auditHours))
var manyFailures = replace(loadTextContent('../queries/alert-failures.kql'), '{failures}', string(failures))
var failing = replace(manyFailures, '{percent}', string(failurePercent))

// Each fires on any row of its query, except the one that fires on none.
var rules = [
  {
    name: 'Deployment is misconfigured'
    query: loadTextContent('../queries/alert-misconfigured.kql')
    severity: 1
    window: 'PT30M'
    fires: 'onRows'
  }
  {
    name: 'App says nothing'
    query: loadTextContent('../queries/alert-silent.kql')
    severity: 1
    window: 'PT30M'
    fires: 'onNoRows'
  }
  {
    name: 'Poison queue is not empty'
    query: loadTextContent('../queries/alert-poison.kql')
    severity: 2
    window: 'PT30M'
    fires: 'onRows'
  }
  {
    name: 'Events are dead-lettered'
    query: loadTextContent('../queries/alert-dead-letters.kql')
    severity: 2
    window: 'PT30M'
    fires: 'onRows'
  }
  {
    name: 'Audit is overdue'
    query: overdue
    severity: 2
    window: 'P2D'
    fires: 'onRows'
  }
  {
    name: 'Errors in the log'
    query: loadTextContent('../queries/alert-errors.kql')
    severity: 2
    window: 'PT30M'
    fires: 'onRows'
  }
  {
    name: 'Images fail'
    query: failing
    severity: 3
    window: 'PT1H'
    fires: 'onRows'
  }
  {
    name: 'Model is throttled'
    query: throttled
    severity: 3
    window: 'PT1H'
    fires: 'onRows'
  }
  {
    name: 'Embedding is paused'
    query: loadTextContent('../queries/alert-paused.kql')
    severity: 3
    window: 'PT30M'
    fires: 'onRows'
  }
  {
    name: 'Images are slow'
    query: slow
    severity: 3
    window: 'PT1H'
    fires: 'onRows'
  }
]

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(alertEmail)) {
  name: 'image-embeddings'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'embeddings'
    enabled: true
    emailReceivers: [{ name: 'operators', emailAddress: alertEmail, useCommonAlertSchema: true }]
  }
}

resource rule 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for item in rules: {
    name: item.name
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: item.name
      description: 'What it means and what to do: docs/operations.md, ${item.name}.'
      severity: item.severity
      enabled: true
      scopes: [insights.id]
      evaluationFrequency: item.window == 'P2D' ? 'PT1H' : 'PT15M'
      windowSize: item.window
      // The tables exist from the first log line on, which is after the first deployment.
      skipQueryValidation: true
      autoMitigate: true
      criteria: {
        allOf: [
          {
            query: item.query
            timeAggregation: 'Count'
            operator: item.fires == 'onRows' ? 'GreaterThan' : 'LessThan'
            threshold: item.fires == 'onRows' ? 0 : 1
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: empty(alertEmail) ? [] : [people.id] }
    }
  }
]
