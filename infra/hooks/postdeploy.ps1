#!/usr/bin/env pwsh
# Before 7.2, redirecting what a program writes to stderr ends a script; azd takes Windows PowerShell 5 where it finds no other.
#Requires -Version 7.2
# After `azd deploy`: wait until the app runs, subscribe it to the events of its images, and check its health. With
# UPLOAD_EVENTS=queue there is no webhook to wait for, and with PRIVATE_APP=true no way to the app from here. Then put the
# index on the search service, if there is one, and offer to embed the images that were there before.
# Safe to run again at any time: azd hooks run postdeploy
# The same as postdeploy.sh, step by step.
$here = $PSScriptRoot
$limit = if ($env:POSTDEPLOY_TIMEOUT) { [int]$env:POSTDEPLOY_TIMEOUT } else { 900 } # seconds for each wait
$pause = if ($env:POSTDEPLOY_PAUSE) { [int]$env:POSTDEPLOY_PAUSE } else { 10 } # seconds between two checks
. "$PSScriptRoot/parts/azure.ps1"
. "$PSScriptRoot/parts/search.ps1"
. "$PSScriptRoot/parts/index.ps1"
. "$PSScriptRoot/parts/backfill.ps1"

foreach ($name in 'AZURE_SUBSCRIPTION_ID', 'AZURE_RESOURCE_GROUP', 'FUNCTION_APP_NAME', 'FUNCTION_APP_URL', 'PRIVATE_APP', 'UPLOAD_EVENTS',
    'EVENT_TOPIC_ID', 'DATA_ACCOUNT_ID', 'DATA_ACCOUNT_NAME', 'IMAGES_CONTAINER', 'EMBEDDINGS_CONTAINER', 'EMBEDDING_SPACE',
    'REQUESTS_QUEUE', 'ADDITIONS_MARK', 'VECTOR_LENGTH', 'FOUNDRY_RESOURCE_ID', 'FOUNDRY_MODEL', 'IMAGE_TOKENS', 'MILLION_TOKENS_COST') {
    if (-not [Environment]::GetEnvironmentVariable($name)) {
        Stop-Here "$name is not set. Run this after azd provision, with: azd hooks run postdeploy"
    }
}
$mark = $env:ADDITIONS_MARK
Assert-Az

# Without a host: az adds that of its cloud.
$site = "/subscriptions/$env:AZURE_SUBSCRIPTION_ID/resourceGroups/$env:AZURE_RESOURCE_GROUP"
$site = "$site/providers/Microsoft.Web/sites/$env:FUNCTION_APP_NAME"

# The platform does not always notice a new package: this makes it look.
function Test-Look {
    $lines = az rest --method post --url "$site/host/default/sync?api-version=2024-11-01" --output none --only-show-errors 2>&1
    $script:worked = $LASTEXITCODE -eq 0
    $null = Read-Answer $lines
    $worked
}
# Both ask for true or false: the key itself never comes here. Of a function only its name is documented: app/function.
# Whatever else is answered, or nothing, is false, and may say why.
function Test-Function {
    $lines = az rest --method get --url "$site/functions?api-version=2024-11-01" --output json --only-show-errors `
        --query "contains(join(' ', value[].name), 'embed_uploaded_image')" 2>&1
    Read-TrueOrFalse $lines
}
function Test-Key {
    $lines = az rest --method post --url "$site/host/default/listkeys?api-version=2024-11-01" --output json --only-show-errors `
        --query "systemKeys.blobs_extension != null" 2>&1
    Read-TrueOrFalse $lines
}
function Read-TrueOrFalse($lines) {
    $script:worked = $true
    $before = $said
    $answer = ((Read-Answer $lines) -join "`n").Trim()
    $script:said = @($before) + $said
    if ($answer -ceq 'true' -or $answer -ceq 'false') { $answer } else { $script:said += $answer; 'false' }
}

# The queue needs neither the function nor its key, so nothing else here shows whether the platform has looked.
$attempt = 1
while ($env:UPLOAD_EVENTS -ceq 'queue' -and -not (Test-Look)) {
    $problem = Join-Line
    if ($attempt -ge 5) {
        [Console]::Error.WriteLine("The platform could not be told to look at the new package. If nothing is embedded: azd hooks run postdeploy. $problem")
        break
    }
    Write-Host "The platform could not be told yet to look at the new package (attempt $attempt of 5) ... $problem"
    $attempt++
    Start-Sleep -Seconds $pause
}
$end = (Get-Date).AddSeconds($limit)
while ($env:UPLOAD_EVENTS -cne 'queue') {
    $null = Test-Look
    $function = Test-Function
    $key = Test-Key
    if ($function -eq 'true' -and $key -eq 'true') { break }
    # Only what az says tells a host that starts from a role that is missing.
    $problem = Join-Line
    if ((Get-Date) -ge $end) {
        Stop-Here "The app has not started after $limit s (function listed: $function, webhook key: $key). See its log stream in the portal and $env:FUNCTION_APP_URL/api/health; then: azd hooks run postdeploy. $problem"
    }
    Write-Host "Waiting for the app to start (function listed: $function, webhook key: $key) ... $problem"
    Start-Sleep -Seconds $pause
}

