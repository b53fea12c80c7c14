//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// polls has many polls waiting, each of another consumer, and an event for each of them in turn. Who is
// answered asks again at once. Beside it is the long-poll of nchan.
func polls(ctx context.Context, b *bench) error {
	t := newTable(fmt.Sprintf("poll: 1,000 events/s to %s waiting polls", grouped(waitingPolls)),
		append([]string{"", "answers", "server CPU µs per answer", "p50", "p99"}, spentHeader...)...)
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	if err := r.polls(ctx, t, "Event Piper", poll, "/events/poll"); err != nil {
		return err
	}
	err = b.besideNchan(ctx, func(r *rig) error { return r.polls(ctx, t, "nchan", nchanPoll, "/poll") })
	if err != nil {
		return err
	}
	t.print(b.out)
	return nil
}

const waitingPolls = 5000

func (r *rig) polls(ctx context.Context, t *table, name string, kind kind, path string) error {
	o := r.each(waitingPolls)
	o.Kind, o.Path = kind, path
	if _, err := r.generator.open(o); err != nil {
		return err
	}
	d, err := r.deliver(ctx, offer{
		Rate: 1000, For: r.bench.length(15 * time.Second), Batch: 1, Writers: 4,
		Consumer: func(n int) string { return fmt.Sprint("c", n%waitingPolls) },
	})
	if err != nil {
		return err
	}
	t.row(append([]any{
		name, d.Answers, 1e6 * d.server / float64(d.Answers), d.Latency.quantile(.5), d.Latency.quantile(.99),
	}, d.cells()...)...)
	return nil
}
