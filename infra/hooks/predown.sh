#!/bin/sh
# Before `azd down`, which deletes the resource group alone: finds what the deployment has added elsewhere (to an account,
# a topic, a search service or Foundry resources that were there before), says so, and notes it for postdown. It deletes
# nothing: azd has not asked yet.
set -euf # there are question marks in what is found
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=parts/azure.sh
. "$here/parts/azure.sh"
# shellcheck source=parts/storage.sh
. "$here/parts/storage.sh"
# shellcheck source=parts/search.sh
. "$here/parts/search.sh"
scopes="${EXISTING_FOUNDRY_RESOURCE_ID:-} $(echo "${ADDITIONAL_FOUNDRY_RESOURCE_IDS:-}" | tr -d '[]"' | tr ',' ' ')"
if is_id "${SEARCH_SERVICE:-}"; then scopes="$scopes $SEARCH_SERVICE"; fi
[ -n "$subscription" ] && [ -n "$account$(echo "$scopes" | tr -d ' ')" ] || exit 0
needs_az
found=''
cannot_see() {
  problem=$(in_one_line)
  fail "What the deployment has added to $1 cannot be read, so nothing is deleted. $problem"
}

if is_id "${SEARCH_SERVICE:-}"; then
  search=${SEARCH_SERVICE##*/}
  find_owner
  [ -n "$owner" ] || cannot_see "$SEARCH_SERVICE"
  if [ "$owner" = ours ]; then
    for object in indexers/image-embeddings datasources/image-embeddings indexes/images; do
      found="$found $(search_url "$object")"
    done
  fi
fi
if [ -n "$account" ]; then
  find_topic || is_missing || cannot_see "$account"
  if [ -n "$topic" ]; then
    subscriptions=$(ask rest --method get --url "$topic/eventSubscriptions?api-version=2025-02-15" \
      --query "value[?properties.labels[0]=='$mark'].id") || cannot_see "$topic"
    found="$found $subscriptions"
    [ -z "$topic_ours" ] || found="$found $topic"
  fi
  look_into_account
  for item in $ours $theirs; do scopes="$scopes $account/$item"; done
fi
for scope in $scopes; do
  roles=$(ask rest --method get --url "$scope/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01" \
    --query "value[?properties.description=='$mark'].id") || is_missing || cannot_see "$scope"
  found="$found $roles"
done
if [ -n "$account" ]; then
  for item in $ours; do found="$found $account/$item"; done
fi

found=$(echo "$found" | tr -s '\n ' '  ')
found=${found# }
set_in_azd TO_REMOVE "${found% }"
echo "azd down deletes the resource group. Afterwards this goes, too, which the deployment has added elsewhere:"
for id in $found; do echo "  ${id%%\?*}"; done
[ -z "$account" ] || echo "The images in the container ${IMAGES_CONTAINER:-images} of ${account##*/} stay, whoever has made it."
