package core

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// Session is a cursor of one consumer: the state of the one reading loop that replay and live, SSE and
// long-poll share. The loop is
//
//	take; if there was nothing, wait until woken; again
//
// Take never blocks. Events above the tails' floor come from memory. For older ones the session asks for a
// page of history and is woken when it is there; with half of a page taken and nobody waiting for history, it
// has the next one read meanwhile. There is no hand-over between the two and no queue: a session that reads
// slowly falls behind into history.
//
// What Take returns counts as not written until the next Take.
//
// Its methods are called by one goroutine at a time, but Discard by any.
type Session struct {
	// Set at construction.
	hub     *Hub
	follows []follow  // one for each address, the consumer's own first
	own     [1]follow // what follows is for a session of one address
	view    View      // set before the first Take
	wake    func()
	id      int64 // see SessionInfo
	since   int64 // Unix nanoseconds

	place // its types are set at construction
	// Guarded by hub.mu, like the cursor.
	history   history
	kept      int    // bytes that the reader keeps of what it took
	pinned    *Event // the event whose shared encoding it keeps
	failure   error  // for the next Take
	closed    bool
	ended     bool // by an operator
	transport Transport
}

// follow is a session's place at the tail of an address.
type follow struct {
	session *Session
	tail    *tail
	index   int // in tail.follows, guarded by hub.mu
}

// SetView says what the session gets of the events. It must be called before the first Take, if at all.
func (s *Session) SetView(v View) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.formats[s.view.Format]--
	s.view = v
	s.hub.formats[v.Format]++
}

// owner is the tail of the consumer's own address, which what the session holds is counted for.
func (s *Session) owner() *tail { return s.follows[0].tail }

// Consumer is whose session it is.
func (s *Session) Consumer() string { return s.owner().address }

// Take appends the next events to events and returns them: up to limit events whose payloads are up to
// maxBytes, or one larger event. It returns none when there is nothing to read yet; wake tells when to try
// again.
//
// A *ResetError reports that the cursor could not be continued; the session has moved to the cursor to go
// on from. ErrUnavailable reports that history cannot be read right now; the session keeps trying and wakes
// when it can. ErrEnded reports that the session was told to end; it stays so.
func (s *Session) Take(events []*Event, limit, maxBytes int) ([]*Event, error) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.written()
	s.history.resume()
	if err := s.failure; err != nil {
		s.failure = nil
		if reset, ok := errors.AsType[*ResetError](err); ok {
			// Not before it is known: whoever asks for the cursor, or comes back with it, would be told of no gap.
			s.cursor = reset.Resume()
			s.history.doubted = false
			return events, err
		}
		if s.history.onItsWay() {
			return events, err
		}
		// It was about a page that Discard has called off since. Nothing would wake the session: ask again.
	}
	if s.ended {
		return events, ErrEnded
	}
	for !s.closed {
		switch {
		case s.history.page != nil:
			var done bool
			if events, done = s.takePage(events, limit, maxBytes); done {
				return events, nil
			}
		case s.history.stage == asked:
			return events, nil
		case s.isHistory(s.cursor):
			if len(events) > 0 {
				return events, nil // the caller has something to do: ask only when it comes back
			}
			if !s.history.behind {
				s.history.behind = true
				h.counters.Replays++
			}
			h.pager.ask(s)
			return events, nil
		default:
			s.history.behind = false
			return s.takeRecent(events, limit, maxBytes), nil
		}
	}
	return events, nil
}

// isBehind reports that the next events come from the table.
func (s *Session) isBehind() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.isHistory(s.cursor)
}

// isHistory reports that what follows a cursor is to be read from the table.
func (s *Session) isHistory(cursor int64) bool {
	return cursor < s.floor() || cursor > s.hub.position && !s.history.known || s.history.doubted
}

// give notes that the consumer takes the session's cursor away, if others may have had the same before a loss.
func (s *Session) give() {
	own := s.owner()
	if s.history.doubted || !s.hub.lost.hits(s.cursor, time.Now()) {
		return
	}
	if own.given == nil {
		own.given = map[int64]bool{}
	}
	own.given[s.cursor] = true
}

// floor is the position above which the tails are complete.
func (s *Session) floor() (floor int64) {
	for i := range s.follows {
		floor = max(floor, s.follows[i].tail.floor)
	}
	return floor
}

