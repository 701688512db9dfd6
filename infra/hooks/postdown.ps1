#!/usr/bin/env pwsh
#Requires -Version 7.2
# After `azd down`: removes what predown has found in other groups than the one that azd has deleted. What is gone already is
# no fault. Safe to run again: azd hooks run postdown
# The same as postdown.sh, step by step.
. "$PSScriptRoot/parts/azure.ps1"
if (-not $env:TO_REMOVE) { exit 0 }
Assert-Az
$left = @()
foreach ($id in -split $env:TO_REMOVE) {
    $where = switch -Wildcard ($id) {
        'https://*' { '--url', $id, '--resource', 'https://search.azure.com'; break }
        '*/roleAssignments/*' { '--url', "${id}?api-version=2022-04-01"; break }
        '*/systemTopics/*' { '--url', "${id}?api-version=2025-02-15"; break }
        default { '--url', "${id}?api-version=2025-06-01" }
    }
    $lines = az rest --method delete @where --output none --only-show-errors 2>&1
    $worked = $LASTEXITCODE -eq 0
    $null = Read-Answer $lines
    if (-not $worked -and -not (Test-Missing)) {
        $left += $id
        $problem = Join-Line
        [Console]::Error.WriteLine("$($id -replace '\?.*') could not be removed: $problem")
    }
}
Set-InAzd TO_REMOVE ($left -join ' ')
if ($left) { Stop-Here 'The rest is removed once the reason above is fixed: azd hooks run postdown' }
Write-Host 'What the deployment had added elsewhere is removed.'
