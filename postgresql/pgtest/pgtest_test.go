package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect to %s: %v", dsn, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestEveryTestHasADatabaseOfItsOwn(t *testing.T) {
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			conn := connect(t, pgtest.Empty(t))
			if _, err := conn.Exec(t.Context(), "create table mine ()"); err != nil {
				t.Errorf("create a table that another test creates too: %v", err)
			}
		})
	}
}

func TestADatabaseIsGoneAfterItsTestEvenWithConnections(t *testing.T) {
	var dsn string
	t.Run("using it", func(t *testing.T) {
		dsn = pgtest.Empty(t)
		if _, err := pgx.Connect(context.Background(), dsn); err != nil {
			t.Fatal(err)
		}
	})
	if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
		_ = conn.Close(t.Context())
		t.Errorf("connected to %s, want it to be dropped with its test", dsn)
	}
}

func TestServerIsConfiguredAndCanBeTakenAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, map[string]string{"application_name": `it's "$HOME" \ here`})
	var got string
	if err := connect(t, server.DSN()).QueryRow(t.Context(), "show application_name").Scan(&got); err != nil {
		t.Fatal(err)
	}
	if want := `it's "$HOME" \ here`; got != want {
		t.Errorf("application_name is %s, want %s", got, want)
	}
	if err := server.Halt(true); err != nil {
		t.Fatal(err)
	}
	if conn, err := pgx.Connect(t.Context(), server.DSN()); err == nil {
		_ = conn.Close(t.Context())
		t.Error("connected to a halted server")
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	connect(t, server.DSN())
}

func TestANewDatabaseHasTheSchemaAndNoEvents(t *testing.T) {
	for range 3 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			var n int
			err := connect(t, pgtest.New(t)).QueryRow(t.Context(), "select count(*) from events").Scan(&n)
			if err != nil || n != 0 {
				t.Errorf("counted %d events (%v), want none", n, err)
			}
		})
	}
}
