package core

import (
	"cmp"
	"slices"
)

// RedactedType is the type of an event that says that the payload of the one it amends has been emptied.
const RedactedType = "redacted"

// redact forgets what an instance holds of an event whose payload has been emptied, and of those before it: whoever
// has not had it yet reads it from the table again. What the redaction itself says is not trusted, since any
// writer can insert an event of its type. The hub's mutex is held.
func (h *Hub) redact(t *tail, redaction *Event) {
	id := redaction.Amends
	t.redacted = redaction.ID
	if id > t.floor && len(t.events) > 0 && id >= t.events[0].ID {
		t.forget(id)
	}
	i, found := slices.BinarySearchFunc(h.recent, id, func(e *Event, id int64) int { return cmp.Compare(e.ID, id) })
	if found && h.recent[i].Consumer == t.address {
		// Its place is kept, because evict goes by it.
		h.bytes -= h.recent[i].weight
		h.recent[i] = &Event{ID: id, Consumer: t.address}
	}
	for _, f := range t.follows {
		if f.session.history.contains(id) {
			f.session.history.drop()
			f.session.wake()
		}
	}
}

// redactedAfter reports that an event of what the session follows was redacted after a position. The hub's mutex is
// held.
func (s *Session) redactedAfter(position int64) bool {
	return slices.ContainsFunc(s.follows, func(f follow) bool { return f.tail.redacted > position })
}

// contains reports that an event is on one of the pages at hand.
func (h *history) contains(id int64) bool {
	for _, page := range [...]*Page{h.page, h.next} {
		if page != nil && slices.ContainsFunc(page.Events, func(e *Event) bool { return e.ID == id }) {
			return true
		}
	}
	return false
}

// share settles in which formats an event's encoding is shared, and what it is counted for. The hub's mutex is held.
func (h *Hub) share(e *Event) {
	e.weight = weight(e)
	for f := FormatEvent; f < Formats; f++ {
		if h.formats[f] > 0 {
			e.shares |= 1 << f
			e.weight += len(e.Payload) + 256
		}
	}
}
