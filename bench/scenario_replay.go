//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// replay reads the whole history of one consumer, and compares that with PostgreSQL's own way to read it.
func replay(ctx context.Context, b *bench) error {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	events := 1_000_000
	if b.short {
		events = 200_000
	}
	if err := execute(ctx, r.dsn, fmt.Sprintf(`insert into events (type, timestamp, subscriber, payload)
		select 'insert', now(), 'history0', json_build_object('n', n, 'p', repeat('x', 180)) from generate_series(1, %d) n`, events)); err != nil {
		return fmt.Errorf("insert the history: %w", err)
	}
	if err := execute(ctx, r.dsn, "vacuum analyze events"); err != nil {
		return err
	}
	if err := r.replayAlone(ctx, events); err != nil {
		return err
	}
	return r.replayBesideLive(ctx, events)
}

func (r *rig) replayAlone(ctx context.Context, events int) error {
	psql, err := findTool("psql")
	if err != nil {
		return err
	}
	const history = `\copy (select id, type, timestamp, payload from events where subscriber = 'history0' order by id) to '/dev/null'`
	var copied, replayed []float64
	start := r.used()
	for range 3 {
		began := time.Now()
		copying := exec.CommandContext(ctx, psql, "-X", "-q", "-c", history, r.dsn) //nolint:gosec // what was found on the machine
		if output, err := copying.CombinedOutput(); err != nil {
			return fmt.Errorf("psql: %w\n%s", err, output)
		}
		copied = append(copied, float64(events)/time.Since(began).Seconds())

		began = time.Now()
		if _, err := r.generator.open(r.history(1)); err != nil {
			return err
		}
		a, err := r.generator.await(history1, int64(events), time.Minute)
		if err != nil {
			return err
		}
		replayed = append(replayed, float64(events)/time.Since(began).Seconds())
		if err := a.check(int64(events)); err != nil {
			return err
		}
		if err := r.generator.close(history1); err != nil {
			return err
		}
	}
	s := r.used().since(start)
	_, peak := memory(r.server.pid())
	t := newTable(fmt.Sprintf("replay: %s events of one consumer, 200 bytes each", grouped(int64(events))),
		"", "events/s", "of psql", "server CPU µs per event", "server peak RSS")
	t.row("psql \\copy to /dev/null", median(copied), 1.0, "", "")
	t.row("GET /events, Last-Event-ID: 0", median(replayed), median(ratios(replayed, copied)),
		1e6*s.server/float64(3*events), megabytes(peak))
	t.print(r.bench.out)
	return nil
}

// history1 is the group of those who replay.
const history1 = 1

func (r *rig) history(sessions int) order {
	return order{
		Group: history1, Kind: sse, Address: r.server.address, Path: "/events",
		Sessions: sessions, Consumers: 1, Consumer: "history", Cursor: 0,
	}
}

// replayBesideLive measures what live traffic notices of replays.
func (r *rig) replayBesideLive(ctx context.Context, events int) error {
	const live, replays = 100, 20
	if _, err := r.openEach(live); err != nil {
		return err
	}
	t := newTable(fmt.Sprintf("replay: 200 events/s to %d live sessions, beside replays", live),
		append([]string{"replays", "live p50", "live p99", "replayed events/s", "server peak RSS"}, spentHeader...)...)
	var sent int64
	for _, n := range []int{0, replays} {
		if n > 0 {
			if _, err := r.generator.open(r.history(n)); err != nil {
				return err
			}
		}
		start := r.used()
		w, err := r.write(ctx, offer{
			Rate: 200, For: r.bench.length(9 * time.Second), Batch: 1, Writers: 2,
			Consumer: func(n int) string { return fmt.Sprint("c", n%live) },
		})
		if err != nil {
			return err
		}
		sent += int64(w.events)
		a, err := r.generator.await(0, sent, 20*time.Second)
		if err != nil {
			return err
		}
		if err := a.check(sent); err != nil {
			return err
		}
		h, err := r.generator.report(history1)
		if err != nil {
			return err
		}
		if n > 0 && h.TotalEvents == int64(n*events) {
			r.bench.note("the replays ended before the live traffic did")
		}
		s := r.used().since(start)
		_, peak := memory(r.server.pid())
		t.row(append([]any{
			n, a.Latency.quantile(.5), a.Latency.quantile(.99), float64(h.Events) / s.wall, megabytes(peak),
		}, s.cells()...)...)
	}
	t.print(r.bench.out)
	return nil
}
