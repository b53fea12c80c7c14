#!/usr/bin/env bash
# Generates a client in each language from the OpenAPI document and uses it against the running service,
# with events that are inserted into PostgreSQL meanwhile.
#
#   run.sh [go] [typescript] [java] [python] [browser]     all of them unless named
#
# It starts the service with a development PostgreSQL on free ports, prints a line for each client, and a
# last one. What it installs goes below .tools (and to where Go and Maven keep theirs); nothing generated is
# kept in the repository. Each client finds in its environment:
#
#   EVENT_PIPER_URL   where the service is
#   CONSUMER          a consumer of its own, who has no events yet
#   INSERT            a program that inserts an event: CONSUMER TYPE PAYLOAD [AMENDS]
#
# Of the consumer "pruned" retention has deleted all events but the last, of type "kept".
set -euo pipefail

. "$(dirname "$0")/common.sh"
document=$repo/openapi/openapi.yaml
OAPI_CODEGEN_VERSION=${OAPI_CODEGEN_VERSION:-v2.8.2}

# fresh NAME copies a client's sources to where it is built, over what an earlier run installed there.
fresh() {
  mkdir -p "$work/$1"
  cp -R "$clients/$1/." "$work/$1/"
  cd "$work/$1"
}

client_go() {
  local oapi_codegen=$tools/bin/oapi-codegen-$OAPI_CODEGEN_VERSION
  if ! [ -x "$oapi_codegen" ]; then
    GOBIN=$tools/bin go install "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@$OAPI_CODEGEN_VERSION"
    mv "$tools/bin/oapi-codegen" "$oapi_codegen"
  fi
  fresh go
  mkdir -p api
  "$oapi_codegen" -generate types,client -package api -o api/api.gen.go "$document"
  go vet ./...
  go build -o client .
  ./client
}

client_typescript() {
  needs_node
  fresh typescript
  install_node
  npx openapi-typescript "$document" --output schema.d.ts >&2
  npx tsc
  node out/main.js
}

client_java() {
  needs javac "apt-get install openjdk-17-jdk-headless"
  needs mvn "apt-get install maven"
  fresh java
  rm -rf target
  mvn --batch-mode --quiet "-Dopenapi.document=$document" compile dependency:build-classpath -Dmdep.outputFile=target/classpath >&2
  java -classpath "target/classes:$(cat target/classpath)" Main
}

client_python() {
  needs python3 "apt-get install python3 python3-venv"
  fresh python
  install_python requirements.txt venv
  venv/bin/openapi-python-client generate --path "$document" --config config.yaml --meta none --output-path event_piper --overwrite --fail-on-warning >&2
  venv/bin/python main.py
}

client_browser() {
  needs_node
  needs_chromium
  fresh browser
  install_node
  CHROMIUM=$CHROMIUM STREAM=$work/bin/stream node main.js
}

prepare_pruned() {
  psql "$DATABASE_URL" --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
insert into events (type, timestamp, subscriber, payload)
values ('deleted', now(), 'pruned', '{}'), ('kept', now(), 'pruned', '{}');
delete from events where subscriber = 'pruned' and type = 'deleted';
SQL
}

all=(go typescript java python browser)
[ $# -gt 0 ] || set -- "${all[@]}"
for name; do
  case " ${all[*]} " in
    *" $name "*) ;;
    *) echo "usage: run.sh [${all[*]}]" >&2; exit 2 ;;
  esac
done

start_stream
prepare_pruned
export EVENT_PIPER_URL=$url INSERT=$clients/insert.sh

for name; do
  CONSUMER=$name attempt "$name" "client_$name"
done
summary
