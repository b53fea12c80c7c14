package core

import "errors"

// Session is a cursor of one consumer: the state of the one reading loop that replay and live, SSE and
// long-poll share. The loop is
//
//	take; if there was nothing, wait until woken; again
//
// Take never blocks. Events above the tail's floor come from memory. For older ones the session asks for a
// page of history and is woken when it is there; with half of a page taken and nobody waiting for history, it
// has the next one read meanwhile. There is no hand-over between the two and no queue: a
// session that reads slowly falls behind into history.
//
// Its methods are called by one goroutine at a time, but Discard by any.
type Session struct {
	// Set at construction.
	hub   *Hub
	tail  *tail
	types Types
	wake  func()
	// pageLimit bounds the events of a page of history.
	pageLimit int

	// Guarded by hub.mu.
	index     int // in tail.sessions
	cursor    int64
	page      *Page // history that was asked for and has not been taken yet
	taken     int   // how many events of page have been taken
	ahead     *Page // what follows page
	paging    bool  // a page has been asked for
	parked    bool  // no page is wanted before the next Take
	replaying bool  // the last events came from history, or the next ones will
	found     bool  // the database knows the cursor although it is beyond the hub's position
	err       error // for the next Take
	closed    bool
}

// Take appends the next events to events and returns them: up to limit events whose payloads are up to
// maxBytes, or one larger event. It returns none when there is nothing to read yet; wake tells when to try
// again.
//
// A *ResetError reports that the cursor could not be continued; the session has moved to the cursor to go
// on from. ErrUnavailable reports that history cannot be read right now; the session keeps trying and wakes
// when it can.
func (s *Session) Take(events []*Event, limit, maxBytes int) ([]*Event, error) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.parked = false
	if err := s.err; err != nil {
		s.err = nil
		if reset, ok := errors.AsType[*ResetError](err); ok {
			s.cursor = reset.Resume() // not before it is known: whoever asks for the cursor would be told of no gap
		}
		return events, err
	}
	for !s.closed {
		if s.page != nil {
			var done bool
			if events, done = s.takePage(events, limit, maxBytes); done {
				return events, nil
			}
			continue
		}
		if s.paging {
			return events, nil
		}
		if s.cursor < s.tail.floor || s.cursor > h.position && !s.found {
			if len(events) > 0 {
				return events, nil // the caller has something to do: ask only when it comes back
			}
			if !s.replaying {
				s.replaying = true
				h.counters.Replays++
			}
			h.pager.ask(s)
			return events, nil
		}
		s.replaying = false
		return s.takeTail(events, limit, maxBytes), nil
	}
	return events, nil
}

// takePage takes from the page that was read; done reports that the caller has had enough.
func (s *Session) takePage(events []*Event, limit, maxBytes int) (_ []*Event, done bool) {
	if s.taken > 0 && 2*s.taken >= len(s.page.Events) && s.mayReadAhead() {
		s.hub.pager.ask(s)
	}
	rest := s.page.Events[s.taken:]
	events, n := s.take(events, rest, limit, maxBytes)
	s.taken += n
	if n < len(rest) {
		return events, true
	}
	s.cursor = s.readThrough()
	s.hub.pager.release(s.page)
	s.page, s.ahead, s.taken = s.ahead, nil, 0
	return events, len(events) > 0
}

// mayReadAhead reports that the page after this one is history too, and that reading it now keeps nobody waiting.
func (s *Session) mayReadAhead() bool {
	p := s.hub.pager
	return s.page.More && s.page.Next < s.tail.floor && s.ahead == nil && !s.paging && p.readers == 0 && len(p.queue) == 0
}

// readThrough is the cursor once the page that was read is taken.
func (s *Session) readThrough() int64 {
	if s.page == nil {
		return s.cursor
	}
	return max(s.cursor, s.page.Next)
}

// takeTail takes from memory.
func (s *Session) takeTail(events []*Event, limit, maxBytes int) []*Event {
	rest := s.tail.after(s.cursor)
	events, n := s.take(events, rest, limit, maxBytes)
	if n == len(rest) {
		s.cursor = max(s.cursor, s.hub.position)
	}
	return events
}

// take appends the wanted ones of rest until the caller has enough, moves the cursor, and reports how many
// of rest it went past.
func (s *Session) take(events, rest []*Event, limit, maxBytes int) ([]*Event, int) {
	bytes := 0
	for i, e := range rest {
		if s.types.Want(e.Type) {
			bytes += len(e.Payload)
			if n := len(events); n >= limit || n > 0 && bytes > maxBytes {
				return events, i
			}
			events = append(events, e)
		}
		s.cursor = e.ID
	}
	return events, len(rest)
}

// Cursor is the position up to which events have been taken.
func (s *Session) Cursor() int64 {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.cursor
}

// Settled reports that the last Take saw everything there was: no page of history is on its way.
func (s *Session) Settled() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return !s.paging && s.page == nil
}

// More reports whether there are events right now that have not been taken.
func (s *Session) More() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.paging || s.page != nil || s.cursor < s.tail.floor || len(s.tail.after(s.cursor)) > 0
}

// Discard drops the history that was read and not taken, to be read again after the next Take: a reader that has to
// wait should not keep it in memory.
func (s *Session) Discard() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.parked = true
	s.drop()
}

func (s *Session) drop() {
	s.hub.pager.release(s.page)
	s.hub.pager.release(s.ahead)
	s.page, s.ahead, s.taken = nil, nil, 0
}

// Close ends the session. It may be called more than once; wake may be called once more.
func (s *Session) Close() { s.hub.close(s) }
