# An account that has the images already: what is in it, which topic it has, and whether the app can work with it.
# The same as storage.sh.
$account = "$env:EXISTING_STORAGE_ACCOUNT_ID" -replace '/$'

# What main.bicep needs in the account.
function Get-NeededInAccount {
    foreach ($name in (Get-First $env:IMAGES_CONTAINER images), (Get-First $env:EMBEDDINGS_CONTAINER embeddings), 'dead-letter-events') {
        "blobServices/default/containers/$name"
    }
    $requests = "${env:QUEUE_PREFIX}embedding-requests"
    $waiting = "${env:QUEUE_PREFIX}embedding-waiting", "${env:QUEUE_PREFIX}embedding-backlog"
    foreach ($name in @($requests, "$requests-poison") + $waiting + 'webjobs-blobtrigger-poison') {
        "queueServices/default/queues/$name"
    }
}

# Sorts that into $ours, which this deployment has made, $theirs and $missing.
function Read-Account {
    $script:ours = @()
    $script:theirs = @()
    $script:missing = @()
    foreach ($item in Get-NeededInAccount) {
        $metadata = @(Ask rest --method get --url "$account/${item}?api-version=2025-06-01" --query 'to_string(properties.metadata)') -join ''
        if ($worked) {
            if ($metadata.Contains("`"$mark`"")) { $script:ours += $item } else { $script:theirs += $item }
        }
        elseif (Test-Missing) { $script:missing += $item }
        else {
            $problem = Join-Line
            Stop-Here "$item of EXISTING_STORAGE_ACCOUNT_ID cannot be read: $problem"
        }
    }
}

# $topic and $topicIdentity: the system topic of the account, if there is one. $topicOurs: whether this deployment has made it.
# Whether it could be found out.
function Find-Topic {
    $script:topic = ''
    $script:topicIdentity = ''
    $script:topicOurs = $false
    $topics = @(Ask eventgrid system-topic list --subscription (Get-Subscription $account) `
            --query "[].join(' ', [id, source, not_null(identity.principalId, '-'), to_string(tags)])")
    if (-not $worked) { return $false }
    foreach ($line in $topics) {
        $id, $of, $identity, $tagsOfIt = $line -split ' ', 4
        if ($of -ne $account) { continue }
        $script:topic = $id
        $script:topicIdentity = $identity
        $script:topicOurs = "$tagsOfIt".Contains("`"$mark`"")
    }
    $true
}

function Assert-Account {
    if ($account -notlike '/subscriptions/*/resourceGroups/*/providers/Microsoft.Storage/storageAccounts/*') {
        Stop-Here "EXISTING_STORAGE_ACCOUNT_ID is $account, which is no id of a storage account. Find it: az storage account show --name <account> --query id; then: azd env set EXISTING_STORAGE_ACCOUNT_ID <id>"
    }
    $name = Get-Name $account
    $facts = @(Ask rest --method get --url "${account}?api-version=2025-06-01" --query `
            "join(' ', [kind, location, not_null(properties.publicNetworkAccess, 'Enabled'), properties.networkAcls.defaultAction, not_null(properties.primaryEndpoints.blob, '-'), not_null(properties.networkAcls.bypass, 'None')])") -join ''
    if (-not $worked) {
        $problem = Join-Line
        Stop-Here "The account $account cannot be read. Is EXISTING_STORAGE_ACCOUNT_ID right, and may you read it? $problem"
    }
    $kind, $regionOfAccount, $public, $defaultAction, $endpoint, $bypass = $facts -split ' ', 6
    if ($kind -cne 'StorageV2') {
        Deny-Deployment "The account $name is of kind $kind, which has no queues, or raises no events. Use one of kind StorageV2, or leave EXISTING_STORAGE_ACCOUNT_ID empty."
    }
    if (-not $endpoint.StartsWith("https://$name.blob.")) {
        Deny-Deployment "The account $name has the address $endpoint, and the app expects $name.blob in it. Use another account, or leave EXISTING_STORAGE_ACCOUNT_ID empty."
    }
    if ($public -cne 'Enabled') {
        Deny-Deployment "The account $name is closed to the public network ($public), and so to Event Grid, which puts deletions on a queue there. Let the services of Azure in, if you may: az storage account update --ids $account --public-network-access Enabled --default-action Deny --bypass AzureServices."
    }
    if ($defaultAction -ceq 'Deny') {
        if (-not (Test-True $env:VNET_ENABLED)) {
            Deny-Deployment "The account $name has a firewall, through which the app comes by private endpoints only: azd env set VNET_ENABLED true."
        }
        if ($bypass -cnotlike '*AzureServices*') {
            Deny-Deployment "The firewall of the account $name keeps Event Grid out, which puts deletions on a queue there. Let the services of Azure in, if you may: az storage account update --ids $account --bypass AzureServices."
        }
    }
    if ($regionOfAccount -cne $location -and $location) {
        Write-Host "The account $name is in $regionOfAccount and the app in ${location}: every picture crosses regions, which takes longer and is paid for. To change that before the first deployment: azd env set AZURE_LOCATION $regionOfAccount"
    }
    Assert-Roles $account
    if ($rights -and -not (Test-May 'Microsoft.Storage/storageAccounts/blobServices/containers/write')) {
        Deny-Deployment "You may not make containers in the account $name, which the deployment does. Ask for the role Storage Account Contributor on it."
    }
}

function Assert-Topic {
    if (-not (Find-Topic)) {
        $problem = Join-Line
        Stop-Here "The system topics of EXISTING_STORAGE_ACCOUNT_ID cannot be listed, and there can be only one for each account. Ask for the role Reader on its subscription. $problem"
    }
    if (-not $topic -or $topicOurs) {
        if ((Get-Subscription $account) -ne $subscription) { Register-Providers (Get-Subscription $account) 'Microsoft.EventGrid' }
        if ($env:EXISTING_EVENT_TOPIC_ID) { Set-InAzd EXISTING_EVENT_TOPIC_ID '' }
        return
    }
    if ($topicIdentity -eq '-') {
        Deny-Deployment "The account has the system topic $(Get-Name $topic), and there can be only one. It has no identity, by which it could put events on the queue. Give it one: az eventgrid system-topic update --subscription $(Get-Subscription $topic) --resource-group $(Get-Group $topic) --name $(Get-Name $topic) --identity systemassigned; then: azd provision."
    }
    if ("$env:EXISTING_EVENT_TOPIC_ID" -cne $topic) {
        Set-InAzd EXISTING_EVENT_TOPIC_ID $topic
        Write-Host "The account has the system topic $(Get-Name $topic), which the app will use: EXISTING_EVENT_TOPIC_ID is set to it."
    }
}

# Names that are there and not ours stay as they are: main.bicep leaves them out.
function Assert-Contents {
    Read-Account
    $images = "blobServices/default/containers/$(Get-First $env:IMAGES_CONTAINER images)"
    if ($missing -ccontains $images) {
        $containers = @(Ask rest --method get --url "$account/blobServices/default/containers?api-version=2025-06-01" --query 'value[].name')
        $containers = @($containers | Select-Object -First 30) -join ' '
        if (-not $env:IMAGES_CONTAINER) {
            Stop-Here "The account $(Get-Name $account) has no container called images. Say which one has the pictures, or will have them: azd env set IMAGES_CONTAINER <name>; then: azd provision. There are: $containers"
        }
        Write-Host "The account $(Get-Name $account) has no container called $env:IMAGES_CONTAINER, so an empty one is made. There are: $containers"
    }
    $already = '[' + (@($theirs | ForEach-Object { "`"$(Get-Name $_)`"" }) -join ',') + ']'
    if ($theirs -ccontains "queueServices/default/queues/${env:QUEUE_PREFIX}embedding-requests") {
        Deny-Deployment "The account $(Get-Name $account) has a queue ${env:QUEUE_PREFIX}embedding-requests already, probably of another app. Give this one names of its own: azd env set QUEUE_PREFIX <prefix>-."
    }
    if ((Get-First $env:ALREADY_IN_STORAGE '[]') -cne $already) { Set-InAzd ALREADY_IN_STORAGE $already }
}

function Initialize-Account {
    if (-not $account) { return }
    Assert-Account
    Assert-Topic
    Assert-Contents
}
