#!/usr/bin/env bash
# Uses the console in a headless Chromium against the running service with its development PostgreSQL, and keeps
# screenshots below .tools/console/screenshots. With UPDATE=1 it replaces docs/console.png as well. Where firefox-esr is
# installed, what matters most is tried in it, too.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../../openapi/clients/common.sh"
work=$tools/console
mkdir -p "$work/bin" "$work/screenshots" "$work/browser"

client_console() {
  cp "$here"/{package.json,package-lock.json,main.js} "$work/browser/"
  cd "$work/browser"
  install_node
  node main.js
}

client_console_firefox() {
  mkdir -p "$work/firefox"
  cp "$here"/firefox/{package.json,package-lock.json,main.js} "$work/firefox/"
  cd "$work/firefox"
  install_node
  HOME=$work/firefox node main.js # root may not use the home of somebody else
}

needs_node
needs_chromium
start_stream RETRY=300ms HEARTBEAT_INTERVAL=1s
export EVENT_PIPER_URL=$url SCREENSHOTS=$work/screenshots
attempt console client_console
if FIREFOX=$(command -v firefox-esr); then
  export FIREFOX
  attempt console_firefox client_console_firefox
fi
if [ -n "${UPDATE:-}" ] && [ $failed = 0 ]; then
  mkdir -p "$repo/docs" && cp "$work/screenshots/readme.png" "$repo/docs/console.png"
fi
summary
