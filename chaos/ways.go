package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/event-piper/event-piper/chaos/check"
)

func (w *writer) single(ctx context.Context) error {
	if w.hurried.Load() {
		return w.statements(ctx)
	}
	events := w.events(1)
	sql, args := values(events)
	return w.one(ctx, events, insertSQL+sql, args...)
}

func (w *writer) rows(ctx context.Context) error {
	events := w.events(2 + w.random.IntN(30))
	sql, args := values(events)
	return w.one(ctx, events, insertSQL+sql, args...)
}

// transact runs something in a transaction and commits it. What it inserted was committed, or not, as a whole.
func (w *writer) transact(ctx context.Context, o pgx.TxOptions, run func(tx pgx.Tx) ([]event, error)) error {
	tx, err := w.conn.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	if w.hurried.Load() {
		if _, err := tx.Exec(ctx, "set local statement_timeout = '2ms'"); err != nil {
			return err
		}
	}
	events, err := run(tx)
	if err != nil {
		w.record.wrote(check.RolledBack, tokens(events)...)
		return errors.Join(err, tx.Rollback(ctx))
	}
	err = tx.Commit(ctx)
	outcome := outcomeOf(err)
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		outcome = check.RolledBack
	}
	w.record.wrote(outcome, tokens(events)...)
	return err
}

func (w *writer) insert(ctx context.Context, tx pgx.Tx, events ...event) error {
	sql, args := values(events)
	_, err := tx.Exec(ctx, insertSQL+sql, args...)
	return err
}

// statements inserts by several statements, with work in between.
func (w *writer) statements(ctx context.Context) error {
	return w.transact(ctx, pgx.TxOptions{}, func(tx pgx.Tx) (events []event, err error) {
		for range 1 + w.random.IntN(5) {
			e := w.event()
			events = append(events, e)
			if err := w.insert(ctx, tx, e); err != nil {
				return events, err
			}
			_ = sleep(ctx, w.upTo(5*time.Millisecond))
		}
		_, err = tx.Exec(ctx, "insert into chaos_orders (payload) values ('work')")
		return events, err
	})
}

// savepoints takes some of what it inserts back, the first insert at times.
func (w *writer) savepoints(ctx context.Context) error {
	return w.transact(ctx, pgx.TxOptions{}, func(tx pgx.Tx) (kept []event, err error) {
		for range 1 + w.random.IntN(4) {
			inner, err := tx.Begin(ctx)
			if err != nil {
				return kept, err
			}
			events := w.events(1 + w.random.IntN(3))
			if err := w.insert(ctx, inner, events...); err != nil {
				w.record.wrote(check.RolledBack, tokens(events)...)
				return kept, err
			}
			_ = sleep(ctx, w.upTo(5*time.Millisecond))
			if w.random.IntN(2) == 0 {
				w.record.wrote(check.RolledBack, tokens(events)...)
				err = inner.Rollback(ctx)
			} else {
				kept = append(kept, events...)
				err = inner.Commit(ctx)
			}
			if err != nil {
				return kept, err
			}
		}
		return kept, nil
	})
}

func (w *writer) rollback(ctx context.Context) error {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	events := w.events(1 + w.random.IntN(5))
	w.record.wrote(check.RolledBack, tokens(events)...)
	if err := w.insert(ctx, tx, events...); err != nil {
		return err
	}
	_ = sleep(ctx, w.upTo(20*time.Millisecond))
	return tx.Rollback(ctx)
}

// twoPhase prepares a transaction and ends it later. One whose end is not answered is ended at the end of the run.
func (w *writer) twoPhase(ctx context.Context) error {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	events := w.events(1 + w.random.IntN(3))
	give := func(o check.Outcome) { w.record.wrote(o, tokens(events)...) }
	// PostgreSQL does not prepare a transaction that has notified.
	if _, err := tx.Exec(ctx, "set local event_piper.doorbell = off"); err != nil {
		give(check.RolledBack)
		return err
	}
	if err := w.insert(ctx, tx, events...); err != nil {
		give(check.RolledBack)
		return err
	}
	id := events[0].token
	if _, err := tx.Exec(ctx, fmt.Sprintf("prepare transaction '%s'", id)); err != nil {
		give(outcomeOf(err))
		return err
	}
	_ = sleep(ctx, w.upTo(500*time.Millisecond))
	end, outcome := "commit", check.Committed
	if w.random.IntN(4) == 0 {
		end, outcome = "rollback", check.RolledBack
	}
	if _, err := w.conn.Exec(ctx, fmt.Sprintf("%s prepared '%s'", end, id)); err != nil {
		give(check.Unknown)
		return err
	}
	give(outcome)
	return nil
}

