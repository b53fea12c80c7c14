package postgresql

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Insert inserts one event, as its own transaction. It needs no right to read.
func Insert(ctx context.Context, dsn, subscriber, kind, payload string) error {
	t, err := parseDSN("DATABASE_URL", dsn, "event-piper insert")
	if err != nil {
		return err
	}
	l, err := reach(ctx, t, false)
	if err != nil {
		return err
	}
	defer l.close()
	_, err = l.Exec(ctx, `insert into events (type, "timestamp", subscriber, payload) values ($1, pg_catalog.now(), $2, $3)`, kind, subscriber, payload)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == undefinedTable {
		return errors.New("the database has no table of events: run `stream migrate`")
	}
	if err != nil {
		return fmt.Errorf("insert the event: %w", err)
	}
	return nil
}
