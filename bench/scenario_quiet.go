//go:build linux

package main

import (
	"context"
	"time"
)

// quiet measures how long an event takes when there are few.
func quiet(ctx context.Context, b *bench) error {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	if _, err := r.openEach(1); err != nil {
		return err
	}
	w, err := r.write(ctx, offer{
		Rate: 20, For: b.length(15 * time.Second), Batch: 1, Writers: 1, Consumer: func(int) string { return "c0" },
	})
	if err != nil {
		return err
	}
	a, err := r.generator.await(0, int64(w.events), 5*time.Second)
	if err != nil {
		return err
	}
	t := newTable("quiet: one session, 20 events/s", "", "p50", "p99", "longest")
	t.row("the INSERT with its commit", w.inserts.quantile(.5), w.inserts.quantile(.99), w.inserts.quantile(1))
	t.row("from before the INSERT to receipt", a.Latency.quantile(.5), a.Latency.quantile(.99), a.Latency.quantile(1))
	t.print(b.out)
	return a.check(int64(w.events))
}
