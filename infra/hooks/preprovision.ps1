#!/usr/bin/env pwsh
#Requires -Version 7.2
# Before `azd provision`: register Microsoft.App, on whose network Flex Consumption runs. No resource of the template is of
# that provider, so nothing else registers it, and a virtual network for the app would be refused.
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

if ($env:VNET_ENABLED -notmatch '^(1|t|true)$') { exit 0 }
if (-not $env:AZURE_SUBSCRIPTION_ID) {
    Stop-Here 'AZURE_SUBSCRIPTION_ID is not set. Set it: azd env set AZURE_SUBSCRIPTION_ID <id>; then: azd provision'
}
if (-not (Get-Command az -ErrorAction SilentlyContinue)) {
    Stop-Here 'The Azure CLI is needed: https://aka.ms/install-az'
}
az account show --subscription $env:AZURE_SUBSCRIPTION_ID --output none 2>$null
if ($LASTEXITCODE -ne 0) {
    Stop-Here "The Azure CLI is not signed in to subscription $env:AZURE_SUBSCRIPTION_ID. Sign in: az login"
}

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
