# The search service over the records: whether it will do, and whose index is on it. The same as search.sh.
$searchVersion = '2026-04-01'
$searchScope = 'https://search.azure.com'

function Test-Id([string]$id) { $id -like '/subscriptions/*/providers/Microsoft.Search/searchServices/*' }
# The address of an object of the service.
function Get-SearchUrl([string]$object) { "https://$search.search.windows.net/${object}?api-version=$searchVersion" }

# A service that is there already needs an identity, and must take tokens.
function Assert-Search {
    if (-not (Test-Id $env:SEARCH_SERVICE)) { return }
    $script:search = Get-Name $env:SEARCH_SERVICE
    $facts = @(Ask rest --method get --url "${env:SEARCH_SERVICE}?api-version=2025-05-01" --query `
            "join(' ', [not_null(identity.principalId, '-'), sku.name, to_string(properties.authOptions.apiKeyOnly)])") -join ''
    if (-not $worked) {
        $problem = Join-Line
        Stop-Here "The search service $env:SEARCH_SERVICE cannot be read. Is SEARCH_SERVICE right, and may you read it? $problem"
    }
    $identity, $sku, $keysOnly = $facts -split ' ', 3
    if ($sku -eq 'free') {
        Deny-Deployment "The search service $search is of the tier free, which has no identity. Use another one, or a new one: azd env set SEARCH_SERVICE basic."
    }
    if ($identity -eq '-') {
        Deny-Deployment "The search service $search has no identity, as which it could read the records. Give it one: az search service update --ids $env:SEARCH_SERVICE --identity-type SystemAssigned; then: azd provision."
    }
    if ($keysOnly -cne 'null') {
        Deny-Deployment "The search service $search takes keys only. Let it take roles as well: az search service update --ids $env:SEARCH_SERVICE --auth-options aadOrApiKey --aad-auth-failure-mode http403; then: azd provision."
    }
    Assert-Roles $env:SEARCH_SERVICE
}

# Whose data source of our name is on the service: $owner is none, ours, theirs, or nothing where the service does not say.
function Find-Owner {
    $script:owner = ''
    $described = @(Ask rest --method get --url (Get-SearchUrl datasources/image-embeddings) --resource $searchScope `
            --query "not_null(description, '-')") -join ' '
    if ($worked) {
        $script:owner = if ($described.Contains($mark)) { 'ours' } else { 'theirs' }
    }
    elseif (Test-Missing) {
        # An index of this name that is somebody else's would be replaced.
        $null = Ask rest --method get --url (Get-SearchUrl indexes/images) --resource $searchScope --query name
        if ($worked) { $script:owner = 'theirs' }
        elseif (Test-Missing) { $script:owner = 'none' }
    }
}
