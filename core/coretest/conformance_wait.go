package coretest

import (
	"context"
	"errors"

	"github.com/event-piper/event-piper/core"
)

// awaitEvent reads and waits until there is an event after a position.
func (s *suite) awaitEvent(f core.Follower, after int64) *core.Event {
	s.Helper()
	for {
		if r := s.read(f, after); len(r.Events) > 0 {
			return r.Events[0]
		}
		s.ok(f.Wait(s.ctx, s.ctx))
	}
}

func (s *suite) commitEndsWait() {
	f := s.follow()
	position := int64(0)
	for range 20 {
		inserted := s.insertMeanwhile("toto")
		e := s.awaitEvent(f, position)
		if id := <-inserted; e.ID != id {
			s.Fatalf("event %d came, want %d", e.ID, id)
		}
		position = e.ID
	}
}

func (s *suite) rollbackEndsWait() {
	f := s.follow()
	open := s.begin()
	s.insertInto(open, "toto", `1`)
	held := s.insert("toto", `2`)[0]
	if r := s.read(f, 0); len(r.Events) > 0 {
		s.Fatalf("read event %d past a writer in flight", r.Events[0].ID)
	}
	s.ok(open.Rollback(s.ctx))
	if e := s.awaitEvent(f, 0); e.ID != held {
		s.Errorf("event %d came, want %d", e.ID, held)
	}
}

func (s *suite) cancelledWait() {
	f := s.follow()
	ctx, cancel := context.WithCancel(s.ctx)
	waited := make(chan error, 1)
	go func() {
		for {
			if err := f.Wait(ctx, ctx); err != nil {
				waited <- err
				return
			}
		}
	}()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		s.Errorf("the wait ended with %v, want %v", err, context.Canceled)
	}
}

func (s *suite) race() {
	s.ok(Race{Seed: Seed(s.T), Writers: 8, Transactions: 20, Consumers: 3, Readers: 2, TailBytes: 4 << 10}.Run(s.ctx, Harness{s.Store, s.Table}))
}
