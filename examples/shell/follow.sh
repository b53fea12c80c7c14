#!/bin/sh
# Follows the events with nothing but BusyBox, beside `make run`:
#
#   CONSUMER=toto busybox sh examples/shell/follow.sh
#
# Its cursor is in a file. It is written after the work is done: work that a crash interrupts is done again.
url=${EVENT_PIPER_URL:-http://localhost:4000/events}
file=${CURSOR_FILE:-shell.cursor}

# handle ID TYPE PAYLOAD is where the work goes.
handle() { printf '%s %s %s\n' "$1" "$2" "$3"; }

# A loop that is stopped ends its stream first and works off what has come: nothing of it may go on beside the next one.
trap 'trap "" TERM INT; kill $(jobs -p) 2>/dev/null; wait; exit' TERM INT

retry=2
while :; do
  cursor=$(cat "$file" 2>/dev/null)
  # A minute for each stream, since one that is silent forever would not be noticed: the -T of BusyBox 1.35 crashes on a
  # body of chunks.
  busybox timeout 60 busybox wget -q -O - --header "X-Consumer-Id: ${CONSUMER:-toto}" --header 'Accept: text/event-stream' \
    "$url?after=${cursor:-0}" 2>/dev/null |
    while IFS= read -r line; do
      case $line in
        'id: '*) id=${line#id: } ;;
        'event: '*) type=${line#event: } ;;
        'data: '*) data=${line#data: } ;;
        '')
          # Only an empty line ends a frame: what a cut connection leaves is none.
          if [ -n "$id" ]; then
            case $type in
              heartbeat) ;;
              reset) echo "events are missing: $data" >&2 ;;
              *) handle "$id" "$type" "$data" || exit ;;
            esac
            echo "$id" >"$file.new" && mv "$file.new" "$file"
          fi
          id='' type='' data=''
          ;;
      esac
    done &
  wait # in the foreground, the pipe would keep signals waiting
  sleep "$retry"
done
