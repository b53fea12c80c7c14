#!/usr/bin/env bash
# Inserts an event, as an application would: insert.sh CONSUMER TYPE PAYLOAD [AMENDS], into the database of DATABASE_URL.
set -euo pipefail
psql "$DATABASE_URL" --quiet --no-psqlrc --set ON_ERROR_STOP=1 --set consumer="$1" --set type="$2" --set payload="$3" --set amends="${4-}" <<'SQL'
insert into events (type, timestamp, subscriber, payload, amends)
values (:'type', now(), :'consumer', :'payload', nullif(:'amends', '')::bigint);
SQL
