package check

import "testing"

// promoted is a right history of a failover at 10 s that lost a's 4, which its reader had. The new primary gave the id 4 to
// b and 5 to a. The reader was told by the first server that noticed, another by the second, and a third had read less.
func promoted() *History {
	lost, again, next := row(4, "a"), row(4, "b"), row(5, "a")
	lost.Lost = at(10)
	again.Token, again.Since, next.Since = "again", at(10), at(10)
	ahead := func(seconds int, newest int64) Message {
		return Message{At: at(seconds), Kind: Reset, Reason: "ahead", ID: newest, Oldest: 1, Newest: newest}
	}
	late := func(m Message, seconds int) Message { m.At = at(seconds); return m }
	return &History{
		Rows:    []Row{row(1, "a"), row(2, "b"), row(3, "a"), lost, again, next},
		Rewinds: []Rewind{{At: at(10), Newest: 3}},
		Readers: []Reader{
			{Name: "of one server", Sessions: []Session{
				{Server: "one", Addresses: []string{"a"}, Messages: []Message{delivery(1), delivery(3), delivery(4)}},
				{Server: "one", Addresses: []string{"a"}, After: 4, Messages: []Message{ahead(14, 4), late(delivery(5), 15)}},
			}},
			{Name: "that moved to another", Sessions: []Session{
				{Server: "one", Addresses: []string{"b"}, Messages: []Message{delivery(2), progress(4)}},
				{Server: "two", Addresses: []string{"b"}, After: 4, Messages: []Message{ahead(15, 5)}},
			}},
			{Name: "that was behind", Sessions: []Session{
				{Server: "two", Addresses: []string{"a", "b"}, Messages: []Message{
					delivery(1), delivery(2), delivery(3), {At: at(16), Kind: Delivery, ID: 4, Token: "again", Type: "insert", Payload: again.Payload}, late(delivery(5), 17),
				}},
			}},
		},
	}
}

func TestARightFailoverHasNoViolation(t *testing.T) {
	v := Verify(promoted())
	if len(v.Violations) > 0 {
		t.Errorf("want no violation, got %v", v.Violations)
	}
	if v.Told != 2 || v.Skipped != 1 || v.Unknowable != 0 || v.Resets["ahead"] != 2 {
		t.Errorf("want 2 readers told, of 1 event that they had passed, got %+v", v.Failover)
	}
}

// TestEachViolationOfAFailoverIsCaught breaks each promise of a failover once.
func TestEachViolationOfAFailoverIsCaught(t *testing.T) {
	for _, c := range []struct {
		name  string
		forge func(h *History)
		want  Fault
	}{
		{"an event went on after what was lost", func(h *History) {
			s := &h.Readers[0].Sessions[1]
			s.Messages = s.Messages[1:]
		}, Untold},
		{"heartbeats went on after what was lost", func(h *History) {
			h.Readers[0].Sessions[1].Messages = []Message{{At: at(20), Kind: Progress, ID: 5}}
			h.Readers[1].Sessions[1].Server = "one"
		}, Untold},
		{"the cursor of a heartbeat, which was lost, went on at another server", func(h *History) {
			h.Readers[1].Sessions[1].Messages = []Message{{At: at(20), Kind: Progress, ID: 5}}
			h.Readers = append(h.Readers, Reader{Name: "of nothing", Sessions: []Session{
				{Server: "two", Addresses: []string{"c"}, Messages: []Message{progress(4)}}, // it had read as far
			}})
		}, Untold},
		{"an event of the new primary is missing", func(h *History) {
			s := &h.Readers[2].Sessions[0]
			s.Messages = append(s.Messages[:3:3], s.Messages[4:]...)
		}, Lost},
		{"an event that both have is missing, and another failed over", func(h *History) {
			s := &h.Readers[2].Sessions[0]
			s.Messages = append(s.Messages[:1:1], s.Messages[2:]...)
		}, Lost},
		{"what was lost is missing from before it was", func(h *History) {
			h.Readers[0].Sessions[0].Messages = []Message{delivery(1), delivery(3), progress(4)}
		}, Lost},
		{"what was lost came from a server that had noticed", func(h *History) {
			m := delivery(4)
			m.At = at(18)
			h.Readers[2].Sessions[0].Messages[3] = m
			h.Readers[2].Sessions[0].Messages[4].At = at(19)
		}, Stale},
		{"a reset of a cursor that both have", func(h *History) {
			for i := range h.Readers[0].Sessions[0].Messages {
				h.Readers[0].Sessions[0].Messages[i].At = at(-100)
			}
			h.Rewinds[0].Newest = 10
		}, Unjustified},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := promoted()
			c.forge(h)
			for _, got := range Verify(h).Violations {
				if got.Fault == c.want {
					return
				}
			}
			t.Errorf("want %q, got %v", c.want, Verify(h).Violations)
		})
	}
}

// A server that had not read as far as the one before cannot know what a cursor is of.
func TestACursorBeyondItsServerIsCountedApart(t *testing.T) {
	h := promoted()
	h.Readers[1].Sessions[1].Messages = []Message{{At: at(20), Kind: Progress, ID: 5}}
	v := Verify(h)
	if len(v.Violations) > 0 || v.Unknowable != 1 || v.Overtaken != 1 {
		t.Errorf("want 1 reader that nobody could tell of 1 event, got %+v and %v", v.Failover, v.Violations)
	}
}
