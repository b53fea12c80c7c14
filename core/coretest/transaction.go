package coretest

import (
	"cmp"
	"slices"
	"time"

	"github.com/event-piper/event-piper/core"
)

// Tx is a transaction that inserts events into a Store. It is used by one goroutine.
type Tx struct {
	store *Store
	pid   int
	state
	savepoints []state
}

// state is what a savepoint restores.
type state struct {
	writing bool  // the transaction has drawn ids: it is one of the store's writers
	before  int64 // the sequence's position before it drew its first
	rows    []*core.Event
}

// Begin starts a transaction.
func (s *Store) Begin() *Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pids++
	return &Tx{store: s, pid: s.pids}
}

// Pid is what a Read calls the transaction if it holds the watermark back.
func (tx *Tx) Pid() int { return tx.pid }

// Insert draws an id for an event that will be visible after Commit.
func (tx *Tx) Insert(consumer, typ, payload string) int64 { return tx.Amend(consumer, typ, payload, 0) }

// Amend is Insert of an event that amends an earlier one.
func (tx *Tx) Amend(consumer, typ, payload string, amends int64) int64 {
	s := tx.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if !tx.writing {
		tx.writing, tx.before = true, s.sequence
		s.writers = append(s.writers, tx)
	}
	s.sequence++
	tx.rows = append(tx.rows, &core.Event{
		ID: s.sequence, Type: typ, Timestamp: time.Now(), Consumer: consumer,
		Payload: core.AppendCompact(nil, []byte(payload)), Amends: amends,
	})
	return s.sequence
}

// Redact empties the payload of an event and inserts the event that tells, whose id it returns.
func (s *Store) Redact(id int64) (redaction int64) {
	s.mu.Lock()
	i, _ := slices.BinarySearchFunc(s.events, id, func(e *core.Event, id int64) int { return cmp.Compare(e.ID, id) })
	redacted := copied(s.events[i], false)
	s.mu.Unlock()
	tx := s.Begin()
	redaction = tx.Amend(redacted.Consumer, core.RedactedType, `{"reason":"test"}`, id)
	redacted.Payload = []byte("null")
	s.mu.Lock()
	s.events[i] = redacted
	s.mu.Unlock()
	tx.Commit()
	return redaction
}

// Savepoint marks a state for RollbackTo.
func (tx *Tx) Savepoint() {
	saved := tx.state
	saved.rows = slices.Clone(saved.rows)
	tx.savepoints = append(tx.savepoints, saved)
}

// RollbackTo takes back what was done since the newest savepoint, and the savepoint.
func (tx *Tx) RollbackTo() {
	tx.store.mu.Lock()
	defer tx.store.mu.Unlock()
	last := len(tx.savepoints) - 1
	if tx.writing && !tx.savepoints[last].writing {
		tx.leave()
	}
	tx.state, tx.savepoints = tx.savepoints[last], tx.savepoints[:last]
}

// Commit makes the events visible.
func (tx *Tx) Commit() {
	s := tx.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range tx.rows {
		i, _ := slices.BinarySearchFunc(s.events, e.ID, func(e *core.Event, id int64) int { return cmp.Compare(e.ID, id) })
		s.events = slices.Insert(s.events, i, e)
		s.stamp++
		s.stamps[e.ID] = s.stamp
	}
	tx.end()
}

// Rollback ends the transaction as if it had not been. The ids it drew are not used again.
func (tx *Tx) Rollback() {
	tx.store.mu.Lock()
	defer tx.store.mu.Unlock()
	tx.end()
}

func (tx *Tx) end() {
	if tx.writing {
		tx.leave()
	}
	tx.state, tx.savepoints = state{}, nil
}

// leave takes the transaction off the writers in flight, which may let the watermark rise.
func (tx *Tx) leave() {
	s := tx.store
	s.writers = slices.DeleteFunc(s.writers, func(w *Tx) bool { return w == tx })
	s.ring()
}
