//go:build unix

package postgresql_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

const tolerant = "ignore_startup_parameters = extra_float_digits, search_path"

func TestAPoolerInSessionModeIsAsGoodAsNone(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	pooled := pgtest.Pooler(t, dsn, "session")
	if _, _, err := migrations.Apply(t.Context(), pooled, nil); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	exec(t, conn, insert)
	for what, read := range ways(t, pooled+"?search_path=public") {
		if err := read(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	wantNothingLeft(t, dsn)
}

func TestAPoolerInTransactionModeIsNotListenedThrough(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	pooled := pgtest.Pooler(t, dsn, "transaction", tolerant)
	exec(t, connect(t, dsn), insert)
	read := ways(t, pooled)
	for _, what := range []string{"follow", "poll by listening"} {
		if err := read[what](t.Context()); err == nil || !strings.Contains(err.Error(), "DATABASE_LISTEN_URL") {
			t.Errorf("%s: %v, want an error that names the setting", what, err)
		}
	}
	if err := read["poll by an interval"](t.Context()); err != nil {
		t.Errorf("by an interval: %v", err)
	}
	if _, _, err := migrations.Apply(t.Context(), pooled, nil); err == nil {
		t.Error("migrating: want an error")
	}
	wantNothingLeft(t, dsn)
}

// The pool is so small that transactions of different clients meet on one connection.
func TestHistoryIsReadThroughAPoolerInTransactionMode(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, "insert into events (type, subscriber, payload) select 'insert', 'toto', json_build_object('n', repeat('x', n)) from generate_series(1, 3000) n")
	exec(t, conn, "alter database "+query[string](t, conn, "select current_database()")+" set default_transaction_isolation = 'repeatable read'")
	pooled := pgtest.Pooler(t, dsn, "transaction", tolerant, "default_pool_size = 2") + "?search_path=public"
	var stores []*postgresql.Store
	for range 2 {
		store, err := postgresql.Open(t.Context(), postgresql.Config{URL: pooled, ListenURL: dsn, Name: "event-piper test", Pagers: 4})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		f, err := store.Follow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		stores = append(stores, store)
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for cursor, events := int64(0), 0; events < 3000; {
				pages, err := stores[n%2].Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, After: cursor, Limit: 100}}, core.Mark{})
				if err != nil || len(pages[0].Events) == 0 {
					t.Errorf("after %d: %d events (%v)", cursor, events, err)
					return
				}
				events += len(pages[0].Events)
				cursor = pages[0].Next
			}
		})
		poller := direct(t, pooled, true)
		all.Go(func() {
			for cursor := int64(0); cursor < 1000; {
				b, err := poller.Poll(t.Context(), core.Poll{Consumer: "toto", After: cursor, Limit: 100})
				if err != nil {
					t.Errorf("a poll after %d: %v", cursor, err)
					return
				}
				cursor = b.Cursor
			}
		})
	}
	all.Wait()
	if n := query[int](t, conn, "select count(*) from pg_settings where name = 'row_security' and setting = 'off'"); n != 0 {
		t.Error("the test's own connection was changed")
	}
	client := connectWith(t, pooled[:strings.Index(pooled, "?")])
	for range 10 {
		var setting string
		if err := client.QueryRow(context.Background(), "select current_setting('row_security')").Scan(&setting); err != nil || setting != "on" {
			t.Fatalf("row_security of another client is %q (%v), want on", setting, err)
		}
	}
}

// Several connections at once find out about the pooler while each of them reads.
func TestHistoryIsReadThroughAPoolerThatNobodyKnewOf(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	exec(t, connect(t, dsn), insert)
	store := open(t, pgtest.Pooler(t, dsn, "transaction", tolerant))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{})
			if err != nil || len(pages[0].Events) != 1 {
				t.Errorf("%v (%v), want one page of one event", pages, err)
			}
		})
	}
	all.Wait()
}

// wantNothingLeft checks that connections that a pooler keeps hold no lock of ours.
func wantNothingLeft(t *testing.T, dsn string) {
	t.Helper()
	conn := connect(t, dsn)
	if n := query[int](t, conn, "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"); n != 0 {
		t.Errorf("%d advisory locks are left behind", n)
	}
}
