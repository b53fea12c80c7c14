//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// topics compares what reaches consumers by topics with what is addressed to each: live, idle and in a replay.
func topics(ctx context.Context, b *bench) error {
	t := newTable("topics: 10,000 deliveries/s, payloads of 200 bytes",
		append([]string{"sessions and events", "rows", "deliveries", "p50", "p99", "server CPU µs per delivery"}, spentHeader...)...)
	for _, followers := range []int{1_000, 10_000} {
		if err := b.follow(ctx, t, followers); err != nil {
			return err
		}
	}
	t.print(b.out)
	if err := b.idleFollowers(ctx); err != nil {
		return err
	}
	if err := b.replayTopics(ctx); err != nil {
		return err
	}
	return b.returningFollowers(ctx)
}

// follow measures one number of sessions that receive the same: as followers of a topic, as sessions of one
// consumer, and with a row for each of them.
func (b *bench) follow(ctx context.Context, t *table, followers int) error {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	const deliveries = 10_000 // per second
	each, one := r.each(followers), r.each(followers)
	one.Consumers = 1
	topic := each
	topic.Topics = "team"
	for group, run := range []struct {
		name    string
		order   order
		batch   int // rows that one insert makes
		address func(n int) string
	}{
		{"one topic, followed by", topic, 1, func(int) string { return "team" }},
		{"one consumer, sessions", one, 1, func(int) string { return "c0" }},
		{"a row each, consumers", each, followers, func(n int) string { return fmt.Sprint("c", n%followers) }},
	} {
		run.order.Group = group
		if _, err := r.generator.open(run.order); err != nil {
			return err
		}
		// The crowd's arrival is not what is measured.
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		start := r.used()
		w, err := r.write(ctx, offer{
			Rate: float64(deliveries / followers * run.batch), For: b.length(9 * time.Second),
			Batch: run.batch, Writers: 2, Consumer: run.address,
		})
		if err != nil {
			return err
		}
		wanted := int64(w.events / run.batch * followers)
		a, err := r.generator.await(group, wanted, 20*time.Second)
		if err != nil {
			return err
		}
		if err := a.check(wanted); err != nil {
			return err
		}
		if w.late > caughtUp {
			b.note("the writer could not keep up and ended %s late", cell(w.late))
		}
		s := r.used().since(start)
		t.row(append([]any{
			run.name + " " + grouped(int64(followers)), w.events, a.Events, a.Latency.quantile(.5), a.Latency.quantile(.99),
			1e6 * s.server / float64(a.Events),
		}, s.cells()...)...)
		if err := r.generator.close(group); err != nil {
			return err
		}
	}
	return nil
}

// manyTopics is how many topics a session follows beside its own address.
const manyTopics = 20

// twenty is the header that grants so many topics.
func twenty(prefix string) string {
	names := make([]string, manyTopics)
	for i := range names {
		names[i] = fmt.Sprint(prefix, i)
	}
	return strings.Join(names, ", ")
}

// idleFollowers measures what a session without events holds, by what it follows.
func (b *bench) idleFollowers(ctx context.Context) error {
	const sessions = 10_000
	t := newTable(fmt.Sprintf("topics: memory of %s sessions without events", grouped(sessions)),
		"follow", "server RSS before", "after", "per session", "peak per session", "opened in")
	for _, run := range []struct{ name, topics string }{
		{"their own address", ""},
		{"20 topics, all the same", twenty("team-")},
		{"20 topics, each its own", twenty("team-#-")},
	} {
		r, err := b.newRig(ctx, "HEARTBEAT_INTERVAL=10s")
		if err != nil {
			return err
		}
		err = r.idleFollowers(ctx, t, run.name, run.topics, sessions)
		r.close(ctx)
		if err != nil {
			return err
		}
	}
	t.print(b.out)
	return nil
}

func (r *rig) idleFollowers(ctx context.Context, t *table, name, topics string, sessions int) error {
	o := r.each(sessions)
	o.Topics = topics
	before, _ := memory(r.server.pid())
	opened := time.Now()
	if _, err := r.generator.open(o); err != nil {
		return err
	}
	took := time.Since(opened)
	if err := sleep(ctx, r.bench.length(9*time.Second)); err != nil {
		return err
	}
	after, peak := memory(r.server.pid())
	t.row(name, megabytes(before), megabytes(after), kilobytes(after-before, sessions), kilobytes(peak-before, sessions), took)
	return nil
}

