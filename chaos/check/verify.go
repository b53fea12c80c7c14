package check

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Fault is the promise that a violation breaks.
type Fault string

// The promises, and what breaks them.
const (
	Lost         Fault = "lost"          // a cursor moved past a committed event that the session did not get
	Repeated     Fault = "repeated"      // an event came twice in a session, or again after its cursor was used
	Reordered    Fault = "reordered"     // an event came after one with a higher id
	Misdelivered Fault = "misdelivered"  // an event came to somebody else
	Altered      Fault = "altered"       // an event came with another id, type or payload
	Invented     Fault = "invented"      // an event came that no writer has written
	Undone       Fault = "undone"        // an event of a transaction that was rolled back came
	CursorBack   Fault = "cursor back"   // a cursor went back without a reset
	Unjustified  Fault = "unjustified"   // a reset came without a cause
	Unfinished   Fault = "unfinished"    // a reader's cursor never came to the newest event
	Untold       Fault = "untold"        // a cursor of what a failover lost went on without a reset
	Stale        Fault = "stale"         // an event that a failover lost came from a server that had noticed the failover
	Broken       Fault = "broken reader" // a session did not begin where the one before ended
	DatabaseLost Fault = "database lost" // the database: a commit that it confirmed is not in it
	DatabaseKept Fault = "database kept" // the database: a rolled-back event is in it
)

// Violation is one promise that was broken.
type Violation struct {
	Fault  Fault
	Reader string
	Detail string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Fault, v.Reader, v.Detail) }

// Verdict is what the history proves.
type Verdict struct {
	Violations []Violation
	// Committed and Deliveries count events, and how often they were delivered.
	Committed, Deliveries int
	// OfTopics counts the deliveries of events that were not addressed to the session's first address.
	OfTopics int
	// RolledBack counts the events whose writers know that they were not committed.
	RolledBack int
	Sessions   int
	Resets     map[string]int // by reason, justified
	// PrunedUnread counts events that were deleted before a session that was open then could read them, which is
	// the one way to miss an event without being told.
	PrunedUnread int
	// LostByDatabase counts confirmed commits that a failover has lost.
	LostByDatabase int
	// Failover is what came of a database that became older.
	Failover
}

// Verify checks every message of every session against the rows.
func Verify(h *History) *Verdict {
	v := &verifier{
		history: h, verdict: &Verdict{Resets: map[string]int{}},
		rows: map[string]*Row{}, writes: map[string]Outcome{}, addresses: map[string][]*Row{},
	}
	v.index()
	v.outcomes()
	for i := range h.Readers {
		v.reader(&h.Readers[i])
	}
	return v.verdict
}

type verifier struct {
	history   *History
	verdict   *Verdict
	rows      map[string]*Row    // by token
	writes    map[string]Outcome // by token
	addresses map[string][]*Row  // in ascending order of ids
	servers   map[string]*server // since a rewind
}

func (v *verifier) say(f Fault, reader, format string, args ...any) {
	v.verdict.Violations = append(v.verdict.Violations, Violation{f, reader, fmt.Sprintf(format, args...)})
}

func (v *verifier) index() {
	for i := range v.history.Rows {
		r := &v.history.Rows[i]
		v.rows[r.Token] = r
		v.addresses[r.Address] = append(v.addresses[r.Address], r)
	}
	for _, rows := range v.addresses {
		slices.SortFunc(rows, func(a, b *Row) int { return cmp.Compare(a.ID, b.ID) })
	}
	for _, w := range v.history.Writes {
		v.writes[w.Token] = w.Outcome
	}
	v.verdict.Committed = len(v.history.Rows)
	v.indexServers()
}

// outcomes compares what the writers were told with what the database has.
func (v *verifier) outcomes() {
	for _, w := range v.history.Writes {
		row := v.rows[w.Token]
		switch {
		case w.Outcome == Committed && row == nil:
			v.say(DatabaseLost, "writer", "%s was committed and is not in the table", w.Token)
		case w.Outcome == Committed && !row.Lost.IsZero():
			v.verdict.LostByDatabase++
		case w.Outcome == RolledBack && row != nil && row.Since.IsZero(): // a failover can lose a rollback, too
			v.say(DatabaseKept, "writer", "%s was rolled back and is in the table as %d", w.Token, row.ID)
		}
		if w.Outcome == RolledBack {
			v.verdict.RolledBack++
		}
	}
}

func (v *verifier) reader(r *Reader) {
	cursor := FromNow
	d := &debt{reader: r.Name}
	for i := range r.Sessions {
		s := &r.Sessions[i]
		if i > 0 && s.After != cursor {
			v.say(Broken, r.Name, "session %d begins after %d, and the one before ended at %d", i, s.After, cursor)
		}
		cursor = v.session(r.Name, s, d)
		v.verdict.Sessions++
	}
	if len(r.Sessions) == 0 {
		v.say(Broken, r.Name, "it had no session")
		return
	}
	for _, address := range r.Sessions[len(r.Sessions)-1].Addresses {
		rows := v.addresses[address]
		for j := len(rows) - 1; j >= 0; j-- {
			if last := rows[j]; last.Deleted.IsZero() && last.Lost.IsZero() {
				if last.ID > cursor {
					v.say(Unfinished, r.Name, "it ended at %d, and %s of %s is %d", cursor, last.Token, address, last.ID)
				}
				break
			}
		}
	}
}

