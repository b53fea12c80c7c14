package postgresql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// pruneKey is the advisory lock of the one worker that prunes a database.
	pruneKey = 0x4552 << 48
	// pruneEvents bounds the events of one transaction, so that none is long.
	pruneEvents = 5000
	// pruneLockTimeout bounds how long a batch waits for a lock: whoever comes after it in the lock's
	// queue, writers among them, waits as well.
	pruneLockTimeout = 500 * time.Millisecond
	// maxMarks bounds the marks of consumers that have no event.
	maxMarks = 100_000
	// maxPrunePause bounds the pause before a batch is tried again, and the one between two batches.
	maxPrunePause = 5 * time.Second

	lockNotAvailable     = "55P03"
	deadlockDetected     = "40P01"
	serializationFailure = "40001"
)

// ErrPruning reports that another worker prunes this database.
var ErrPruning = errors.New("another worker prunes this database")

// Pruned is what a run of Prune has deleted so far.
type Pruned struct {
	// Events counts the deleted events, Bytes what was stored of their payloads.
	Events, Bytes int64
	// Through is the id of the last deleted event, 0 if there is none.
	Through int64
}

// Prune deletes the events whose timestamp is older than an age, from the oldest id up to the first
// event that is younger. The clock is the database's. An event from the future neither ends the run nor
// is reason to delete: it goes with an older one that comes after it.
//
// Consumers that lose events are marked, so that an older cursor is told. Nothing above the watermark is
// touched. The transactions are short, with a pause as long as each between them, and one that cannot
// get its lock is tried again until ctx ends.
//
// The caller must be the owner of the table. Login, if it is not nil, gives the user and the password.
// Progress, if it is not nil, is called after each transaction. Prune returns ErrPruning if another worker
// is at it. What has been deleted stays deleted, whatever the error.
func Prune(ctx context.Context, dsn string, login Login, olderThan time.Duration, log *slog.Logger, progress func(Pruned)) (Pruned, error) {
	var done Pruned
	owner, err := OpenOwner(ctx, dsn, "event-piper prune", login)
	if err != nil {
		return done, err
	}
	defer owner.Close()
	p := pruner{conn: owner.Conn, log: log}
	if err := p.begin(ctx, olderThan); err != nil {
		return done, err
	}
	defer p.end(ctx)
	for more := true; more; {
		start := time.Now()
		var batch Pruned
		if batch, more, err = p.batch(ctx); err != nil {
			return done, err
		}
		if batch.Events > 0 {
			done.Events += batch.Events
			done.Bytes += batch.Bytes
			done.Through = batch.Through
			if progress != nil {
				progress(done)
			}
		}
		if more {
			pause(ctx, min(time.Since(start), maxPrunePause))
		}
	}
	return done, p.forget(ctx)
}

// pruner is one run of Prune.
type pruner struct {
	// Set by begin.
	conn      *pgx.Conn
	log       *slog.Logger
	cutoff    time.Time // events before it are old
	watermark int64

	looked int64 // the events up to here have been looked at
	from   int64 // and those up to here are gone, or were when this run began
}

// begin makes this the only worker, and settles what is old.
func (p *pruner) begin(ctx context.Context, olderThan time.Duration) error {
	for _, setting := range []string{
		fmt.Sprintf("set lock_timeout = %d", pruneLockTimeout.Milliseconds()),
		"set enable_seqscan = off", "set enable_bitmapscan = off",
	} {
		if _, err := p.conn.Exec(ctx, setting); err != nil {
			return fmt.Errorf("%s: %w", setting, err)
		}
	}
	if err := checkSchema(ctx, p.conn, nil); err != nil {
		return err
	}
	var alone bool
	if err := p.conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(pruneKey)).Scan(&alone); err != nil {
		return fmt.Errorf("take the lock of pruning: %w", err)
	}
	if !alone {
		return ErrPruning
	}
	err := p.conn.QueryRow(ctx, "select now() - make_interval(secs => $1), watermark from events_watermark()", olderThan.Seconds()).
		Scan(&p.cutoff, &p.watermark)
	if err != nil {
		return fmt.Errorf("read the watermark: %w", err)
	}
	return nil
}

