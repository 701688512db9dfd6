#!/usr/bin/env bash
# Makes .venv with what the local stack needs: the Python packages, Node.js (a Python package too) and Azurite. Prints one
# line on a terminal, and nothing more unless it fails.
set -euo pipefail
cd "$(dirname "$0")/.."

python=
for candidate in python3.13 python3 python; do
  if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.13 ]; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "Python 3.13 is required (see .python-version), but none of python3.13, python3 and python is that version. Install it, for example with pyenv or uv, and run this again." >&2
  exit 1
fi

[ -t 2 ] && echo "Installing packages into .venv, which takes about a minute." >&2
mkdir -p .local
log=.local/setup.log
trap '[ $? = 0 ] || { cat "$log" >&2; echo "The setup failed. Its log is above and in $log." >&2; }' EXIT
{
  rm -rf .venv
  "$python" -m venv .venv
  .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-local.txt
  local/npm.sh local/azurite
  # One that is empty is left from a setup that failed here.
  [ -s local.settings.json ] || .venv/bin/python -m local settings >local.settings.json
  touch .venv/ready
} >"$log" 2>&1
