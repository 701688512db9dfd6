# shellcheck shell=sh
# The model: an app that runs already keeps its own, and a new deployment must be offered, and fit into the quota.
model=${MODEL_NAME:-}
api=${MODEL_API:-}
query_model=${QUERY_MODEL_NAME:-}
existing=${EXISTING_FOUNDRY_RESOURCE_ID:-}
region=${FOUNDRY_LOCATION:-${AZURE_LOCATION:-}}

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
# Sold in the Azure Marketplace, not by Azure itself.
is_bought() {
  case $1 in Cohere-embed-v3-*) ;; *) return 1 ;; esac
}
cannot_ask() {
  problem=$(in_one_line)
  fail "Azure does not say which model the app runs with, so it could become another one. Set MODEL_NAME, MODEL_API and MODEL_CAPACITY with azd env set to what is deployed; then: azd provision. $problem"
}

# Of the resources of this environment.
first_of() {
  echo "$made" | grep -i "$1" | head -n 1
}

# Reads of what is deployed: $deployment and $path of the app, and of each deployment of its resource "name model capacity".
look_around() {
  deployment='' path='' deployments=''
  made=$(ask resource list --subscription "$subscription" --tag "azd-env-name=$AZURE_ENV_NAME" --query "[].id") || cannot_ask
  site=$(first_of /providers/Microsoft.Web/sites/)
  resource=$(first_of /providers/Microsoft.CognitiveServices/accounts/)
  if [ -n "$site" ]; then
    settings=$(ask rest --method post --url "$site/config/appsettings/list?api-version=2024-11-01" \
      --query "join(' ', [not_null(properties.FOUNDRY_MODEL, ''), not_null(properties.FOUNDRY_ENDPOINT, '')])") || cannot_ask
    deployment=${settings%% *}
    path=${settings#* }
    path=${path%% *} # the first of several
  fi
  foundry=${existing:-$resource}
  if [ -n "$foundry" ]; then
    # Who deploys may have no right to read a resource of somebody else.
    deployments=$(ask rest --method get --url "$foundry/deployments?api-version=2025-06-01" \
      --query "value[].join(' ', [name, properties.model.name, to_string(sku.capacity)])") || [ -n "$existing" ] || cannot_ask
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

# Of each of Cohere's models in the region "name version sku=counter ...", where the counter is that of its quota.
read_catalogue() {
  catalogue=''
  [ -n "$region" ] || return 0
  catalogue=$(ask cognitiveservices model list --location "$region" --subscription "$subscription" --query \
    "[?model.format=='Cohere'].model.join(' ', [name, version, join(' ', skus[].join('=', [name, not_null(usageName, '')]))])") ||
    catalogue=''
  [ -n "$catalogue" ] ||
    echo "Azure does not say which models $region offers, so that is not checked. To see them: az cognitiveservices model list --location $region"
}

# Refuses a model that the region does not have in this version, with this sku.
check_offer() {
  [ -n "$catalogue" ] || return 0
  version=${MODEL_VERSION:-1}
  of_it=$(echo "$catalogue" | awk -v name="$1" '$1 == name')
  [ -n "$of_it" ] ||
    refuse "$region does not offer $1. Choose another region for it: azd env set FOUNDRY_LOCATION <region>; or another model: azd env set MODEL_NAME <name>."
  offer=$(echo "$of_it" | awk -v version="$version" '$2 == version')
  versions=$(echo "$of_it" | awk '{ print $2 }' | sort -u | tr '\n' ' ')
  [ -n "$offer" ] ||
    refuse "$region offers $1 in version ${versions% }, not in $version. Choose that: azd env set MODEL_VERSION <version>."
  case $offer in
    *" GlobalStandard="*) ;;
    *) refuse "$region does not offer $1 as GlobalStandard. Choose another region for it: azd env set FOUNDRY_LOCATION <region>." ;;
  esac
}

