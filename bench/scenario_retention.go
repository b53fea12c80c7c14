//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	retentionDays = 30
	keptDays      = 7
	fullDay       = 100 * 86_400 // events, at 100 a second
	probeRate     = 400          // events per second while it is measured
	probeLength   = 250 * time.Millisecond
)

// plainDelete is the statement of docs/operating.md, with an age in seconds.
const plainDelete = `delete from events where id < coalesce(
	(select min(id) from events where timestamp >= now() - make_interval(secs => $1)), (select max(id) + 1 from events))`

// kept is one table of the simulation: who deletes from it, and what was measured so far.
type kept struct {
	name string
	drop func(ctx context.Context, r *rig, age time.Duration) error
	rig  *rig
	conn *pgx.Conn

	offered         int64 // to the live reader
	inserted, wal   int64
	took            time.Duration // of all drops together
	longest         time.Duration // of them
	quiet, dropping probed
	states          []tableSize // by day
}

// probed is what live readers and writers saw.
type probed struct {
	live, inserts histogram
	events        int
	wall          time.Duration
}

// tableSize is a table at the end of a day.
type tableSize struct{ events, table, indexes, dead, vacuums int64 }

// retention lives through 30 days of which 7 are kept, with each day's events inserted as fast as it goes, and one day
// dropped at the end of each: by `stream prune` and by one plain delete, in turn on tables of their own. The days are in the
// timestamps. The clock of autovacuum goes faster, too, and each day begins with a checkpoint, so that WAL has its full pages.
func retention(ctx context.Context, b *bench) error {
	events := 50_000
	if b.short {
		events = 10_000
	}
	if err := b.hurryVacuum(ctx); err != nil {
		return err
	}
	defer func() {
		_, err := b.database.admin.Exec(context.WithoutCancel(ctx), "alter system reset autovacuum_naptime")
		b.complain(err)
	}()
	ways := []*kept{{name: "stream prune", drop: pruneDay}, {name: "one delete", drop: deleteDay}}
	for _, k := range ways {
		if err := k.open(ctx, b); err != nil {
			return err
		}
		defer k.close(ctx)
	}
	for day := range retentionDays {
		for i := range ways {
			k := ways[(day+i)%len(ways)]
			if err := k.live(ctx, b, day, events); err != nil {
				return fmt.Errorf("%s, day %d: %w", k.name, day+1, err)
			}
		}
	}
	printRetention(b, ways, events)
	return nil
}

func (b *bench) hurryVacuum(ctx context.Context) error {
	for _, sql := range []string{"alter system set autovacuum_naptime = '1s'", "select pg_reload_conf()"} {
		if _, err := b.database.admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func (k *kept) open(ctx context.Context, b *bench) (err error) {
	if k.rig, err = b.newRig(ctx); err != nil {
		return err
	}
	if k.conn, err = pgx.Connect(ctx, k.rig.dsn); err != nil {
		return err
	}
	_, err = k.rig.openEach(1)
	return err
}

func (k *kept) close(ctx context.Context) {
	if k.conn != nil {
		_ = k.conn.Close(context.WithoutCancel(ctx))
	}
	k.rig.close(ctx)
}

// live inserts the events of a day, measures, and drops the day that is no longer kept.
func (k *kept) live(ctx context.Context, b *bench, day, events int) error {
	age := time.Duration(retentionDays-day) * 24 * time.Hour
	if _, err := b.database.admin.Exec(ctx, "checkpoint"); err != nil {
		return err
	}
	before, err := k.written(ctx)
	if err != nil {
		return err
	}
	const inserts = 500
	for range events / inserts {
		if _, err := k.conn.Exec(ctx, `insert into events (type, "timestamp", subscriber, payload)
			select 'insert', now() - $1::interval, 'other' || n, $2::json from generate_series(1, $3::int) n`, age, payload(), inserts); err != nil {
			return err
		}
	}
	k.inserted += int64(events)
	for range 4 {
		if err := k.probe(ctx, &k.quiet, age); err != nil {
			return err
		}
	}
	if day >= keptDays {
		if err := k.dropDay(ctx, age+keptDays*24*time.Hour); err != nil {
			return err
		}
	}
	after, err := k.written(ctx)
	if err != nil {
		return err
	}
	k.wal += after - before
	return k.look(ctx)
}

// dropDay drops what is older than an age, and measures for as long as that takes.
func (k *kept) dropDay(ctx context.Context, age time.Duration) error {
	start := time.Now()
	dropped := make(chan error, 1)
	go func() {
		err := k.drop(ctx, k.rig, age-12*time.Hour)
		k.took += time.Since(start)
		k.longest = max(k.longest, time.Since(start))
		dropped <- err
	}()
	for {
		select {
		case err := <-dropped:
			return err
		default:
		}
		if err := k.probe(ctx, &k.dropping, age-keptDays*24*time.Hour); err != nil {
			return errors.Join(err, <-dropped) // which uses the rig
		}
	}
}

// probe offers events to the one live reader and waits until it has got them.
func (k *kept) probe(ctx context.Context, p *probed, age time.Duration) error {
	o := offer{Rate: probeRate, For: probeLength, Batch: 1, Writers: 4}
	start := time.Now()
	w, err := o.pace(ctx, func(ctx context.Context) (put, func(), error) {
		conn, err := pgx.Connect(ctx, k.rig.dsn)
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context, _ int) error {
			_, err := conn.Exec(ctx, `insert into events (type, "timestamp", subscriber, payload) values ('insert', now() - $1::interval, 'c0', $2::json)`,
				age, payload())
			return err
		}, func() { _ = conn.Close(context.WithoutCancel(ctx)) }, nil
	})
	if err != nil {
		return err
	}
	k.inserted += int64(w.events)
	p.events += w.events
	p.wall += w.last.Sub(start)
	k.offered += int64(w.events)
	a, err := k.rig.generator.await(0, k.offered, 20*time.Second)
	if err != nil {
		return err
	}
	p.inserts.merge(&w.inserts)
	p.live.merge(&a.Latency)
	return a.check(k.offered)
}

// merge adds the durations of another.
func (h *histogram) merge(other *histogram) {
	for i, n := range other {
		h[i] += n
	}
}

func pruneDay(ctx context.Context, r *rig, age time.Duration) error {
	//nolint:gosec // what was built before
	cmd := exec.CommandContext(ctx, r.bench.stream, "prune", "--older-than", age.String())
	cmd.Env = append(cmd.Environ(), "DATABASE_URL="+r.dsn, "LOG_LEVEL=warn")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("stream prune: %w\n%s", err, output)
	}
	return nil
}

