#!/usr/bin/env bash
# Builds real clients of Server-Sent Events, and tries what they make of cut connections, restarts and overload.
#
#   run.sh [CLIENT...]     all of them unless named, see clients.go; only then the table in docs/clients.md is written
#
# It starts the service with a development PostgreSQL on free ports. What it installs goes below .tools (and to where Go
# and Maven keep theirs).
set -euo pipefail

. "$(dirname "$0")/../common.sh"
matrix=$clients/matrix
work=$tools/matrix
mkdir -p "$work"
rm -rf "$work/java/src"
cp -R "$matrix/." "$work/"

needs_node
needs javac "apt-get install openjdk-17-jdk-headless"
needs mvn "apt-get install maven"
needs python3 "apt-get install python3 python3-venv"
needs curl "apt-get install curl"
needs_chromium

(cd "$work/node" && install_node)
(cd "$work/python" && install_python requirements.txt venv)
(cd "$work/go" && go build -o client .)
cd "$work/java"
if ! installed pom.xml target; then
  mvn --batch-mode --quiet compile dependency:build-classpath -Dmdep.outputFile=target/classpath >&2
  printf -- '-XX:TieredStopAtLevel=1\n-cp\n%s/target/classes:%s\n' "$PWD" "$(cat target/classpath)" >arguments
  cp pom.xml target/.installed-from
fi
rm -rf target/classes && javac -d target/classes -cp "$(cat target/classpath)" src/main/java/*.java

cd "$repo"
start_stream
STREAM=$work/bin/stream WORK=$work CHROMIUM=$CHROMIUM go run ./openapi/clients/matrix ${1:+"$@"} $([ $# -gt 0 ] || echo "-table docs/clients.md")
