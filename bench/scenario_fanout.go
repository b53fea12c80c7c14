//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

const fanoutSessions = 1000

// fanout has many sessions of one consumer: every event is delivered to each of them. Beside it is nchan, the
// module that makes nginx a hub of the same kind, without a database.
func fanout(ctx context.Context, b *bench) error {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	if err := r.fanout(ctx, "Event Piper", order{Kind: sse, Path: "/events"}, true); err != nil {
		return err
	}
	return b.besideNchan(ctx, func(r *rig) error {
		return r.fanout(ctx, "nchan", order{Kind: nchan, Path: "/sub?id=c0"}, false)
	})
}

// fanout prints a table for one server: at a fixed rate, and on the way to the highest one.
func (r *rig) fanout(ctx context.Context, name string, sessions order, batches bool) error {
	sessions.Address, sessions.Sessions = r.server.address, fanoutSessions
	sessions.Consumers, sessions.Consumer, sessions.Cursor = 1, "c", -1
	if _, err := r.generator.open(sessions); err != nil {
		return err
	}
	t := newTable(fmt.Sprintf("fanout: %s, %s sessions of one consumer, payloads of 200 bytes", name, grouped(fanoutSessions)),
		append([]string{"offered events/s", "at a time", "deliveries/s", "per server CPU s", "p50", "p99"}, spentHeader...)...)
	run := func(rate float64, batch int, length time.Duration) (*fan, error) {
		f, err := r.fan(ctx, sessions, rate, batch, r.bench.length(length))
		if err == nil {
			t.row(f.cells()...)
		}
		return f, err
	}
	if _, err := run(200, 1, 9*time.Second); err != nil {
		return err
	}
	single, err := highest(300, func(rate float64) (*fan, error) { return run(rate, 1, 3*time.Second) })
	if err != nil {
		return err
	}
	var batched *fan
	if batches {
		batched, err = highest(1200, func(rate float64) (*fan, error) {
			return run(rate, int(rate/100), 3*time.Second) // an insert every 10 ms
		})
		if err != nil {
			return err
		}
	}
	t.print(r.bench.out)
	r.bench.noteHighest("one at a time", single)
	r.bench.noteHighest("batches", batched)
	return nil
}

func (b *bench) noteHighest(name string, f *fan) {
	if f != nil {
		b.note("highest sustained, %s: %s deliveries/s, %s per server CPU second", name, cell(f.rate()), cell(f.perCPU()))
	}
}

// fan is one run of the scenario.
type fan struct {
	offered   float64
	batch     int
	delivered int64
	sustained bool
	ended     int64 // streams, because what waited for them was more than one consumer's share of the buffer
	latency   histogram
	spent
}

func (f *fan) rate() float64   { return float64(f.delivered) / f.wall }
func (f *fan) perCPU() float64 { return float64(f.delivered) / f.server }

func (f *fan) cells() []any {
	name := cell(f.offered)
	switch {
	case f.ended > 0:
		name += fmt.Sprintf(" (too many, %d streams ended)", f.ended)
	case !f.sustained:
		name += " (too many)"
	}
	return append([]any{name, f.batch, f.rate(), f.perCPU(), f.latency.quantile(.5), f.latency.quantile(.99)}, f.spent.cells()...)
}

// caughtUp is how soon after the last insert everything must have arrived for a rate to count as sustained.
const caughtUp = 250 * time.Millisecond

// fan offers events at a rate. The rate was sustained if the writer kept up with it and the last delivery
// followed the last insert soon. If streams were ended, there are new ones afterwards.
func (r *rig) fan(ctx context.Context, sessions order, rate float64, batch int, length time.Duration) (*fan, error) {
	before, err := r.generator.report(0)
	if err != nil {
		return nil, err
	}
	start := r.used()
	w, err := r.write(ctx, offer{
		Rate: rate, For: length, Batch: batch, Writers: 4, Consumer: func(int) string { return "c0" },
	})
	if err != nil {
		return nil, err
	}
	wanted := before.TotalEvents + int64(w.events)*fanoutSessions
	a, err := r.generator.await(0, wanted, 20*time.Second)
	if err != nil {
		return nil, err
	}
	behind := time.Since(w.last)
	f := &fan{
		offered: rate, batch: batch, delivered: a.Events, latency: a.Latency,
		spent: r.used().since(start), sustained: behind < caughtUp && w.late < caughtUp,
	}
	if a.Closed == 0 {
		return f, a.check(wanted)
	}
	f.sustained, f.ended = false, a.Closed
	if err := r.generator.close(0); err != nil {
		return nil, err
	}
	_, err = r.generator.open(sessions)
	return f, err
}

// check returns an error if a group did not receive what it should have.
func (a *answer) check(wanted int64) error {
	if a.TotalEvents != wanted || a.Disorder > 0 || a.Closed > 0 {
		return fmt.Errorf("%w: %d of %d, %d out of order, %d connections closed",
			errIncomplete, a.TotalEvents, wanted, a.Disorder, a.Closed)
	}
	return nil
}

// highest finds the highest rate that is sustained, to about 6 %: it doubles the rate until it is too high and
// halves what is between. It begins lower if the first is too high. A rate that fails gets a second chance, because the machine may have been busy.
func highest(rate float64, run func(rate float64) (*fan, error)) (best *fan, err error) {
	low, high := 0.0, 0.0
	for high == 0 || high/low > 1.06 {
		f, err := run(rate)
		if err == nil && !f.sustained && f.ended == 0 {
			f, err = run(rate)
		}
		if err != nil {
			return best, err
		}
		if f.sustained {
			low, best = rate, f
		} else {
			high = rate
		}
		switch {
		case high == 0:
			rate *= 2
		case low == 0:
			high, rate = 0, rate/4
			if rate < 1 {
				return nil, nil
			}
		default:
			rate = (low + high) / 2
		}
	}
	return best, nil
}
