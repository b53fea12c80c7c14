//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// polls has many polls waiting, each of another consumer, and an event for each of them in turn. Who is
// answered asks again at once.
func polls(ctx context.Context, b *bench) error {
	const consumers = 5000
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	if served, err := r.serves(ctx, "/events/poll?wait=0"); err != nil || !served {
		b.note("poll: skipped, the server does not serve GET /events/poll")
		return err
	}
	o := r.each(consumers)
	o.Kind, o.Path = poll, "/events/poll"
	if _, err := r.generator.open(o); err != nil {
		return err
	}
	a, s, err := r.deliver(ctx, offer{
		Rate: 1000, For: b.length(15 * time.Second), Batch: 1, Writers: 4,
		Consumer: func(n int) string { return fmt.Sprint("c", n%consumers) },
	})
	if err != nil {
		return err
	}
	t := newTable("poll: 1,000 events/s to waiting polls",
		append([]string{"waiting", "answers", "server CPU µs per answer", "p50", "p99"}, spentHeader...)...)
	t.row(append([]any{
		consumers, a.Answers, 1e6 * s.server / float64(a.Answers), a.Latency.quantile(.5), a.Latency.quantile(.99),
	}, s.cells()...)...)
	t.print(b.out)
	return nil
}

// serves reports whether the server has a route.
func (r *rig) serves(ctx context.Context, path string) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.server.address+path, nil)
	if err != nil {
		return false, err
	}
	request.Header.Set("X-Consumer-Id", "c")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	_ = response.Body.Close()
	return response.StatusCode != http.StatusNotFound, nil
}
