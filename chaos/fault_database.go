package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/chaos/check"
)

// diskFull fills the database's file system, which PostgreSQL survives, or crashes of when its log cannot be written.
func diskFull(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	path := filepath.Join(w.database.disk, "filler")
	f, err := os.Create(path) //nolint:gosec // on a disk of our own
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	// Again and again, as PostgreSQL removes files of its own.
	block := make([]byte, 64<<10)
	until := time.Now().Add(between(r, 2*time.Second, 6*time.Second))
	for time.Now().Before(until) && ctx.Err() == nil {
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return "", err
		}
		_ = sleep(ctx, 100*time.Millisecond)
	}
	crashed := w.database.postmaster() == 0
	if err := os.Remove(path); err != nil {
		return "", err
	}
	_ = f.Truncate(0)
	on := "PostgreSQL stayed up"
	if crashed {
		on = "PostgreSQL ended itself"
		if err := w.database.server.Restart(false); err != nil {
			return on, err
		}
	}
	return on, w.database.awaitUp(ctx)
}

// exhaustConnections takes every connection that there is, and ends those of the servers.
func exhaustConnections(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	var taken []*pgx.Conn
	defer func() {
		for _, c := range taken {
			_ = c.Close(ctx)
		}
	}()
	until := time.Now().Add(between(r, 2*time.Second, 6*time.Second))
	for n := 0; time.Now().Before(until); n++ {
		c, err := w.database.connect(ctx, "crowd")
		if err == nil {
			taken = append(taken, c)
			continue
		}
		if n%3 == 0 {
			err := w.database.exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'event-piper%'`)
			if err != nil {
				return "", err
			}
		}
		_ = sleep(ctx, 20*time.Millisecond)
	}
	return fmt.Sprintf("%d connections", len(taken)), nil
}

// locked runs statements in a transaction and keeps it open.
func (w *world) locked(ctx context.Context, r *rand.Rand, statements ...string) error {
	c, err := w.database.connect(ctx, "lock")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	for _, sql := range append([]string{"begin", "set local lock_timeout = '5s'"}, statements...) {
		if _, err := c.Exec(ctx, sql); err != nil {
			return err
		}
	}
	_ = sleep(ctx, between(r, 500*time.Millisecond, 4*time.Second))
	_, err = c.Exec(ctx, "commit")
	return err
}

// tolerate makes nothing of a lock that was not to be had.
func tolerate(on string, err error) (string, error) {
	if err != nil && outcomeOf(err) != check.Unknown {
		return on + ", in vain", nil
	}
	return on, err
}

func exclusiveLock(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	table := pick(r, []string{"events", "events", "events_pruned", "events, events_pruned"})
	return tolerate(table, w.locked(ctx, r, "lock table "+table+" in access exclusive mode"))
}

func schemaChange(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	switch r.IntN(6) {
	case 0:
		return tolerate("add and drop a column", w.locked(ctx, r, "alter table events add column chaos int", "alter table events drop column chaos"))
	case 1:
		return tolerate("vacuum full", w.database.exec(ctx, "vacuum full events"))
	case 2:
		on, err := tolerate("create index concurrently", w.database.exec(ctx, "create index concurrently if not exists chaos_index on events (type)"))
		return on, errors.Join(err, w.database.exec(ctx, "drop index if exists chaos_index"))
	case 3:
		return tolerate("a function of ours is replaced", w.locked(ctx, r, "alter function events_newest(bigint, regclass, regclass) cost 99"))
	case 4:
		return tolerate("reindex", w.database.exec(ctx, "reindex table events"))
	default:
		return tolerate("the index is dropped and made again", w.locked(ctx, r,
			"drop index events_subscriber_id_idx", "create index events_subscriber_id_idx on events (subscriber, id)"))
	}
}

// retention deletes what is older than a few seconds, again and again. Those who stayed away for longer are told.
func retention(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	age := between(r, 2*time.Second, 6*time.Second)
	for range 10 + r.IntN(20) {
		err := w.database.exec(ctx, `with gone as (
				delete from events where "timestamp" < now() - make_interval(secs => $1) returning id, type, subscriber, payload::text)
			insert into chaos_deleted (id, type, subscriber, payload) select * from gone`, age.Seconds())
		if on, err := tolerate("", err); err != nil || on != "" {
			return on, err
		}
		_ = sleep(ctx, 300*time.Millisecond)
	}
	return fmt.Sprintf("older than %.0f s", age.Seconds()), nil
}

func hurryWriters(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	w.hurried.Store(true)
	defer w.hurried.Store(false)
	_ = sleep(ctx, between(r, time.Second, 4*time.Second))
	return "2 ms", nil
}

// standbyGone has commits wait for a standby that does not exist, as when the last one is lost.
func standbyGone(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	configure := func(value string) error {
		if err := w.database.exec(ctx, "alter system set synchronous_standby_names = '"+value+"'"); err != nil {
			return err
		}
		return w.database.exec(ctx, "select pg_reload_conf()")
	}
	if err := w.database.exec(ctx, "set synchronous_commit = local"); err != nil {
		return "", err
	}
	if err := configure("gone"); err != nil {
		return "", err
	}
	_ = sleep(ctx, between(r, time.Second, 5*time.Second))
	return "", configure("")
}