# choose_capacity <setting> <its value> <model> <deployment>: what is deployed stays, and what is new must fit into the quota.
choose_capacity() {
  chosen=$2 of=$3
  [ "$chosen" != 0 ] || chosen=''
  default=$(capacity_of "$of")
  now=$(capacity_in "$4")
  if is_whole "$now" && [ -z "$chosen" ]; then
    [ "$now" -ne "$default" ] || return 0
    set_in_azd "$1" "$now"
    echo "The deployment of $of keeps its capacity of $now: $1 is set to it. The default is $default; docs/models.md says what a unit allows."
    return 0
  fi
  is_whole "$now" || now=0
  wanted=${chosen:-$default}
  [ "$wanted" -gt "$now" ] && [ "$wanted" -gt 1 ] && [ -n "$region" ] || return 0
  free=$(free_units)
  if ! is_whole "$free"; then
    echo "Azure does not say how much quota is left for $of in $region. If its deployment is refused: az cognitiveservices usage list --location $region; then: azd env set $1 <units>"
    return 0
  fi
  most=$((free + now))
  if [ "$most" -ge "$wanted" ]; then
    return 0
  elif [ "$most" -eq 0 ]; then
    refuse "Nothing is left of the quota for $of in $region. Ask for more in the Foundry portal, or try another region: azd env set FOUNDRY_LOCATION <region>."
  elif [ -n "$chosen" ]; then
    refuse "$1 is $chosen, and the quota for $of in $region allows $most. Lower it: azd env set $1 $most; or ask for more in the Foundry portal."
  else
    set_in_azd "$1" "$most"
    echo "The quota for $of in $region has $most units left, less than the default of $default: $1 is set to that. To see it: az cognitiveservices usage list --location $region"
  fi
}
# The units that are left of the quota of the model $of; nothing where az does not say.
free_units() {
  counter=$(echo "$catalogue" | awk -v name="$of" '$1 == name' | sed -n 's/.* GlobalStandard=\([^ ]*\).*/\1/p' | head -n 1)
  [ -n "$counter" ] || return 0
  left=$(ask cognitiveservices usage list --location "$region" --subscription "$subscription" \
    --query "[?name.value=='$counter'] | [0].[to_string(limit), to_string(currentValue)] | join(' ', @)") || return 0
  limit_of_it=${left%% *} used=${left#* }
  limit_of_it=${limit_of_it%.*} used=${used%.*}
  is_whole "$limit_of_it" && is_whole "$used" || return 0
  if [ "$used" -lt "$limit_of_it" ]; then echo $((limit_of_it - used)); else echo 0; fi
}

# Models that are bought in the Marketplace, which not every subscription, and not everybody, may.
check_purchase() {
  is_bought "$1" || return 0
  kind=$(ask rest --method get --url "/subscriptions/$subscription?api-version=2022-12-01" \
    --query "subscriptionPolicies.quotaId") || kind=''
  case $kind in
    FreeTrial_* | AzureForStudents* | DreamSpark_* | AzurePass_* | MSDN_*)
      refuse "$1 is sold in the Azure Marketplace, where this subscription ($kind) cannot buy. Choose a model that Azure itself sells: azd env set MODEL_NAME embed-v-4-0."
      ;;
  esac
  [ -z "$rights" ] || may microsoft.marketplaceordering/agreements/offers/plans/sign/action ||
    refuse "$1 is sold in the Azure Marketplace, and you may not accept its terms. Ask for the role Contributor on subscription $subscription, or choose a model that Azure itself sells: azd env set MODEL_NAME embed-v-4-0."
  echo "$1 is sold in the Azure Marketplace: its deployment accepts the terms of https://azuremarketplace.microsoft.com/marketplace/apps/cohere.cohere-embed-v3-english-offer"
}

check_models() {
  model=${model:-embed-v-4-0}
  # The deployments of a resource that is there already are somebody else's matter.
  [ -z "$existing" ] || return 0
  read_catalogue
  for each in "$model" $query_model; do
    check_offer "$each"
    check_purchase "$each"
  done
  choose_capacity MODEL_CAPACITY "${MODEL_CAPACITY:-}" "$model" "${MODEL_DEPLOYMENT_NAME:-$model}"
  [ -z "$query_model" ] ||
    choose_capacity QUERY_MODEL_CAPACITY "${QUERY_MODEL_CAPACITY:-}" "$query_model" "${QUERY_MODEL_DEPLOYMENT_NAME:-$query_model}"
}
