package core_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

// fact is a committed event.
type fact struct {
	address, typ, payload string
	amends                int64
	deleted               bool
	vague                 bool // deleted, and an older database may not know

	// Of one that was redacted: what its payload was, and the id of the event that says so.
	was       string
	redaction int64
}

type txn struct {
	*coretest.Tx
	facts map[int64]*fact
	saved []map[int64]*fact
}

// write moves a transaction on.
func (s *simulation) write() {
	if len(s.open) == 0 || s.r.IntN(3) == 0 {
		s.open = append(s.open, &txn{Tx: s.store.Begin(), facts: map[int64]*fact{}})
		s.say("begin")
	}
	i := s.r.IntN(len(s.open))
	tx := s.open[i]
	switch s.r.IntN(8) {
	case 0, 1, 2, 3:
		if s.r.IntN(8) == 0 {
			s.redact()
			return
		}
		s.insert(tx)
	case 4, 5:
		s.open = slices.Delete(s.open, i, i+1)
		for id, f := range tx.facts {
			s.truth[id] = f
			for _, r := range s.readers {
				if r.wants(f) && r.cursor >= id {
					s.Errorf("%s: event %d is committed, and the cursor is at %d", r.name, id, r.cursor)
				}
			}
		}
		s.say("commit %v", keys(tx.facts))
		tx.Commit()
	case 6:
		s.open = slices.Delete(s.open, i, i+1)
		s.say("roll back %v", keys(tx.facts))
		tx.Rollback()
	default:
		if n := len(tx.saved); n > 0 && s.r.IntN(2) == 0 {
			s.say("roll back to a savepoint")
			tx.RollbackTo()
			tx.facts, tx.saved = tx.saved[n-1], tx.saved[:n-1]
			return
		}
		tx.Savepoint()
		saved := map[int64]*fact{}
		for id, f := range tx.facts {
			saved[id] = f
		}
		tx.saved = append(tx.saved, saved)
	}
}

func keys(m map[int64]*fact) (ids []int64) {
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// long payloads are left out of the first read, and large ones left to history.
var simLong, simLarge = strings.Repeat("l", 2<<10), strings.Repeat("x", 1<<20+1)

func (s *simulation) insert(tx *txn) {
	s.tokens++
	f := &fact{address: addresses[s.r.IntN(len(addresses))], typ: simTypes[s.r.IntN(2)], payload: fmt.Sprintf(`{"token":%d}`, s.tokens)}
	switch s.r.IntN(60) {
	case 0:
		f.payload = fmt.Sprintf(`{"token":%d,"x":"%s"}`, s.tokens, simLarge)
	case 1, 2, 3, 4, 5:
		f.payload = fmt.Sprintf(`{"token":%d,"x":"%s"}`, s.tokens, simLong)
	}
	if ids := keys(s.truth); len(ids) > 0 && s.r.IntN(5) == 0 {
		// Of any address, as nothing is checked at insert; some say that they redact it.
		f.amends = ids[s.r.IntN(len(ids))]
		if s.r.IntN(3) == 0 {
			f.typ = core.RedactedType
		}
	}
	id := tx.Amend(f.address, f.typ, f.payload, f.amends)
	tx.facts[id] = f
	s.say("insert %d for %s, amends %d", id, f.address, f.amends)
}

// redact empties the payload of an event that is there.
func (s *simulation) redact() {
	address := addresses[s.r.IntN(len(addresses))]
	ids := s.committed(address)
	if len(ids) == 0 {
		return
	}
	id := ids[s.r.IntN(len(ids))]
	redaction := s.store.Redact(id)
	s.say("redact %d of %s by %d", id, address, redaction)
	f := s.truth[id]
	if f.redaction == 0 {
		f.was = f.payload
	}
	f.payload, f.redaction = "null", redaction
	s.truth[redaction] = &fact{address: address, typ: core.RedactedType, payload: `{"reason":"test"}`, amends: id}
}

// amended reports that a later event of the same address amends an event.
func (s *simulation) amended(id int64) bool {
	for amending, a := range s.truth {
		if a.amends == id && amending > id && a.address == s.truth[id].address {
			return true
		}
	}
	return false
}

// newest is the highest id that was committed.
func (s *simulation) newest() (newest int64) {
	for id := range s.truth {
		newest = max(newest, id)
	}
	return newest
}

// prune deletes the older half of an address's events that every reader has passed, or has not.
func (s *simulation) prune() {
	address := addresses[s.r.IntN(len(addresses))]
	ids := s.committed(address)
	if len(ids) == 0 {
		return
	}
	through := ids[s.r.IntN(len(ids))]
	s.say("prune %s through %d", address, through)
	s.store.Delete(address, through)
	for _, id := range ids {
		if id <= through {
			s.truth[id].deleted = true
		}
	}
}

// committed are the ids of an address's events that are there.
func (s *simulation) committed(address string) (ids []int64) {
	for _, id := range keys(s.truth) {
		if f := s.truth[id]; f.address == address && !f.deleted {
			ids = append(ids, id)
		}
	}
	return ids
}
