# Sourced by run.sh and lint.sh: what both need of the machine and of the service.

clients=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$clients/../.." && pwd)
tools=$repo/.tools
work=$tools/clients
mkdir -p "$work"
export GOTOOLCHAIN=${GOTOOLCHAIN:-local}

started=()
stop() {
  local pid
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    pid=${started[i]}
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  started=()
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
  local name=$1 log=$work/$1.log
  shift
  : >"$log" # here, not in the background: what an earlier run wrote would be taken for this one's
  env "$@" PORT=0 ADDRESS=127.0.0.1 LOG_FORMAT=json DRAIN_TIME=1s "$work/bin/$name" >>"$log" 2>&1 &
  started+=($!)
  until url=$(sed -n 's/.*"msg":"listening","address":"\([^"]*\)".*/http:\/\/\1/p' "$log") && [ -n "$url" ]; do
    kill -0 $! 2>/dev/null || { cat "$log" >&2; return 1; }
    sleep 0.1
  done
}

# start_stream builds and starts the service with a development PostgreSQL. It sets url and DATABASE_URL.
start_stream() {
  needs go "see https://go.dev/dl"
  needs psql "apt-get install postgresql-client"
  (cd "$repo" && go build -o "$work/bin/" ./cmd/stream ./cmd/poll)
  start stream -u DATABASE_URL -u PGHOST -u PGSERVICE DEV_DATABASE_PORT=0
  DATABASE_URL=$(grep -o 'postgres://[^ ]*' "$work/stream.log" | head -1)
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
