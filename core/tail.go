package core

import (
	"cmp"
	"slices"
	"time"
)

// tail holds the recent events of one address, and the sessions that read them. It exists while the
// address has sessions and lingers for a while after the last has gone, because a long-poll soon returns.
// The hub's mutex guards it.
type tail struct {
	address string
	// floor is the position above which events is complete, up to the hub's position.
	floor   int64
	events  []*Event
	follows []*follow
	// owned counts the sessions of the consumer whose own address this is.
	owned int
	// read and kept are what they hold of the buffer: pages, and what their readers could not write.
	read, kept int
	// redacted is the position of the last redaction of one of the address's events.
	redacted int64
	// given are the cursors that the consumer has taken away since the database last lost something, of those that hit the loss.
	given map[int64]bool
	// woken marks a tail that the running publish has given events.
	woken bool
	// left is when the last session went, if there is none; leaving that the tail stands in hub.leaving, where it
	// may stand for a while after somebody has come back.
	left    time.Time
	leaving bool
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

func (t *tail) add(f *follow) {
	f.index = len(t.follows)
	t.follows = append(t.follows, f)
}

func (t *tail) remove(f *follow) {
	last := len(t.follows) - 1
	t.follows[f.index] = t.follows[last]
	t.follows[f.index].index = f.index
	t.follows[last] = nil
	t.follows = t.follows[:last]
}
