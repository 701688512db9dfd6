#!/bin/sh
# Before `azd provision`, so that nothing is made that cannot be finished:
# - An app that runs already keeps its model, the API on which it asks it and the capacity of the deployment, whatever the
#   defaults of the template have become: what differs from them is set in the azd environment.
# - Rights, region, redundancy, model, quota and names are checked. Each refusal says what to set.
# - Providers are registered.
# - Of an account that is there already it is found out what must be left as it is.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=parts/azure.sh
. "$here/parts/azure.sh"
if [ -z "$subscription" ] || [ -z "${AZURE_ENV_NAME:-}" ]; then
  # These cannot do without the hook.
  if [ -n "${EXISTING_STORAGE_ACCOUNT_ID:-}" ] || is_true "${VNET_ENABLED:-}"; then
    fail "AZURE_SUBSCRIPTION_ID is not set. Set it: azd env set AZURE_SUBSCRIPTION_ID <id>; then: azd provision"
  fi
  echo "No subscription is chosen yet, so nothing is checked before this deployment."
  exit 0
fi
# shellcheck source=parts/subscription.sh
. "$here/parts/subscription.sh"
# shellcheck source=parts/model.sh
. "$here/parts/model.sh"
# shellcheck source=parts/storage.sh
. "$here/parts/storage.sh"
# shellcheck source=parts/search.sh
. "$here/parts/search.sh"

needs_az
look_around
keep_what_runs
check_roles "/subscriptions/$subscription"
# What runs already has shown that its region will do.
if [ -z "$site" ]; then
  check_region
  check_redundancy
fi
[ -n "$resource" ] || check_deleted
check_models
check_providers
prepare_account
check_search
