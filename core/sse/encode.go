// Package sse answers GET /events with Server-Sent Events (WHATWG HTML, section 9.2): each stream is a session
// of a core.Hub, written out.
package sse

import (
	"strconv"
	"time"

	"github.com/event-piper/event-piper/core"
)

// heartbeat has no id: a client's Last-Event-ID stays at the last event it received.
const heartbeat = "event: heartbeat\ndata: thump\n\n"

// encode returns an event's frame.
func encode(e *core.Event) []byte {
	return appendEvent(make([]byte, 0, len("id: \nevent: \ndata: \n\n")+20+len(e.Type)+len(e.Payload)), e)
}

// appendEvent appends an event's frame (WHATWG HTML, section 9.2.6). A type has no line breaks by the
// database's check, and compact JSON has none by its grammar.
func appendEvent(b []byte, e *core.Event) []byte {
	b = append(b, "id: "...)
	b = strconv.AppendInt(b, e.ID, 10)
	b = append(b, "\nevent: "...)
	b = append(b, e.Type...)
	b = append(b, "\ndata: "...)
	b = append(b, e.Payload...)
	return append(b, "\n\n"...)
}

// appendReset appends the frame that tells a client that its cursor was not continued. It has no id: the
// client decides what to fetch again before it forgets where it was.
func appendReset(b []byte, r *core.ResetError) []byte {
	b = append(b, "event: reset\ndata: {\"reason\":\""...)
	b = append(b, r.Reason...)
	b = append(b, "\",\"oldest\":"...)
	b = strconv.AppendInt(b, r.Oldest, 10)
	b = append(b, ",\"newest\":"...)
	b = strconv.AppendInt(b, r.Newest, 10)
	return append(b, "}\n\n"...)
}

// appendRetry appends how many milliseconds the client should wait before it reconnects.
func appendRetry(b []byte, d time.Duration) []byte {
	b = append(b, "retry: "...)
	b = strconv.AppendInt(b, d.Milliseconds(), 10)
	return append(b, "\n\n"...)
}
