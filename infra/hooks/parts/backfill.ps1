# Images that were there before the app: how many, how long and how much, and whether to embed them now.
# The same as backfill.sh.

# As in infra/plan.py, in US$: what an image costs in storage, queues, events and logs, and a GB of an instance for a second;
# and the seconds of a core that it takes.
$othersCost = 0.000035
$functionsCost = 0.000026
$coreSeconds = 0.15

# Invoke-App <route> <JSON>: $status, and the answer in $found. Whether it was one.
function Invoke-App([string]$route, [string]$json) {
    $script:status = '000'
    $script:found = $null
    try {
        $answer = Invoke-WebRequest -Method Post -Uri "$env:FUNCTION_APP_URL/api/$route" -Body $json -ContentType 'application/json' `
            -Headers @{ 'x-functions-key' = $key } -SkipHttpErrorCheck -TimeoutSec 240
        $script:status = "$($answer.StatusCode)"
        $text = if ($answer.Content -is [byte[]]) { [Text.Encoding]::UTF8.GetString($answer.Content) } else { $answer.Content }
        $script:said = $text
        if ($status -ne '200' -and $status -ne '202') { return $false }
        $script:found = $text | ConvertFrom-Json
        $true
    }
    catch {
        $script:said = $_.Exception.Message
        $status -eq '200' -or $status -eq '202'
    }
}

# $tokensAMinute and $callsAMinute that the deployment of the model allows; nothing where Azure does not say.
function Read-Limits {
    $script:tokensAMinute = 0
    $script:callsAMinute = 0
    $limits = @(Ask rest --method get --url "$env:FOUNDRY_RESOURCE_ID/deployments/${env:FOUNDRY_MODEL}?api-version=2025-06-01" `
            --query "properties.rateLimits[].join(' ', [key, to_string(count), to_string(renewalPeriod)])")
    foreach ($line in $limits) {
        $what, $count, $period = $line -split ' '
        if ([double]$period -le 0) { continue }
        $aMinute = [Math]::Floor([double]$count * 60 / [double]$period)
        if ($what -ceq 'token') { $script:tokensAMinute = $aMinute }
        if ($what -ceq 'request') { $script:callsAMinute = $aMinute }
    }
}

# $hours and the $money for the model and for all $others, by the arithmetic of infra/plan.py: the quota decides, or the cores.
function Measure-Backfill([double]$calls) {
    Read-Limits
    $plain = [Globalization.CultureInfo]::InvariantCulture
    $each = [double]$env:IMAGE_TOKENS
    $script:money = ($calls * $each / 1e6 * [double]::Parse($env:MILLION_TOKENS_COST, $plain)).ToString('0.00', $plain)
    $script:hours = ''
    $script:others = ''
    if (-not $tokensAMinute) { return }
    $rate = $tokensAMinute / $each
    if ($callsAMinute -gt 0) { $rate = [Math]::Min($rate, $callsAMinute) }
    $rate *= [double]::Parse((Get-First $env:BACKLOG_SHARE 0.9), $plain)
    $instances = [double](Get-First $env:MAXIMUM_INSTANCE_COUNT 40)
    $memory = [double](Get-First $env:INSTANCE_MEMORY_MB 2048)
    $one = $memory / 2048 / $coreSeconds * 60
    $needed = [Math]::Min([Math]::Floor($rate / $one) + 1, $instances)
    $minutes = $calls / [Math]::Min($rate, $needed * $one)
    $script:hours = ($minutes / 60).ToString('0.0', $plain)
    $script:others = ($calls * $othersCost + $needed * $minutes * 60 * $memory / 1024 * $functionsCost).ToString('0.00', $plain)
}

function Test-Asked { -not $env:BACKFILL -and -not $env:CI -and -not [Console]::IsInputRedirected }

function Start-Backfill {
    $script:key = @(Ask rest --method post --url "$site/host/default/listkeys?api-version=2024-11-01" --query 'functionKeys.default') -join ''
    $later = 'To embed them: azd env set BACKFILL true; then: azd hooks run postdeploy'
    if (-not $key -or -not (Invoke-App reconcile '{"dry_run": true}')) {
        $problem = Join-Line
        Write-Host "It could not be counted which images have no embedding yet. If there are any: azd env set BACKFILL true; then: azd hooks run postdeploy. $problem"
        return
    }
    $images = $found.images
    $calls = $found.estimate.calls
    if (-not (Test-Whole "$images") -or -not (Test-Whole "$calls")) { return }
    if ($images -eq 0) { return }
    if ($calls -eq 0) {
        Write-Host "The container $env:IMAGES_CONTAINER has $images images, and each has its embedding."
        return
    }
    # An audit of more than some millions goes on by itself: what is counted so far is not all.
    $least = if ($null -eq $found.finished_at) { 'at least ' } else { '' }
    Measure-Backfill $calls
    Write-Host "The container $env:IMAGES_CONTAINER has $least$images images, of which $least$calls have no embedding yet."
    $unit = if ($env:TOKEN_PRICE) { "$money (by TOKEN_PRICE)" } else { "US`$ $money" }
    if ($hours) {
        Write-Host "Embedding them takes about $hours hours, and costs about $unit for the model and at most US`$ $others for all else."
    }
    else {
        Write-Host "Embedding them costs about $unit for the model. Azure does not say what the deployment allows, so how long it takes, and what else it costs, is not known."
    }
    $start = Test-True $env:BACKFILL
    if (Test-Asked) {
        Write-Host -NoNewline 'Start now? [y/N] '
        $start = [Console]::In.ReadLine() -match '^(y|yes)$'
    }
    if (-not $start) {
        Write-Host $later
        return
    }
    if (-not (Invoke-App reconcile '{}')) {
        $problem = Join-Line
        Stop-Here "The backfill could not be started (status $status). Again: azd hooks run postdeploy. $problem"
    }
    Write-Host "The backfill has started. How far it is: $env:FUNCTION_APP_URL/api/status"
}
