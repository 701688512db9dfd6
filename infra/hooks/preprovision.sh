#!/bin/sh
# Before `azd provision`: register Microsoft.App, on whose network Flex Consumption runs. No resource of the template is of
# that provider, so nothing else registers it, and a virtual network for the app would be refused.
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

case ${VNET_ENABLED:-} in
  1 | [Tt] | [Tt][Rr][Uu][Ee]) ;;
  *) exit 0 ;;
esac
[ -n "${AZURE_SUBSCRIPTION_ID:-}" ] ||
  fail "AZURE_SUBSCRIPTION_ID is not set. Set it: azd env set AZURE_SUBSCRIPTION_ID <id>; then: azd provision"
command -v az >/dev/null 2>&1 || fail "The Azure CLI is needed: https://aka.ms/install-az"
az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none 2>/dev/null ||
  fail "The Azure CLI is not signed in to subscription $AZURE_SUBSCRIPTION_ID. Sign in: az login"

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
