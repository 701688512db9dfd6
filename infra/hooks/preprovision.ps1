#!/usr/bin/env pwsh
#Requires -Version 7.2
# Before `azd provision`:
# - An app that runs already keeps its model, the API on which it asks it and the capacity of the deployment, whatever the
#   defaults of the template have become: what differs from them is set in the azd environment.
# - A new deployment of a model gets no more capacity than what is left of the subscription's quota.
# - Microsoft.App is registered, on whose network Flex Consumption runs. No resource of the template is of that provider, so
#   nothing else registers it, and a virtual network for the app would be refused.
# The same as preprovision.sh, step by step.
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $false

$limit = if ($env:PREPROVISION_TIMEOUT) { [int]$env:PREPROVISION_TIMEOUT } else { 600 }
$pause = if ($env:PREPROVISION_PAUSE) { [int]$env:PREPROVISION_PAUSE } else { 10 }
$said = '' # what az complained of

function Stop-Here([string]$message) {
    [Console]::Error.WriteLine($message)
    exit 1
}
function Join-Line {
    $line = $script:said -replace '[\p{Cc} ]+', ' '
    $line.Substring(0, [Math]::Min(400, $line.Length))
}
# Passes on what az answered, line by line, and keeps what it complained of.
function Read-Answer($lines) {
    $script:said = ($lines | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] }) -join ' '
    $lines | Where-Object { $_ -isnot [System.Management.Automation.ErrorRecord] } | ForEach-Object { "$_".TrimEnd("`r") }
}
function Assert-Az {
    if (-not (Get-Command az -ErrorAction SilentlyContinue)) {
        Stop-Here 'The Azure CLI is needed: https://aka.ms/install-az'
    }
    az account show --subscription $env:AZURE_SUBSCRIPTION_ID --output none 2>$null
    if ($LASTEXITCODE -ne 0) {
        Stop-Here "The Azure CLI is not signed in to subscription $env:AZURE_SUBSCRIPTION_ID. Sign in: az login"
    }
}

$subscription = $env:AZURE_SUBSCRIPTION_ID
$model = $env:MODEL_NAME
$api = $env:MODEL_API
$capacity = $env:MODEL_CAPACITY
$queryModel = $env:QUERY_MODEL_NAME
$existing = $env:EXISTING_FOUNDRY_RESOURCE_ID

# What infra/models.json says of a model: the API that is chosen, and the capacity.
function Get-Api([string]$of) {
    if ($of -clike 'Cohere-embed-v3-*') { 'models' } else { 'cohere' }
}
function Get-Capacity([string]$of) {
    if ($of -clike 'Cohere-embed-v3-*') { 1 } else { 300 }
}
function Test-Known([string]$of) {
    $known = 'Cohere-embed-v3-english', 'Cohere-embed-v3-multilingual', 'embed-v-4-0', 'Cohere-Embed-V5-Pro', 'Cohere-Embed-V5-Fast'
    $known -ccontains $of
}
function Set-InAzd([string]$name, [string]$value) {
    azd env set $name $value --environment $env:AZURE_ENV_NAME *>$null
    if ($LASTEXITCODE -ne 0) {
        Stop-Here "$name could not be set in the azd environment. Set it: azd env set $name $value; then: azd provision"
    }
}
function Stop-Unasked {
    $problem = Join-Line
    Stop-Here "Azure does not say which model the app runs with, so it could become another one. Set MODEL_NAME, MODEL_API and MODEL_CAPACITY with azd env set to what is deployed; then: azd provision. $problem"
}

# Of the resources of this environment.
function Get-First([string]$kind) {
    $script:made | Where-Object { $_ -like "*$kind*" } | Select-Object -First 1
}

