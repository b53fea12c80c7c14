package postgresql_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// connect returns a connection that is closed with its test.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// connectWith is connect for cleanups, when the test's context has ended.
func connectWith(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// version is the server's major version.
func version(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return query[int](t, conn, "select current_setting('server_version_num')::int / 10000")
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func open(t *testing.T, dsn string) *postgresql.Store {
	t.Helper()
	return openWith(t, postgresql.Config{URL: dsn, Name: "event-piper test", Pagers: 2})
}

func openWith(t *testing.T, c postgresql.Config) *postgresql.Store {
	t.Helper()
	store, err := postgresql.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// direct is a poller over a connection of its own.
func direct(t *testing.T, dsn string, interval bool) *core.Direct {
	t.Helper()
	return directWith(t, postgresql.Config{URL: dsn, Name: "event-piper test"}, interval)
}

func directWith(t *testing.T, c postgresql.Config, interval bool) *core.Direct {
	t.Helper()
	connect, err := postgresql.Single(c, interval)
	if err != nil {
		t.Fatal(err)
	}
	d := core.NewDirect(connect, slog.New(slog.DiscardHandler))
	t.Cleanup(d.Close)
	return d
}

// harness is a store with writers on connections of their own.
func harness(t *testing.T, dsn string) coretest.Harness {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return coretest.Harness{Store: open(t, dsn), Table: table{pool}}
}

// table implements coretest.Table.
type table struct{ pool *pgxpool.Pool }

func (t table) Begin(ctx context.Context) (coretest.Transaction, error) {
	tx, err := t.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &transaction{Tx: tx}, nil
}

func (t table) Delete(ctx context.Context, consumer string, through int64) error {
	_, err := t.pool.Exec(ctx, "delete from events where subscriber = $1 and id <= $2", consumer, through)
	return err
}

func (t table) Redact(ctx context.Context, id int64) error {
	_, err := t.pool.Exec(ctx, "select events_redact($1, 'test')", id)
	return err
}

// transaction implements coretest.Transaction.
type transaction struct {
	pgx.Tx
	savepoints int
}

func (tx *transaction) Insert(ctx context.Context, consumer, typ, payload string) (id int64, err error) {
	err = tx.QueryRow(ctx, "insert into events (type, subscriber, payload) values ($1, $2, $3) returning id",
		typ, consumer, payload).Scan(&id)
	return id, err
}

func (tx *transaction) Amend(ctx context.Context, consumer, typ, payload string, amends int64) (id int64, err error) {
	err = tx.QueryRow(ctx, "insert into events (type, subscriber, payload, amends) values ($1, $2, $3, $4) returning id",
		typ, consumer, payload, amends).Scan(&id)
	return id, err
}

func (tx *transaction) Savepoint(ctx context.Context) error {
	tx.savepoints++
	_, err := tx.Exec(ctx, fmt.Sprint("savepoint s", tx.savepoints))
	return err
}

func (tx *transaction) RollbackTo(ctx context.Context) error {
	name := fmt.Sprint("s", tx.savepoints)
	tx.savepoints--
	_, err := tx.Exec(ctx, "rollback to "+name+"; release "+name)
	return err
}

func TestStore(t *testing.T) {
	coretest.TestStore(t, func(t *testing.T) coretest.Harness { return harness(t, pgtest.New(t)) })
}
