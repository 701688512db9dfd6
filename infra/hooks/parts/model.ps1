# The model: an app that runs already keeps its own, and a new deployment must be offered, and fit into the quota.
# The same as model.sh.
$model = $env:MODEL_NAME
$api = $env:MODEL_API
$queryModel = $env:QUERY_MODEL_NAME
$existing = $env:EXISTING_FOUNDRY_RESOURCE_ID
$region = Get-First $env:FOUNDRY_LOCATION $env:AZURE_LOCATION

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
# Sold in the Azure Marketplace, not by Azure itself.
function Test-Bought([string]$of) { $of -clike 'Cohere-embed-v3-*' }
function Stop-Unasked {
    $problem = Join-Line
    Stop-Here "Azure does not say which model the app runs with, so it could become another one. Set MODEL_NAME, MODEL_API and MODEL_CAPACITY with azd env set to what is deployed; then: azd provision. $problem"
}

# Of the resources of this environment.
function Get-Made([string]$kind) {
    $script:made | Where-Object { $_ -like "*$kind*" } | Select-Object -First 1
}

# Reads of what is deployed: $deployment and $path of the app, and of each deployment of its resource "name model capacity".
function Read-Surroundings {
    $script:deployment = ''
    $script:path = ''
    $script:deployments = @()
    $script:made = @(Ask resource list --subscription $subscription --tag "azd-env-name=$env:AZURE_ENV_NAME" --query '[].id')
    if (-not $worked) { Stop-Unasked }
    $script:site = Get-Made '/providers/Microsoft.Web/sites/'
    $script:resource = Get-Made '/providers/Microsoft.CognitiveServices/accounts/'
    if ($site) {
        $settings = (@(Ask rest --method post --url "$site/config/appsettings/list?api-version=2024-11-01" `
                    --query "join(' ', [not_null(properties.FOUNDRY_MODEL, ''), not_null(properties.FOUNDRY_ENDPOINT, '')])") -join '') -split ' '
        if (-not $worked) { Stop-Unasked }
        $script:deployment = $settings[0]
        $script:path = "$($settings[1])" # the first of several
    }
    $foundry = Get-First $existing $resource
    if ($foundry) {
        $script:deployments = @(Ask rest --method get --url "$foundry/deployments?api-version=2025-06-01" `
                --query "value[].join(' ', [name, properties.model.name, to_string(sku.capacity)])")
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
    $to = Get-First $model 'embed-v-4-0'
    if ((Get-First $env:MODEL_DEPLOYMENT_NAME $to) -cne $deployment) { return }
    if (-not $api -and $runsOn -and $runsOn -cne (Get-Api $to)) {
        Set-InAzd MODEL_API $runsOn
        Write-Host "The app asks its model on the API $runsOn and goes on so: MODEL_API is set to it. docs/models.md says what another one changes."
    }
}

# Of each of Cohere's models in the region "name version sku=counter ...", where the counter is that of its quota.
function Read-Catalogue {
    $script:catalogue = @()
    if (-not $region) { return }
    $script:catalogue = @(Ask cognitiveservices model list --location $region --subscription $subscription --query `
            "[?model.format=='Cohere'].model.join(' ', [name, version, join(' ', skus[].join('=', [name, not_null(usageName, '')]))])")
    if (-not $catalogue) {
        Write-Host "Azure does not say which models $region offers, so that is not checked. To see them: az cognitiveservices model list --location $region"
    }
}

# Refuses a model that the region does not have in this version, with this sku.
function Assert-Offer([string]$of) {
    if (-not $catalogue) { return }
    $version = Get-First $env:MODEL_VERSION 1
    $ofIt = @($catalogue | Where-Object { ($_ -split ' ')[0] -ceq $of })
    if (-not $ofIt) {
        Deny-Deployment "$region does not offer $of. Choose another region for it: azd env set FOUNDRY_LOCATION <region>; or another model: azd env set MODEL_NAME <name>."
    }
    $offer = @($ofIt | Where-Object { ($_ -split ' ')[1] -ceq $version })
    $versions = @($ofIt | ForEach-Object { ($_ -split ' ')[1] } | Sort-Object -Unique) -join ' '
    if (-not $offer) {
        Deny-Deployment "$region offers $of in version $versions, not in $version. Choose that: azd env set MODEL_VERSION <version>."
    }
    if (-not ($offer -clike '* GlobalStandard=*')) {
        Deny-Deployment "$region does not offer $of as GlobalStandard. Choose another region for it: azd env set FOUNDRY_LOCATION <region>."
    }
}

# Select-Capacity <setting> <its value> <model> <deployment>: what is deployed stays, and what is new must fit into the quota.
function Select-Capacity([string]$setting, [string]$chosen, [string]$of, [string]$in) {
    if ($chosen -eq '0') { $chosen = '' }
    $default = Get-Capacity $of
    $now = Get-Part $in 2
    if ((Test-Whole $now) -and -not $chosen) {
        if ([int]$now -eq $default) { return }
        Set-InAzd $setting $now
        Write-Host "The deployment of $of keeps its capacity of ${now}: $setting is set to it. The default is $default; docs/models.md says what a unit allows."
        return
    }
    $now = if (Test-Whole $now) { [int]$now } else { 0 }
    $wanted = [int](Get-First $chosen $default)
    if ($wanted -le $now -or $wanted -le 1 -or -not $region) { return }
    $free = Get-FreeUnits $of
    if ($null -eq $free) {
        Write-Host "Azure does not say how much quota is left for $of in $region. If its deployment is refused: az cognitiveservices usage list --location $region; then: azd env set $setting <units>"
        return
    }
    $most = $free + $now
    if ($most -ge $wanted) {
        return
    }
    elseif ($most -eq 0) {
        Deny-Deployment "Nothing is left of the quota for $of in $region. Ask for more in the Foundry portal, or try another region: azd env set FOUNDRY_LOCATION <region>."
    }
    elseif ($chosen) {
        Deny-Deployment "$setting is $chosen, and the quota for $of in $region allows $most. Lower it: azd env set $setting $most; or ask for more in the Foundry portal."
    }
    else {
        Set-InAzd $setting $most
        Write-Host "The quota for $of in $region has $most units left, less than the default of ${default}: $setting is set to that. To see it: az cognitiveservices usage list --location $region"
    }
}
# The units that are left of the quota of a model; nothing where az does not say.
function Get-FreeUnits([string]$of) {
    $counter = @($catalogue | Where-Object { ($_ -split ' ')[0] -ceq $of } |
            ForEach-Object { if ($_ -cmatch ' GlobalStandard=([^ ]*)') { $Matches[1] } })[0]
    if (-not $counter) { return }
    $left = @(Ask cognitiveservices usage list --location $region --subscription $subscription `
            --query "[?name.value=='$counter'] | [0].[to_string(limit), to_string(currentValue)] | join(' ', @)") -join ''
    if ($left -match '^([0-9]+)(?:\.\S*)? ([0-9]+)(?:\.\S*)?$') {
        [Math]::Max(0, [int]$Matches[1] - [int]$Matches[2])
    }
}

# Models that are bought in the Marketplace, which not every subscription, and not everybody, may.
function Assert-Purchase([string]$of) {
    if (-not (Test-Bought $of)) { return }
    $kind = @(Ask rest --method get --url "/subscriptions/${subscription}?api-version=2022-12-01" `
            --query 'subscriptionPolicies.quotaId') -join ''
    if ($kind -cmatch '^(FreeTrial_|AzureForStudents|DreamSpark_|AzurePass_|MSDN_)') {
        Deny-Deployment "$of is sold in the Azure Marketplace, where this subscription ($kind) cannot buy. Choose a model that Azure itself sells: azd env set MODEL_NAME embed-v-4-0."
    }
    if ($rights -and -not (Test-May 'Microsoft.MarketplaceOrdering/agreements/offers/plans/sign/action')) {
        Deny-Deployment "$of is sold in the Azure Marketplace, and you may not accept its terms. Ask for the role Contributor on subscription $subscription, or choose a model that Azure itself sells: azd env set MODEL_NAME embed-v-4-0."
    }
    Write-Host "$of is sold in the Azure Marketplace: its deployment accepts the terms of https://azuremarketplace.microsoft.com/marketplace/apps/cohere.cohere-embed-v3-english-offer"
}

function Assert-Models {
    $script:model = Get-First $model 'embed-v-4-0'
    # The deployments of a resource that is there already are somebody else's matter.
    if ($existing) { return }
    Read-Catalogue
    foreach ($each in @($model, $queryModel | Where-Object { $_ })) {
        Assert-Offer $each
        Assert-Purchase $each
    }
    Select-Capacity MODEL_CAPACITY "$env:MODEL_CAPACITY" $model (Get-First $env:MODEL_DEPLOYMENT_NAME $model)
    if ($queryModel) {
        Select-Capacity QUERY_MODEL_CAPACITY "$env:QUERY_MODEL_CAPACITY" $queryModel (Get-First $env:QUERY_MODEL_DEPLOYMENT_NAME $queryModel)
    }
}
