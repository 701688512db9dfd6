# Puts the definitions of infra/search on the search service. search.ps1 is read before. The same as index.sh.

# A key that opens the vectorizer and nothing else. It is never shown, and in no argument of a program.
function Read-VectorizerKey {
    $script:key = @(Ask functionapp function keys list --subscription $subscription --resource-group $env:AZURE_RESOURCE_GROUP `
            --name $env:FUNCTION_APP_NAME --function-name vectorizer --query search) -join ''
    if (-not $worked) { return $false }
    if (-not $key -or $key -eq 'None') {
        $script:key = @(Ask functionapp function keys set --subscription $subscription --resource-group $env:AZURE_RESOURCE_GROUP `
                --name $env:FUNCTION_APP_NAME --function-name vectorizer --key-name search --query value) -join ''
    }
    $worked
}

# Set-Definition <object> <file>: with its placeholders filled in, and a line for each key that IMAGE_METADATA lists.
function Set-Definition([string]$object, [string]$file) {
    $text = Get-Content -Raw (Join-Path $here "../search/$file")
    $text = $text.Replace('"<dimensions>"', $env:VECTOR_LENGTH).Replace('<space>', $env:EMBEDDING_SPACE)
    $text = $text.Replace('<embeddings-container>', $env:EMBEDDINGS_CONTAINER)
    $text = $text.Replace('<function-app-host>', $env:FUNCTION_APP_URL.Replace('https://', '')).Replace('<vectorizer-key>', $key)
    $text = $text.Replace('/subscriptions/<subscription>/resourceGroups/<resource-group>/providers/Microsoft.Storage/storageAccounts/<storage-account>', $env:DATA_ACCOUNT_ID)
    $text = $text.Replace('<deployment>', $mark)
    $keys = "$env:IMAGE_METADATA".ToLowerInvariant() -split '[ ,]+' | Where-Object { $_ -match '^[a-z_][a-z0-9_]*$' } | Select-Object -Unique
    $text = ($text -split "`n" | ForEach-Object {
            $line = $_
            if ($line.Contains('<metadata-key>')) { $keys | ForEach-Object { $line.Replace('<metadata-key>', $_) } } else { $line }
        }) -join "`n"
    $body = [IO.Path]::GetTempFileName()
    try {
        [IO.File]::WriteAllText($body, $text)
        $lines = az rest --method put --url (Get-SearchUrl $object) --resource $searchScope --headers content-type=application/json `
            --body "@$body" --output none --only-show-errors 2>&1
        $script:worked = $LASTEXITCODE -eq 0
        $null = Read-Answer $lines
    }
    finally { Remove-Item $body }
    $worked
}
function Set-Index {
    Find-Owner
    if ($owner -eq 'theirs') {
        Stop-Here "The search service $search has an index images, or a data source image-embeddings, of somebody else. Use another service: azd env set SEARCH_SERVICE basic; then: azd provision"
    }
    $owner -and (Read-VectorizerKey) -and (Set-Definition indexes/images index.json) -and
    (Set-Definition datasources/image-embeddings datasource.json) -and (Set-Definition indexers/image-embeddings indexer.json)
}

function Add-Index {
    if (-not $env:SEARCH_SERVICE_ID) { return }
    $script:search = Get-Name $env:SEARCH_SERVICE_ID
    $end = (Get-Date).AddSeconds($limit)
    while (-not (Set-Index)) {
        $problem = Join-Line
        if ((Get-Date) -ge $end) {
            Stop-Here "The index could not be put on the search service ${search}: that needs the role Search Service Contributor there. Once the reason is fixed: azd hooks run postdeploy. $problem"
        }
        Write-Host "The index could not be put on the search service yet (new roles take up to ten minutes to take effect) ... $problem"
        Start-Sleep -Seconds $pause
    }
    $script:key = ''
    Write-Host "The search service $search has the index images, and copies new records to it every five minutes."
}
