package check

import "time"

// Failover is what came of a failover that lost events.
type Failover struct {
	// Told counts resets of readers whose cursors were of what it lost, and Skipped the events of the new primary that
	// such a reset has a reader fetch in its own way.
	Told, Skipped int
	// Unknowable counts readers that a server did not tell because their cursors were beyond all that it had given, and
	// Overtaken the events of the new primary that they missed for that.
	Unknowable, Overtaken int
	// StaleBefore counts deliveries of lost events by servers that had not met the new primary yet.
	StaleBefore int
}

// Add adds what came of another.
func (f *Failover) Add(o Failover) {
	f.Told += o.Told
	f.Skipped += o.Skipped
	f.Unknowable += o.Unknowable
	f.Overtaken += o.Overtaken
	f.StaleBefore += o.StaleBefore
}

// server is what clients have seen of one around a failover.
type server struct {
	// noticed is when it first delivered something of the new primary or told of the loss, the zero time if it never did.
	noticed time.Time
	// given is the highest cursor that it gave before. It had read at least that far.
	given int64
}

// onItsWay is how long what a server sent earlier may take to be noted after what it sent later, to another reader, on a
// busy machine.
const onItsWay = 2 * time.Second

// indexServers finds when each server noticed that the database had become older.
func (v *verifier) indexServers() {
	v.servers = map[string]*server{}
	if len(v.history.Rewinds) == 0 {
		return
	}
	each := func(visit func(s *server, m *Message)) {
		for i := range v.history.Readers {
			for j := range v.history.Readers[i].Sessions {
				session := &v.history.Readers[i].Sessions[j]
				if v.servers[session.Server] == nil {
					v.servers[session.Server] = &server{}
				}
				for k := range session.Messages {
					visit(v.servers[session.Server], &session.Messages[k])
				}
			}
		}
	}
	each(func(s *server, m *Message) {
		row := v.rows[m.Token]
		news := m.Kind == Reset && m.Reason == "ahead" || m.Kind == Delivery && row != nil && !row.Since.IsZero()
		if news && (s.noticed.IsZero() || m.At.Before(s.noticed)) {
			s.noticed = m.At
		}
	})
	each(func(s *server, m *Message) {
		if s.noticed.IsZero() || m.At.Before(s.noticed) {
			s.given = max(s.given, m.ID)
		}
	})
}

// debt is what a reader must be told of a failover before it gets anything else.
type debt struct {
	reader string
	// cursor is one of what was lost, 0 if there is none.
	cursor int64
	missed []missed
	// unknowable says that it went to a server that cannot know what its cursor is of.
	unknowable bool
}

// missed is an event of the new primary that a cursor has passed: one of a server that had not met the new primary.
type missed struct {
	row *Row
	how string
}

// meet follows what a reader is owed, by a message that comes when its cursor is at a position.
func (v *verifier) meet(d *debt, s *Session, position int64, m *Message) {
	if len(v.history.Rewinds) == 0 {
		return
	}
	rewind, from, row := v.history.Rewinds[0], v.servers[s.Server], v.rows[m.Token]
	switch {
	case m.Kind == Reset && m.Reason == "ahead":
		v.verdict.Told++
		v.verdict.Skipped += len(d.missed)
		*d = debt{reader: d.reader}
	case v.isOfNew(s, m):
		d.unknowable = d.unknowable || position > from.given || v.isGivenAgain(s, position)
		v.settle(d)
	case m.ID > rewind.Newest && (m.Kind == Delivery && row != nil && !row.Lost.IsZero() || m.Kind == Progress && m.At.Before(rewind.At)):
		d.cursor = m.ID
	}
}

// isOfNew reports that a message came from a server that had noticed that the database became older, or that it never did.
func (v *verifier) isOfNew(s *Session, m *Message) bool {
	if len(v.history.Rewinds) == 0 {
		return true
	}
	row, from := v.rows[m.Token], v.servers[s.Server]
	return m.Kind == Delivery && row != nil && !row.Since.IsZero() ||
		m.Kind == Progress && !from.noticed.IsZero() && m.At.After(from.noticed.Add(onItsWay))
}

// isGivenAgain reports that a session's server has given its consumer cursors of now that are not below a position, and no
// higher than what was given before: it cannot tell which of the two a cursor is.
func (v *verifier) isGivenAgain(s *Session, position int64) bool {
	var given int64
	for _, from := range v.servers {
		given = max(given, from.given)
	}
	for i := range v.history.Readers {
		for j := range v.history.Readers[i].Sessions {
			other := &v.history.Readers[i].Sessions[j]
			if other.Server != s.Server || other.Addresses[0] != s.Addresses[0] {
				continue
			}
			for _, m := range other.Messages {
				if m.ID >= position && m.ID <= given && !m.At.Before(v.servers[s.Server].noticed) {
					return true
				}
			}
		}
	}
	return false
}

// settle says what a reader was not told though it went on. One that has ended before cannot have been told.
func (v *verifier) settle(d *debt) {
	switch {
	case d.cursor == 0 && len(d.missed) == 0:
	case d.unknowable:
		v.verdict.Unknowable++
		v.verdict.Overtaken += len(d.missed)
	default:
		for _, m := range d.missed {
			v.say(Lost, d.reader, "%d %s of %s, committed after the failover: %s, and no reset came", m.row.ID, m.row.Token, m.row.Address, m.how)
		}
		if d.cursor != 0 {
			v.say(Untold, d.reader, "its cursor was %d, which the failover lost, and no reset came", d.cursor)
		}
	}
	*d = debt{reader: d.reader}
}

// mayBeOfLost reports that a cursor may have to be told of a rewind: one that is above what is left, or that was given
// shortly before, because servers do not remember every position that they have read to.
func (v *verifier) mayBeOfLost(cursor int64, r Rewind) bool {
	if cursor > r.Newest {
		return true
	}
	for i := range v.history.Readers {
		for j := range v.history.Readers[i].Sessions {
			for _, m := range v.history.Readers[i].Sessions[j].Messages {
				if m.ID >= cursor && m.At.Before(r.At.Add(-tolerance)) {
					return false
				}
			}
		}
	}
	return true
}

// lostDelivery judges the delivery of an event that the database has lost.
func (v *verifier) lostDelivery(where string, s *Session, m *Message) {
	row := v.rows[m.Token]
	late := m.At.After(row.Lost.Add(tolerance))
	if len(v.history.Rewinds) == 0 {
		if late {
			v.say(Invented, where, "%d %s came after the database had lost it", m.ID, m.Token)
		}
		return
	}
	from := v.servers[s.Server]
	switch {
	case !from.noticed.IsZero() && m.At.After(from.noticed.Add(onItsWay)):
		v.say(Stale, where, "%d %s came %v after the server had noticed the failover that lost it", m.ID, m.Token, m.At.Sub(from.noticed))
	case m.At.After(row.Lost):
		v.verdict.StaleBefore++
	}
}
