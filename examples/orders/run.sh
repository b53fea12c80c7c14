#!/usr/bin/env bash
# The order page, at http://localhost:8080, beside `make run`. It needs Go and nginx.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
port=${PORT:-8080} backend=${BACKEND_PORT:-8081} event_piper=${EVENT_PIPER:-127.0.0.1:4000}
export DATABASE_URL=${DATABASE_URL:-postgres://event_piper:event_piper@localhost:15432/event_piper}

PATH=$PATH:/usr/sbin command -v nginx >/dev/null || { echo "nginx is missing: apt-get install nginx" >&2; exit 1; }
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$work"' EXIT
trap exit INT TERM

(cd "$here" && go build -o "$work/orders" .)
mkdir "$work/temp"
sed "s/listen 127.0.0.1:8080/listen 127.0.0.1:$port/; s/http:\/\/127.0.0.1:8081/http:\/\/127.0.0.1:$backend/; s/server 127.0.0.1:4000/server $event_piper/" "$here/nginx.conf" >"$work/nginx.conf"
REPOSITORY=$here/../.. ADDRESS=127.0.0.1:$backend "$work/orders" &
PATH=$PATH:/usr/sbin nginx -p "$work" -c nginx.conf -e stderr &
echo "the order page: http://localhost:$port"
wait -n
