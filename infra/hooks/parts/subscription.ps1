# What the subscription, its region and whoever deploys must bring along. The same as subscription.sh.
$limit = if ($env:PREPROVISION_TIMEOUT) { [int]$env:PREPROVISION_TIMEOUT } else { 600 } # seconds
$pause = if ($env:PREPROVISION_PAUSE) { [int]$env:PREPROVISION_PAUSE } else { 10 } # seconds between two checks
$location = "$env:AZURE_LOCATION".ToLowerInvariant() -replace ' '
$group = Get-First $env:RESOURCE_GROUP $env:AZURE_RESOURCE_GROUP "rg-$env:AZURE_ENV_NAME"
$rights = @()

# Deny-Deployment <why, and what to set>: only where Azure has given a clear answer. Without one the deployment goes on, and shows.
function Deny-Deployment([string]$message) {
    if (Test-True $env:SKIP_CHECKS) { return }
    Stop-Here "$message To deploy all the same: azd env set SKIP_CHECKS true"
}

# $rights at a scope: of each role that the caller has there "actions ! what is left out of them".
function Read-Rights([string]$scope) {
    $script:rights = @(Ask rest --method get --url "$scope/providers/Microsoft.Authorization/permissions?api-version=2022-04-01" `
            --query "value[].join(' ! ', [join(' ', actions), join(' ', notActions)])")
    if (-not $rights) { Write-Host "Azure does not say what you may do in $scope, so that is not checked." }
}
function Test-May([string]$action) {
    foreach ($role in $rights) {
        $allowed, $leftOut = $role -split '!', 2
        if ((Test-Matches $action $allowed) -and -not (Test-Matches $action $leftOut)) { return $true }
    }
    $false
}
function Test-Matches([string]$action, [string]$patterns) {
    foreach ($pattern in -split $patterns) { if ($action -like $pattern) { return $true } }
    $false
}
# Refuses whoever may not give roles at a scope.
function Assert-Roles([string]$scope) {
    Read-Rights $scope
    if ($rights -and -not (Test-May 'Microsoft.Authorization/roleAssignments/write')) {
        Deny-Deployment "You may not give roles in $scope, which the deployment does. Ask for the role Owner there, or for Role Based Access Control Administrator beside Contributor."
    }
}

# Register-Providers <subscription> <providers>: whatever is not registered yet, and waits for it.
function Register-Providers([string]$in, [string[]]$providers) {
    Read-Unregistered $in $providers
    foreach ($provider in $waiting) {
        Write-Host "Registering $provider in subscription $in ..."
        $lines = az provider register --namespace $provider --subscription $in --output none --only-show-errors 2>&1
        if ($LASTEXITCODE -ne 0) {
            $script:said = $lines -join ' '
            $problem = Join-Line
            Stop-Here "$provider could not be registered, which needs the role Contributor on subscription ${in}: $problem"
        }
    }
    $end = (Get-Date).AddSeconds($limit)
    while ($waiting) {
        Read-Unregistered $in $providers
        if (-not $waiting) { return }
        if ((Get-Date) -ge $end) {
            $problem = Join-Line
            Stop-Here "$waiting has not been registered after $limit s. See: az provider list --query [].[namespace,registrationState]; then: azd provision. $problem"
        }
        Start-Sleep -Seconds $pause
    }
}
# $waiting: those of the providers that are not registered.
function Read-Unregistered([string]$in, [string[]]$providers) {
    $registered = @(Ask provider list --subscription $in --query "[?registrationState=='Registered'].namespace")
    $script:waiting = @($providers | Where-Object { $registered -notcontains $_ })
}

function Assert-Providers {
    $providers = 'Microsoft.Web', 'Microsoft.Storage', 'Microsoft.EventGrid', 'Microsoft.ManagedIdentity', 'Microsoft.Insights',
    'Microsoft.OperationalInsights', 'Microsoft.CognitiveServices'
    # Microsoft.App is the network of Flex Consumption. No resource of the template is of it, so nothing else registers it.
    if (Test-True $env:VNET_ENABLED) { $providers += 'Microsoft.Network', 'Microsoft.App' }
    if ($env:SEARCH_SERVICE) { $providers += 'Microsoft.Search' }
    Register-Providers $subscription $providers
}

function Assert-Region {
    if (-not $location) { return }
    $regions = @(Ask functionapp list-flexconsumption-locations --subscription $subscription --query '[].name')
    if (-not $regions) {
        Write-Host 'Azure does not say which regions offer Flex Consumption, so that is not checked. To see them: az functionapp list-flexconsumption-locations'
    }
    elseif (@($regions -replace ' ') -notcontains $location) {
        $regions = @($regions | Sort-Object) -join ' '
        Deny-Deployment "$location does not offer Flex Consumption, on which the app runs. Choose one of these: azd env set AZURE_LOCATION <region>. $regions"
    }
}

# Storage across zones where there is some, unless somebody has chosen otherwise.
function Assert-Redundancy {
    if (-not $location -or $env:EXISTING_STORAGE_ACCOUNT_ID) { return }
    $offered = @(Ask rest --method get --url "/subscriptions/$subscription/providers/Microsoft.Storage/skus?api-version=2025-06-01" `
            --query "value[?resourceType=='storageAccounts' && kind=='StorageV2' && contains(locations, '$location')].name")
    if (-not $offered) {
        Write-Host "Azure does not say which redundancy $location offers, so that is not checked."
    }
    elseif ($env:DATA_REDUNDANCY) {
        $all = @($offered -clike 'Standard_*' | Sort-Object -Unique) -join ' '
        if ($offered -cnotcontains $env:DATA_REDUNDANCY) {
            Deny-Deployment "$location does not offer storage as $env:DATA_REDUNDANCY. Choose one of these: azd env set DATA_REDUNDANCY <redundancy>. $all"
        }
    }
    elseif ($offered -cnotcontains 'Standard_ZRS') {
        Set-InAzd DATA_REDUNDANCY Standard_LRS
        Write-Host "$location has no storage across zones: DATA_REDUNDANCY is set to Standard_LRS."
    }
}

# A Foundry resource keeps its name for 48 hours after it was deleted, and one of the same name is refused.
function Assert-Deleted {
    if ($env:EXISTING_FOUNDRY_RESOURCE_ID) { return }
    $twin = @(Ask cognitiveservices account list-deleted --subscription $subscription --query '[].id') |
        Where-Object { $_ -like "*/resourceGroups/$group/deletedAccounts/ai-*" } | Select-Object -First 1
    if (-not $twin) { return }
    $name = Get-Name $twin
    $where = ($twin -split '/locations/')[1] -replace '/.*'
    Deny-Deployment "The Foundry resource $name was deleted a short while ago, and keeps its name for 48 hours. Purge it: az cognitiveservices account purge --location $where --resource-group $group --name $name; then: azd provision."
}
