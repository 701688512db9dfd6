# shellcheck shell=sh
# An account that has the images already: what is in it, which topic it has, and whether the app can work with it.
account=${EXISTING_STORAGE_ACCOUNT_ID:-}
account=${account%/}

# What main.bicep needs in the account.
needed_in_account() {
  for name in "${IMAGES_CONTAINER:-images}" "${EMBEDDINGS_CONTAINER:-embeddings}" dead-letter-events; do
    echo "blobServices/default/containers/$name"
  done
  requests="${QUEUE_PREFIX:-}embedding-requests"
  for name in "$requests" "$requests-poison" "${QUEUE_PREFIX:-}embedding-waiting" "${QUEUE_PREFIX:-}embedding-backlog" \
    webjobs-blobtrigger-poison; do
    echo "queueServices/default/queues/$name"
  done
}

# Sorts that into $ours, which this deployment has made, $theirs and $missing.
look_into_account() {
  ours='' theirs='' missing=''
  for item in $(needed_in_account); do
    if metadata=$(ask rest --method get --url "$account/$item?api-version=2025-06-01" --query "to_string(properties.metadata)"); then
      case $metadata in
        *"\"$mark\""*) ours="$ours $item" ;;
        *) theirs="$theirs $item" ;;
      esac
    elif is_missing; then
      missing="$missing $item"
    else
      problem=$(in_one_line)
      fail "$item of EXISTING_STORAGE_ACCOUNT_ID cannot be read: $problem"
    fi
  done
}

# $topic and $topic_identity: the system topic of the account, if there is one. $topic_ours: whether this deployment has made it.
find_topic() {
  topic='' topic_identity='' topic_ours=''
  source_of_events=$(lower "$account")
  topics=$(ask eventgrid system-topic list --subscription "$(subscription_of "$account")" \
    --query "[].join(' ', [id, source, not_null(identity.principalId, '-'), to_string(tags)])") || return 1
  while read -r id of identity tags_of_it; do
    [ "$(lower "${of:-}")" = "$source_of_events" ] || continue
    topic=$id topic_identity=$identity
    case $tags_of_it in *"\"$mark\""*) topic_ours=true ;; esac
  done <<END
$topics
END
}

check_account() {
  case $(lower "$account") in
    /subscriptions/*/resourcegroups/*/providers/microsoft.storage/storageaccounts/*) ;;
    *) fail "EXISTING_STORAGE_ACCOUNT_ID is $account, which is no id of a storage account. Find it: az storage account show --name <account> --query id; then: azd env set EXISTING_STORAGE_ACCOUNT_ID <id>" ;;
  esac
  name=${account##*/}
  facts=$(ask rest --method get --url "$account?api-version=2025-06-01" --query \
    "join(' ', [kind, location, not_null(properties.publicNetworkAccess, 'Enabled'), properties.networkAcls.defaultAction, not_null(properties.primaryEndpoints.blob, '-'), not_null(properties.networkAcls.bypass, 'None')])") || {
    problem=$(in_one_line)
    fail "The account $account cannot be read. Is EXISTING_STORAGE_ACCOUNT_ID right, and may you read it? $problem"
  }
  read -r kind region_of_account public default_action endpoint bypass <<END
