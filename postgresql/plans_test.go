package postgresql_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

const (
	// rowsTouched counts what connections that have ended have looked at.
	rowsTouched = `select seq_tup_read + (select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname = 'events')
		from pg_stat_user_tables where relname = 'events'`
	ourConnections = `select count(*) from pg_stat_activity
		where application_name like 'event-piper test%' and datname = current_database()`
)

// Or reads would take the longer the more events there are. What PostgreSQL has found out about them makes it hope for
// shorter ways, such as through the events of all consumers until enough are the wanted one's.
func TestAReadTouchesLittleMoreThanItDelivers(t *testing.T) {
	t.Parallel()
	const enough = 100
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, `insert into events (type, subscriber, payload)
		select 'insert', case when n % 5000 = 0 then 'toto' else 'titi' end, '{}' from generate_series(1, 50000) n`)
	page := func(store core.Store) ([]*core.Event, error) {
		pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 20}}, core.Mark{})
		if err != nil {
			return nil, err
		}
		return pages[0].Events, nil
	}
	follower := func(after int64, consumers []string) func(core.Store) ([]*core.Event, error) {
		return func(store core.Store) ([]*core.Event, error) {
			f, err := store.Follow(t.Context())
			if err != nil {
				return nil, err
			}
			defer f.Close()
			r, err := f.Read(t.Context(), after, consumers)
			return r.Events, err
		}
	}
	for _, known := range []string{"select 'nothing'", "analyze events"} {
		exec(t, conn, known)
		for _, test := range []struct {
			what string
			read func(core.Store) ([]*core.Event, error)
			want int
		}{
			{"a page of one event in 5,000", page, 10},
			{"the last of those, among the last 10 events", follower(49_990, []string{"toto"}), 1},
			{"the last event, whoever it is for", follower(49_999, nil), 1},
		} {
			n := touched(t, dsn, conn, func(store core.Store) {
				events, err := test.read(store)
				if err != nil || len(events) != test.want {
					t.Fatalf("%s: %d events (%v), want %d", test.what, len(events), err, test.want)
				}
			})
			if n == 0 || n > enough {
				t.Errorf("%s, planned after %q: %d rows and index entries touched, want at most %d", test.what, known, n, enough)
			}
		}
	}
}

// touched returns how many rows and index entries a read looks at.
func touched(t *testing.T, dsn string, conn *pgx.Conn, read func(core.Store)) int64 {
	t.Helper()
	store := open(t, dsn)
	before := query[int64](t, conn, rowsTouched)
	read(store)
	store.Close()
	for query[int](t, conn, ourConnections) > 0 {
		continue // until the last has ended, and counted
	}
	if version(t, conn) < 15 {
		time.Sleep(1500 * time.Millisecond) // a process of its own collects the counts, and writes them twice a second
	}
	return query[int64](t, conn, rowsTouched) - before
}

// Any writer can amend an event as often as it likes.
func TestAnEventIsLookedUpOnceHoweverManyAmendIt(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, `insert into events (type, subscriber, payload, amends) select 'insert', 'toto', '{}', nullif(1, n) from generate_series(1, 2000) n`)
	n := touched(t, dsn, conn, func(store core.Store) {
		pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 20, Current: true}}, core.Mark{})
		if err != nil || len(pages[0].Events) != 19 {
			t.Fatalf("%+v (%v), want the 20 events without the first", pages, err)
		}
	})
	if n == 0 || n > 200 {
		t.Errorf("%d rows and index entries touched, want at most 200", n)
	}
}
