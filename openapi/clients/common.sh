# Sourced by run.sh, lint.sh and clients/run.sh: what they need of the machine and of the service, and how they report.

clients=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$clients/../.." && pwd)
tools=$repo/.tools
work=$tools/clients
mkdir -p "$work"

started=()
attempted= # the process group of the attempt that runs
stop() {
  local pid
  end_attempt
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    pid=${started[i]}
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  started=()
}
# end_attempt ends what an attempt has left running, or all of it if this script is stopped meanwhile.
end_attempt() {
  [ -n "$attempted" ] || return 0
  local signal=TERM
  for ((i = 0; i < 100; i++)); do
    kill "-$signal" -- "-$attempted" 2>/dev/null || break
    signal=0
    ((i % 20 != 19)) || signal=TERM # one that has just been forked may have missed it
    wait "$attempted" 2>/dev/null || true
    sleep 0.1
  done
  kill -KILL -- "-$attempted" 2>/dev/null || true
  attempted=
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# needs PROGRAM HOW-TO-INSTALL
needs() {
  command -v "$1" >/dev/null && return
  echo "$1 is missing: $2" >&2
  return 1
}

# start NAME VARIABLE... starts a program with these settings on a free port and sets url.
start() {
  local name=$1 log=$work/service-$1.log
  shift
  : >"$log" # here, not in the background: what an earlier run wrote would be taken for this one's
  env "$@" PORT=0 ADDRESS=127.0.0.1 LOG_FORMAT=json DRAIN_TIME=1s "$work/bin/$name" >>"$log" 2>&1 &
  started+=($!)
  until url=$(sed -n 's/.*"msg":"listening","address":"\([^"]*\)".*/http:\/\/\1/p' "$log") && [ -n "$url" ]; do
    kill -0 $! 2>/dev/null || { cat "$log" >&2; return 1; }
    sleep 0.1
  done
}

# start_stream VARIABLE... builds the service and starts it with a development PostgreSQL. It sets url and
# DATABASE_URL.
start_stream() {
  needs go "see https://go.dev/dl"
  needs psql "apt-get install postgresql-client"
  (cd "$repo" && go build -o "$work/bin/" ./cmd/stream ./cmd/poll)
  start stream -u DATABASE_URL -u PGHOST -u PGSERVICE DEV_DATABASE_PORT=0 "$@"
  DATABASE_URL=$(grep -o 'postgres://[^ ]*' "$work/service-stream.log" | head -1)
  export DATABASE_URL
}

# installed FILE DIRECTORY says whether DIRECTORY was filled from FILE as it is now.
installed() { cmp -s "$1" "$2/.installed-from"; }

# install_node DIRECTORY installs what its package-lock.json names, if that has changed.
install_node() {
  installed package-lock.json node_modules && return
  npm ci --no-audit --no-fund --loglevel=error
  cp package-lock.json node_modules/.installed-from
}

# install_python REQUIREMENTS DIRECTORY makes a virtual environment with them, if they have changed.
install_python() {
  installed "$1" "$2" && return
  python3 -m venv --clear "$2" || { echo "python3 cannot make a virtual environment: apt-get install python3-venv" >&2; return 1; }
  "$2/bin/pip" install --quiet --disable-pip-version-check --requirement "$1"
  cp "$1" "$2/.installed-from"
}

needs_node() {
  needs node "Node.js 20.19 or later, see https://nodejs.org" && needs npm "it comes with Node.js, or apt-get install npm"
}

find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

# needs_chromium sets CHROMIUM, and installs one where CI may.
needs_chromium() {
  if [ -z "${CHROMIUM:-}" ] && ! CHROMIUM=$(find_chromium); then
    if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends chromium; } >&2
      CHROMIUM=$(find_chromium)
    else
      echo "chromium is missing: apt-get install chromium, or name a browser like it in CHROMIUM" >&2
      return 1
    fi
  fi
  export CHROMIUM
}

passed=0 failed=0

# attempt NAME FUNCTION runs a function and prints a line with the last one of its output, or, when it
# fails, where its log is and the end of that.
attempt() {
  local log=$work/$1.log outcome status
  SECONDS=0
  # A function in a condition would run on after a command that failed: bash switches -e off there. In the foreground it
  # would keep signals waiting.
  set +e -m
  (set -e; "$2" >"$log.out" 2>"$log" </dev/null) &
  attempted=$!
  set +m
  wait "$attempted"
  status=$?
  set -e
  end_attempt
  outcome=$(cat "$log.out")
  rm -f "$log.out"
  if [ $status = 0 ]; then
    printf '%-12s ok, %ss: %s\n' "$1" "$SECONDS" "$(tail -1 <<<"$outcome")"
    passed=$((passed + 1))
  else
    echo "$outcome" >>"$log"
    printf '%-12s FAILED, %ss: %s\n' "$1" "$SECONDS" "$log"
    tail -40 "$log" | sed 's/^/    /'
    failed=$((failed + 1))
  fi
}

# summary prints the last line. It fails if anything has.
summary() {
  echo "$passed passed, $failed failed"
  [ $failed = 0 ]
}
