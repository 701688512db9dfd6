#!/bin/sh
# Before `azd provision`:
# - An app that runs already keeps its model, the API on which it asks it and the capacity of the deployment, whatever the
#   defaults of the template have become: what differs from them is set in the azd environment.
# - A new deployment of a model gets no more capacity than what is left of the subscription's quota.
# - Microsoft.App is registered, on whose network Flex Consumption runs. No resource of the template is of that provider, so
#   nothing else registers it, and a virtual network for the app would be refused.
set -eu

limit=${PREPROVISION_TIMEOUT:-600} # seconds
pause=${PREPROVISION_PAUSE:-10}    # seconds between two checks
said=$(mktemp) # what az complained of
trap 'rm -f "$said"' EXIT

fail() {
  echo "$*" >&2
  exit 1
}
in_one_line() {
  LC_ALL=C tr -s '[:cntrl:] ' ' ' <"$said" | cut -c 1-400
}
needs_az() {
  command -v az >/dev/null 2>&1 || fail "The Azure CLI is needed: https://aka.ms/install-az"
  az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none 2>/dev/null ||
    fail "The Azure CLI is not signed in to subscription $AZURE_SUBSCRIPTION_ID. Sign in: az login"
}

subscription=${AZURE_SUBSCRIPTION_ID:-}
model=${MODEL_NAME:-}
api=${MODEL_API:-}
capacity=${MODEL_CAPACITY:-}
query_model=${QUERY_MODEL_NAME:-}
existing=${EXISTING_FOUNDRY_RESOURCE_ID:-}

# What infra/models.json says of a model: the API that is chosen, and the capacity.
api_of() {
  case $1 in Cohere-embed-v3-*) echo models ;; *) echo cohere ;; esac
}
capacity_of() {
  case $1 in Cohere-embed-v3-*) echo 1 ;; *) echo 300 ;; esac
}
is_known() {
  case $1 in
    Cohere-embed-v3-english | Cohere-embed-v3-multilingual | embed-v-4-0 | Cohere-Embed-V5-Pro | Cohere-Embed-V5-Fast) ;;
    *) return 1 ;;
  esac
}
is_whole() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
}
set_in_azd() {
  azd env set "$1" "$2" --environment "$AZURE_ENV_NAME" >"$said" 2>&1 ||
    fail "$1 could not be set in the azd environment. Set it: azd env set $1 $2; then: azd provision"
}
cannot_ask() {
  problem=$(in_one_line)
  fail "Azure does not say which model the app runs with, so it could become another one. Set MODEL_NAME, MODEL_API and MODEL_CAPACITY with azd env set to what is deployed; then: azd provision. $problem"
}

# Of the resources of this environment.
first_of() {
  echo "$made" | tr -d '\r' | grep -i "$1" | head -n 1
}

# Reads of what is deployed: $deployment and $path of the app, and of each deployment of its resource "name model capacity".
look_around() {
  deployment='' path='' deployments=''
  made=$(az resource list --subscription "$subscription" --tag "azd-env-name=$AZURE_ENV_NAME" --query "[].id" \
    --output tsv --only-show-errors 2>"$said") || cannot_ask
  site=$(first_of /providers/Microsoft.Web/sites/)
  account=$(first_of /providers/Microsoft.CognitiveServices/accounts/)
  if [ -n "$site" ]; then
    settings=$(az rest --method post --url "$site/config/appsettings/list?api-version=2024-11-01" \
      --query "join(' ', [not_null(properties.FOUNDRY_MODEL, ''), not_null(properties.FOUNDRY_ENDPOINT, '')])" \
      --output tsv --only-show-errors 2>"$said") || cannot_ask
    settings=$(echo "$settings" | tr -d '\r')
    deployment=${settings%% *}
    path=${settings#* }
    path=${path%% *} # the first of several
  fi
  foundry=${existing:-$account}
  if [ -n "$foundry" ]; then
    # Who deploys may have no right to read a resource of somebody else.
    deployments=$(az rest --method get --url "$foundry/deployments?api-version=2025-06-01" \
      --query "value[].join(' ', [name, properties.model.name, to_string(sku.capacity)])" \
      --output tsv --only-show-errors 2>"$said") || [ -n "$existing" ] || cannot_ask
    deployments=$(echo "$deployments" | tr -d '\r')
  fi
}
# The model, or the capacity, of a deployment by its name; nothing if there is none.
model_in() {
  echo "$deployments" | while read -r name of units; do [ "$name" != "$1" ] || echo "$of"; done
}
capacity_in() {
  echo "$deployments" | while read -r name of units; do [ "$name" != "$1" ] || echo "$units"; done
}

keep_what_runs() {
  [ -n "$deployment" ] || return 0
  case $path in
    */providers/cohere/v2 | */providers/cohere/v2/) runs_on=cohere ;;
    */models | */models/) runs_on=models ;;
    *) runs_on='' ;;
  esac
  runs=$(model_in "$deployment")
  is_known "$runs" || runs=$deployment
  if [ -z "$model" ] && is_known "$runs" && [ "$runs" != embed-v-4-0 ]; then
    set_in_azd MODEL_NAME "$runs"
    model=$runs
    echo "The app runs with $runs and keeps it: MODEL_NAME is set to it. docs/models.md says how to move to another model."
  fi
  # Another model, or another deployment, starts with what is best for it.
  [ "${MODEL_DEPLOYMENT_NAME:-${model:-embed-v-4-0}}" = "$deployment" ] || return 0
  if [ -z "$api" ] && [ -n "$runs_on" ] && [ "$runs_on" != "$(api_of "${model:-embed-v-4-0}")" ]; then
    set_in_azd MODEL_API "$runs_on"
    echo "The app asks its model on the API $runs_on and goes on so: MODEL_API is set to it. docs/models.md says what another one changes."
  fi
}

