#!/usr/bin/env bash
# Checks the OpenAPI documents, with Redocly and Spectral, and that the running service does what they say,
# with schemathesis: stream asking for a token, poll behind a gateway. A warning is a failure, too.
#
#   lint.sh [redocly] [spectral] [stream] [poll]     all of them unless named
#
# It starts the service with a development PostgreSQL on free ports. What it installs goes below .tools.
set -euo pipefail

. "$(dirname "$0")/common.sh"
documents=(openapi.yaml openapi-3.0.yaml)
lint=$work/lint

install_linters() {
  needs_node
  mkdir -p "$lint"
  cp "$clients"/lint/package*.json "$lint"
  (cd "$lint" && install_node) >&2
  cd "$repo/openapi"
}

lint_redocly() {
  install_linters
  "$lint/node_modules/.bin/redocly" lint --extends=recommended-strict "${documents[@]}" >&2
  echo "nothing found in ${documents[*]}"
}

lint_spectral() {
  install_linters
  "$lint/node_modules/.bin/spectral" lint --fail-severity=hint "${documents[@]}" >&2
  echo "nothing found in ${documents[*]}"
}

install_schemathesis() {
  needs python3 "apt-get install python3 python3-venv"
  mkdir -p "$lint"
  install_python "$clients/lint/requirements.txt" "$lint/venv" >&2
}

# schemathesis URL DOCUMENT ARGUMENT...
schemathesis() {
  local url=$1 document=$2
  shift 2
  cd "$lint"
  SCHEMATHESIS_HOOKS=hooks PYTHONPATH=$clients/lint PYTHONDONTWRITEBYTECODE=1 venv/bin/schemathesis \
    --config-file "$clients/lint/schemathesis.toml" run --no-color --continue-on-failure --url "$url" "$@" "$document" |
    tee "$lint/schemathesis.log" >&2
  grep -o '[0-9]* generated.*' "$lint/schemathesis.log"
}

lint_stream() {
  install_schemathesis
  schemathesis "$stream" "$repo/openapi/openapi.yaml" --header "Authorization: Bearer $(python3 "$clients/lint/jwt.py")"
}

# The gateway is believed whoever it names, so that there is no wrong answer to give.
lint_poll() {
  install_schemathesis
  schemathesis "$poll" "$poll/openapi.yaml" --header "X-Consumer-Id: schemathesis" --exclude-checks ignored_auth
}

all=(redocly spectral stream poll)
[ $# -gt 0 ] || set -- "${all[@]}"
for name; do
  case " ${all[*]} " in
    *" $name "*) ;;
    *) echo "usage: lint.sh [${all[*]}]" >&2; exit 2 ;;
  esac
done

export JWT_SECRET=a-secret-of-nobody-for-tests-only
case " $* " in
  *" stream "* | *" poll "*)
    start_stream AUTH=jwt HEARTBEAT_INTERVAL=10ms
    stream=$url
    start poll -u JWT_SECRET
    poll=$url
    for payload in '{"foo":"bar"}' '[null,1e400]' '"text"'; do
      "$clients/insert.sh" schemathesis order.created "$payload"
      "$clients/insert.sh" schemathesis order.paid "$payload"
    done
    ;;
esac
for name; do
  attempt "$name" "lint_$name"
done
summary
