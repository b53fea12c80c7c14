package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// The types are those that a client could take for something else.
var types = []string{
	"order.created", "error", "open", "message", "close", "constructor", "__proto__", "toString", "Heartbeat", "resets", "id: 1", "été",
}

// writers insert events in transactions that overlap, so that ids become visible out of order; some roll back.
type writers struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu   sync.Mutex
	errs []error // guarded by mu
}

func newWriters(dsn string) *writers {
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{cancel: cancel}
	for range 8 {
		w.done.Go(func() {
			if err := write(ctx, dsn); err != nil && ctx.Err() == nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.errs = append(w.errs, err)
			}
		})
	}
	return w
}

func (w *writers) stop() error {
	w.cancel()
	w.done.Wait()
	return errors.Join(w.errs...)
}

func write(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for ctx.Err() == nil {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range between(1, 3) {
			if _, err := tx.Exec(ctx, `insert into events (type, timestamp, subscriber, payload) values ($1, now(), $2, $3)`,
				types[between(0, len(types)-1)], consumer, payload()); err != nil {
				return err
			}
			pause(ctx, 20)
		}
		if between(1, 10) == 1 {
			err = tx.Rollback(ctx)
		} else {
			err = tx.Commit(ctx)
		}
		if err != nil {
			return err
		}
		pause(ctx, 200)
	}
	return nil
}

func pause(ctx context.Context, most int) {
	_ = wait(ctx, time.Duration(between(0, most))*time.Millisecond)
}

// payload returns one that no other event has. Ids alone do not name events: after a crash PostgreSQL hands out again
// those of transactions that did not last.
func payload() string {
	size := between(0, 200)
	switch between(1, 500) {
	case 1:
		size = 1 << 20
	case 2, 3, 4, 5:
		size = 5000
	}
	return fmt.Sprintf(`{"token":%q,"text":"\n€ %s"}`, rand.Text(), strings.Repeat("x", size))
}

// row is an event as a reader should have it.
type row struct {
	ID          int64
	Type, Token string
}

// committed returns the events that there are, in order.
func committed(ctx context.Context, dsn string) ([]row, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `select id, type, payload->>'token' from events where subscriber = $1 order by id`, consumer)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[row])
}
