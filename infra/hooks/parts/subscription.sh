# shellcheck shell=sh
# What the subscription, its region and whoever deploys must bring along.
limit=${PREPROVISION_TIMEOUT:-600} # seconds
pause=${PREPROVISION_PAUSE:-10}    # seconds between two checks
location=$(lower "${AZURE_LOCATION:-}" | tr -d ' ')
group=${RESOURCE_GROUP:-${AZURE_RESOURCE_GROUP:-rg-$AZURE_ENV_NAME}}
rights=''

# refuse <why, and what to set>: only where Azure has given a clear answer. Without one the deployment goes on, and shows.
refuse() {
  ! is_true "${SKIP_CHECKS:-}" || return 0
  fail "$* To deploy all the same: azd env set SKIP_CHECKS true"
}

# $rights at a scope: of each role that the caller has there "actions ! what is left out of them".
read_rights() {
  rights=$(ask rest --method get --url "$1/providers/Microsoft.Authorization/permissions?api-version=2022-04-01" \
    --query "value[].join(' ! ', [join(' ', actions), join(' ', notActions)])") || rights=''
  rights=$(lower "$rights")
  [ -n "$rights" ] || echo "Azure does not say what you may do in $1, so that is not checked."
}
# may <action, in lower case>
may() {
  echo "$rights" | (
    set -f # these are patterns, but not of names of files
    while IFS='!' read -r allowed left_out; do
      # shellcheck disable=SC2086 # each word is one pattern
      if matches "$1" $allowed && ! matches "$1" $left_out; then exit 0; fi
    done
    exit 1
  )
}
matches() {
  action=$1
  shift
  for pattern in "$@"; do
    # shellcheck disable=SC2254 # it is a pattern
    case $action in $pattern) return 0 ;; esac
  done
  return 1
}
# Refuses whoever may not give roles at a scope.
check_roles() {
  read_rights "$1"
  [ -z "$rights" ] || may microsoft.authorization/roleassignments/write ||
    refuse "You may not give roles in $1, which the deployment does. Ask for the role Owner there, or for Role Based Access Control Administrator beside Contributor."
}

# register <subscription> <provider ...>: whatever is not registered yet, and waits for it.
register() {
  in=$1
  shift
  unregistered "$@"
  for provider in $waiting; do
    echo "Registering $provider in subscription $in ..."
    if ! az provider register --namespace "$provider" --subscription "$in" --output none --only-show-errors 2>"$said"; then
      problem=$(in_one_line)
      fail "$provider could not be registered, which needs the role Contributor on subscription $in: $problem"
    fi
  done
  end=$(($(date +%s) + limit))
  while [ -n "$waiting" ]; do
    unregistered "$@"
    [ -n "$waiting" ] || return 0
    if [ "$(date +%s)" -ge "$end" ]; then
      problem=$(in_one_line)
      fail "$waiting has not been registered after $limit s. See: az provider list --query [].[namespace,registrationState]; then: azd provision. $problem"
    fi
    sleep "$pause"
  done
}
# $waiting: those of the providers that are not registered.
unregistered() {
  : >"$said"
  registered=$(ask provider list --subscription "$in" --query "[?registrationState=='Registered'].namespace") || registered=''
  waiting=''
  for provider in "$@"; do
    echo "$registered" | grep -qix "$provider" || waiting="$waiting $provider"
  done
  waiting=${waiting# }
}

check_providers() {
  set -- Microsoft.Web Microsoft.Storage Microsoft.EventGrid Microsoft.ManagedIdentity Microsoft.Insights \
    Microsoft.OperationalInsights Microsoft.CognitiveServices
  # Microsoft.App is the network of Flex Consumption. No resource of the template is of it, so nothing else registers it.
  if is_true "${VNET_ENABLED:-}"; then set -- "$@" Microsoft.Network Microsoft.App; fi
  if [ -n "${SEARCH_SERVICE:-}" ]; then set -- "$@" Microsoft.Search; fi
  register "$subscription" "$@"
}

check_region() {
  [ -n "$location" ] || return 0
  regions=$(ask functionapp list-flexconsumption-locations --subscription "$subscription" --query "[].name") || regions=''
  if [ -z "$regions" ]; then
    echo "Azure does not say which regions offer Flex Consumption, so that is not checked. To see them: az functionapp list-flexconsumption-locations"
  elif ! echo "$regions" | tr -d ' ' | grep -qix "$location"; then
    regions=$(echo "$regions" | sort | tr '\n' ' ')
    refuse "$location does not offer Flex Consumption, on which the app runs. Choose one of these: azd env set AZURE_LOCATION <region>. $regions"
  fi
}

# Storage across zones where there is some, unless somebody has chosen otherwise.
check_redundancy() {
  [ -n "$location" ] && [ -z "${EXISTING_STORAGE_ACCOUNT_ID:-}" ] || return 0
  offered=$(ask rest --method get --url "/subscriptions/$subscription/providers/Microsoft.Storage/skus?api-version=2025-06-01" \
    --query "value[?resourceType=='storageAccounts' && kind=='StorageV2' && contains(locations, '$location')].name") || offered=''
  if [ -z "$offered" ]; then
    echo "Azure does not say which redundancy $location offers, so that is not checked."
  elif [ -n "${DATA_REDUNDANCY:-}" ]; then
    all=$(echo "$offered" | grep '^Standard_' | sort -u | tr '\n' ' ')
    echo "$offered" | grep -qx "$DATA_REDUNDANCY" ||
      refuse "$location does not offer storage as $DATA_REDUNDANCY. Choose one of these: azd env set DATA_REDUNDANCY <redundancy>. $all"
  elif ! echo "$offered" | grep -qx Standard_ZRS; then
    set_in_azd DATA_REDUNDANCY Standard_LRS
    echo "$location has no storage across zones: DATA_REDUNDANCY is set to Standard_LRS."
  fi
}

# A Foundry resource keeps its name for 48 hours after it was deleted, and one of the same name is refused.
check_deleted() {
  [ -z "${EXISTING_FOUNDRY_RESOURCE_ID:-}" ] || return 0
  deleted=$(ask cognitiveservices account list-deleted --subscription "$subscription" --query "[].id") || return 0
  twin=$(echo "$deleted" | grep -i "/resourceGroups/$group/deletedAccounts/ai-" | head -n 1)
  [ -n "$twin" ] || return 0
  name=${twin##*/}
  where=${twin#*/locations/}
  where=${where%%/*}
  refuse "The Foundry resource $name was deleted a short while ago, and keeps its name for 48 hours. Purge it: az cognitiveservices account purge --location $where --resource-group $group --name $name; then: azd provision."
}