// end lets the next worker begin at once: PostgreSQL may let go of a session's locks after Close has returned.
func (p *pruner) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_, _ = p.conn.Exec(ctx, "select pg_advisory_unlock($1)", int64(pruneKey)) // if it fails, the session's end does it
}

// batch deletes the old ones of the next events, and reports whether there may be more of them.
func (p *pruner) batch(ctx context.Context) (deleted Pruned, more bool, err error) {
	last, more, err := p.look(ctx)
	if err != nil || last == 0 {
		return deleted, more, err
	}
	err = p.persist(ctx, func() error {
		return p.conn.QueryRow(ctx, `
			with gone as (
				delete from events where id > $1 and id <= $2 returning pg_catalog.pg_column_size(payload) as bytes
			)
			select count(*), coalesce(sum(bytes), 0) from gone`, p.from, last).Scan(&deleted.Events, &deleted.Bytes)
	})
	if err != nil {
		return Pruned{}, false, fmt.Errorf("delete the events through %d: %w", last, err)
	}
	deleted.Through, p.from = last, last
	return deleted, more, nil
}

// persist runs a transaction again for as long as others are why it fails.
func (p *pruner) persist(ctx context.Context, transaction func() error) error {
	for failures := 0; ; failures++ {
		err := transaction()
		if err == nil || ctx.Err() != nil || !mayRetry(err) {
			return err
		}
		wait := min(pruneLockTimeout<<min(failures, 10), maxPrunePause)
		p.log.Info("cannot prune now, somebody holds a lock", "error", err, "retry_in", wait)
		pause(ctx, wait/2+rand.N(wait/2))
	}
}

// forget makes one mark of the oldest, if there are too many. A consumer's own mark stays exact: who has no event at or below
// the watermark, and hence above the common mark, can lose only later ones.
func (p *pruner) forget(ctx context.Context) error {
	err := p.persist(ctx, func() error {
		_, err := p.conn.Exec(ctx, `
			with gone as (
				delete from events_pruned p
				where subscriber <> '' and through <= $1 and through < (select through from events_pruned order by through desc offset $2 - 1 limit 1)
					and not exists (select from events e where e.subscriber::text = p.subscriber)
				returning through
			)
			insert into events_pruned as p (subscriber, through) select '', max(through) from gone having count(*) > 0
			on conflict (subscriber) do update set through = greatest(p.through, excluded.through)`, p.watermark, maxMarks)
		return err
	})
	if err != nil {
		return fmt.Errorf("make one mark of the oldest: %w", err)
	}
	return nil
}

// look goes through the next events, and returns the id of the last old one before the first young one,
// 0 if there is none.
func (p *pruner) look(ctx context.Context) (last int64, more bool, err error) {
	rows, err := p.conn.Query(ctx, `
		select id, "timestamp" < $3, "timestamp" between $3 and now()
		from events where id > $1 and id <= $2 order by id limit $4`, p.looked, p.watermark, p.cutoff, pruneEvents)
	if err != nil {
		return 0, false, fmt.Errorf("look for old events: %w", err)
	}
	var id int64
	var old, young bool
	seen := 0
	_, err = pgx.ForEachRow(rows, []any{&id, &old, &young}, func() error {
		seen++
		switch {
		case young:
			return errYoung
		case old:
			last = id
		}
		p.looked = id
		return nil
	})
	switch {
	case errors.Is(err, errYoung):
		return last, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("look for old events: %w", err)
	}
	return last, seen == pruneEvents, nil
}

var errYoung = errors.New("this event and what follows is kept")

// mayRetry reports that a transaction failed because of another one.
func mayRetry(err error) bool {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return false
	}
	switch pgErr.Code {
	case lockNotAvailable, deadlockDetected, serializationFailure:
		return true
	}
	return false
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
