// The identity of a system topic that is there already. The topic itself is its owner's, and is left as it is.
param name string

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: name
}

// Without one it could not put events on the queue: the app's way to deletions, and to what could not be delivered.
var noIdentity = 'The system topic ${name} has no identity of its own, by which it could put events on the queue. Give it one: az eventgrid system-topic update --name ${name} --resource-group <group> --identity systemassigned'

output principalId string = topic.?identity.?principalId ?? fail(noIdentity)
