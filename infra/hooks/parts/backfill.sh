# shellcheck shell=sh
# Images that were there before the app: how many, how long and how much, and whether to embed them now.

# As in infra/plan.py, in US$: what an image costs in storage, queues, events and logs, and a GB of an instance for a second;
# and the seconds of a core that it takes.
others_cost=0.000035
functions_cost=0.000026
core_seconds=0.15

# call <route> <JSON>: $status, and the answer in $body. The key goes to curl by its standard input, so no list of processes has it.
call() {
  : >"$body"
  status=$(printf 'header = "x-functions-key: %s"\n' "$key" |
    curl --silent --show-error --max-time 240 --config - --header 'content-type: application/json' --data "$2" \
      --output "$body" --write-out '%{http_code}' "$FUNCTION_APP_URL/api/$1" 2>"$said") || true
  case $status in 200 | 202) ;; *) cat "$body" >>"$said" && return 1 ;; esac
}
# The first number of this name in the answer.
number() {
  tr '{},' '\n' <"$body" | sed -n "s/^[[:space:]]*\"$1\"[[:space:]]*:[[:space:]]*\([0-9][0-9]*\)[[:space:]]*$/\1/p" | head -n 1
}

# $tokens_a_minute and $calls_a_minute that the deployment of the model allows; nothing where Azure does not say.
read_limits() {
  limits=$(ask rest --method get --url "$FOUNDRY_RESOURCE_ID/deployments/$FOUNDRY_MODEL?api-version=2025-06-01" \
    --query "properties.rateLimits[].join(' ', [key, to_string(count), to_string(renewalPeriod)])") || limits=''
  tokens_a_minute=$(echo "$limits" | LC_ALL=C awk '$1 == "token" && $3 > 0 { printf "%d", $2 * 60 / $3 }')
  calls_a_minute=$(echo "$limits" | LC_ALL=C awk '$1 == "request" && $3 > 0 { printf "%d", $2 * 60 / $3 }')
}

# $hours and the $money for the model and for all $others, by the arithmetic of infra/plan.py: the quota decides, or the cores.
estimate() {
  read_limits
  money=$(LC_ALL=C awk -v calls="$1" -v each="$IMAGE_TOKENS" -v price="$MILLION_TOKENS_COST" 'BEGIN { printf "%.2f", calls * each / 1e6 * price }')
  hours='' others=''
  [ -n "$tokens_a_minute" ] || return 0
  planned=$(LC_ALL=C awk -v calls="$1" -v tokens="$tokens_a_minute" -v rpm="${calls_a_minute:-0}" -v each="$IMAGE_TOKENS" \
    -v instances="${MAXIMUM_INSTANCE_COUNT:-40}" -v memory="${INSTANCE_MEMORY_MB:-2048}" -v core="$core_seconds" \
    -v share="${BACKLOG_SHARE:-0.9}" -v other="$others_cost" -v functions="$functions_cost" 'BEGIN {
      rate = tokens / each
      if (rpm > 0 && rpm < rate) rate = rpm
      rate *= share
      one = memory / 2048 / core * 60
      needed = int(rate / one) + 1
      if (needed > instances) { needed = instances; if (rate > needed * one) rate = needed * one }
      minutes = calls / rate
      printf "%.1f %.2f", minutes / 60, calls * other + needed * minutes * 60 * memory / 1024 * functions
    }')
  hours=${planned% *} others=${planned#* }
}

is_asked() {
  [ -z "${BACKFILL:-}" ] && [ -z "${CI:-}" ] && [ -t 0 ]
}

offer_backfill() {
  key=$(ask rest --method post --url "$site/host/default/listkeys?api-version=2024-11-01" --query "functionKeys.default") || key=''
  later="To embed them: azd env set BACKFILL true; then: azd hooks run postdeploy"
  if [ -z "$key" ] || ! call reconcile '{"dry_run": true}'; then
    problem=$(in_one_line)
    echo "It could not be counted which images have no embedding yet. If there are any: azd env set BACKFILL true; then: azd hooks run postdeploy. $problem"
    return 0
  fi
  images=$(number images)
  calls=$(number calls)
  is_whole "$images" && is_whole "$calls" || return 0
  [ "$images" -gt 0 ] || return 0
  if [ "$calls" -eq 0 ]; then
    echo "The container $IMAGES_CONTAINER has $images images, and each has its embedding."
    return 0
  fi
  # An audit of more than some millions goes on by itself: what is counted so far is not all.
  least=''
  ! tr -d '[:space:]' <"$body" | grep -q '"finished_at":null' || least='at least '
  estimate "$calls"
  echo "The container $IMAGES_CONTAINER has $least$images images, of which $least$calls have no embedding yet."
  unit="US\$ $money"
  [ -z "${TOKEN_PRICE:-}" ] || unit="$money (by TOKEN_PRICE)"
  if [ -n "$hours" ]; then
    echo "Embedding them takes about $hours hours, and costs about $unit for the model and at most US\$ $others for all else."
  else
    echo "Embedding them costs about $unit for the model. Azure does not say what the deployment allows, so how long it takes, and what else it costs, is not known."
  fi
  if is_asked; then
    printf 'Start now? [y/N] '
    read -r answer || answer=''
    case $answer in [Yy] | [Yy][Ee][Ss]) BACKFILL=true ;; esac
  fi
  if ! is_true "${BACKFILL:-}"; then
    echo "$later"
    return 0
  fi
  call reconcile '{}' || {
    problem=$(in_one_line)
    fail "The backfill could not be started (status $status). Again: azd hooks run postdeploy. $problem"
  }
  echo "The backfill has started. How far it is: $FUNCTION_APP_URL/api/status"
}
