package postgresql_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/event-piper/event-piper/core/coretest"
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

// The new version of a service migrates while instances of the old one run, and a connection may break meanwhile.
func TestARunningInstanceReadsOnInANewerSchema(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	warned := make(chan string, 10)
	store := openWith(t, postgresql.Config{URL: dsn, Name: "event-piper test", Pagers: 1, Log: slog.New(onLog(func(m string) { warned <- m }))})
	hub := coretest.RunHub(t, store)
	exec(t, conn, insert)
	first := next(t, hub, 0)
	exec(t, conn, "update events_schema_version set version = version + 1")
	exec(t, conn, `select pg_terminate_backend(pid, 60000) from pg_stat_activity
		where application_name like 'event-piper test%' and datname = current_database()`)
	exec(t, conn, insert)
	if second := next(t, hub, first.Cursor); len(second.Events) != 1 {
		t.Errorf("read on with %d events, want 1", len(second.Events))
	}
	select {
	case m := <-warned:
		if m != "reading on" {
			t.Errorf("logged %q, want a warning that it reads on", m)
		}
	default:
		t.Error("logged nothing, want a warning that it reads on")
	}
	var schema *postgresql.SchemaError
	if _, err := open(t, dsn).Follow(t.Context()); !errors.As(err, &schema) {
		t.Errorf("a start of the old version: %v, want a schema error", err)
	}
}
