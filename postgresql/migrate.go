package postgresql

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable remembers which migrations have been applied, in the schema that new objects go to.
const versionTable = "events_schema_version"

// SchemaError reports a database whose schema is not the one this program needs.
type SchemaError struct{ Found, Want int32 }

func (e *SchemaError) Error() string {
	if e.Found > e.Want {
		return fmt.Sprintf("the database has schema version %d, newer than this program's %d: run a newer version of it",
			e.Found, e.Want)
	}
	return fmt.Sprintf("the database has schema version %d, this program needs %d: run `stream migrate`", e.Found, e.Want)
}

func newMigrator(ctx context.Context, conn *pgx.Conn) (*migrate.Migrator, error) {
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return nil, err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return m, m.LoadMigrations(files)
}

// Migrate brings the schema of a database up to date and reports the versions before and after. It is safe
// to call from several places at once.
func Migrate(ctx context.Context, dsn string) (from, to int32, err error) {
	conn, err := connect(ctx, dsn, "event-piper migrate")
	if err != nil {
		return 0, 0, err
	}
	defer closeConn(conn)
	m, err := newMigrator(ctx, conn)
	if err != nil {
		return 0, 0, fmt.Errorf("prepare the migration: %w", err)
	}
	if from, err = m.GetCurrentVersion(ctx); err != nil {
		return 0, 0, fmt.Errorf("read the schema's version: %w", err)
	}
	want := int32(len(m.Migrations)) //nolint:gosec // a handful
	if from > want {
		return from, from, &SchemaError{Found: from, Want: want}
	}
	if err := m.Migrate(ctx); err != nil {
		return from, from, fmt.Errorf("migrate the schema from version %d: %w", from, err)
	}
	return from, want, nil
}

// checkSchema returns a SchemaError unless the database has the schema this program needs.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	want := int32(len(files)) //nolint:gosec // a handful
	var found int32
	err = conn.QueryRow(ctx, "select version from "+versionTable).Scan(&found)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == undefinedTable {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if found != want {
		return &SchemaError{Found: found, Want: want}
	}
	return nil
}