# Reads of what is deployed: $deployment and $path of the app, and of each deployment of its resource "name model capacity".
function Read-Surroundings {
    $script:deployment = ''
    $script:path = ''
    $script:deployments = @()
    $lines = az resource list --subscription $subscription --tag "azd-env-name=$env:AZURE_ENV_NAME" --query '[].id' `
        --output tsv --only-show-errors 2>&1
    $worked = $LASTEXITCODE -eq 0
    $script:made = @(Read-Answer $lines)
    if (-not $worked) { Stop-Unasked }
    $site = Get-First '/providers/Microsoft.Web/sites/'
    $account = Get-First '/providers/Microsoft.CognitiveServices/accounts/'
    if ($site) {
        $lines = az rest --method post --url "$site/config/appsettings/list?api-version=2024-11-01" `
            --query "join(' ', [not_null(properties.FOUNDRY_MODEL, ''), not_null(properties.FOUNDRY_ENDPOINT, '')])" `
            --output tsv --only-show-errors 2>&1
        $worked = $LASTEXITCODE -eq 0
        $settings = (@(Read-Answer $lines) -join '') -split ' '
        if (-not $worked) { Stop-Unasked }
        $script:deployment = $settings[0]
        $script:path = "$($settings[1])" # the first of several
    }
    $foundry = if ($existing) { $existing } else { $account }
    if ($foundry) {
        $lines = az rest --method get --url "$foundry/deployments?api-version=2025-06-01" `
            --query "value[].join(' ', [name, properties.model.name, to_string(sku.capacity)])" `
            --output tsv --only-show-errors 2>&1
        $worked = $LASTEXITCODE -eq 0
        $script:deployments = @(Read-Answer $lines)
        # Who deploys may have no right to read a resource of somebody else.
        if (-not $worked -and -not $existing) { Stop-Unasked }
    }
}
# The model (1), or the capacity (2), of a deployment by its name; nothing if there is none.
function Get-Part([string]$name, [int]$part) {
    foreach ($line in $script:deployments) {
        $parts = $line -split ' +'
        if ($parts[0] -ceq $name) { return "$($parts[$part])" }
    }
    ''
}

function Save-WhatRuns {
    if (-not $deployment) { return }
    $runsOn = switch -Regex -CaseSensitive ($path) {
        '/providers/cohere/v2/?$' { 'cohere' }
        '/models/?$' { 'models' }
        default { '' }
    }
    $runs = Get-Part $deployment 1
    if (-not (Test-Known $runs)) { $runs = $deployment }
    if (-not $model -and (Test-Known $runs) -and $runs -cne 'embed-v-4-0') {
        Set-InAzd MODEL_NAME $runs
        $script:model = $runs
        Write-Host "The app runs with $runs and keeps it: MODEL_NAME is set to it. docs/models.md says how to move to another model."
    }
    # Another model, or another deployment, starts with what is best for it.
    $to = if ($model) { $model } else { 'embed-v-4-0' }
    $wanted = if ($env:MODEL_DEPLOYMENT_NAME) { $env:MODEL_DEPLOYMENT_NAME } else { $to }
    if ($wanted -cne $deployment) { return }
    if (-not $api -and $runsOn -and $runsOn -cne (Get-Api $to)) {
        Set-InAzd MODEL_API $runsOn
        Write-Host "The app asks its model on the API $runsOn and goes on so: MODEL_API is set to it. docs/models.md says what another one changes."
    }
}

# Select-Capacity <setting> <model> <deployment>: it stays what it is, or becomes what is left of the quota.
function Select-Capacity([string]$setting, [string]$of, [string]$in) {
    $default = Get-Capacity $of
    $now = Get-Part $in 2
    if ($now -match '^[0-9]+$') {
        if ([int]$now -eq $default) { return }
        Set-InAzd $setting $now
        Write-Host "The deployment of $of keeps its capacity of ${now}: $setting is set to it. The default is $default; docs/models.md says what a unit allows."
        return
    }
    $region = if ($env:FOUNDRY_LOCATION) { $env:FOUNDRY_LOCATION } else { $env:AZURE_LOCATION }
    if ($default -le 1 -or -not $region) { return }
    $free = Get-FreeUnits $of $region
    if ($null -eq $free) {
        Write-Host "Azure does not say how much quota is left for $of in $region. If its deployment is refused: az cognitiveservices usage list --location $region; then: azd env set $setting <units>"
    }
    elseif ($free -eq 0) {
        Write-Host "Nothing is left of the quota for $of in $region, so its deployment will probably be refused. Ask for more in the Foundry portal, or try another region: azd env set FOUNDRY_LOCATION <region>"
    }
    elseif ($free -lt $default) {
        Set-InAzd $setting $free
        Write-Host "The quota for $of in $region has $free units left, less than the default of ${default}: $setting is set to that. To see it: az cognitiveservices usage list --location $region"
    }
}
# The units that are left of the quota of a model in a region; nothing where az does not say.
function Get-FreeUnits([string]$of, [string]$region) {
    $lines = az cognitiveservices model list --location $region --subscription $subscription `
        --query "[?model.format=='Cohere' && model.name=='$of'].model.skus[] | [?name=='GlobalStandard'].usageName | [0]" `
        --output tsv --only-show-errors 2>&1
    if ($LASTEXITCODE -ne 0) { return }
    $counter = @(Read-Answer $lines) -join ''
    if (-not $counter) { return }
    $lines = az cognitiveservices usage list --location $region --subscription $subscription `
        --query "[?name.value=='$counter'] | [0].[to_string(limit), to_string(currentValue)] | join(' ', @)" `
        --output tsv --only-show-errors 2>&1
    if ($LASTEXITCODE -ne 0) { return }
    if ((@(Read-Answer $lines) -join '') -match '^([0-9]+)(?:\.\S*)? ([0-9]+)(?:\.\S*)?$') {
        [Math]::Max(0, [int]$Matches[1] - [int]$Matches[2])
    }
}

# Whether a deployment is made here whose capacity nobody has set.
function Test-Open([string]$of, [string]$units) { -not $existing -and $of -and -not $units }

# Without a subscription nothing has been deployed from this environment; with everything set there is nothing to find out.
if ($subscription -and $env:AZURE_ENV_NAME -and (-not $model -or -not $api -or (Test-Open $model $capacity) -or
        (Test-Open $queryModel $env:QUERY_MODEL_CAPACITY))) {
    Assert-Az
    Read-Surroundings
    Save-WhatRuns
    if (-not $model) { $model = 'embed-v-4-0' }
    if (Test-Open $model $capacity) {
        $name = if ($env:MODEL_DEPLOYMENT_NAME) { $env:MODEL_DEPLOYMENT_NAME } else { $model }
        Select-Capacity MODEL_CAPACITY $model $name
    }
    if (Test-Open $queryModel $env:QUERY_MODEL_CAPACITY) {
        $name = if ($env:QUERY_MODEL_DEPLOYMENT_NAME) { $env:QUERY_MODEL_DEPLOYMENT_NAME } else { $queryModel }
        Select-Capacity QUERY_MODEL_CAPACITY $queryModel $name
    }
}

if ($env:VNET_ENABLED -notmatch '^(1|t|true)$') { exit 0 }
if (-not $subscription) {
    Stop-Here 'AZURE_SUBSCRIPTION_ID is not set. Set it: azd env set AZURE_SUBSCRIPTION_ID <id>; then: azd provision'
}
Assert-Az

function Test-Registered {
    $lines = az provider show --namespace Microsoft.App --subscription $env:AZURE_SUBSCRIPTION_ID --query registrationState `
        --output tsv --only-show-errors 2>&1
    $worked = $LASTEXITCODE -eq 0
    $script:said = ($lines | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] }) -join ' '
    $state = ($lines | Where-Object { $_ -isnot [System.Management.Automation.ErrorRecord] }) -join ''
    $worked -and $state.Trim() -ceq 'Registered'
}

if (Test-Registered) { exit 0 }
Write-Host 'Registering Microsoft.App in the subscription, for the virtual network ...'
$lines = az provider register --namespace Microsoft.App --subscription $env:AZURE_SUBSCRIPTION_ID --output none --only-show-errors 2>&1
if ($LASTEXITCODE -ne 0) {
    $said = $lines -join ' '
    $problem = Join-Line
    Stop-Here "Microsoft.App could not be registered, which needs the role Contributor on the subscription: $problem"
}
$end = (Get-Date).AddSeconds($limit)
while (-not (Test-Registered)) {
    if ((Get-Date) -ge $end) {
        $problem = Join-Line
        Stop-Here "Microsoft.App has not been registered after $limit s. See: az provider show --namespace Microsoft.App; then: azd provision. $problem"
    }
    Start-Sleep -Seconds $pause
}
