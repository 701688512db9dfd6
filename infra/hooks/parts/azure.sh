# shellcheck shell=sh
# How every hook talks to az and azd. The hooks read this with `.`; azure.ps1 is the same for PowerShell.
said=$(mktemp) # what az or curl complained of
body=$(mktemp) # what goes to the app or a search service, or comes from there
trap 'rm -f "$said" "$body"' EXIT
subscription=${AZURE_SUBSCRIPTION_ID:-}
# main.bicep gives this to everything that it adds to groups of others.
# shellcheck disable=SC2034 # postdown needs none
mark="image-embeddings/$subscription/${AZURE_ENV_NAME:-}"

fail() {
  echo "$*" >&2
  exit 1
}

# What az says may contain the webhook's address with its key, and what answers in the app's place may be a page, or no text.
readable() {
  LC_ALL=C tr -d '\000-\010\013-\037\177' <"$said" | sed -E 's/code(=|%3[Dd])[^&" ]*/code=(not shown)/g' | head -c 2000
}
in_one_line() {
  readable | tr -s '\n\t ' ' ' | head -c 400
}

needs_az() {
  command -v az >/dev/null 2>&1 || fail "The Azure CLI is needed: https://aka.ms/install-az"
  az account show --subscription "$subscription" --output none 2>/dev/null ||
    fail "The Azure CLI is not signed in to subscription $subscription. Sign in: az login"
}

# ask <arguments of az>: prints the answer, and fails as az does.
ask() {
  asked=$(az "$@" --output tsv --only-show-errors 2>"$said") || return 1
  printf '%s\n' "$asked" | tr -d '\r'
}
# Whether the last answer was that there is no such thing.
is_missing() {
  grep -qi 'not *found' "$said"
}

set_in_azd() {
  azd env set "$1" "$2" --environment "$AZURE_ENV_NAME" >"$said" 2>&1 ||
    fail "$1 could not be set in the azd environment. Set it: azd env set $1 $2; then: azd provision"
}

is_true() {
  case ${1:-} in 1 | [Tt] | [Tt][Rr][Uu][Ee]) ;; *) return 1 ;; esac
}
is_whole() {
  case ${1:-} in '' | *[!0-9]*) return 1 ;; esac
}
lower() {
  echo "$1" | tr '[:upper:]' '[:lower:]'
}
# Of the id of a resource: its subscription, its group.
subscription_of() {
  echo "$1" | cut -d / -f 3
}
group_of() {
  echo "$1" | cut -d / -f 5
}
