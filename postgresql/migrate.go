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

// Migrate brings the schema of a database up to date and reports the versions before and after. It is safe
// to call from several places at once.
func Migrate(ctx context.Context, dsn string) (from, to int32, err error) {
	return MigrateAs(ctx, dsn, nil)
}

// MigrateAs is Migrate with a login that, if not nil, gives the user and the password.
func MigrateAs(ctx context.Context, dsn string, login Login) (from, to int32, err error) {
	t, err := parseDSN("DATABASE_URL", dsn, "event-piper migrate")
	if err != nil {
		return 0, 0, err
	}
	t.login = login
	l, err := reach(ctx, t, true)
	if err != nil {
		return 0, 0, err
	}
	defer l.close()
	m, err := newMigrator(ctx, t, l)
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

func newMigrator(ctx context.Context, t *target, l *listener) (*migrate.Migrator, error) {
	schema, err := home(ctx, l.Conn)
	if err != nil {
		return nil, err
	}
	m, err := migrate.NewMigrator(ctx, l.Conn, schema+"."+versionTable)
	if err != nil {
		return nil, err
	}
	// The migrator resets all parameters after each migration.
	m.OnStart = func(int32, string, string, string) {
		_, _ = l.Exec(ctx, "set transaction isolation level read committed, read write")
		_ = t.setUp(ctx, l.Conn, l.server) // a failure ends the transaction, and the migration says so
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return m, m.LoadMigrations(files)
}

// home returns the schema that holds ours or, before the first migration, the one that will. It refuses one in which
// something of somebody else's has a name of ours.
func home(ctx context.Context, conn *pgx.Conn) (quoted string, err error) {
	var schema, taken *string
	err = conn.QueryRow(ctx, `
		select s.name, case when v is null then (
			select 'a table or view ' || relname from pg_class
			where relnamespace = s.name::regnamespace and relname in ('events', 'events_pruned', 'events_writers', 'events_present')
			union all
			select 'a type ' || typname from pg_type where typnamespace = s.name::regnamespace and typname in ('event_name', 'event_type')
			limit 1
		) end
		from to_regclass($1) v
		cross join lateral (select quote_ident(coalesce(
			(select nspname from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid = v), current_schema()))) s (name)`,
		versionTable).Scan(&schema, &taken)
	switch {
	case err != nil:
		return "", fmt.Errorf("look for the schema: %w", err)
	case schema == nil:
		return "", errors.New("the search_path names no schema that exists and may be used: create it")
	case taken != nil:
		return "", fmt.Errorf("the schema %s has %s of its own: give Event Piper another one, by `create schema event_piper` "+
			"and search_path=event_piper in DATABASE_URL", *schema, *taken)
	}
	return *schema, nil
}

// checkSchema returns a SchemaError unless the database has the schema this program needs. A newer one is left to newer.
func checkSchema(ctx context.Context, conn *pgx.Conn, newer func(*SchemaError)) error {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	want := int32(len(files)) //nolint:gosec // a handful
	if err := checkSearchPath(ctx, conn); err != nil {
		return err
	}
	var found int32
	var batch pgx.Batch
	batch.Queue("select version from " + versionTable).QueryRow(func(row pgx.Row) error { return row.Scan(&found) })
	err = sendRead(ctx, conn, &batch)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == undefinedTable {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if found > want && newer != nil {
		newer(&SchemaError{Found: found, Want: want})
		return nil
	}
	if found != want {
		return &SchemaError{Found: found, Want: want}
	}
	return nil
}
