#!/bin/sh
# After `azd deploy`: wait until the app runs, subscribe it to the events of its images, and check its health. With
# UPLOAD_EVENTS=queue there is no webhook to wait for, and with PRIVATE_APP=true no way to the app from here. Then put the
# index on the search service, if there is one, and offer to embed the images that were there before.
# Safe to run again at any time: azd hooks run postdeploy
set -eu
here=$(cd "$(dirname "$0")" && pwd)
limit=${POSTDEPLOY_TIMEOUT:-900} # seconds for each wait
pause=${POSTDEPLOY_PAUSE:-10}    # seconds between two checks
# shellcheck source=parts/azure.sh
. "$here/parts/azure.sh"
# shellcheck source=parts/search.sh
. "$here/parts/search.sh"
# shellcheck source=parts/index.sh
. "$here/parts/index.sh"
# shellcheck source=parts/backfill.sh
. "$here/parts/backfill.sh"

for name in AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP FUNCTION_APP_NAME FUNCTION_APP_URL PRIVATE_APP UPLOAD_EVENTS \
  EVENT_TOPIC_ID DATA_ACCOUNT_ID DATA_ACCOUNT_NAME IMAGES_CONTAINER EMBEDDINGS_CONTAINER EMBEDDING_SPACE \
  REQUESTS_QUEUE ADDITIONS_MARK VECTOR_LENGTH FOUNDRY_RESOURCE_ID FOUNDRY_MODEL IMAGE_TOKENS MILLION_TOKENS_COST; do
  eval "value=\${$name:-}"
  [ -n "$value" ] || fail "$name is not set. Run this after azd provision, with: azd hooks run postdeploy"
done
mark=$ADDITIONS_MARK
needs_az
[ "$PRIVATE_APP" = true ] || command -v curl >/dev/null 2>&1 || fail "curl is needed to check the app's health."

# Without a host: az adds that of its cloud.
site="/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/$AZURE_RESOURCE_GROUP"
site="$site/providers/Microsoft.Web/sites/$FUNCTION_APP_NAME"

# The platform does not always notice a new package: this makes it look.
platform_looks() {
  az rest --method post --url "$site/host/default/sync?api-version=2024-11-01" --output none --only-show-errors \
    >/dev/null 2>"$said"
}
# Both ask for true or false: the key itself never comes here. Of a function only its name is documented: app/function.
function_is_there() {
  az rest --method get --url "$site/functions?api-version=2024-11-01" --output json --only-show-errors \
    --query "contains(join(' ', value[].name), 'embed_uploaded_image')" 2>>"$said"
}
key_is_there() {
  az rest --method post --url "$site/host/default/listkeys?api-version=2024-11-01" --output json --only-show-errors \
    --query "systemKeys.blobs_extension != null" 2>>"$said"
}
# Whatever else is answered, or nothing, is false, and may say why.
true_or_false() {
  answer=$("$1" | LC_ALL=C tr -d '\000\r')
  case $answer in
    true | false) echo "$answer" ;;
    *) echo "$answer" >>"$said" && echo false ;;
  esac
}

# The queue needs neither the function nor its key, so nothing else here shows whether the platform has looked.
attempt=1
while [ "$UPLOAD_EVENTS" = queue ] && ! platform_looks; do
  problem=$(in_one_line)
  if [ "$attempt" -ge 5 ]; then
    echo "The platform could not be told to look at the new package. If nothing is embedded: azd hooks run postdeploy. $problem" >&2
    break
  fi
  echo "The platform could not be told yet to look at the new package (attempt $attempt of 5) ... $problem"
  attempt=$((attempt + 1))
  sleep "$pause"
