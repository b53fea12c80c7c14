// Package sse answers GET /events with Server-Sent Events (WHATWG HTML, section 9.2): each stream is a session
// of a core.Hub, written out.
package sse

import (
	"bytes"
	"strconv"
	"time"

	"github.com/event-piper/event-piper/core"
)

// segment is the most bytes of a write that arrive together or not at all: one TCP segment of a common network. A frame
// of such a write has its id first. In a longer write, of one event or of many, the id is the last field of each
// frame: several clients take an id as soon as they see its line, and a connection that is cut inside the data would
// cost them the event.
const segment = 1200

// lastChunk ends a body of chunks (RFC 9112, section 7.1).
const lastChunk = "0\r\n\r\n"

// encoders make an event's frame as a chunk in each format, for all streams that write it.
type encoders [core.Formats]func(*core.Event) []byte

func newEncoders(source string) encoders {
	return encoders{
		core.FormatPayload: func(e *core.Event) []byte { return encode(e, e.Payload) },
		core.FormatEvent:   func(e *core.Event) []byte { return encode(e, core.AppendEvent(make([]byte, 0, 256+len(e.Payload)), e)) },
		core.FormatCloudEvent: func(e *core.Event) []byte {
			return encode(e, core.AppendCloudEvent(make([]byte, 0, 384+len(e.Payload)), e, source))
		},
	}
}

// chunk returns an event's frame as a chunk.
func (en *encoders) chunk(e *core.Event, f core.Format) []byte {
	if e.Shares(f) {
		return e.Encoded(f, en[f])
	}
	return en[f](e)
}

func encode(e *core.Event, data []byte) []byte {
	n := chunkSize(e, data)
	return appendEvent(make([]byte, 0, n), e, data, n > segment, true)
}

// frameSize is the length of an event's frame.
func frameSize(e *core.Event, data []byte) int {
	digits := 1
	for n := e.ID; n >= 10; n /= 10 {
		digits++
	}
	return len("id: \nevent: \ndata: \n\n") + digits + len(e.Type) + len(data)
}

// chunkSize is the length of an event's frame as a chunk.
func chunkSize(e *core.Event, data []byte) int {
	n := frameSize(e, data)
	digits := 1
	for m := n; m >= 16; m /= 16 {
		digits++
	}
	return digits + len("\r\n") + n + len("\r\n")
}

// appendEvent appends an event's frame (WHATWG HTML, section 9.2.6). A type has no line breaks by the
// database's check, and compact JSON has none by its grammar.
func appendEvent(b []byte, e *core.Event, data []byte, idLast, chunked bool) []byte {
	if chunked {
		b = strconv.AppendInt(b, int64(frameSize(e, data)), 16)
		b = append(b, "\r\n"...)
	}
	if !idLast {
		b = appendID(b, e.ID)
	}
	b = append(b, "event: "...)
	b = append(b, e.Type...)
	b = append(b, "\ndata: "...)
	b = append(b, data...)
	b = append(b, '\n')
	if idLast {
		b = appendID(b, e.ID)
	}
	b = append(b, '\n')
	if chunked {
		b = append(b, "\r\n"...)
	}
	return b
}

// appendEncoded appends what encode made of an event. It is how a live event gets into a write of several: to copy it
// costs less than to encode it again.
func appendEncoded(b, chunk []byte, idLast, chunked bool) []byte {
	if !idLast || len(chunk) > segment { // it has its id where it should be
		if !chunked {
			chunk = frameOf(chunk)
		}
		return append(b, chunk...)
	}
	head := len("0\r\n") // at least
	for chunk[head-1] != '\n' {
		head++
	}
	rest := head + len("id: 0\n") // at least
	for chunk[rest-1] != '\n' {
		rest++
	}
	id, fields := chunk[head:rest], chunk[rest:len(chunk)-len("\n\r\n")]
	if chunked {
		b = append(b, chunk[:head]...)
	}
	b = append(b, fields...)
	b = append(b, id...)
	if chunked {
		return append(b, "\n\r\n"...)
	}
	return append(b, '\n')
}

// frameOf returns the frame inside of a chunk.
func frameOf(chunk []byte) []byte {
	return chunk[bytes.IndexByte(chunk, '\n')+1 : len(chunk)-len("\r\n")]
}

// appendFrame appends a frame, as a chunk if it is to be one.
func appendFrame(b, frame []byte, chunked bool) []byte {
	if !chunked {
		return append(b, frame...)
	}
	b = strconv.AppendInt(b, int64(len(frame)), 16)
	b = append(b, "\r\n"...)
	b = append(b, frame...)
	return append(b, "\r\n"...)
}

func appendID(b []byte, id int64) []byte {
	b = append(b, "id: "...)
	b = strconv.AppendInt(b, id, 10)
	return append(b, '\n')
}

// appendHeartbeat appends the frame that tells a client where it is: everything of its consumer up to the cursor has been
// sent. It has data because many clients overlook an id without data. A retry of 0 is not said.
func appendHeartbeat(b []byte, cursor int64, retry time.Duration) []byte {
	return appendThump(appendID(b, cursor), retry)
}

// appendThump appends a heartbeat from event: on.
func appendThump(b []byte, retry time.Duration) []byte {
	b = append(b, "event: heartbeat\ndata: thump\n"...)
	if retry > 0 {
		b = append(b, "retry: "...)
		b = strconv.AppendInt(b, retry.Milliseconds(), 10)
		b = append(b, '\n')
	}
	return append(b, '\n')
}

// appendReset appends the frame that tells a client that its cursor was not continued. Its id is the cursor that the
// stream goes on from.
func appendReset(b []byte, r *core.ResetError) []byte {
	b = appendID(b, r.Resume())
	b = append(b, "event: reset\ndata: "...)
	b = r.AppendJSON(b)
	return append(b, "\n\n"...)
}
