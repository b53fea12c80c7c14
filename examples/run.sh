#!/usr/bin/env bash
# Runs the examples against the service and its development PostgreSQL, and checks what they do.
#
#   run.sh [orders] [proxies] [node] [python] [java] [shell] [webhooks]     all of them unless named
#
# What it installs goes below .tools.
set -euo pipefail

examples=$(cd "$(dirname "$0")" && pwd)
. "$examples/../openapi/clients/common.sh"
PATH=$PATH:/usr/sbin

# needs_package PROGRAM PACKAGE installs a package where CI may.
needs_package() {
  command -v "$1" >/dev/null && return
  if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends "$2"; } >&2
  else
    needs "$1" "apt-get install $2"
  fi
}

prepare_node() {
  needs_node
  mkdir -p "$work/examples"
  cp "$examples"/test/package*.json "$work/examples/"
  (cd "$work/examples" && install_node)
}

example_orders() {
  needs_package nginx nginx-light
  needs_chromium
  prepare_node
  PLAYWRIGHT=$work/examples/node_modules/playwright-core/index.mjs SCREENSHOT=$work/examples/orders.png timeout --foreground 900 node "$examples/orders/test.js"
}

example_proxies() {
  needs_package nginx nginx-light
  needs_package haproxy haproxy
  needs_package caddy caddy
  needs_package varnishd varnish
  needs_node
  needs_chromium
  prepare_node
  timeout --foreground 900 node "$examples/proxies/test.js" nginx haproxy caddy varnish
  PLAYWRIGHT=$work/examples/node_modules/playwright-core/index.mjs timeout --foreground 900 node "$examples/proxies/eventsource.js" nginx haproxy caddy varnish
}

service() { timeout --foreground 900 node "$examples/test/services.js" "$@"; }

example_node() { needs_node && service node node "$examples/node/service.js"; }

example_webhooks() { needs_node && service webhooks node "$examples/webhooks/bridge.js"; }

example_python() {
  needs_node
  mkdir -p "$work/python-module"
  cd "$work/python-module"
  install_python "$examples/../clients/python/tests/requirements.txt" venv
  PYTHONPATH=$examples/../clients/python PYTHONDONTWRITEBYTECODE=1 service python venv/bin/python "$examples/python/service.py"
}

example_java() {
  needs_node
  needs javac "apt-get install openjdk-17-jdk-headless"
  needs mvn "apt-get install maven"
  rm -rf "$work/java-service"
  cp -R "$examples/java" "$work/java-service"
  cd "$work/java-service"
  mvn --batch-mode --quiet compile dependency:build-classpath -Dmdep.outputFile=target/classpath >&2
  service java java -classpath "target/classes:$(cat target/classpath)" Service
}

example_shell() {
  needs_node
  needs_package busybox busybox
  service shell busybox sh "$examples/shell/follow.sh"
}

all=(orders proxies node python java shell webhooks)
[ $# -gt 0 ] || set -- "${all[@]}"
for name; do
  case " ${all[*]} " in
    *" $name "*) ;;
    *) echo "usage: run.sh [${all[*]}]" >&2; exit 2 ;;
  esac
done

start_stream
export STREAM=$work/bin/stream EVENT_PIPER_URL=$url
for name; do
  attempt "$name" "example_$name"
done
summary