$facts
END
  [ "$kind" = StorageV2 ] ||
    refuse "The account $name is of kind $kind, which has no queues, or raises no events. Use one of kind StorageV2, or leave EXISTING_STORAGE_ACCOUNT_ID empty."
  case $endpoint in
    "https://$name.blob."*) ;;
    *) refuse "The account $name has the address $endpoint, and the app expects $name.blob in it. Use another account, or leave EXISTING_STORAGE_ACCOUNT_ID empty." ;;
  esac
  [ "$public" = Enabled ] ||
    refuse "The account $name is closed to the public network ($public), and so to Event Grid, which puts deletions on a queue there. Let the services of Azure in, if you may: az storage account update --ids $account --public-network-access Enabled --default-action Deny --bypass AzureServices."
  if [ "$default_action" = Deny ]; then
    is_true "${VNET_ENABLED:-}" ||
      refuse "The account $name has a firewall, through which the app comes by private endpoints only: azd env set VNET_ENABLED true."
    case $bypass in
      *AzureServices*) ;;
      *) refuse "The firewall of the account $name keeps Event Grid out, which puts deletions on a queue there. Let the services of Azure in, if you may: az storage account update --ids $account --bypass AzureServices." ;;
    esac
  fi
  [ "$region_of_account" = "$location" ] || [ -z "$location" ] ||
    echo "The account $name is in $region_of_account and the app in $location: every picture crosses regions, which takes longer and is paid for. To change that before the first deployment: azd env set AZURE_LOCATION $region_of_account"
  check_roles "$account"
  [ -z "$rights" ] || may microsoft.storage/storageaccounts/blobservices/containers/write ||
    refuse "You may not make containers in the account $name, which the deployment does. Ask for the role Storage Account Contributor on it."
}

check_topic() {
  find_topic || {
    problem=$(in_one_line)
    fail "The system topics of EXISTING_STORAGE_ACCOUNT_ID cannot be listed, and there can be only one for each account. Ask for the role Reader on its subscription. $problem"
  }
  if [ -z "$topic" ] || [ -n "$topic_ours" ]; then
    [ "$(subscription_of "$account")" = "$subscription" ] || register "$(subscription_of "$account")" Microsoft.EventGrid
    [ -z "${EXISTING_EVENT_TOPIC_ID:-}" ] || set_in_azd EXISTING_EVENT_TOPIC_ID ''
    return 0
  fi
  topic_subscription=$(subscription_of "$topic") topic_group=$(group_of "$topic")
  [ "$topic_identity" != - ] ||
    refuse "The account has the system topic ${topic##*/}, and there can be only one. It has no identity, by which it could put events on the queue. Give it one: az eventgrid system-topic update --subscription $topic_subscription --resource-group $topic_group --name ${topic##*/} --identity systemassigned; then: azd provision."
  [ "${EXISTING_EVENT_TOPIC_ID:-}" = "$topic" ] || {
    set_in_azd EXISTING_EVENT_TOPIC_ID "$topic"
    echo "The account has the system topic ${topic##*/}, which the app will use: EXISTING_EVENT_TOPIC_ID is set to it."
  }
}

# Names that are there and not ours stay as they are: main.bicep leaves them out.
check_contents() {
  look_into_account
  images="blobServices/default/containers/${IMAGES_CONTAINER:-images}"
  case " $missing " in
    *" $images "*)
      containers=$(ask rest --method get --url "$account/blobServices/default/containers?api-version=2025-06-01" \
        --query "value[].name") || containers=''
      containers=$(echo "$containers" | head -n 30 | tr '\n' ' ')
      [ -n "${IMAGES_CONTAINER:-}" ] ||
        fail "The account ${account##*/} has no container called images. Say which one has the pictures, or will have them: azd env set IMAGES_CONTAINER <name>; then: azd provision. There are: $containers"
      echo "The account ${account##*/} has no container called $IMAGES_CONTAINER, so an empty one is made. There are: $containers"
      ;;
  esac
  already=''
  for item in $theirs; do already="$already,\"${item##*/}\""; done
  already="[${already#,}]"
  case $theirs in
    *"/queues/${QUEUE_PREFIX:-}embedding-requests"*)
      refuse "The account ${account##*/} has a queue ${QUEUE_PREFIX:-}embedding-requests already, probably of another app. Give this one names of its own: azd env set QUEUE_PREFIX <prefix>-."
      ;;
  esac
  [ "${ALREADY_IN_STORAGE:-[]}" = "$already" ] || set_in_azd ALREADY_IN_STORAGE "$already"
}

prepare_account() {
  [ -n "$account" ] || return 0
  check_account
  check_topic
  check_contents
}
