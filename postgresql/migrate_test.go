package postgresql_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestMigrateBringsAnEmptyDatabaseUpToDateOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	from, to, err := migrations.Apply(t.Context(), dsn, nil)
	if err != nil || from != 0 || to < 2 {
		t.Fatalf("migrated from %d to %d (%v), want from 0 to at least 2", from, to, err)
	}
	again, same, err := migrations.Apply(t.Context(), dsn, nil)
	if err != nil || again != to || same != to {
		t.Errorf("migrated again from %d to %d (%v), want from %d to %[4]d", again, same, err, to)
	}
	conn := connect(t, dsn)
	exec(t, conn, `insert into events (type, timestamp, subscriber, payload) values ('insert', now(), 'toto', '{"foo": "bar"}')`)
	if id := query[int64](t, conn, "select max(id) from events"); id != 1 {
		t.Errorf("the first id is %d, want 1", id)
	}
}

func TestMigrateMayRunInSeveralPlacesAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, _, err := migrations.Apply(t.Context(), dsn, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	exec(t, connect(t, dsn), `insert into events (type, subscriber, payload) values ('insert', 'toto', '{}')`)
}

func TestAnotherSchemaVersionIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ change, says string }{
		"none":  {"drop table events_schema_version", "stream migrate"},
		"older": {"update events_schema_version set version = version - 1", "stream migrate"},
		"newer": {"update events_schema_version set version = version + 1", "newer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.New(t)
			exec(t, connect(t, dsn), test.change)
			_, err := open(t, dsn).Follow(t.Context())
			var schema *postgresql.SchemaError
			if !errors.As(err, &schema) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("following it: %v, want a schema error that says %q", err, test.says)
			}
			if name != "newer" {
				return
			}
			if _, _, err := migrations.Apply(t.Context(), dsn, nil); !errors.As(err, &schema) {
				t.Errorf("migrating it: %v, want a schema error", err)
			}
		})
	}
}

func TestAnUnreachableServerIsAnError(t *testing.T) {
	t.Parallel()
	const nobody = "postgres://nobody:secret@127.0.0.1:1/none"
	_, err := open(t, nobody).Follow(t.Context())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("following it: %v, want an error without the password", err)
	}
	if _, err := postgresql.Open(t.Context(), postgresql.Config{URL: "postgres://%zz", Name: "test", Pagers: 1}); err == nil {
		t.Error("a DSN that cannot be read was accepted")
	}
}