# choose_capacity <setting> <model> <deployment>: it stays what it is, or becomes what is left of the quota.
choose_capacity() {
  of=$2
  default=$(capacity_of "$of")
  now=$(capacity_in "$3")
  if is_whole "$now"; then
    [ "$now" -ne "$default" ] || return 0
    set_in_azd "$1" "$now"
    echo "The deployment of $of keeps its capacity of $now: $1 is set to it. The default is $default; docs/models.md says what a unit allows."
    return 0
  fi
  region=${FOUNDRY_LOCATION:-${AZURE_LOCATION:-}}
  [ "$default" -gt 1 ] && [ -n "$region" ] || return 0
  free=$(free_units)
  if ! is_whole "$free"; then
    echo "Azure does not say how much quota is left for $of in $region. If its deployment is refused: az cognitiveservices usage list --location $region; then: azd env set $1 <units>"
  elif [ "$free" -eq 0 ]; then
    echo "Nothing is left of the quota for $of in $region, so its deployment will probably be refused. Ask for more in the Foundry portal, or try another region: azd env set FOUNDRY_LOCATION <region>"
  elif [ "$free" -lt "$default" ]; then
    set_in_azd "$1" "$free"
    echo "The quota for $of in $region has $free units left, less than the default of $default: $1 is set to that. To see it: az cognitiveservices usage list --location $region"
  fi
}
# The units that are left of the quota of the model $of in $region; nothing where az does not say.
free_units() {
  counter=$(az cognitiveservices model list --location "$region" --subscription "$subscription" \
    --query "[?model.format=='Cohere' && model.name=='$of'].model.skus[] | [?name=='GlobalStandard'].usageName | [0]" \
    --output tsv --only-show-errors 2>"$said" | tr -d '\r') || return 0
  [ -n "$counter" ] || return 0
  az cognitiveservices usage list --location "$region" --subscription "$subscription" \
    --query "[?name.value=='$counter'] | [0].[to_string(limit), to_string(currentValue)] | join(' ', @)" \
    --output tsv --only-show-errors 2>"$said" | tr -d '\r' | {
    read -r most used || true
    most=${most%.*} used=${used%.*}
    is_whole "${most:-}" && is_whole "${used:-}" || return 0
    if [ "$used" -lt "$most" ]; then echo $((most - used)); else echo 0; fi
  }
}

# Whether a deployment is made here whose capacity nobody has set.
is_open() {
  [ -z "$existing" ] && [ -n "$1" ] && [ -z "$2" ]
}

# Without a subscription nothing has been deployed from this environment; with everything set there is nothing to find out.
if [ -n "$subscription" ] && [ -n "${AZURE_ENV_NAME:-}" ] && {
  [ -z "$model" ] || [ -z "$api" ] || is_open "$model" "$capacity" || is_open "$query_model" "${QUERY_MODEL_CAPACITY:-}"
}; then
  needs_az
  look_around
  keep_what_runs
  model=${model:-embed-v-4-0}
  ! is_open "$model" "$capacity" || choose_capacity MODEL_CAPACITY "$model" "${MODEL_DEPLOYMENT_NAME:-$model}"
  ! is_open "$query_model" "${QUERY_MODEL_CAPACITY:-}" ||
    choose_capacity QUERY_MODEL_CAPACITY "$query_model" "${QUERY_MODEL_DEPLOYMENT_NAME:-$query_model}"
fi

case ${VNET_ENABLED:-} in
  1 | [Tt] | [Tt][Rr][Uu][Ee]) ;;
  *) exit 0 ;;
esac
[ -n "$subscription" ] ||
  fail "AZURE_SUBSCRIPTION_ID is not set. Set it: azd env set AZURE_SUBSCRIPTION_ID <id>; then: azd provision"
needs_az

is_registered() {
  state=$(az provider show --namespace Microsoft.App --subscription "$AZURE_SUBSCRIPTION_ID" --query registrationState \
    --output tsv --only-show-errors 2>"$said") || return 1
  [ "$(echo "$state" | tr -d '[:space:]')" = Registered ]
}

is_registered && exit 0
echo "Registering Microsoft.App in the subscription, for the virtual network ..."
if ! az provider register --namespace Microsoft.App --subscription "$AZURE_SUBSCRIPTION_ID" --output none \
  --only-show-errors 2>"$said"; then
  problem=$(in_one_line)
  fail "Microsoft.App could not be registered, which needs the role Contributor on the subscription: $problem"
fi
end=$(($(date +%s) + limit))
until is_registered; do
  if [ "$(date +%s)" -ge "$end" ]; then
    problem=$(in_one_line)
    fail "Microsoft.App has not been registered after $limit s. See: az provider show --namespace Microsoft.App; then: azd provision. $problem"
  fi
  sleep "$pause"
done
