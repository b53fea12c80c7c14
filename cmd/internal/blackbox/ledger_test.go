//go:build unix

package blackbox_test

import (
	"fmt"
	"maps"
	"slices"
)

// kind is what a message tells.
type kind int

const (
	delivered kind = iota // an event
	progress              // the cursor moves on
	reset                 // and events may be missed, since some were pruned
)

// message is what a reader was told. Its id is where its cursor goes.
type message struct {
	kind    kind
	id      int64
	address string // whom the event was for, if it says so
}

// session is what a reader got for one request.
type session struct {
	way      string
	after    int64
	interest interest
	messages []message
}

// check compares a session with all events that were ever committed: each that was for it and that its cursor has passed
// has come, in order, unless a reset told of it, and none else has.
func (s *session) check(rows map[int64]row) error {
	wants := func(id int64) bool { return slices.Contains(s.interest.addresses, rows[id].address) }
	ids := slices.DeleteFunc(slices.Sorted(maps.Keys(rows)), func(id int64) bool { return id <= s.after || !wants(id) })
	cursor := s.after
	for n, m := range s.messages {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s after %d, as %+v: message %d, %+v, came at the cursor %d: %s",
				s.way, s.after, s.interest, n, m, cursor, fmt.Sprintf(format, args...))
		}
		next, _ := slices.BinarySearch(ids, m.id+1)
		passed := ids[:next]
		ids = ids[next:]
		switch m.kind {
		case delivered:
			row, committed := rows[m.id]
			switch {
			case m.id <= cursor:
				return fail("want events in order, each once")
			case !committed:
				return fail("nobody has committed it")
			case !wants(m.id):
				return fail("it was for %q", row.address)
			case m.address != "" && m.address != row.address:
				return fail("want it said to be for %q", row.address)
			}
			passed = passed[:len(passed)-1]
			fallthrough
		case progress:
			if m.id < cursor {
				return fail("want the cursor to go on")
			}
			if len(passed) > 0 {
				return fail("events %v were passed over", passed)
			}
		case reset:
			if !slices.ContainsFunc(passed, func(id int64) bool { return rows[id].pruned }) {
				return fail("nothing that was for it had been pruned")
			}
		}
		cursor = m.id
	}
	return nil
}