# A topic that others use, too, has names of theirs.
$own = "/subscriptions/$env:AZURE_SUBSCRIPTION_ID/resourceGroups/$env:AZURE_RESOURCE_GROUP/"
$namesBegin = if ($env:DATA_ACCOUNT_ID.StartsWith($own)) { '' } else { "$env:FUNCTION_APP_NAME-" }
$topicName = Get-Name $env:EVENT_TOPIC_ID
# Event Grid calls the webhook before it subscribes it, and a host that has just started may miss that. For the queue its
# identity needs a role, which takes some minutes to take effect.
$attempt = 1
while ($true) {
    $lines = az deployment group create --subscription (Get-Subscription $env:EVENT_TOPIC_ID) `
        --resource-group (Get-Group $env:EVENT_TOPIC_ID) --name "$env:FUNCTION_APP_NAME-events" `
        --template-file (Join-Path $here '../events.bicep') --output none --only-show-errors --parameters `
        functionAppName=$env:FUNCTION_APP_NAME functionAppSubscription=$env:AZURE_SUBSCRIPTION_ID `
        functionAppGroup=$env:AZURE_RESOURCE_GROUP systemTopicName=$topicName dataAccountId=$env:DATA_ACCOUNT_ID `
        imagesContainer=$env:IMAGES_CONTAINER requestsQueue=$env:REQUESTS_QUEUE uploadEvents=$env:UPLOAD_EVENTS `
        namePrefix=$namesBegin mark=$mark 2>&1
    if ($LASTEXITCODE -eq 0) { break }
    $script:said = @($lines | ForEach-Object { "$_" })
    if ($attempt -ge 5) {
        [Console]::Error.WriteLine((Get-Readable ($said -join "`n")))
        Stop-Here 'The event subscriptions could not be created. Once the reason above is fixed: azd hooks run postdeploy'
    }
    $problem = Join-Line
    Write-Host "The event subscriptions could not be created yet (attempt $attempt of 5) ... $problem"
    $attempt++
    Start-Sleep -Seconds $pause
}
Write-Host 'Events of new images now go to the app.'

# A proxy, or a page for signing in, may answer 200 as well: the app's own words decide. An answer that names no type of
# text comes as bytes.
function Test-Well {
    $script:status = '000'
    try {
        $answer = Invoke-WebRequest -Uri "$env:FUNCTION_APP_URL/api/health" -SkipHttpErrorCheck -TimeoutSec 60
        $script:status = "$($answer.StatusCode)"
        $body = if ($answer.Content -is [byte[]]) { [Text.Encoding]::UTF8.GetString($answer.Content) } else { $answer.Content }
        $script:said = @($body)
        $status -eq '200' -and ($body -replace '[\s\x00]') -clike '{"status":"ok"*'
    }
    catch {
        $script:said = @($_.Exception.Message)
        $false
    }
}

if ($env:PRIVATE_APP -ceq 'true') {
    Add-Index
    Write-Host "The app is private, so it cannot be checked from here. From a machine in its network: curl $env:FUNCTION_APP_URL/api/health"
    Write-Host 'If that says ok, upload a picture:'
    Write-Host "  az storage blob upload --auth-mode login --account-name $env:DATA_ACCOUNT_NAME -c $env:IMAGES_CONTAINER -f a.jpg -n a.jpg"
    Write-Host "Images that were there before are embedded once you call $env:FUNCTION_APP_URL/api/reconcile from there."
    exit 0
}
$end = (Get-Date).AddSeconds($limit)
while (-not (Test-Well)) {
    if ((Get-Date) -ge $end) {
        [Console]::Error.WriteLine((Get-Readable ($said -join "`n")))
        [Console]::Error.WriteLine()
        Stop-Here "The app runs, but is not healthy: the answer above says why (status $status). Check again: curl $env:FUNCTION_APP_URL/api/health"
    }
    Write-Host 'Waiting for the app to be healthy (new roles take up to ten minutes to take effect) ...'
    Start-Sleep -Seconds $pause
}

Add-Index
Write-Host 'The app is healthy. Upload a picture:'
Write-Host "  az storage blob upload --auth-mode login --account-name $env:DATA_ACCOUNT_NAME -c $env:IMAGES_CONTAINER -f a.jpg -n a.jpg"
Write-Host "Its embedding will be $env:EMBEDDING_SPACE/images/a.jpg.json in the container $env:EMBEDDINGS_CONTAINER."
Start-Backfill
