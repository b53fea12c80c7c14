package coretest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/event-piper/event-piper/core"
)

// outcome is what became of an event that was inserted.
type outcome int

const (
	open outcome = iota
	rolledBack
	// inDoubt is an event whose commit has begun, and for good if that failed.
	inDoubt
	committed
)

func (o outcome) String() string {
	return [...]string{"not committed yet", "rolled back", "being committed", "committed"}[o]
}

// ledger knows what was written.
type ledger struct {
	mu      sync.Mutex
	entries map[int64]*entry // guarded by mu, and what they point to
}

type entry struct {
	id                int64
	consumer, payload string
	outcome           outcome
}

func (l *ledger) enter(id int64, consumer, payload string) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &entry{id: id, consumer: consumer, payload: payload}
	l.entries[id] = e
	return e
}

func (l *ledger) settle(entries []*entry, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		e.outcome = o
	}
}

// account is what one reader got.
type account struct {
	ledger   *ledger
	consumer string
	events   map[int64]bool
	newest   int64
	last     bool
}

// add checks events as they come: of this consumer, committed, as they were written, in order and once.
func (a *account) add(events []*core.Event) error {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	for _, e := range events {
		wrote := a.ledger.entries[e.ID]
		switch {
		case e.Consumer != a.consumer:
			return fmt.Errorf("got event %d of %s", e.ID, e.Consumer)
		case e.ID <= a.newest:
			return fmt.Errorf("got event %d after %d", e.ID, a.newest)
		case wrote == nil:
			return fmt.Errorf("got event %d, which nobody has inserted", e.ID)
		case wrote.outcome < inDoubt:
			return fmt.Errorf("got event %d, which is %s", e.ID, wrote.outcome)
		case wrote.consumer != e.Consumer || wrote.payload != string(e.Payload):
			return fmt.Errorf("got event %d with %s, want %s of %s", e.ID, e.Payload, wrote.payload, wrote.consumer)
		}
		a.events[e.ID] = true
		a.newest = e.ID
		a.last = e.Type == last
	}
	return nil
}

// A LossError says which committed events a reader did not get.
type LossError struct {
	Consumer string
	Lost     []int64
	Of       int // how many events were committed for the consumer
}

func (e *LossError) Error() string {
	return fmt.Sprintf("%s lost %d of %d events: %v", e.Consumer, len(e.Lost), e.Of, e.Lost[:min(len(e.Lost), 10)])
}

func (a *account) missing() error {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	loss := LossError{Consumer: a.consumer}
	for id, e := range a.ledger.entries {
		if e.consumer != a.consumer || e.outcome != committed {
			continue
		}
		loss.Of++
		if !a.events[id] {
			loss.Lost = append(loss.Lost, id)
		}
	}
	if len(loss.Lost) == 0 {
		return nil
	}
	slices.Sort(loss.Lost)
	return &loss
}
