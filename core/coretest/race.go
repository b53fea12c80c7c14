package coretest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
)

// Race is a random run: writers that pause, roll back and use savepoints race readers of a hub that come and go,
// by streaming and by polling, or readers that poll without one. A ledger checks every event that a reader gets.
type Race struct {
	Seed uint64
	// Writers run Transactions each, of a few events for any of the Consumers, each of which has Readers.
	Writers, Transactions, Consumers, Readers int
	// TailBytes is the hub's, small to make readers fall behind into history.
	TailBytes int
	// Disturb runs beside the writers until ctx ends, with them.
	Disturb func(ctx context.Context, r *rand.Rand)
	// Poller, if set, makes a poller for each reader, which then does nothing but poll, and what ends it. No hub runs.
	Poller func() (core.Poller, func())
	// UnknownOutcomes says that transactions may fail, with what they did in doubt.
	UnknownOutcomes bool
}

// Seed is a random seed, or the one in the environment variable SEED, and tells the test's log.
func Seed(t testing.TB) uint64 {
	seed := rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SEED: %v", err)
		}
	}
	t.Logf("SEED=%d", seed)
	return seed
}

// timeout is what no run takes, not even on a busy machine.
const timeout = 2 * time.Minute

// last is the type of the event that every consumer gets when the writers have ended.
const last = "last"