// session follows the cursor of a session through its messages, and returns where it ends.
func (v *verifier) session(reader string, s *Session, d *debt) int64 {
	where := fmt.Sprintf("%s via %s", reader, s.Via)
	position := s.After
	seen := map[string]bool{}
	for i := range s.Messages {
		m := &s.Messages[i]
		if position == FromNow && m.Kind != Reset {
			position = m.ID
			if m.Kind == Delivery {
				position--
			}
		}
		v.meet(d, s, position, m)
		switch m.Kind {
		case Delivery:
			v.verdict.Deliveries++
			v.delivery(where, s, m)
			switch {
			case seen[m.Token] || m.ID == position:
				v.say(Repeated, where, "%d %s came when the cursor was at %d", m.ID, m.Token, position)
			case m.ID < position:
				v.say(Reordered, where, "%d %s came when the cursor was at %d", m.ID, m.Token, position)
			}
			seen[m.Token] = true
			v.passed(where, s, d, position, m.ID-1, m)
		case Progress:
			if m.ID < position {
				v.say(CursorBack, where, "the cursor went from %d to %d", position, m.ID)
			}
			v.passed(where, s, d, position, m.ID, m)
		case Reset:
			v.reset(where, s, position, m)
			position = m.ID
			clear(seen) // what comes after where it goes on comes again, as it says
		}
		position = max(position, m.ID)
	}
	return position
}

// delivery compares an event that came with the row that it was.
func (v *verifier) delivery(where string, s *Session, m *Message) {
	row := v.rows[m.Token]
	if row == nil {
		outcome, written := v.writes[m.Token]
		if written && outcome != Committed {
			v.say(Undone, where, "%d %s came and was not committed", m.ID, m.Token)
		} else if !written {
			v.say(Invented, where, "%d %q came and nobody has written it", m.ID, m.Token)
		}
		return
	}
	if !slices.Contains(s.Addresses, row.Address) {
		v.say(Misdelivered, where, "%d %s came and is for %s", m.ID, m.Token, row.Address)
	} else if row.Address != s.Addresses[0] {
		v.verdict.OfTopics++
	}
	if row.ID != m.ID || row.Type != m.Type || row.Payload != m.Payload {
		v.say(Altered, where, "%d %s came with type %q and payload %x, and is %d with %q and %x",
			m.ID, m.Token, m.Type, m.Payload, row.ID, row.Type, row.Payload)
	}
	if !row.Lost.IsZero() {
		v.lostDelivery(where, s, m)
	}
}

// tolerance is how far the moments of two processes may be apart, and how long bytes are on their way.
const tolerance = 5 * time.Second

// passed says which events a cursor has moved past, from after one position to another, without their delivery, by the message
// that moved it.
func (v *verifier) passed(where string, s *Session, d *debt, after, through int64, m *Message) {
	for _, address := range s.Addresses {
		rows := v.addresses[address]
		first := sort.Search(len(rows), func(i int) bool { return rows[i].ID > after })
		for _, row := range rows[first:] {
			if row.ID > through {
				break
			}
			switch {
			case !row.Lost.IsZero() && m.At.After(row.Lost):
			case !row.Since.IsZero() && !v.isOfNew(s, m):
				d.missed = append(d.missed, missed{row, fmt.Sprintf("%s: the cursor went from %d to %d", where, after, through)})
			case !row.Deleted.IsZero() && row.Deleted.Before(m.At):
				v.verdict.PrunedUnread++
			default:
				v.say(Lost, where, "%d %s of %s: the cursor went from %d to %d", row.ID, row.Token, address, after, through)
			}
		}
	}
}

// reset checks that a reset tells the truth.
func (v *verifier) reset(where string, s *Session, position int64, m *Message) {
	switch m.Reason {
	case "pruned":
		if m.ID != m.Oldest || m.Oldest <= position {
			break
		}
		for _, address := range s.Addresses {
			for _, row := range v.addresses[address] {
				// It may be above the watermark, where no cursor can go on.
				if row.ID > position && !row.Deleted.IsZero() && row.Deleted.Before(m.At) {
					v.verdict.Resets[m.Reason]++
					return
				}
			}
		}
	case "ahead":
		for _, r := range v.history.Rewinds {
			if m.ID == m.Newest && m.At.After(r.At) && v.mayBeOfLost(position, r) {
				v.verdict.Resets[m.Reason]++
				return
			}
		}
	}
	v.say(Unjustified, where, "a reset %q at %d to %d (oldest %d, newest %d)", m.Reason, position, m.ID, m.Oldest, m.Newest)
}
