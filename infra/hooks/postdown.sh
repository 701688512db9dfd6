#!/bin/sh
# After `azd down`: removes what predown has found in other groups than the one that azd has deleted. What is gone already is
# no fault. Safe to run again: azd hooks run postdown
set -euf # there are question marks in addresses
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=parts/azure.sh
. "$here/parts/azure.sh"
[ -n "${TO_REMOVE:-}" ] || exit 0
needs_az
left=''
for id in $TO_REMOVE; do
  case $id in
    https://*) set -- --url "$id" --resource https://search.azure.com ;;
    */roleAssignments/*) set -- --url "$id?api-version=2022-04-01" ;;
    */systemTopics/*) set -- --url "$id?api-version=2025-02-15" ;;
    *) set -- --url "$id?api-version=2025-06-01" ;;
  esac
  if ! az rest --method delete "$@" --output none --only-show-errors 2>"$said" && ! is_missing; then
    left="$left $id"
    problem=$(in_one_line)
    echo "${id%%\?*} could not be removed: $problem" >&2
  fi
done
set_in_azd TO_REMOVE "${left# }"
[ -z "$left" ] || fail "The rest is removed once the reason above is fixed: azd hooks run postdown"
echo "What the deployment had added elsewhere is removed."