// Run races over an empty table. It returns what a reader got that it should not have, or did not get.
func (race Race) Run(ctx context.Context, h Harness) error {
	ctx, over := context.WithTimeoutCause(ctx, timeout, errors.New("the run does not end"))
	defer over()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := &run{Race: race, h: h, cancel: cancel, ledger: ledger{entries: map[int64]*entry{}}}
	var hub, readers, writers, disturber sync.WaitGroup
	hubCtx, stopHub := context.WithCancel(ctx)
	defer stopHub()
	if race.Poller == nil {
		run.hub = core.NewHub(h, core.Limits{
			Sessions: race.Consumers*race.Readers + 1, SessionsPerConsumer: race.Readers, Pagers: 2, TailBytes: race.TailBytes,
		}, slog.New(slog.DiscardHandler))
		hub.Go(func() {
			if err := run.hub.Run(hubCtx); err != nil {
				cancel(err)
			}
		})
		select {
		case <-run.hub.Started():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for c := range race.Consumers {
		for i := range race.Readers {
			r := run.random(1, c, i)
			readers.Go(func() { run.fail(run.read(ctx, r, consumer(c))) })
		}
	}
	for w := range race.Writers {
		r := run.random(2, w, 0)
		writers.Go(func() { run.write(ctx, r) })
	}
	disturbCtx, calm := context.WithCancel(ctx)
	defer calm()
	if race.Disturb != nil {
		disturber.Go(func() { race.Disturb(disturbCtx, run.random(3, 0, 0)) })
	}
	writers.Wait()
	calm()
	disturber.Wait()
	run.sayLast(ctx)
	readers.Wait()
	err := context.Cause(ctx)
	stopHub()
	hub.Wait()
	if err != nil {
		return fmt.Errorf("SEED=%d: %w", race.Seed, err)
	}
	return nil
}

// run is a race under way.
type run struct {
	Race
	h      Harness
	hub    *core.Hub
	cancel context.CancelCauseFunc
	ledger ledger
}

// fail ends the run, unless err is nil.
func (run *run) fail(err error) {
	if err != nil {
		run.cancel(err)
	}
}

// random is a source of its own for each goroutine.
func (run *run) random(kind, i, j int) *rand.Rand {
	return rand.New(rand.NewPCG(run.Seed, uint64(kind<<40|i<<20|j)))
}

func consumer(i int) string { return fmt.Sprint("consumer-", i) }

// pause is most often nothing.
func pause(ctx context.Context, r *rand.Rand) {
	if r.IntN(3) > 0 {
		return
	}
	select {
	case <-time.After(rand.N(3 * time.Millisecond)):
	case <-ctx.Done():
	}
}

func (run *run) write(ctx context.Context, r *rand.Rand) {
	for done := 0; done < run.Transactions && ctx.Err() == nil; {
		pause(ctx, r)
		switch err := run.transaction(ctx, r); {
		case err == nil:
			done++
		case !run.UnknownOutcomes:
			run.fail(fmt.Errorf("write: %w", err))
		}
	}
}

func (run *run) transaction(ctx context.Context, r *rand.Rand) error {
	tx, err := run.h.Begin(ctx)
	if err != nil {
		return err
	}
	var entries []*entry
	roll := func() error {
		run.ledger.settle(entries, rolledBack)
		return tx.Rollback(ctx)
	}
	for range 1 + r.IntN(4) {
		if r.IntN(4) == 0 {
			if err := run.savepoint(ctx, r, tx); err != nil {
				return errors.Join(err, roll())
			}
		}
		e, err := run.insert(ctx, r, tx, "insert", consumer(r.IntN(run.Consumers)))
		if err != nil {
			return errors.Join(err, roll())
		}
		entries = append(entries, e)
		pause(ctx, r)
	}
	if r.IntN(5) == 0 {
		return roll()
	}
	run.ledger.settle(entries, inDoubt)
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	run.ledger.settle(entries, committed)
	return nil
}

// savepoint inserts something and takes it back.
func (run *run) savepoint(ctx context.Context, r *rand.Rand, tx Transaction) error {
	if err := tx.Savepoint(ctx); err != nil {
		return err
	}
	e, err := run.insert(ctx, r, tx, "insert", consumer(r.IntN(run.Consumers)))
	if err != nil {
		return err
	}
	run.ledger.settle([]*entry{e}, rolledBack)
	pause(ctx, r)
	return tx.RollbackTo(ctx)
}

func (run *run) insert(ctx context.Context, r *rand.Rand, tx Transaction, typ, consumer string) (*entry, error) {
	payload := fmt.Sprintf(`{"random":%d}`, r.Uint64())
	id, err := tx.Insert(ctx, consumer, typ, payload)
	if err != nil {
		return nil, err
	}
	return run.ledger.enter(id, consumer, payload), nil
}

// sayLast tells every reader that nothing comes any more.
func (run *run) sayLast(ctx context.Context) {
	r := run.random(4, 0, 0)
	err := run.tryLast(ctx, r)
	for ; err != nil && run.UnknownOutcomes && ctx.Err() == nil; err = run.tryLast(ctx, r) {
		pause(ctx, r)
	}
	if err != nil {
		run.fail(fmt.Errorf("write the last events: %w", err))
	}
}

func (run *run) tryLast(ctx context.Context, r *rand.Rand) error {
	tx, err := run.h.Begin(ctx)
	if err != nil {
		return err
	}
	var entries []*entry
	for c := range run.Consumers {
		e, err := run.insert(ctx, r, tx, last, consumer(c))
		if err != nil {
			return errors.Join(err, tx.Rollback(ctx))
		}
		entries = append(entries, e)
	}
	run.ledger.settle(entries, inDoubt)
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	run.ledger.settle(entries, committed)
	return nil
}

// read is one reader's life: sessions and polls in turn, each from where the one before ended.
func (run *run) read(ctx context.Context, r *rand.Rand, consumer string) error {
	got := &account{ledger: &run.ledger, consumer: consumer, events: map[int64]bool{}}
	cursor := core.FromStart
	var poller core.Poller = run.hub
	if run.Poller != nil {
		var end func()
		poller, end = run.Poller()
		defer end()
	}
	for !got.last && ctx.Err() == nil {
		var err error
		if run.Poller == nil && r.IntN(2) == 0 {
			cursor, err = run.stream(ctx, r, got, cursor)
		} else {
			cursor, err = poll(ctx, r, poller, got, cursor)
		}
		if err != nil {
			return fmt.Errorf("%s after %d: %w", consumer, cursor, err)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s after %d: has not got its last event: %w", consumer, cursor, context.Cause(ctx))
	}
	return got.missing()
}

// stream reads from a session until the dice or the last event end it.
func (run *run) stream(ctx context.Context, r *rand.Rand, got *account, cursor int64) (int64, error) {
	woken := make(chan struct{}, 1)
	s, err := run.hub.Open(got.consumer, cursor, nil, func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return cursor, err
	}
	defer s.Close()
	for !got.last && r.IntN(12) > 0 {
		events, err := s.Take(nil, 1+r.IntN(8), 1<<r.IntN(12))
		if err != nil && !errors.Is(err, core.ErrUnavailable) {
			return cursor, err
		}
		if len(events) > 0 {
			cursor = events[len(events)-1].ID // what a client knows
			if err := got.add(events); err != nil {
				return cursor, err
			}
			continue
		}
		if r.IntN(4) == 0 {
			s.Discard()
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return cursor, nil
		}
	}
	return cursor, nil
}

func poll(ctx context.Context, r *rand.Rand, poller core.Poller, got *account, cursor int64) (int64, error) {
	batch, err := poller.Poll(ctx, core.Poll{
		Consumer: got.consumer, After: cursor, Limit: 1 + r.IntN(20), Wait: time.Duration(r.IntN(20)) * time.Millisecond,
	})
	defer batch.Release()
	switch {
	case errors.Is(err, core.ErrUnavailable):
		pause(ctx, r)
		return cursor, nil
	case err != nil && ctx.Err() == nil:
		return cursor, err
	case err == nil && batch.Cursor < cursor:
		return cursor, fmt.Errorf("a poll answered with cursor %d", batch.Cursor)
	case err != nil:
		return cursor, nil
	}
	return batch.Cursor, got.add(batch.Events)
}
