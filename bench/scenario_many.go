//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// many has a session for each of many consumers, and events for all of them in turn.
func many(ctx context.Context, b *bench) error {
	t := newTable("many: one session for each consumer",
		append([]string{"consumers", "events/s", "in one insert", "delivered", "p50", "p99", "of which INSERT p50", "p99"}, spentHeader...)...)
	for _, run := range []struct {
		consumers, rate, batch, writers int
	}{
		{5_000, 2_000, 1, 8},
		{5_000, 2_000, 20, 2},
		{10_000, 10_000, 50, 4},
	} {
		if err := b.many(ctx, t, run.consumers, run.rate, run.batch, run.writers); err != nil {
			return err
		}
	}
	t.print(b.out)

	t = newTable("many: 1,000 events/s to 100 consumers beside sessions without events",
		append([]string{"idle sessions", "server CPU µs per event", "p50", "p99"}, spentHeader...)...)
	for _, idle := range []int{0, 5_000, 19_000 - 100} {
		if err := b.crowd(ctx, t, idle); err != nil {
			return err
		}
	}
	t.print(b.out)
	return nil
}

func (b *bench) many(ctx context.Context, t *table, consumers, rate, batch, writers int) error {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	if _, err := r.openEach(consumers); err != nil {
		return err
	}
	o := offer{
		Rate: float64(rate), For: b.length(10 * time.Second), Batch: batch, Writers: writers,
		Consumer: func(n int) string { return fmt.Sprint("c", n%consumers) },
	}
	d, err := r.deliver(ctx, o)
	if err != nil {
		return err
	}
	t.row(append([]any{
		consumers, rate, batch, d.Events, d.Latency.quantile(.5), d.Latency.quantile(.99),
		d.inserts.quantile(.5), d.inserts.quantile(.99),
	}, d.cells()...)...)
	return nil
}

// delivery is an offer that has arrived.
type delivery struct {
	*answer
	spent
	inserts histogram
}

// deliver offers events of which each is for one session, and waits until they have arrived.
func (r *rig) deliver(ctx context.Context, o offer) (*delivery, error) {
	// The crowd's arrival is not what is measured.
	if err := sleep(ctx, time.Second); err != nil {
		return nil, err
	}
	start := r.used()
	w, err := r.write(ctx, o)
	if err != nil {
		return nil, err
	}
	a, err := r.generator.await(0, int64(w.events), 20*time.Second)
	if err != nil {
		return nil, err
	}
	if w.late > caughtUp {
		r.bench.note("the writer could not keep up and ended %s late", cell(w.late))
	}
	return &delivery{a, r.used().since(start), w.inserts}, a.check(int64(w.events))
}

// crowd measures what sessions cost that an event is not for.
func (b *bench) crowd(ctx context.Context, t *table, idle int) error {
	r, err := b.newRig(ctx, "HEARTBEAT_INTERVAL=1h")
	if err != nil {
		return err
	}
	defer r.close(ctx)
	const active = 100
	if _, err := r.openEach(active); err != nil {
		return err
	}
	if idle > 0 {
		if _, err := r.generator.open(order{
			Group: 1, Kind: sse, Address: r.server.address, Path: "/events",
			Sessions: idle, Consumers: idle, Consumer: "idle", Cursor: -1,
		}); err != nil {
			return err
		}
	}
	d, err := r.deliver(ctx, offer{
		Rate: 1000, For: b.length(6 * time.Second), Batch: 1, Writers: 4,
		Consumer: func(n int) string { return fmt.Sprint("c", n%active) },
	})
	if err != nil {
		return err
	}
	t.row(append([]any{
		idle, 1e6 * d.server / float64(d.Events), d.Latency.quantile(.5), d.Latency.quantile(.99),
	}, d.cells()...)...)
	return nil
}
