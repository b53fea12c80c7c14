// Package migrations brings the schema of a database up to date. It stands apart from package postgresql, so that what only
// reads events does without the migrations and the library that applies them: with text/template in a program, the linker
// keeps every exported method of what it links.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/event-piper/event-piper/postgresql"
)

//go:embed *.sql
var files embed.FS

// Apply brings the schema of a database up to date and reports the versions before and after. Login, if it is not nil,
// gives the user and the password. It is safe to call from several places at once.
func Apply(ctx context.Context, dsn string, login postgresql.Login) (from, to int32, err error) {
	owner, err := postgresql.OpenOwner(ctx, dsn, "event-piper migrate", login)
	if err != nil {
		return 0, 0, err
	}
	defer owner.Close()
	m, err := newMigrator(ctx, owner)
	if err != nil {
		return 0, 0, fmt.Errorf("prepare the migration: %w", err)
	}
	if from, err = m.GetCurrentVersion(ctx); err != nil {
		return 0, 0, fmt.Errorf("read the schema's version: %w", err)
	}
	if from > postgresql.SchemaVersion {
		return from, from, &postgresql.SchemaError{Found: from, Want: postgresql.SchemaVersion}
	}
	if err := m.Migrate(ctx); err != nil {
		return from, from, fmt.Errorf("migrate the schema from version %d: %w", from, err)
	}
	return from, postgresql.SchemaVersion, nil
}

func newMigrator(ctx context.Context, owner *postgresql.Owner) (*migrate.Migrator, error) {
	schema, err := home(ctx, owner.Conn)
	if err != nil {
		return nil, err
	}
	m, err := migrate.NewMigrator(ctx, owner.Conn, schema+"."+postgresql.VersionTable)
	if err != nil {
		return nil, err
	}
	// The migrator resets all parameters after each migration.
	m.OnStart = func(int32, string, string, string) {
		_, _ = owner.Exec(ctx, "set transaction isolation level read committed, read write")
		_ = owner.SetUp(ctx) // a failure ends the transaction, and the migration says so
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
		postgresql.VersionTable).Scan(&schema, &taken)
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
