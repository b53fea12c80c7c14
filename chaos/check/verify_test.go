package check

import (
	"fmt"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func row(id int64, address string) Row {
	token := fmt.Sprint("t", id)
	return Row{Token: token, ID: id, Address: address, Type: "insert", Payload: SumOf([]byte(token))}
}

func delivery(id int64) Message {
	token := fmt.Sprint("t", id)
	return Message{At: at(int(id)), Kind: Delivery, ID: id, Token: token, Type: "insert", Payload: SumOf([]byte(token))}
}

func progress(id int64) Message { return Message{At: at(int(id)), Kind: Progress, ID: id} }

// forged is a history that is right: a's events are 1, 2, 4, 6 and 8, of which 8 came to its reader in a second session;
// b's is 5; 3 was rolled back; nobody knows what became of 7, and the table says it was not committed.
func forged() *History {
	h := &History{
		Rows: []Row{row(1, "a"), row(2, "a"), row(4, "a"), row(5, "b"), row(6, "a"), row(8, "a")},
		Readers: []Reader{{Name: "reader", Sessions: []Session{
			{Via: "sse", Addresses: []string{"a"}, Messages: []Message{
				progress(0), delivery(1), delivery(2), delivery(4), progress(5), delivery(6), progress(7),
			}},
			{Via: "poll", Addresses: []string{"a"}, After: 7, Messages: []Message{delivery(8), progress(8)}},
		}}},
	}
	for _, r := range h.Rows {
		h.Writes = append(h.Writes, Write{r.Token, Committed})
	}
	h.Writes = append(h.Writes, Write{"t3", RolledBack}, Write{"t7", Unknown})
	return h
}

func TestARightHistoryHasNoViolation(t *testing.T) {
	v := Verify(forged())
	if len(v.Violations) > 0 {
		t.Errorf("want no violation, got %v", v.Violations)
	}
	if v.Committed != 6 || v.Deliveries != 5 || v.Sessions != 2 || v.RolledBack != 1 {
		t.Errorf("want 6 events, 5 deliveries, 2 sessions, 1 rolled back; got %+v", v)
	}
}

// messages lets a test change those of the first session, which are five events and two cursors.
func messages(h *History) *[]Message { return &h.Readers[0].Sessions[0].Messages }

func remove(h *History, i int) { m := messages(h); *m = append((*m)[:i:i], (*m)[i+1:]...) }

func insert(h *History, i int, m Message) {
	all := messages(h)
	*all = append((*all)[:i:i], append([]Message{m}, (*all)[i:]...)...)
}

// TestEachViolationIsCaught breaks each promise once, in each way that has come to mind.
func TestEachViolationIsCaught(t *testing.T) {
	pruned := func(h *History, resume, oldest int64) {
		h.Rows[0].Deleted = at(0)
		*messages(h) = append([]Message{{At: at(1), Kind: Reset, ID: resume, Reason: "pruned", Oldest: oldest, Newest: 6}}, (*messages(h))[2:]...)
	}
	for _, c := range []struct {
		name  string
		forge func(h *History)
		want  Fault
	}{
		{"an event in the middle is missing", func(h *History) { remove(h, 2) }, Lost},
		{"an event before a heartbeat's cursor is missing", func(h *History) { remove(h, 5) }, Lost},
		{"an event after the session's cursor is missing", func(h *History) { remove(h, 1) }, Lost},
		{"an event is missing from a poll's answer", func(h *History) {
			h.Readers[0].Sessions[1].Messages = []Message{progress(8)}
		}, Lost},
		{"an event that was deleted later is missing", func(h *History) { remove(h, 2); h.Rows[1].Deleted = at(100) }, Lost},
		{"an event committed late, below the cursor", func(h *History) {
			h.Rows = append(h.Rows, row(3, "a"))
			h.Writes[6].Outcome = Committed
		}, Lost},
		{"the last event never came", func(h *History) {
			h.Readers[0].Sessions = h.Readers[0].Sessions[:1]
		}, Unfinished},
		{"an event twice in a row", func(h *History) { insert(h, 3, delivery(2)) }, Repeated},
		{"an event again, later in the session", func(h *History) { insert(h, 6, delivery(1)) }, Repeated},
		{"an event at the session's cursor", func(h *History) { h.Readers[0].Sessions[0].After = 1 }, Repeated},
		{"an event below the session's cursor", func(h *History) { h.Readers[0].Sessions[1].After = 9 }, Reordered},
		{"two events change places", func(h *History) {
			m := *messages(h)
			m[2], m[3] = m[3], m[2]
		}, Reordered},
		{"an event below a heartbeat's cursor", func(h *History) {
			m := *messages(h)
			m[3], m[4] = m[4], m[3]
		}, Reordered},
		{"an event of somebody else", func(h *History) { insert(h, 4, delivery(5)) }, Misdelivered},
		{"another payload", func(h *History) { (*messages(h))[2].Payload[0]++ }, Altered},
		{"another type", func(h *History) { (*messages(h))[2].Type = "update" }, Altered},
		{"another id", func(h *History) { (*messages(h))[3].ID = 3 }, Altered},
		{"an event that nobody wrote", func(h *History) { insert(h, 7, delivery(9)) }, Invented},
		{"an event that was rolled back", func(h *History) { insert(h, 3, delivery(3)) }, Undone},
		{"an event whose commit did not last", func(h *History) { insert(h, 7, delivery(7)) }, Undone},
		{"a heartbeat goes back", func(h *History) { insert(h, 4, progress(2)) }, CursorBack},
		{"a poll's cursor goes back", func(h *History) {
			s := &h.Readers[0].Sessions[1]
			s.Messages = []Message{delivery(8), progress(6)}
		}, CursorBack},
		{"a reset though nothing was deleted", func(h *History) {
			insert(h, 3, Message{At: at(3), Kind: Reset, Reason: "pruned", ID: 3, Oldest: 3, Newest: 3})
		}, Unjustified},
		{"a reset before anything was deleted", func(h *History) { pruned(h, 1, 1); h.Rows[0].Deleted = at(50) }, Unjustified},
		{"a reset that goes on elsewhere", func(h *History) { pruned(h, 2, 1) }, Unjustified},
		{"a reset for what somebody else lost", func(h *History) {
			h.Rows[3].Deleted = at(0)
			insert(h, 1, Message{At: at(3), Kind: Reset, Reason: "pruned", ID: 5, Oldest: 5, Newest: 6})
		}, Unjustified},
		{"a reset ahead of nothing", func(h *History) {
			insert(h, 4, Message{At: at(5), Kind: Reset, Reason: "ahead", ID: 4, Newest: 4})
		}, Unjustified},
		{"a reset ahead, though the cursor was not", func(h *History) {
			h.Rewinds = []Rewind{{At: at(20), Newest: 100}}
			insert(h, 4, Message{At: at(25), Kind: Reset, Reason: "ahead", ID: 4, Newest: 4})
		}, Unjustified},
		{"a reset of no known reason", func(h *History) { insert(h, 4, Message{At: at(5), Kind: Reset, ID: 4}) }, Unjustified},
		{"a commit is not in the table", func(h *History) { h.Writes = append(h.Writes, Write{"t9", Committed}) }, DatabaseLost},
		{"a rollback is in the table", func(h *History) { h.Writes[0].Outcome = RolledBack }, DatabaseKept},
		{"an event came after the database had lost it", func(h *History) {
			h.Rows[2].Lost = at(-10)
		}, Invented},
		{"a session that does not go on from its cursor", func(h *History) { h.Readers[0].Sessions[1].After = 6 }, Broken},
		{"a reader without a session", func(h *History) { h.Readers[0].Sessions = nil }, Broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := forged()
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

// TestWhatIsNoViolation has what may happen, though it looks odd.
func TestWhatIsNoViolation(t *testing.T) {
	for name, forge := range map[string]func(h *History){
		"a reset after retention": func(h *History) {
			h.Rows[0].Deleted = at(0)
			*messages(h) = append([]Message{{At: at(1), Kind: Reset, ID: 1, Reason: "pruned", Oldest: 1, Newest: 6}}, (*messages(h))[2:]...)
		},
		"an event deleted before its session came to it": func(h *History) { remove(h, 2); h.Rows[1].Deleted = at(1) },
		"a reader that began from now on": func(h *History) {
			h.Readers[0].Sessions[0].After = FromNow
			remove(h, 1)
			(*messages(h))[0].ID = 1
		},
		"a failover that lost what a cursor was given for": func(h *History) {
			h.Rows[5].Lost = at(9)
			h.Rewinds = []Rewind{{At: at(9), Newest: 6}}
			h.Readers[0].Sessions = append(h.Readers[0].Sessions, Session{Addresses: []string{"a"}, After: 8, Messages: []Message{
				{At: at(20), Kind: Reset, ID: 6, Reason: "ahead", Newest: 6},
			}})
		},
		"an event with the id of one that a failover lost": func(h *History) {
			h.Rows[5].Lost = at(9)
			h.Rewinds = []Rewind{{At: at(9), Newest: 6}}
			again := row(8, "a")
			again.Token, again.Since = "again", at(9)
			h.Rows = append(h.Rows, again)
			h.Writes = append(h.Writes, Write{"again", Committed})
		},
		"a commit without an answer": func(h *History) { h.Writes[2].Outcome = Unknown },
	} {
		t.Run(name, func(t *testing.T) {
			h := forged()
			forge(h)
			if v := Verify(h); len(v.Violations) > 0 {
				t.Errorf("want none, got %v", v.Violations)
			}
		})
	}
}
