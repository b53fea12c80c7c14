package core

import (
	"cmp"
	"slices"
	"time"
)

// Transport is how a session's events travel.
type Transport uint8

// The transports. Those of streams say whether the connection is the stream's own or shared.
const (
	LongPoll Transport = iota
	SSE
	SSEOverHTTP2
)

func (t Transport) String() string {
	return [...]string{"poll", "sse", "sse over HTTP/2"}[t]
}

// MarshalText makes it a string of JSON.
func (t Transport) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// SessionInfo describes an open session.
type SessionInfo struct {
	// ID names the session. Ids of an earlier run of the program are not given again.
	ID        int64     `json:"id"`
	Consumer  string    `json:"consumer"`
	Topics    []string  `json:"topics,omitempty"`
	Transport Transport `json:"transport"`
	Since     time.Time `json:"since"`
	Cursor    int64     `json:"cursor"`
	// Behind is how many positions the session has still to read; few of them need be events for it. It is 0
	// when it has been given all there is.
	Behind int64 `json:"behind"`
}

// List describes the open sessions, of one consumer unless it is "", those furthest behind first and at most
// limit of them, and counts all. It looks at each while nothing is delivered: about a millisecond for 10,000.
func (h *Hub) List(consumer string, limit int) (list []SessionInfo, total int) {
	list = []SessionInfo{} // for JSON
	h.mu.Lock()
	defer h.mu.Unlock()
	var furthest []*Session
	keep := func() {
		slices.SortFunc(furthest, func(a, b *Session) int {
			return cmp.Or(cmp.Compare(b.behind(), a.behind()), cmp.Compare(a.id, b.id))
		})
		furthest = furthest[:min(limit, len(furthest))]
	}
	for s := range h.each(consumer) {
		total++
		if furthest = append(furthest, s); len(furthest) >= 2*limit+100 {
			keep()
		}
	}
	keep()
	for _, s := range furthest {
		list = append(list, s.info())
	}
	return list, total
}

// End tells the session with an id to end, and reports whether there is one. A stream says goodbye, a poll
// answers with what it has; nothing keeps the client from coming back. An answer that is being sent is left alone.
func (h *Hub) End(id int64) bool {
	return h.endEach("", func(s *Session) bool { return s.id == id }) > 0
}

// EndAll tells all sessions of a consumer to end and counts them.
func (h *Hub) EndAll(consumer string) int {
	return h.endEach(consumer, func(*Session) bool { return true })
}

func (h *Hub) endEach(consumer string, chosen func(*Session) bool) int {
	var ended []*Session
	h.mu.Lock()
	for s := range h.each(consumer) {
		if chosen(s) {
			s.ended = true
			ended = append(ended, s)
		}
	}
	h.mu.Unlock()
	for _, s := range ended {
		s.wake()
	}
	return len(ended)
}

// each yields the open sessions, of one consumer unless it is "", for use under the mutex.
func (h *Hub) each(consumer string) func(yield func(*Session) bool) {
	return func(yield func(*Session) bool) {
		if consumer != "" {
			if t := h.tails[consumer]; t != nil {
				t.each(yield)
			}
			return
		}
		for _, t := range h.tails {
			if !t.each(yield) {
				return
			}
		}
	}
}

// each yields the sessions of the consumer whose own address this is.
func (t *tail) each(yield func(*Session) bool) bool {
	for _, f := range t.follows {
		if f.session.owner() == t && !yield(f.session) {
			return false
		}
	}
	return true
}

func (s *Session) info() SessionInfo {
	i := SessionInfo{
		ID: s.id, Consumer: s.owner().address, Transport: s.transport, Since: time.Unix(0, s.since),
		Behind: s.behind(),
	}
	i.Cursor = s.hub.position - i.Behind
	for _, f := range s.follows[1:] {
		i.Topics = append(i.Topics, f.tail.address)
	}
	return i
}

// behind is how far the session is from the newest position. Until its next Take, one that is live does not know
// that others' events have moved it.
func (s *Session) behind() int64 {
	if !s.more() {
		return 0
	}
	return s.hub.position - s.cursor
}

// Ended reports that the session was told to end.
func (s *Session) Ended() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.ended
}

// Via tells how the session's events travel, for whoever lists it.
func (s *Session) Via(t Transport) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.transport = t
}
