#!/usr/bin/env bash
# Tests the client modules: each by itself, and all of them through faults and restarts of the service, with its
# development PostgreSQL.
#
#   run.sh [js] [python] [go] [faults]     all of them unless named
#
# What it installs goes below .tools. The readers' own logs are in .tools/clients/faults.
set -euo pipefail

modules=$(cd "$(dirname "$0")" && pwd)
. "$modules/../openapi/clients/common.sh"

prepare_js() {
  needs_node
  mkdir -p "$work/js"
  rm -rf "$work/js/index.js" "$work/js/index.d.ts"
  cp -R "$modules/js/." "$work/js/"
  cd "$work/js/test"
  install_node
}

test_js() {
  prepare_js
  npx tsc --noEmit --strict --target es2022 --module nodenext --lib es2022,dom types.ts >&2
  (cd .. && npm pack --dry-run >&2)
  node --test index.test.js >"$work/js/tests.log" || { cat "$work/js/tests.log" >&2; return 1; }
  echo "$(sed -n 's/^# pass //p' "$work/js/tests.log") tests, $(sed -n 's/^\(# \)\?minified/minified/p' "$work/js/tests.log")"
}

prepare_python() {
  needs python3 "apt-get install python3 python3-venv"
  mkdir -p "$work/python-module"
  cd "$work/python-module"
  install_python "$modules/python/tests/requirements.txt" venv
  export PYTHONPATH=$modules/python PYTHONDONTWRITEBYTECODE=1
}

test_python() {
  prepare_python
  venv/bin/mypy --strict --cache-dir .mypy "$modules/python/event_piper" "$modules/python/tests" >&2
  rm -rf dist && (cd "$modules/python" && "$work/python-module/venv/bin/hatchling" build -d "$work/python-module/dist" >&2)
  venv/bin/python -m unittest discover --start-directory "$modules/python/tests" 2>tests.log || { cat tests.log >&2; return 1; }
  grep '^Ran ' tests.log
}

test_go() {
  cd "$modules/go"
  test -z "$(gofmt -l .)"
  go vet ./... >&2
  [ "$(go list -m all | wc -l)" = 1 ] || { echo "the module requires another" >&2; return 1; }
  go test -race ./... >&2
  echo "tests pass, with the race detector"
}

test_faults() {
  needs_chromium
  prepare_js
  prepare_python
  mkdir -p "$work/faults"
  (cd "$repo" && go build -o "$work/bin/" ./cmd/stream ./clients/faults)
  (cd "$modules/go" && go build -o "$work/bin/reader-go" ./internal/reader)
  cd "$work"
  FAULTS_LOG=$work/faults timeout --foreground 1200 bin/faults bin/stream js \
    "go=bin/reader-go" \
    "node=node js/test/reader.js" \
    "python=python-module/venv/bin/python $modules/python/tests/reader.py" \
    "browser=node js/test/browser.js" | tee faults/table.txt >&2
  echo "every event once and in order: $work/faults/table.txt"
}

all=(js python go faults)
[ $# -gt 0 ] || set -- "${all[@]}"
for name; do
  case " ${all[*]} " in
    *" $name "*) ;;
    *) echo "usage: run.sh [${all[*]}]" >&2; exit 2 ;;
  esac
done
for name; do
  attempt "$name" "test_$name"
  if [ "$name" = faults ]; then cat "$work/faults/table.txt"; fi
done
summary