// takePage takes from the page at hand; done reports that the caller has had enough.
func (s *Session) takePage(events []*Event, limit, maxBytes int) (_ []*Event, done bool) {
	h := &s.history
	if h.taken > 0 && 2*h.taken >= len(h.page.Events) && s.mayReadAhead() {
		s.hub.pager.ask(s)
	}
	rest := h.page.Events[h.taken:]
	events, n := s.take(events, rest, limit, maxBytes)
	h.taken += n
	if n < len(rest) {
		return events, true
	}
	s.cursor = s.readThrough()
	h.turn()
	return events, len(events) > 0
}

// mayReadAhead reports that the page after this one is history too, and that reading it now keeps nobody waiting.
func (s *Session) mayReadAhead() bool {
	p, h := s.hub.pager, &s.history
	return h.stage == holding && h.page.More && h.page.Next < s.floor() && p.readers == 0 && len(p.queue) == 0
}

// readThrough is the cursor once the page at hand is taken.
func (s *Session) readThrough() int64 {
	if page := s.history.page; page != nil {
		return max(s.cursor, page.Next)
	}
	return s.cursor
}

// takeRecent takes from memory.
func (s *Session) takeRecent(events []*Event, limit, maxBytes int) []*Event {
	rest, all := s.recent(limit)
	events, n := s.take(events, rest, limit, maxBytes)
	if n == len(rest) && all {
		s.cursor = max(s.cursor, s.hub.position)
	}
	return events
}

// recent returns the events in memory after the cursor, in order; if there are several addresses, only the
// next ones, and all reports whether there are no more.
func (s *Session) recent(limit int) (events []*Event, all bool) {
	if len(s.follows) == 1 {
		return s.owner().after(s.cursor), true
	}
	all = true
	for i := range s.follows {
		rest := s.follows[i].tail.after(s.cursor)
		if len(rest) > limit {
			rest, all = rest[:limit], false
		}
		events = append(events, rest...)
	}
	slices.SortFunc(events, func(a, b *Event) int { return cmp.Compare(a.ID, b.ID) })
	if len(events) > limit {
		events, all = events[:limit], false
	}
	return events, all
}

// Cursor is the position up to which events have been taken.
func (s *Session) Cursor() int64 {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.cursor
}

// Settled reports that the last Take saw everything there was: no page of history is on its way, and none was refused since.
func (s *Session) Settled() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.history.resting() && s.failure == nil
}

// More reports whether there are events right now that have not been taken.
func (s *Session) More() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.more()
}

func (s *Session) more() bool {
	if !s.history.resting() || s.cursor < s.floor() {
		return true
	}
	for i := range s.follows {
		if len(s.follows[i].tail.after(s.cursor)) > 0 {
			return true
		}
	}
	return false
}

// Keep tells what the reader keeps of what it took, until the next Take or Keep: bytes of its own, and, if
// shared is not nil, the encoding of an event that other sessions may keep as well. It returns ErrBufferFull
// or ErrBufferFullOfConsumer if that is more than may be held: then the reader must let it go, and end.
func (s *Session) Keep(bytes int, shared *Event) error {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return nil
	}
	s.give()
	s.written()
	if h.buffer.room(s.owner()) != nil {
		s.history.park() // others can use the room while this client takes its time
	}
	need := bytes
	if shared != nil && shared.keepers == 0 {
		need += len(shared.Payload)
	}
	if err := h.buffer.fits(s.owner(), need); err != nil {
		h.counters.Overfull++
		return err
	}
	h.buffer.keep(s.owner(), bytes)
	s.kept = bytes
	if shared != nil {
		h.buffer.pin(shared, s.owner())
		s.pinned = shared
	}
	return nil
}

// written lets go of what the last Take returned.
func (s *Session) written() {
	s.history.written()
	if s.kept > 0 {
		s.hub.buffer.keep(s.owner(), -s.kept)
		s.kept = 0
	}
	if s.pinned != nil {
		s.hub.buffer.unpin(s.pinned)
		s.pinned = nil
	}
}

// Discard drops the history that was read and not taken, to be read again after the next Take. It is for a
// reader whose client has taken nothing for a while: nobody knows when it goes on.
func (s *Session) Discard() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.history.park()
}

// Close ends the session. It may be called more than once; wake may be called once more.
func (s *Session) Close() { s.hub.close(s) }