done
end=$(($(date +%s) + limit))
while [ "$UPLOAD_EVENTS" != queue ]; do
  platform_looks || true
  function=$(true_or_false function_is_there)
  key=$(true_or_false key_is_there)
  [ "$function" = true ] && [ "$key" = true ] && break
  # Only what az says tells a host that starts from a role that is missing.
  problem=$(in_one_line)
  [ "$(date +%s)" -lt "$end" ] ||
    fail "The app has not started after $limit s (function listed: $function, webhook key: $key). See its log stream in the portal and $FUNCTION_APP_URL/api/health; then: azd hooks run postdeploy. $problem"
  echo "Waiting for the app to start (function listed: $function, webhook key: $key) ... $problem"
  sleep "$pause"
done

# A topic that others use, too, has names of theirs.
case $DATA_ACCOUNT_ID in
  "/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/$AZURE_RESOURCE_GROUP/"*) names_begin='' ;;
  *) names_begin="$FUNCTION_APP_NAME-" ;;
esac
topic_name=${EVENT_TOPIC_ID##*/}
# Event Grid calls the webhook before it subscribes it, and a host that has just started may miss that. For the queue its
# identity needs a role, which takes some minutes to take effect.
attempt=1
while ! az deployment group create --subscription "$(subscription_of "$EVENT_TOPIC_ID")" \
  --resource-group "$(group_of "$EVENT_TOPIC_ID")" --name "$FUNCTION_APP_NAME-events" \
  --template-file "$here/../events.bicep" --output none --only-show-errors --parameters \
  functionAppName="$FUNCTION_APP_NAME" functionAppSubscription="$AZURE_SUBSCRIPTION_ID" \
  functionAppGroup="$AZURE_RESOURCE_GROUP" systemTopicName="$topic_name" dataAccountId="$DATA_ACCOUNT_ID" \
  imagesContainer="$IMAGES_CONTAINER" requestsQueue="$REQUESTS_QUEUE" uploadEvents="$UPLOAD_EVENTS" \
  namePrefix="$names_begin" mark="$mark" >"$said" 2>&1; do
  if [ "$attempt" -ge 5 ]; then
    readable >&2
    fail "The event subscriptions could not be created. Once the reason above is fixed: azd hooks run postdeploy"
  fi
  problem=$(in_one_line)
  echo "The event subscriptions could not be created yet (attempt $attempt of 5) ... $problem"
  attempt=$((attempt + 1))
  sleep "$pause"
done
echo "Events of new images now go to the app."

# A proxy, or a page for signing in, may answer 200 as well: the app's own words decide.
app_is_well() {
  : >"$body"
  status=$(curl --silent --show-error --max-time 60 --output "$body" --write-out '%{http_code}' \
    "$FUNCTION_APP_URL/api/health" 2>"$said" || true)
  cat "$body" >>"$said"
  [ "$status" = 200 ] && tr -d '[:space:]\000' <"$body" | grep -q '^{"status":"ok"'
}

if [ "$PRIVATE_APP" = true ]; then
  offer_search
  echo "The app is private, so it cannot be checked from here. From a machine in its network: curl $FUNCTION_APP_URL/api/health"
  echo "If that says ok, upload a picture:"
  echo "  az storage blob upload --auth-mode login --account-name $DATA_ACCOUNT_NAME -c $IMAGES_CONTAINER -f a.jpg -n a.jpg"
  echo "Images that were there before are embedded once you call $FUNCTION_APP_URL/api/reconcile from there."
  exit 0
fi
end=$(($(date +%s) + limit))
until app_is_well; do
  if [ "$(date +%s)" -ge "$end" ]; then
    readable >&2
    echo >&2
    fail "The app runs, but is not healthy: the answer above says why (status $status). Check again: curl $FUNCTION_APP_URL/api/health"
  fi
  echo "Waiting for the app to be healthy (new roles take up to ten minutes to take effect) ..."
  sleep "$pause"
done

offer_search
echo "The app is healthy. Upload a picture:"
echo "  az storage blob upload --auth-mode login --account-name $DATA_ACCOUNT_NAME -c $IMAGES_CONTAINER -f a.jpg -n a.jpg"
echo "Its embedding will be $EMBEDDING_SPACE/images/a.jpg.json in the container $EMBEDDINGS_CONTAINER."
offer_backfill
