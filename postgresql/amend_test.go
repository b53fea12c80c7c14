package postgresql_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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
	checkViolation      = "23514"
	foreignKeyViolation = "23503"
	restrictViolation   = "23001"
	noPrivilege         = "42501"
)

func TestAnEventAmendsAnEarlierOneOfItsSubscriber(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, other := connect(t, dsn), connect(t, dsn)
	writer := connect(t, role(t, dsn, "writer", "grant insert on events to ROLE"))
	const amend = "insert into events (type, subscriber, payload, amends) values ('amended', $1, '{}', $2::bigint)"
	exec(t, conn, insert)
	for _, conn := range []*pgx.Conn{conn, writer} {
		exec(t, conn, amend, "toto", 1)
		refused(t, conn, foreignKeyViolation, amend, "titi", 1) // another's
		for _, id := range []int{0, -1, 1000} {
			refused(t, conn, foreignKeyViolation, amend, "toto", id) // nobody's
		}
	}
	next := query[int64](t, conn, "select last_value + 1 from events_id_seq")
	refused(t, conn, foreignKeyViolation, amend, "toto", next) // itself

	// What another transaction may yet roll back is not there; one's own is.
	exec(t, other, "begin; "+insert)
	pending := query[int64](t, other, "select max(id) from events")
	refused(t, conn, foreignKeyViolation, amend, "toto", pending)
	exec(t, other, amend, "toto", pending)
	exec(t, other, "commit")
	exec(t, conn, amend, "toto", pending)

	if _, err := writer.CopyFrom(t.Context(), pgx.Identifier{"events"}, []string{"type", "subscriber", "payload", "amends"},
		pgx.CopyFromRows([][]any{{"amended", "titi", "{}", int64(1)}})); err == nil {
		t.Error("COPY of an event that amends another's succeeded")
	}
	exec(t, conn, "insert into events (id, type, subscriber, payload) overriding system value values (1000, 'insert', 'toto', '{}')")
	refused(t, conn, foreignKeyViolation, amend, "toto", 1000) // a later one
	exec(t, conn, "delete from events where id = 1")           // what was amended does not keep retention from it
}

func TestATraceparentHasTheFormOfW3C(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for traceparent, want := range map[string]bool{
		"00-" + trace + "-" + span + "-01":                    true,
		"cc-" + trace + "-" + span + "-00":                    true,
		"ff-" + trace + "-" + span + "-01":                    false,
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01":  false,
		"00-" + trace + "-" + strings.Repeat("0", 16) + "-01": false,
		"00-" + strings.ToUpper(trace) + "-" + span + "-01":   false,
		"00-" + trace + "-" + span + "-01\n":                  false,
		"00-" + trace + "-" + span + "-01-more":               false,
		"00-" + trace + "-" + span:                            false,
		"":                                                    false,
	} {
		sql := "insert into events (type, subscriber, payload, traceparent) values ('insert', 'toto', '{}', $1)"
		if want {
			exec(t, conn, sql, traceparent)
		} else {
			refused(t, conn, checkViolation, sql, traceparent)
		}
	}
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
		"id = default", "type = 'other'", `"timestamp" = now()`, "subscriber = 'titi'", "amends = null", "traceparent = null",
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
