#!/usr/bin/env bash
# Installs Debian's Chromium, which the tests of the gallery drive, where there is no such browser and it may. Elsewhere
# those tests fail and say what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

for name in chromium google-chrome google-chrome-stable chromium-browser; do
  command -v "$name" >/dev/null && exit 0
done
command -v apt-get >/dev/null || exit 0
as_root=()
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || exit 0
  as_root=(sudo -n)
fi
[ -t 2 ] && echo "Installing Chromium for the tests, which takes about a minute." >&2
mkdir -p .local
log=.local/browser.log
trap '[ $? = 0 ] || { cat "$log" >&2; echo "Chromium could not be installed. The log is above and in $log." >&2; }' EXIT
{
  "${as_root[@]}" apt-get update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium
} >"$log" 2>&1