// endPrepared ends transactions whose writers could not, once they are older than any writer takes for it.
func endPrepared(ctx context.Context, d *database, older time.Duration) error {
	return d.query(ctx, func(ctx context.Context, c *pgx.Conn) error {
		rows, _ := c.Query(ctx, "select gid from pg_prepared_xacts where prepared < now() - make_interval(secs => $1)", older.Seconds())
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for i, id := range ids {
			end := [...]string{"commit", "rollback"}[i%2]
			_, endErr := c.Exec(ctx, fmt.Sprintf("%s prepared '%s'", end, id))
			var answer *pgconn.PgError
			if errors.As(endErr, &answer) && answer.Code == "42704" { // its writer was faster
				endErr = nil
			}
			err = errors.Join(err, endErr)
		}
		return err
	})
}

func (w *writer) copy(ctx context.Context) error {
	events := w.events(1 + w.random.IntN(60))
	var rows bytes.Buffer
	out := csv.NewWriter(&rows)
	for _, e := range events {
		_ = out.Write([]string{e.kind, e.address, e.payload}) // memory does not fail
	}
	out.Flush()
	_, err := w.conn.PgConn().CopyFrom(ctx, &rows, "copy events (type, subscriber, payload) from stdin (format csv)")
	w.record.wrote(outcomeOf(err), tokens(events)...)
	return err
}

// hold keeps a transaction open, and with it everybody's later events back.
func (w *writer) hold(ctx context.Context) error {
	return w.transact(ctx, pgx.TxOptions{}, func(tx pgx.Tx) ([]event, error) {
		events := w.events(1)
		err := w.insert(ctx, tx, events...)
		if err == nil {
			_ = sleep(ctx, 200*time.Millisecond+w.upTo(1200*time.Millisecond))
		}
		if err == nil && w.random.IntN(3) == 0 {
			err = errRegret
		}
		return events, err
	})
}

var errRegret = errors.New("rolled back on purpose")

// serializable is in conflict with others of its kind now and then, and fails.
func (w *writer) serializable(ctx context.Context) error {
	return w.transact(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) ([]event, error) {
		events := w.events(1 + w.random.IntN(2))
		if _, err := tx.Exec(ctx, "select sum(n) from chaos_counter"); err != nil {
			return events, err
		}
		if err := w.insert(ctx, tx, events...); err != nil {
			return events, err
		}
		_, err := tx.Exec(ctx, "update chaos_counter set n = n + 1 where id = $1", 1+w.random.IntN(3))
		return events, err
	})
}

func (w *writer) merge(ctx context.Context) error {
	events := w.events(1 + w.random.IntN(4))
	sql, args := values(events)
	return w.one(ctx, events, `merge into events e using (values `+sql+`) v (type, at, subscriber, payload) on false
		when not matched then insert (type, "timestamp", subscriber, payload) values (v.type, v.at, v.subscriber, v.payload)`, args...)
}

func (w *writer) cte(ctx context.Context) error {
	events := w.events(2)
	a, b := events[0], events[1]
	return w.one(ctx, events, `with orders as (insert into chaos_orders (payload) values ('cte') returning id),
		first as (`+insertSQL+`($1, now(), $2, $3::json) returning id)
		insert into events (type, subscriber, payload) select $4, $5, $6::json from orders, first`,
		a.kind, a.address, a.payload, b.kind, b.address, b.payload)
}

// deferred has its event inserted by a trigger at the commit.
func (w *writer) deferred(ctx context.Context) error {
	return w.transact(ctx, pgx.TxOptions{}, func(tx pgx.Tx) (events []event, err error) {
		for range 1 + w.random.IntN(2) {
			e := w.event()
			events = append(events, e)
			if _, err := tx.Exec(ctx, "insert into chaos_orders (subscriber, payload) values ($1, $2)", e.address, e.payload); err != nil {
				return events, err
			}
		}
		return events, nil
	})
}

// setval repairs the sequence: forward, beside other writers, or to the newest event while there are none, as after
// a restore.
func (w *writer) setval(ctx context.Context) error {
	const sequence = "pg_get_serial_sequence('events', 'id')"
	if w.random.IntN(2) == 0 {
		_, err := w.conn.Exec(ctx, "select setval("+sequence+", nextval("+sequence+") + 10000)")
		return err
	}
	return w.transact(ctx, pgx.TxOptions{}, func(tx pgx.Tx) ([]event, error) {
		for _, sql := range []string{
			"set local lock_timeout = '1s'",
			"lock table events in share row exclusive mode",
			"select setval(" + sequence + ", greatest((select max(id) from events), (select max(through) from events_pruned), 1))",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
}