// replayTopics reads as many events of 20 topics as of one address, in turns.
func (b *bench) replayTopics(ctx context.Context) error {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	events := 500_000
	if b.short {
		events = 100_000
	}
	err = execute(ctx, r.dsn, fmt.Sprintf(`insert into events (type, timestamp, subscriber, payload)
		select 'insert', now(), s, json_build_object('n', n, 'p', repeat('x', 180))
		from generate_series(1, %d) n, lateral (values ('history0'), ('topic-' || n %% %d)) a (s)`, events, manyTopics))
	if err != nil {
		return fmt.Errorf("insert the history: %w", err)
	}
	if err := execute(ctx, r.dsn, "vacuum analyze events"); err != nil {
		return err
	}
	address, followed := r.history(1), r.history(1)
	followed.Consumer, followed.Topics = "follower", twenty("topic-")
	runs := []struct {
		name               string
		order              order
		rates              []float64
		server, postgresql float64 // seconds of CPU
	}{{name: "of one address", order: address}, {name: "of 20 topics", order: followed}}
	const rounds = 3
	for range rounds {
		for i := range runs {
			run := &runs[i]
			start := r.used()
			if _, err := r.generator.open(run.order); err != nil {
				return err
			}
			a, err := r.generator.await(history1, int64(events), time.Minute)
			if err != nil {
				return err
			}
			if err := a.check(int64(events)); err != nil {
				return err
			}
			s := r.used().since(start)
			run.rates = append(run.rates, float64(events)/s.wall)
			run.server += s.server
			run.postgresql += s.postgresql
			if err := r.generator.close(history1); err != nil {
				return err
			}
		}
	}
	t := newTable(fmt.Sprintf("topics: replay of %s events, 200 bytes each, in a table of twice as many", grouped(int64(events))),
		"", "events/s", "of one address", "server CPU µs per event", "PostgreSQL")
	for _, run := range runs {
		t.row(run.name, median(run.rates), median(ratios(run.rates, runs[0].rates)),
			1e6*run.server/float64(rounds*events), 1e6*run.postgresql/float64(rounds*events))
	}
	t.print(b.out)
	return nil
}

// returningFollowers has many followers of one topic come back at once, each of whom has missed the same of the topic
// and a little of its own.
func (b *bench) returningFollowers(ctx context.Context) error {
	followers := 2_000
	if b.short {
		followers = 500
	}
	t := newTable(fmt.Sprintf("topics: %s followers of one come back at once, to its events and to two of their own",
		grouped(int64(followers))),
		append([]string{"events, bytes each", "all have all", "rows read", "server peak RSS"}, spentHeader...)...)
	for _, missed := range []struct{ events, size int }{{500, 200}, {500, 900}, {100, 4_000}} {
		r, err := b.newRig(ctx)
		if err != nil {
			return err
		}
		err = r.returningFollowers(ctx, t, followers, missed.events, missed.size)
		r.close(ctx)
		if err != nil {
			return err
		}
	}
	t.print(b.out)
	return nil
}

func (r *rig) returningFollowers(ctx context.Context, t *table, followers, events, size int) error {
	for range 2 {
		err := execute(ctx, r.dsn, fmt.Sprintf(`
			insert into events (type, timestamp, subscriber, payload)
			select 'insert', now(), 'team', json_build_object('p', left((
				select string_agg(md5(n::text || i), '') from generate_series(0, %[2]d / 32) i), %[2]d - 10))
			from generate_series(1, %[1]d / 2) n;
			insert into events (type, timestamp, subscriber, payload)
			select 'insert', now(), 'c' || n, '{}' from generate_series(0, %[3]d - 1) n`, events, size, followers))
		if err != nil {
			return fmt.Errorf("insert what they missed: %w", err)
		}
	}
	if err := execute(ctx, r.dsn, "vacuum analyze events"); err != nil {
		return err
	}
	before, err := r.rowsRead(ctx)
	if err != nil {
		return err
	}
	o := r.each(followers)
	o.Topics, o.Cursor = "team", 0
	start := r.used()
	if _, err := r.generator.open(o); err != nil {
		return err
	}
	wanted := int64(followers * (events + 2))
	a, err := r.generator.await(0, wanted, 2*time.Minute)
	if err != nil {
		return err
	}
	if err := a.check(wanted); err != nil {
		return err
	}
	s := r.used().since(start)
	_, peak := memory(r.server.pid())
	if err := sleep(ctx, 2*time.Second); err != nil { // a connection tells what it has read within a second
		return err
	}
	after, err := r.rowsRead(ctx)
	if err != nil {
		return err
	}
	t.row(append([]any{
		fmt.Sprintf("%d, %s", events, grouped(int64(size))), time.Duration(s.wall * float64(time.Second)), after - before, megabytes(peak),
	}, s.cells()...)...)
	return nil
}

// rowsRead is how many rows of events PostgreSQL has looked up in its indexes, as far as connections have told.
func (r *rig) rowsRead(ctx context.Context) (n int64, err error) {
	conn, err := pgx.Connect(ctx, r.dsn)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, "select coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where relname = 'events'").Scan(&n)
	return n, err
}
