package sse

import (
	"net/http"
	"strings"
	"testing"
)

// unread opens streams and reads nothing of them. Each has a connection of its own.
func (s *service) unread(t *testing.T, consumer string, streams int) {
	t.Helper()
	for range streams {
		resp, cancel := s.get(t, http.MethodGet, consumer)
		t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	}
}

// insert inserts more than the buffers between a server and a client hold, in events of a size.
func (s *service) insert(consumer string, size int) {
	for n := 0; n < 16<<20; n += size {
		s.store.Insert(consumer, "insert", `"`+strings.Repeat("x", size-2)+`"`)
	}
}

// small keeps the windows of HTTP/2 small, so that what is read ahead for a client is as well.
func (s *service) small() {
	s.http.Client().Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
}

// What a handler cannot write counts, as what the loop cannot write does.
func TestWhatAStalledStreamHasInHandCounts(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		const size = 600 << 10
		s := newService(t, w, func(c *setup) { c.limits.TailBytes = 64 << 20 })
		s.small()
		s.unread(t, "toto", 3)
		s.insert("toto", size)
		eventually(t, "what was not written to be counted", func() bool { return s.hub.Stats().BufferBytes >= size })
		if n := s.hub.Stats().BufferBytes; n > 3*size {
			t.Errorf("%d bytes are held by three streams that wait with an event of %d each", n, size)
		}
	})
}

// A consumer's streams that leave too much unread end at once, and not after the write timeout.
func TestStreamsThatLeaveTooMuchUnreadAreEnded(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		const size = 600 << 10
		s := newService(t, w, func(c *setup) { c.limits.TailBytes, c.limits.BufferBytes = 64<<20, 4<<20 })
		s.small()
		s.unread(t, "toto", 2)
		s.insert("toto", size)
		eventually(t, "the first to wait", func() bool { return s.hub.Stats().BufferBytes >= size })
		s.unread(t, "toto", 2)
		s.insert("toto", size)
		eventually(t, "those that are too many to end", func() bool { return s.hub.Sessions() <= 2 })
		if n := s.hub.Stats().BufferBytes; n < size || n > 1<<20 {
			t.Errorf("%d bytes are held for one consumer, want no more than a quarter of 4 MB", n)
		}
		other := s.open(t, "titi")
		other.want(t, frame(s.store.Insert("titi", "insert", `1`), "insert", `1`))
	})
}
