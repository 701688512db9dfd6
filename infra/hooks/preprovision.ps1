#!/usr/bin/env pwsh
# Before 7.2, redirecting what a program writes to stderr ends a script; azd takes Windows PowerShell 5 where it finds no other.
#Requires -Version 7.2
# Before `azd provision`, so that nothing is made that cannot be finished:
# - An app that runs already keeps its model, the API on which it asks it and the capacity of the deployment, whatever the
#   defaults of the template have become: what differs from them is set in the azd environment.
# - Rights, region, redundancy, model, quota and names are checked. Each refusal says what to set.
# - Providers are registered.
# - Of an account that is there already it is found out what must be left as it is.
# The same as preprovision.sh, step by step.
. "$PSScriptRoot/parts/azure.ps1"
if (-not $subscription -or -not $env:AZURE_ENV_NAME) {
    # These cannot do without the hook.
    if ($env:EXISTING_STORAGE_ACCOUNT_ID -or (Test-True $env:VNET_ENABLED)) {
        Stop-Here 'AZURE_SUBSCRIPTION_ID is not set. Set it: azd env set AZURE_SUBSCRIPTION_ID <id>; then: azd provision'
    }
    Write-Host 'No subscription is chosen yet, so nothing is checked before this deployment.'
    exit 0
}
. "$PSScriptRoot/parts/subscription.ps1"
. "$PSScriptRoot/parts/model.ps1"
. "$PSScriptRoot/parts/storage.ps1"
. "$PSScriptRoot/parts/search.ps1"

Assert-Az
Read-Surroundings
Save-WhatRuns
Assert-Roles "/subscriptions/$subscription"
# What runs already has shown that its region will do.
if (-not $site) {
    Assert-Region
    Assert-Redundancy
}
if (-not $resource) { Assert-Deleted }
Assert-Models
Assert-Providers
Initialize-Account
Assert-Search
