#!/bin/sh
# After `azd deploy`: wait until the app runs, subscribe its webhook to new images, and make sure that it is well.
# Safe to run again at any time: azd hooks run postdeploy
set -eu

deadline=${POSTDEPLOY_TIMEOUT:-900} # seconds for each of the two waits
pause=${POSTDEPLOY_PAUSE:-10}       # seconds between two looks
here=$(cd "$(dirname "$0")" && pwd)

fail() {
  echo "$*" >&2
  exit 1
}

# What az says could name the webhook with its key.
without_key() {
  sed 's/code=[^&" ]*/code=(not shown)/g'
}

for name in AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP FUNCTION_APP_NAME FUNCTION_APP_URL EVENT_TOPIC_NAME \
  DATA_ACCOUNT_NAME IMAGES_CONTAINER EMBEDDINGS_CONTAINER EMBEDDING_SPACE; do
  eval "value=\${$name:-}"
  [ -n "$value" ] || fail "$name is not set. Run this with: azd hooks run postdeploy"
done
command -v az >/dev/null 2>&1 || fail "The Azure CLI is needed: https://aka.ms/install-az"
az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none 2>/dev/null ||
  fail "The Azure CLI is not signed in to subscription $AZURE_SUBSCRIPTION_ID. Sign in: az login"

site="https://management.azure.com/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/$AZURE_RESOURCE_GROUP"
site="$site/providers/Microsoft.Web/sites/$FUNCTION_APP_NAME"

# Each of the two answers true or false: the key itself never comes here.
function_is_there() {
  az rest --method get --url "$site/functions?api-version=2024-11-01" --output json \
    --query "contains(value[].properties.name, 'embed_uploaded_image')" 2>/dev/null || echo false
}
key_is_there() {
  az rest --method post --url "$site/host/default/listkeys?api-version=2024-11-01" --output json \
    --query "systemKeys.blobs_extension != null" 2>/dev/null || echo false
}

waited=0
while :; do
  # The platform forgets at times to look into a new package: this tells it to.
  az rest --method post --url "$site/host/default/sync?api-version=2024-11-01" --output none 2>/dev/null || true
  function=$(function_is_there)
  key=$(key_is_there)
  [ "$function" = true ] && [ "$key" = true ] && break
  [ "$waited" -lt "$deadline" ] ||
    fail "The app has not started after $deadline s (function listed: $function, webhook key: $key). See its log stream in the portal and $FUNCTION_APP_URL/api/health; then: azd hooks run postdeploy"
  echo "Waiting for the app to start (function listed: $function, webhook key: $key) ..."
  sleep "$pause"
  waited=$((waited + (pause > 0 ? pause : 1)))
done

attempt=1
while ! said=$(az deployment group create --subscription "$AZURE_SUBSCRIPTION_ID" --resource-group "$AZURE_RESOURCE_GROUP" \
  --name image-embeddings-events --template-file "$here/../events.bicep" --output none \
  --parameters functionAppName="$FUNCTION_APP_NAME" systemTopicName="$EVENT_TOPIC_NAME" \
  dataAccountName="$DATA_ACCOUNT_NAME" imagesContainer="$IMAGES_CONTAINER" 2>&1); do
  if [ "$attempt" -ge 5 ]; then
    printf '%s\n' "$said" | without_key >&2
    fail "Event Grid could not be told of the app. Once the reason above is mended: azd hooks run postdeploy"
  fi
  echo "Event Grid got no answer from the app yet (attempt $attempt of 5) ..."
  attempt=$((attempt + 1))
  sleep "$pause"
done
echo "New images are told to the app."

waited=0
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
until [ "$(curl --silent --max-time 60 --output "$answer" --write-out '%{http_code}' "$FUNCTION_APP_URL/api/health" || true)" = 200 ]; do
  if [ "$waited" -ge "$deadline" ]; then
    cat "$answer" >&2
    fail "
The app runs, but is not well: what is above says why. Look again with: curl $FUNCTION_APP_URL/api/health"
  fi
  echo "Waiting for the app to be well (new roles take up to ten minutes to be seen) ..."
  sleep "$pause"
  waited=$((waited + (pause > 0 ? pause : 1)))
done

echo "The app is well. Upload a picture:"
echo "  az storage blob upload --auth-mode login --account-name $DATA_ACCOUNT_NAME -c $IMAGES_CONTAINER -f a.jpg -n a.jpg"
echo "Its embedding will be $EMBEDDING_SPACE/images/a.jpg.json in the container $EMBEDDINGS_CONTAINER."
