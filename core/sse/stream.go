package sse

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/web"
)

const (
	// chunkEvents and chunkBytes bound what one write carries; a larger event is written alone.
	chunkEvents = 256
	chunkBytes  = 48 << 10
)

// stream is one client's connection: a session of the hub and what has to be written besides its events.
// It says what to write; a plain handler or the event loop writes it.
type stream struct {
	// Set at construction.
	server  *Server
	session *core.Session
	access  *web.Access
	expires time.Time // when the client's token does; zero: never
	format  core.Format
	chunked bool   // whether each frame is written as a chunk (RFC 9112, section 7.1)
	signal  func() // makes the stream's next turn happen; from any goroutine, never blocks

	// Set by others, seen at the next turn.
	ending atomic.Bool // say goodbye and end
	gone   atomic.Bool // the client has left: end

	// sent is when something was written last, in nanoseconds of the server's clock.
	sent atomic.Int64
	// stalled is since when the client has not taken what was written, 0 if it has.
	stalled atomic.Int64
	// discarded reports that the session's history has been given up meanwhile.
	discarded atomic.Bool

	slot slot // owned by the wheel
}

// first returns the first frame: where the stream starts, and how long to wait before coming back. A client that is cut
// off before its first event would otherwise come back without a cursor, and lose what came meanwhile.
func (st *stream) first(b []byte) []byte { return st.heartbeat(b, st.server.retry()) }

func (st *stream) heartbeat(b []byte, retry time.Duration) []byte {
	var frame [128]byte
	return appendFrame(b, appendHeartbeat(frame[:0], st.session.Cursor(), retry), st.chunked)
}

// goodbye returns the last frame, which tells the client when to come back, and what ends the body.
func (st *stream) goodbye(b []byte) []byte { return st.last(st.heartbeat(b, st.server.retry())) }

// last returns what ends the body.
func (st *stream) last(b []byte) []byte {
	if st.chunked {
		b = append(b, lastChunk...)
	}
	return b
}

// next returns what to write now, either in scratch or as bytes that other streams share, and nothing when
// there is nothing. After done the stream is to be ended.
func (st *stream) next(scratch *scratch) (chunk []byte, done bool) {
	scratch.used = false
	b := scratch.bytes[:0]
	if st.over() {
		return scratch.use(st.last(b)), true
	}
	if st.ending.Load() {
		return scratch.use(st.goodbye(b)), true
	}
	events, err := st.session.Take(scratch.events[:0], chunkEvents, chunkBytes)
	scratch.events, scratch.shared = events, nil
	if errors.Is(err, core.ErrEnded) {
		return scratch.use(st.goodbye(b)), true
	}
	if reset, ok := errors.AsType[*core.ResetError](err); ok {
		return scratch.use(appendFrame(b, appendReset(nil, reset), st.chunked)), false
	}
	switch {
	case len(events) == 1:
		e := events[0]
		chunk = st.server.encoders.chunk(e, st.format)
		if scratch.shared = e; !e.Shares(st.format) {
			scratch.shared, scratch.used = nil, true
		}
		if !st.chunked {
			chunk = frameOf(chunk)
		}
	case len(events) > 1:
		chunk = scratch.use(st.appendEvents(b, events))
	case st.server.now() >= st.heartbeatDue():
		st.server.stats.Heartbeats.Add(1)
		chunk = scratch.use(st.heartbeat(b, 0))
	}
	if len(events) > 0 {
		st.access.Events += int64(len(events))
		st.server.delivered(st.session, events)
		clear(events)
	}
	return chunk, false
}

// appendEvents appends several events, to be written at once.
func (st *stream) appendEvents(b []byte, events []*core.Event) []byte {
	if st.format != core.FormatPayload {
		return st.appendFormatted(b, events)
	}
	size := 0
	for i := 0; i < len(events) && size <= segment; i++ { // most writes are longer after a few
		size += chunkSize(events[i], events[i].Payload)
	}
	for _, e := range events {
		if e.Live {
			b = appendEncoded(b, st.server.encoders.chunk(e, st.format), size > segment, st.chunked)
		} else {
			b = appendEvent(b, e, e.Payload, size > segment, st.chunked) // nobody shares it
		}
	}
	return b
}

// appendFormatted does the same in a format whose size is not known before it is made.
func (st *stream) appendFormatted(b []byte, events []*core.Event) []byte {
	size := 0
	chunks := make([][]byte, len(events))
	for i, e := range events {
		chunks[i] = st.server.encoders.chunk(e, st.format)
		size += len(chunks[i])
	}
	for _, chunk := range chunks {
		b = appendEncoded(b, chunk, size > segment, st.chunked)
	}
	return b
}

// discardAfter is how long a client may take nothing before the history that was read for its session is given up:
// nobody knows when it goes on. A client that is merely slow does not make the database read a page again.
const discardAfter = 2 * time.Second

// kept tells the session that n bytes of the last chunk could not be written, and returns an error if that is more
// than may wait.
func (st *stream) kept(n int, scratch *scratch) error {
	if scratch.used {
		return st.session.Keep(n, nil)
	}
	return st.session.Keep(0, scratch.shared)
}

// over reports that the client has left or may not read any more.
func (st *stream) over() bool {
	return st.gone.Load() || !st.expires.IsZero() && !time.Now().Before(st.expires)
}

// wrote notes how many bytes of a chunk went out just now.
func (st *stream) wrote(n int) {
	st.server.stats.Bytes.Add(int64(n))
	st.sent.Store(st.server.now())
}

// heartbeatDue is when the stream has been silent for long enough, in nanoseconds of the server's clock. The last
// digits of a time are as good as random.
func (st *stream) heartbeatDue() int64 {
	interval, sent := int64(st.server.config.Heartbeat), st.sent.Load()
	return sent + interval - sent%(interval/10+1)
}

// due is when the stream next has something to do unasked, in nanoseconds of the server's clock.
func (st *stream) due() int64 {
	c, now := &st.server.config, st.server.now()
	due := min(st.heartbeatDue(), now+int64(min(c.WriteTimeout, 2*discardAfter))) // the client may stall any moment
	if since := st.stalled.Load(); since != 0 {
		due = since + int64(c.WriteTimeout)
		if !st.discarded.Load() {
			due = min(due, since+int64(discardAfter))
		}
	}
	// An expiry further away is looked at again by then.
	if left := time.Until(st.expires); !st.expires.IsZero() && left < c.Heartbeat {
		due = min(due, now+int64(left))
	}
	return due
}

// scratch is what a writer needs once, however many streams it serves.
type scratch struct {
	events []*core.Event
	bytes  []byte
	// used reports that the last chunk is in bytes; if not, it is the encoding of shared.
	used   bool
	shared *core.Event
}

func (s *scratch) use(b []byte) []byte {
	s.bytes, s.used = b, true
	return b
}
