package core

import (
	"cmp"
	"slices"
	"time"
)

// tail holds the recent events of one consumer, and the sessions that read them. It exists while the
// consumer has sessions and lingers for a while after the last has gone, because a long-poll soon returns.
// The hub's mutex guards it.
type tail struct {
	consumer string
	// floor is the position above which events is complete, up to the hub's position.
	floor    int64
	events   []*Event
	sessions []*Session
	// woken marks a tail that the running publish has given events.
	woken bool
	// left is when the last session went, if there is none; vacant that the tail stands in hub.vacant, where it may
	// stand for a while after somebody has come back.
	left   time.Time
	vacant bool
}

// after returns the events after a cursor, for use under the hub's mutex.
func (t *tail) after(cursor int64) []*Event {
	i, _ := slices.BinarySearchFunc(t.events, cursor+1, func(e *Event, id int64) int { return cmp.Compare(e.ID, id) })
	return t.events[i:]
}

// forget drops the events up to and including id.
func (t *tail) forget(id int64) {
	t.floor = max(t.floor, id)
	kept := t.after(t.floor)
	clear(t.events[:len(t.events)-len(kept)])
	t.events = kept
}

func (t *tail) add(s *Session) {
	s.index = len(t.sessions)
	t.sessions = append(t.sessions, s)
}

func (t *tail) remove(s *Session) {
	last := len(t.sessions) - 1
	t.sessions[s.index] = t.sessions[last]
	t.sessions[s.index].index = s.index
	t.sessions[last] = nil
	t.sessions = t.sessions[:last]
}
