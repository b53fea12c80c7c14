package postgresql_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// refused reports whether the database refused a statement for a reason.
func refused(t *testing.T, conn *pgx.Conn, code, sql string, args ...any) bool {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == code {
		return true
	}
	t.Errorf("%s: %v, want it refused with code %s", sql, err, code)
	return false
}

const (
	checkViolation    = "23514"
	restrictViolation = "23001"
	noPrivilege       = "42501"
)

// What is no earlier event of the same subscriber is not refused, because a check would cost every insert, and amends nothing.
func TestAnEventThatAmendsHasNoInfluenceOnOthers(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	writer := connect(t, role(t, dsn, "writer", writerGrants))
	exec(t, conn, insert)
	for _, subscriber := range []string{"toto", "titi"} {
		for _, id := range []int64{1, 0, -1, 1000} {
			exec(t, writer, "insert into events (type, subscriber, payload, amends) values ('amended', $1, '{}', $2)", subscriber, id)
		}
	}
	if events := history(t, open(t, dsn), "toto"); len(events) != 5 || events[0].ID != 1 {
		t.Errorf("delivered %d events, want 5 from the first on", len(events))
	}
	exec(t, conn, "delete from events where id = 1") // what was amended does not keep retention from it
}

// A browser cannot tell an event of these types from a frame of the stream's own.
func TestTheTypesOfTheStreamItselfAreRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	for _, typ := range []string{"heartbeat", "reset"} {
		refused(t, conn, checkViolation, "insert into events (type, subscriber, payload) values ($1, 'toto', '{}')", typ)
		exec(t, conn, "insert into events (type, subscriber, payload) values ($1, $2, '{}')", typ+"s", typ)
	}
}

func TestEventsAreNotChanged(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	exec(t, conn, insert)
	for _, change := range []string{
		"id = default", "type = 'other'", `"timestamp" = now()`, "subscriber = 'titi'", "amends = 1", "traceparent = ''",
		"payload = '{}', subscriber = 'titi'",
	} {
		refused(t, conn, restrictViolation, "update events set "+change)
	}
	refused(t, conn, restrictViolation, `insert into events (id, type, subscriber, payload) overriding system value
		values (1, 'insert', 'toto', '{}') on conflict (id) do update set subscriber = 'titi'`)
	if version(t, conn) < 15 {
		return // without MERGE
	}
	refused(t, conn, restrictViolation,
		"merge into events using (values (1)) v (id) on events.id = v.id when matched then update set subscriber = 'titi'")
}

func TestRedactionEmptiesAPayloadAndSaysSo(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, `insert into events (type, subscriber, payload) values ('insert', 'toto', '{"name": "Toto"}')`)
	id := query[int64](t, conn, "select events_redact(1, 'asked to be \"forgotten\"')")
	got := ""
	for _, e := range history(t, open(t, dsn), "toto") {
		got += fmt.Sprintf("%d %s %s\n", e.ID, e.Type, e.Payload)
	}
	want := fmt.Sprintf("1 insert null\n%d redacted {\"reason\":\"asked to be \\\"forgotten\\\"\"}\n", id)
	if got != want {
		t.Errorf("delivered:\n%s\nwant:\n%s", got, want)
	}
	if amends := query[int64](t, conn, "select amends from events where id = $1", id); amends != 1 {
		t.Errorf("the event amends %d, want 1", amends)
	}
	refused(t, conn, "P0002", "select events_redact(1000, 'nobody')")
	for name, grants := range map[string]string{"writer": "grant insert on events to ROLE", "reader": "grant select on events to ROLE"} {
		refused(t, connect(t, role(t, dsn, name, grants)), noPrivilege, "select events_redact(1, 'theirs')")
	}
}

// TestAnAmendmentThatPointsNowhereAmendsNothing also at the live end, where a redaction of a later event would make
// readers wait for it.
func TestAnAmendmentThatPointsNowhereAmendsNothing(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	store := open(t, dsn)
	f, err := store.Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	exec(t, conn, `insert into events (type, subscriber, payload, amends, traceparent) values
		('redacted', 'toto', '1', 1000000, 'not one'), ('redacted', 'toto', '2', -5, null), ('redacted', 'toto', '3', 3, '')`)
	pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10, Current: true}}, core.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	live, err := f.Read(t.Context(), 0, []string{"toto"})
	if err != nil {
		t.Fatal(err)
	}
	for name, events := range map[string][]*core.Event{"history": pages[0].Events, "live": live.Events} {
		if len(events) != 3 {
			t.Errorf("%s: %d events, want 3", name, len(events))
		}
		for _, e := range events {
			if e.Amends != 0 || e.Traceparent != "" {
				t.Errorf("%s: event %d amends %d in trace %q, want neither", name, e.ID, e.Amends, e.Traceparent)
			}
		}
	}
}
