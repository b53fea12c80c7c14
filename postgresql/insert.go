package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// dataException is the class of errors of what a value is: https://www.postgresql.org/docs/current/errcodes-appendix.html
const dataException = "22"

// ErrRefused is wrapped by an error that says what is wrong with an event, in words for everybody.
var ErrRefused = errors.New("the event is refused")

// Insert inserts one event, as its own transaction. It needs no right to read. Login, if it is not nil, gives the user and
// the password.
func Insert(ctx context.Context, dsn string, login Login, subscriber, kind, payload string) error {
	t, err := parseDSN("DATABASE_URL", dsn, "event-piper insert")
	if err != nil {
		return err
	}
	t.login = login
	l, err := reach(ctx, t, false)
	if err != nil {
		return err
	}
	defer l.close()
	_, err = l.Exec(ctx, `insert into events (type, "timestamp", subscriber, payload) values ($1, pg_catalog.now(), $2, $3)`, kind, subscriber, payload)
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && pgErr.Code == undefinedTable:
		return errors.New("the database has no table of events: run `stream migrate`")
	case ok && strings.HasPrefix(pgErr.Code, dataException):
		return fmt.Errorf("%w: it has characters or numbers that PostgreSQL does not keep", ErrRefused)
	case ok && pgErr.ConstraintName != "":
		return fmt.Errorf("%w: %s", ErrRefused, strings.ReplaceAll(pgErr.ConstraintName, "_", " "))
	}
	if err != nil {
		return fmt.Errorf("insert the event: %w", err)
	}
	return nil
}