func deleteDay(ctx context.Context, r *rig, age time.Duration) error {
	conn, err := pgx.Connect(ctx, r.dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, plainDelete, age.Seconds())
	return err
}

// written is the position of the WAL of the whole server, which works for one table at a time.
func (k *kept) written(ctx context.Context) (bytes int64, err error) {
	err = k.conn.QueryRow(ctx, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").Scan(&bytes)
	return bytes, err
}

func (k *kept) look(ctx context.Context) error {
	var s tableSize
	err := k.conn.QueryRow(ctx, `
		select (select count(*) from events), pg_table_size(relid), pg_indexes_size(relid), n_dead_tup, autovacuum_count
		from pg_stat_user_tables where relname = 'events'`).Scan(&s.events, &s.table, &s.indexes, &s.dead, &s.vacuums)
	k.states = append(k.states, s)
	return err
}

func printRetention(b *bench, ways []*kept, events int) {
	t := newTable(fmt.Sprintf("retention: %d days of %s events (1 for %d of a day at 100/s), of which %d are kept",
		retentionDays, grouped(int64(events)), fullDay/events, keptDays),
		"day, dropped by", "events", "table", "indexes", "dead rows", "autovacuums")
	for day := range retentionDays {
		if (day+1)%5 != 0 && day != keptDays {
			continue
		}
		for _, k := range ways {
			s := k.states[day]
			t.row(fmt.Sprintf("%d, %s", day+1, k.name), s.events, megabytes(s.table), megabytes(s.indexes), s.dead, s.vacuums)
		}
	}
	t.print(b.out)
	t = newTable("retention: what is live meanwhile, one reader and 4 writers that offer 400 events/s",
		"", "live p50", "p99", "longest", "INSERT p50", "p99", "events/s")
	for _, k := range ways {
		for _, p := range []struct {
			when string
			*probed
		}{{"between drops", &k.quiet}, {"while a day is dropped", &k.dropping}} {
			t.row(k.name+", "+p.when, p.live.quantile(.5), p.live.quantile(.99), p.live.quantile(1),
				p.inserts.quantile(.5), p.inserts.quantile(.99), float64(p.events)/p.wall.Seconds())
		}
	}
	t.print(b.out)
	for _, k := range ways {
		b.note("%s: %d bytes of WAL per event, its insert and its end; a day took %s to drop, the longest %s",
			k.name, k.wal/k.inserted, cell(k.took/(retentionDays-keptDays)), cell(k.longest))
	}
}
