#!/usr/bin/env pwsh
#Requires -Version 7.2
# Before `azd down`, which deletes the resource group alone: finds what the deployment has added elsewhere (to an account,
# a topic, a search service or Foundry resources that were there before), says so, and notes it for postdown. It deletes
# nothing: azd has not asked yet.
# The same as predown.sh, step by step.
. "$PSScriptRoot/parts/azure.ps1"
. "$PSScriptRoot/parts/storage.ps1"
. "$PSScriptRoot/parts/search.ps1"
$scopes = @("$env:EXISTING_FOUNDRY_RESOURCE_ID") + @("$env:ADDITIONAL_FOUNDRY_RESOURCE_IDS" -replace '[][" ]' -split ',') -ne ''
if (Test-Id $env:SEARCH_SERVICE) { $scopes += $env:SEARCH_SERVICE }
if (-not $subscription -or -not ($account -or $scopes)) { exit 0 }
Assert-Az
$found = @()
function Stop-Unseen([string]$what) {
    $problem = Join-Line
    Stop-Here "What the deployment has added to $what cannot be read, so nothing is deleted. $problem"
}

if (Test-Id $env:SEARCH_SERVICE) {
    $search = Get-Name $env:SEARCH_SERVICE
    Find-Owner
    if (-not $owner) { Stop-Unseen $env:SEARCH_SERVICE }
    if ($owner -eq 'ours') {
        foreach ($object in 'indexers/image-embeddings', 'datasources/image-embeddings', 'indexes/images') {
            $found += Get-SearchUrl $object
        }
    }
}
if ($account) {
    if (-not (Find-Topic) -and -not (Test-Missing)) { Stop-Unseen $account }
    if ($topic) {
        $found += @(Ask rest --method get --url "$topic/eventSubscriptions?api-version=2025-02-15" `
                --query "value[?properties.labels[0]=='$mark'].id")
        if (-not $worked) { Stop-Unseen $topic }
        if ($topicOurs) { $found += $topic }
    }
    Read-Account
    foreach ($item in $ours + $theirs) { $scopes += "$account/$item" }
}
foreach ($scope in $scopes) {
    $found += @(Ask rest --method get --url "$scope/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01" `
            --query "value[?properties.description=='$mark'].id")
    if (-not $worked -and -not (Test-Missing)) { Stop-Unseen $scope }
}
if ($account) {
    foreach ($item in $ours) { $found += "$account/$item" }
}

Set-InAzd TO_REMOVE ($found -join ' ')
Write-Host 'azd down deletes the resource group. Afterwards this goes, too, which the deployment has added elsewhere:'
foreach ($id in $found) { Write-Host "  $($id -replace '\?.*')" }
if ($account) {
    Write-Host "The images in the container $(Get-First $env:IMAGES_CONTAINER images) of $(Get-Name $account) stay, whoever has made it."
}
