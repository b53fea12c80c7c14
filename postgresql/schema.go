package postgresql

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// SchemaVersion is the version of the schema that this program needs.
	SchemaVersion = 2
	// VersionTable remembers which migrations have been applied, in the schema that new objects go to.
	VersionTable = "events_schema_version"
)

// SchemaError reports a database whose schema is not the one this program needs.
type SchemaError struct{ Found, Want int32 }

func (e *SchemaError) Error() string {
	if e.Found > e.Want {
		return fmt.Sprintf("the database has schema version %d, newer than this program's %d: run a newer version of it",
			e.Found, e.Want)
	}
	return fmt.Sprintf("the database has schema version %d, this program needs %d: run `stream migrate`", e.Found, e.Want)
}

// Owner is a session of whoever owns the schema.
type Owner struct {
	*pgx.Conn
	target *target
	l      *listener
}

// OpenOwner connects, whatever schema there is. Login, if it is not nil, gives the user and the password.
func OpenOwner(ctx context.Context, dsn, application string, login Login) (*Owner, error) {
	t, err := parseDSN("DATABASE_URL", dsn, application)
	if err != nil {
		return nil, err
	}
	t.login = login
	l, err := reach(ctx, t, true)
	if err != nil {
		return nil, err
	}
	return &Owner{Conn: l.Conn, target: t, l: l}, nil
}

// SetUp sets what OpenOwner had set for the session, again after a RESET ALL.
func (o *Owner) SetUp(ctx context.Context) error { return o.target.setUp(ctx, o.Conn, o.l.server) }

// Close ends the session and leaves nothing behind for the next client of a pooler.
func (o *Owner) Close() { o.l.close() }

// checkSchema returns a SchemaError unless the database has the schema this program needs. A newer one is left to newer.
func checkSchema(ctx context.Context, conn *pgx.Conn, newer func(*SchemaError)) error {
	if err := checkSearchPath(ctx, conn); err != nil {
		return err
	}
	var found int32
	var batch pgx.Batch
	batch.Queue("select version from " + VersionTable).QueryRow(func(row pgx.Row) error { return row.Scan(&found) })
	err := sendRead(ctx, conn, &batch)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == undefinedTable {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if found > SchemaVersion && newer != nil {
		newer(&SchemaError{Found: found, Want: SchemaVersion})
		return nil
	}
	if found != SchemaVersion {
		return &SchemaError{Found: found, Want: SchemaVersion}
	}
	return nil
}
