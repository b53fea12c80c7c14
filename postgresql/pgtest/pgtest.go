// Package pgtest gives tests a real PostgreSQL: one server per test binary, started when the first
// test asks for it, and a database per test, so that tests run in parallel and leave nothing behind.
//
// A test binary that uses it has
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/migrations"
)

// template is the database that those with the schema are copies of: copying is faster than migrating.
const template = "event_piper_template"

var (
	// started is set once the server has been asked for, so that Main does not start it to stop it.
	started atomic.Bool
	server  = sync.OnceValues(func() (*devdb.Server, error) {
		started.Store(true)
		return devdb.Start(context.Background(), devdb.Options{})
	})
	migrated = sync.OnceValue(func() error {
		s, err := server()
		if err != nil {
			return err
		}
		if err := exec(s, "create database "+template+" template template0"); err != nil {
			return err
		}
		_, _, err = migrations.Apply(context.Background(), dsn(s, template), nil)
		return err
	})
	databases atomic.Int64
)

// Main runs the tests of a binary, stops the server if one was started, and exits.
func Main(m *testing.M) {
	devdb.Supervise()
	code := m.Run()
	if started.Load() {
		if s, err := server(); err == nil {
			if err := s.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// New returns the DSN of a new database with the schema in it. The database is dropped when the test
// ends, connections or not. It is safe in parallel tests.
func New(t testing.TB) string {
	t.Helper()
	if err := migrated(); err != nil {
		t.Fatal(err)
	}
	return create(t, template)
}

// Empty is New without the schema.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, "template0")
}

// Server starts a server of the test's own, for tests that take it away or configure it. Its database
// has no schema.
func Server(t testing.TB, parameters map[string]string) *devdb.Server {
	t.Helper()
	s, err := devdb.Start(t.Context(), devdb.Options{Parameters: parameters})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func create(t testing.TB, template string) string {
	t.Helper()
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	database := fmt.Sprintf("test_%d", databases.Add(1))
	if err := exec(s, "create database "+database+" template "+template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := exec(s, "drop database "+database+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	return dsn(s, database)
}

// exec runs a statement outside of the databases that tests and templates use. Its context is not the
// test's, which has ended when cleanups run.
func exec(s *devdb.Server, statement string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn(s, "postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is left to do with it
	if _, err = conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func dsn(s *devdb.Server, database string) string {
	u, err := url.Parse(s.DSN())
	if err != nil {
		panic(err) // devdb made it
	}
	u.Path = database
	return u.String()
}
