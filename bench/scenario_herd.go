//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// herd has many sessions come back in one instant, as they do when a server is gone and another takes its
// place. Each has missed an event.
func herd(ctx context.Context, b *bench) error {
	sessions := 15_000
	if b.short {
		sessions = 5_000
	}
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	if _, err := r.openEach(sessions); err != nil {
		return err
	}
	first, err := r.insertEach(ctx, sessions)
	if err != nil {
		return err
	}
	if _, err := r.generator.awaitEach(first, time.Minute); err != nil {
		return err
	}

	r.server.kill()
	missed, err := r.insertEach(ctx, sessions)
	if err != nil {
		return err
	}
	if r.server, err = b.startServer(ctx, b.stream, r.dsn); err != nil {
		return err
	}
	if _, err := r.generator.report(0); err != nil { // they have been closed, which is no fault this time
		return err
	}
	connections := watchConnections(ctx, r.dsn)
	defer connections.stop()

	start := r.used()
	o := r.each(sessions)
	o.Resume = true
	// Fewer than the kernel lets wait to be accepted: beyond it TCP tries again after a second, and that
	// would be measured.
	o.Dialing = 4000
	if _, err := r.generator.open(o); err != nil {
		return err
	}
	opened := time.Since(start.at)
	if _, err := r.generator.awaitEach(missed, time.Minute); err != nil {
		return err
	}
	replayed := time.Since(start.at)
	after, err := r.insertEach(ctx, sessions)
	if err != nil {
		return err
	}
	a, err := r.generator.awaitEach(after, time.Minute)
	if err != nil {
		return err
	}
	live := time.Since(start.at)
	s := r.used().since(start)
	_, peak := memory(r.server.pid())
	t := newTable("herd: sessions that reconnect at once with their cursors",
		append([]string{"sessions", "open again", "have what they missed", "live again", "most connections", "server peak RSS"}, spentHeader...)...)
	t.row(append([]any{sessions, opened, replayed, live, connections.stop(), megabytes(peak)}, s.cells()...)...)
	t.print(b.out)
	return a.check(3 * int64(sessions))
}

// insertEach inserts an event for each of the consumers and returns the first id.
func (r *rig) insertEach(ctx context.Context, consumers int) (first int64, err error) {
	conn, err := pgx.Connect(ctx, r.dsn)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, `with i as (
			insert into events (type, timestamp, subscriber, payload)
			select 'insert', now(), 'c' || n, $2::json from generate_series(0, $1 - 1) n returning id)
		select min(id) from i`, consumers, payload()).Scan(&first)
	if err != nil {
		return 0, fmt.Errorf("insert: %w", err)
	}
	return first, nil
}

// watcher looks at the server's database connections time and again.
type watcher struct {
	cancel context.CancelFunc
	most   chan int
}

func watchConnections(ctx context.Context, dsn string) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel, make(chan int, 1)}
	go func() {
		defer close(w.most)
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		most := 0
		for ctx.Err() == nil {
			var n int
			if conn.QueryRow(ctx, "select count(*) from pg_stat_activity where application_name like 'event-piper%'").Scan(&n) == nil {
				most = max(most, n)
			}
			_ = sleep(ctx, 5*time.Millisecond)
		}
		w.most <- most
	}()
	return w
}

// stop returns the most connections that were seen at a time; a second time it returns 0.
func (w *watcher) stop() int {
	w.cancel()
	return <-w.most
}
