# shellcheck shell=sh
# Puts the definitions of infra/search on the search service. search.sh is read before.

# A key that opens the vectorizer and nothing else. It is never shown, and in no argument of a program.
vectorizer_key() {
  key=$(ask functionapp function keys list --subscription "$subscription" --resource-group "$AZURE_RESOURCE_GROUP" \
    --name "$FUNCTION_APP_NAME" --function-name vectorizer --query search) || return 1
  case $key in
    '' | None)
      key=$(ask functionapp function keys set --subscription "$subscription" --resource-group "$AZURE_RESOURCE_GROUP" \
        --name "$FUNCTION_APP_NAME" --function-name vectorizer --key-name search --query value) || return 1
      ;;
  esac
}

# put <object> <file>: with its placeholders filled in, and a line for each key that IMAGE_METADATA lists.
put() {
  host=${FUNCTION_APP_URL#https://} VECTORIZER_KEY=$key mark=$mark metadata=${IMAGE_METADATA:-} \
    awk '
      function fill(placeholder, value,    at) {
        while (at = index($0, placeholder)) $0 = substr($0, 1, at - 1) value substr($0, at + length(placeholder))
      }
      /<metadata-key>/ {
        line = $0
        count = split(tolower(ENVIRON["metadata"]), keys, /[ ,]+/)
        for (i = 1; i <= count; i++) if (keys[i] ~ /^[a-z_][a-z0-9_]*$/ && !seen[FNR, keys[i]]++) {
          $0 = line
          fill("<metadata-key>", keys[i])
          print
        }
        next
      }
      {
        fill("\"<dimensions>\"", ENVIRON["VECTOR_LENGTH"])
        fill("<space>", ENVIRON["EMBEDDING_SPACE"])
        fill("<embeddings-container>", ENVIRON["EMBEDDINGS_CONTAINER"])
        fill("<function-app-host>", ENVIRON["host"])
        fill("<vectorizer-key>", ENVIRON["VECTORIZER_KEY"])
        fill("/subscriptions/<subscription>/resourceGroups/<resource-group>/providers/Microsoft.Storage/storageAccounts/<storage-account>", ENVIRON["DATA_ACCOUNT_ID"])
        fill("<deployment>", ENVIRON["mark"])
        print
      }' "$here/../search/$2" >"$body"
  az rest --method put --url "$(search_url "$1")" --resource "$search_scope" --headers content-type=application/json \
    --body "@$body" --output none --only-show-errors 2>"$said"
}
put_all() {
  find_owner
  [ "$owner" != theirs ] ||
    fail "The search service $search has an index images, or a data source image-embeddings, of somebody else. Use another service: azd env set SEARCH_SERVICE basic; then: azd provision"
  [ -n "$owner" ] && vectorizer_key && put indexes/images index.json && put datasources/image-embeddings datasource.json &&
    put indexers/image-embeddings indexer.json
}

offer_search() {
  [ -n "${SEARCH_SERVICE_ID:-}" ] || return 0
  search=${SEARCH_SERVICE_ID##*/}
  end=$(($(date +%s) + limit))
  until put_all; do
    problem=$(in_one_line)
    [ "$(date +%s)" -lt "$end" ] ||
      fail "The index could not be put on the search service $search: that needs the role Search Service Contributor there. Once the reason is fixed: azd hooks run postdeploy. $problem"
    echo "The index could not be put on the search service yet (new roles take up to ten minutes to take effect) ... $problem"
    sleep "$pause"
  done
  key=''
  echo "The search service $search has the index images, and copies new records to it every five minutes."
}
