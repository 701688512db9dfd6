#!/usr/bin/env bash
# Adds to .venv what tests and checks need beside the local stack. Prints one line on a terminal, and nothing more unless
# it fails.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -t 2 ] && echo "Installing what tests and checks need, which takes about a minute." >&2
mkdir -p .local
log=.local/setup-tests.log
trap '[ $? = 0 ] || { cat "$log" >&2; echo "The setup failed. Its log is above and in $log." >&2; }' EXIT
{
  .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements-dev.txt
  local/npm.sh tests/clients/javascript tests/gallery/browser tests/infra/kusto
  touch .venv/tests-ready
} >"$log" 2>&1
