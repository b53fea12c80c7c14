#!/usr/bin/env bash
# Receives events with curl, which does not reconnect by itself, so a loop does. An event counts when its empty line has come.
cursor=
wait=1
while true; do
  while IFS= read -r line; do
    case $line in
      "id: "*) id=${line#id: } ;;
      "event: "*) event=${line#event: } ;;
      "retry: "*) wait=$(printf '%d.%03d' $((${line#retry: } / 1000)) $((${line#retry: } % 1000))) ;;
      "data: {\"token\":\""*) token=${line#'data: {"token":"'} token=${token%%\"*} ;;
      "")
        case $event in
          order) echo "got $token" ;;
          heartbeat) echo beat ;;
        esac
        cursor=${id:-$cursor}
        id= event= token=
        ;;
    esac
  done < <(curl --silent --no-buffer --header "Accept: text/event-stream" ${cursor:+--header "Last-Event-ID: $cursor"} "$EVENTS_URL")
  id= event= token=
  sleep "$wait"
done
