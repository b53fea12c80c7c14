//go:build unix

package blackbox_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// database is a connection such as an application has.
type database struct {
	*pgx.Conn
}

func connect(t testing.TB, dsn string) database {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return database{conn}
}

func (db database) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// insert commits an event, unless a transaction is open, and returns its id.
func (db database) insert(t testing.TB, consumer, eventType, payload string) int64 {
	t.Helper()
	return query[int64](t, db,
		`insert into events (type, timestamp, subscriber, payload) values ($1, now(), $2, $3::text::json) returning id`,
		eventType, consumer, payload)
}

// ids returns those of a consumer's committed events, in order.
func (db database) ids(t testing.TB, consumer string) []int64 {
	t.Helper()
	return query[[]int64](t, db, "select coalesce(array_agg(id order by id), '{}') from events where subscriber = $1", consumer)
}

// query returns the one value of a statement.
func query[T any](t testing.TB, db database, sql string, args ...any) (v T) {
	t.Helper()
	if err := db.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// application inserts events as one does that outlives its database: it connects again.
type application struct {
	conn *pgx.Conn // nil without a connection that works
}

func (a *application) insert(dsn, consumer string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if a.conn == nil {
		var err error
		if a.conn, err = pgx.Connect(ctx, dsn); err != nil {
			a.conn = nil
			return
		}
	}
	_, err := a.conn.Exec(ctx, `insert into events (type, timestamp, subscriber, payload) values ('insert', now(), $1, '{}')`, consumer)
	if err != nil {
		a.close()
	}
}

func (a *application) close() {
	if a.conn != nil {
		_ = a.conn.Close(context.Background())
		a.conn = nil
	}
}
