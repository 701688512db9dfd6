# How every hook talks to az and azd: the same as azure.sh, for PowerShell. The hooks read it with `.`, so everything is in one scope.
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $false
$said = '' # what az or the app complained of
$worked = $true
$subscription = $env:AZURE_SUBSCRIPTION_ID
# main.bicep gives this to everything that it adds to groups of others.
$mark = "image-embeddings/$subscription/$env:AZURE_ENV_NAME"

function Stop-Here([string]$message) {
    [Console]::Error.WriteLine($message)
    exit 1
}

# What az says may contain the webhook's address with its key, and what answers in the app's place may be a page, or no text.
function Get-Readable([string]$text) {
    $text = $text -replace '[\x00-\x08\x0B-\x1F\x7F]' -replace 'code(=|%3D)[^&" ]*', 'code=(not shown)'
    $text.Substring(0, [Math]::Min(2000, $text.Length))
}
function Join-Line {
    $line = (Get-Readable ($script:said -join ' ')) -replace '\s+', ' '
    $line.Substring(0, [Math]::Min(400, $line.Length))
}

function Assert-Az {
    if (-not (Get-Command az -ErrorAction SilentlyContinue)) {
        Stop-Here 'The Azure CLI is needed: https://aka.ms/install-az'
    }
    az account show --subscription $subscription --output none 2>$null
    if ($LASTEXITCODE -ne 0) {
        Stop-Here "The Azure CLI is not signed in to subscription $subscription. Sign in: az login"
    }
}

# Ask <arguments of az>: the lines of the answer, and in $worked whether there was one.
function Ask {
    $lines = az @args --output tsv --only-show-errors 2>&1
    $script:worked = $LASTEXITCODE -eq 0
    Read-Answer $lines
}
# Passes on what az answered, and keeps what it complained of.
function Read-Answer($lines) {
    $script:said = ($lines | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] }) -join ' '
    if (-not $worked) { return }
    $lines | Where-Object { $_ -isnot [System.Management.Automation.ErrorRecord] } | ForEach-Object { "$_".TrimEnd("`r") } |
        Where-Object { $_ }
}
# Whether the last answer was that there is no such thing.
function Test-Missing { $script:said -match 'not *found' }

function Set-InAzd([string]$name, [string]$value) {
    azd env set $name $value --environment $env:AZURE_ENV_NAME *>$null
    if ($LASTEXITCODE -ne 0) {
        Stop-Here "$name could not be set in the azd environment. Set it: azd env set $name $value; then: azd provision"
    }
}

function Test-True([string]$value) { $value -match '^(1|t|true)$' }
function Test-Whole([string]$value) { $value -match '^[0-9]+$' }
# The first of these that is not empty.
function Get-First { foreach ($value in $args) { if ($value) { return "$value" } } }
# Of the id of a resource: its subscription, its group, its name.
function Get-Subscription([string]$id) { ($id -split '/')[2] }
function Get-Group([string]$id) { ($id -split '/')[4] }
function Get-Name([string]$id) { ($id -split '/')[-1] }
