# shellcheck shell=sh
# The search service over the records: whether it will do, and whose index is on it.
search_version=2026-04-01
search_scope=https://search.azure.com

is_id() {
  case $(lower "${1:-}") in /subscriptions/*/providers/microsoft.search/searchservices/*) ;; *) return 1 ;; esac
}
# The address of an object of the service.
search_url() {
  echo "https://$search.search.windows.net/$1?api-version=$search_version"
}

# A service that is there already needs an identity, and must take tokens.
check_search() {
  is_id "${SEARCH_SERVICE:-}" || return 0
  search=${SEARCH_SERVICE##*/}
  facts=$(ask rest --method get --url "$SEARCH_SERVICE?api-version=2025-05-01" --query \
    "join(' ', [not_null(identity.principalId, '-'), sku.name, to_string(properties.authOptions.apiKeyOnly)])") || {
    problem=$(in_one_line)
    fail "The search service $SEARCH_SERVICE cannot be read. Is SEARCH_SERVICE right, and may you read it? $problem"
  }
  read -r search_identity sku keys_only <<END
$facts
END
  [ "$sku" != free ] ||
    refuse "The search service $search is of the tier free, which has no identity. Use another one, or a new one: azd env set SEARCH_SERVICE basic."
  [ "$search_identity" != - ] ||
    refuse "The search service $search has no identity, as which it could read the records. Give it one: az search service update --ids $SEARCH_SERVICE --identity-type SystemAssigned; then: azd provision."
  [ "$keys_only" = null ] ||
    refuse "The search service $search takes keys only. Let it take roles as well: az search service update --ids $SEARCH_SERVICE --auth-options aadOrApiKey --aad-auth-failure-mode http403; then: azd provision."
  check_roles "$SEARCH_SERVICE"
}

# Whose data source of our name is on the service: $owner is none, ours, theirs, or nothing where the service does not say.
# shellcheck disable=SC2034 # whoever calls this reads $owner
find_owner() {
  if described=$(ask rest --method get --url "$(search_url datasources/image-embeddings)" --resource "$search_scope" \
    --query "not_null(description, '-')"); then
    case $described in *"$mark"*) owner=ours ;; *) owner=theirs ;; esac
  elif is_missing; then
    owner=none
    # An index of this name that is somebody else's would be replaced.
    if ask rest --method get --url "$(search_url indexes/images)" --resource "$search_scope" --query name >/dev/null; then
      owner=theirs
    elif ! is_missing; then
      owner=''
    fi
  else
    owner=''
  fi
}
