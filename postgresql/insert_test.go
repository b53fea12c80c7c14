package postgresql_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

const insert = `insert into events (type, subscriber, payload) values ('insert', 'toto', '{}')`

// history returns all events of a consumer.
func history(t *testing.T, store core.Store, consumer string) (events []*core.Event) {
	t.Helper()
	for cursor, more := int64(0), true; more; {
		pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{consumer}, After: cursor, Limit: 1000}}, core.Mark{})
		if err != nil {
			t.Fatal(err)
		}
		events, cursor, more = append(events, pages[0].Events...), pages[0].Next, pages[0].More
	}
	return events
}

func TestNamesThatWouldForgeALineAreRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	names := map[string]bool{
		"": false, strings.Repeat("é", 255): true, strings.Repeat("é", 256): false,
		"order.created": true, "a b,c": true, "☃": true, "\u00a0": true,
		"a\u2028b": true, // separates lines for JavaScript, not for Server-Sent Events
	}
	for r := rune(1); r < 0xa0; r++ {
		if r < 0x20 || r >= 0x7f {
			names["a"+string(r)+"b"] = false
		}
	}
	for name, want := range names {
		if got := core.CheckName(name) == nil; got != want {
			t.Errorf("core accepts the name %q: %t, want %t", name, got, want)
		}
		for _, sql := range []string{
			"insert into events (type, subscriber, payload) values ($1, 'toto', '{}')",
			"insert into events (type, subscriber, payload) values ('insert', $1, '{}')",
		} {
			_, err := conn.Exec(t.Context(), sql, name)
			var refused *pgconn.PgError
			if want && err != nil || !want && (!errors.As(err, &refused) || refused.Code != "23514") {
				t.Errorf("%s with %q: %v, want it accepted: %t", sql, name, err, want)
			}
		}
	}
}

func TestEveryWayToInsertIsDelivered(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	store := open(t, dsn)
	for name, write := range map[string]func() error{
		"the statement of the contract": func() error {
			_, err := conn.Exec(t.Context(),
				`insert into events (type, timestamp, subscriber, payload) values ('insert', now(), 'toto', '{"foo": "bar"}')`,
				pgx.QueryExecModeSimpleProtocol)
			return err
		},
		"several rows": func() error {
			_, err := conn.Exec(t.Context(), insert+`, ('insert', 'toto', '1'), ('insert', 'toto', '2')`)
			return err
		},
		"insert from select": func() error {
			_, err := conn.Exec(t.Context(), `insert into events (type, subscriber, payload)
				select 'insert', 'toto', to_json(n) from generate_series(1, 100) n`)
			return err
		},
		"COPY": func() error {
			rows := [][]any{{"insert", "toto", `{"a": 1}`}, {"insert", "toto", `{"a": 2}`}}
			_, err := conn.CopyFrom(t.Context(), pgx.Identifier{"events"}, []string{"type", "subscriber", "payload"}, pgx.CopyFromRows(rows))
			return err
		},
		"COPY of text": func() error {
			_, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader("insert\ttoto\t{\"a\": \"\\\\n\"}\n"),
				"copy events (type, subscriber, payload) from stdin")
			return err
		},
		"a common table expression": func() error {
			_, err := conn.Exec(t.Context(), `with e as (`+insert+` returning id) select count(*) from e`)
			return err
		},
		"MERGE": func() error {
			_, err := conn.Exec(t.Context(), `merge into events using (values (0)) v (id) on events.id = v.id
				when not matched then insert (type, subscriber, payload) values ('insert', 'toto', '{}')`)
			return err
		},
		"parameters": func() error {
			_, err := conn.Exec(t.Context(), "insert into events (type, subscriber, payload) values ($1, $2, $3)",
				"insert", "toto", `{"a": "é"}`)
			return err
		},
		"a function": func() error {
			_, err := conn.Exec(t.Context(), `do $$ begin `+insert+`; end $$`)
			return err
		},
		"a rule of a view": func() error {
			_, err := conn.Exec(t.Context(), `create or replace view mine as select * from events;
				insert into mine (type, subscriber, payload) values ('insert', 'toto', '{}')`)
			return err
		},
	} {
		if name == "MERGE" && version(t, conn) < 15 {
			continue // PostgreSQL 15 brought it
		}
		before := query[int](t, conn, "select count(*) from events")
		if err := write(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		after := query[int](t, conn, "select count(*) from events")
		if got := len(history(t, store, "toto")); after == before || got != after {
			t.Errorf("%s: %d events, were %d, and %d are delivered", name, after, before, got)
		}
		exec(t, conn, "begin")
		if err := write(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if writers := query[int](t, conn, "select writers from events_watermark()"); writers != 1 {
			t.Errorf("%s in an open transaction: %d writers, want 1", name, writers)
		}
		exec(t, conn, "rollback")
	}
}

func TestNumbersEscapesAndTimesAreExact(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	for _, test := range []struct{ payload, timestamp, wantPayload, wantTime string }{
		{`{"z": 1.10, "a": 12345678901234567890123456789.0e-400}`, "2024-02-29 12:34:56.789012+00",
			`{"z":1.10,"a":12345678901234567890123456789.0e-400}`, "2024-02-29T12:34:56.789012Z"},
		{`"\u0041\u0000\ud83d\ude00\/ é😀"`, "1969-12-31 23:59:59.999999+00", `"\u0041\u0000\ud83d\ude00\/ é😀"`, "1969-12-31T23:59:59.999999Z"},
		{` [ 1 , "a \" b" ] `, "2024-06-01 00:00+02", `[1,"a \" b"]`, "2024-05-31T22:00:00Z"},
		{`-0`, "infinity", `-0`, "9999-12-31T23:59:59.999999Z"},
		{`null`, "-infinity", `null`, "0001-01-01T00:00:00Z"},
		{`{"a":1,"a":2}`, "0044-03-15 00:00:00+00 BC", `{"a":1,"a":2}`, "0001-01-01T00:00:00Z"},
		{`true`, "20000-01-01 00:00:00+00", `true`, "9999-12-31T23:59:59.999999Z"},
	} {
		exec(t, conn, "truncate events")
		exec(t, conn, "insert into events (type, timestamp, subscriber, payload) values ('insert', $1::text::timestamptz, 'toto', $2)",
			test.timestamp, test.payload)
		store := open(t, dsn)
		pages, err := store.Pages(t.Context(), []core.PageQuery{{
			Addresses: []string{"toto"}, After: query[int64](t, conn, "select max(id) - 1 from events"), Limit: 2,
		}}, core.Mark{})
		if err != nil || len(pages[0].Events) != 1 {
			t.Fatalf("read %v (%v), want one event", pages, err)
		}
		e := pages[0].Events[0]
		if got := e.Timestamp.Format("2006-01-02T15:04:05.999999Z07:00"); string(e.Payload) != test.wantPayload || got != test.wantTime {
			t.Errorf("%s at %s became %s at %s, want %s at %s", test.payload, test.timestamp, e.Payload, got, test.wantPayload, test.wantTime)
		}
	}
}

func TestALargePayloadIsDeliveredFromHistory(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	follower := follow(t, dsn)
	large := `"` + strings.Repeat("x", 20<<20) + `"`
	exec(t, conn, "insert into events (type, subscriber, payload) values ('insert', 'toto', $1)", large)
	r, err := follower.Read(t.Context(), 0, []string{"toto"})
	if err == nil {
		_, err = follower.FillPayloads(t.Context(), r.Events)
	}
	if err != nil || len(r.Events) != 1 || r.Events[0].Payload != nil {
		t.Errorf("live: %d events (%v), want the large one without its payload", len(r.Events), err)
	}
	store := openWith(t, postgresql.Config{URL: dsn, Name: "event-piper test", Pagers: 2, MaxPayload: 21 << 20})
	if got := history(t, store, "toto"); len(got) != 1 || string(got[0].Payload) != large {
		t.Errorf("history: %d events, want the large one", len(got))
	}
}

// Stored, the repetition is a ninetieth, which tells little of how large it is.
func TestAnOversizedPayloadIsNotRead(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	const size = 1 << 20
	exec(t, conn, `insert into events (type, subscriber, payload)
		select 'insert', 'toto', to_json(case n when 3 then repeat('x', $1 + 1) when 4 then repeat('x', $1 - 100) else 'x' end)
		from generate_series(1, 5) n`, size)
	store := openWith(t, postgresql.Config{URL: dsn, Name: "event-piper test", Pagers: 2, MaxPayload: size})
	var got []int64
	var skipped int64
	q := core.PageQuery{Addresses: []string{"toto"}, Limit: 10}
	for more := true; more; {
		pages, err := store.Pages(t.Context(), []core.PageQuery{q}, core.Mark{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range pages[0].Events {
			got = append(got, e.ID)
		}
		more, q.After = pages[0].More, pages[0].Next
		if reset := pages[0].Reset(q); reset != nil && reset.Reason == core.Oversized {
			skipped, q.After = reset.Oldest, reset.Resume()
		}
	}
	if fmt.Sprint(got) != "[1 2 4 5]" || skipped != 3 {
		t.Errorf("got %v, and was told of %d; want all but the third, and to be told of it", got, skipped)
	}
}

func TestPagesOfALongReplayAreBounded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		storage            string
		events, size, most int
	}{
		{"external", 20_000, 2000, 512<<10 + 2000},
		// What is all repetition takes a ninetieth of its size, and counts for eight times that.
		{"extended", 300, 100_000, 6 << 20},
	} {
		t.Run(test.storage, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.New(t)
			conn := connect(t, dsn)
			exec(t, conn, "alter table events alter payload set storage "+test.storage)
			exec(t, conn, fmt.Sprintf(`insert into events (type, subscriber, payload)
				select 'insert', 'toto', to_json(repeat('x', %d)) from generate_series(1, %d)`, test.size, test.events))
			store := open(t, dsn)
			n := 0
			for cursor, more := int64(0), true; more; {
				queries := slices.Repeat([]core.PageQuery{{Addresses: []string{"toto"}, After: cursor}}, 4)
				for i := range queries {
					queries[i].Limit = 1000 - i // or they would share what is read
				}
				pages, err := store.Pages(t.Context(), queries, core.Mark{})
				if err != nil {
					t.Fatal(err)
				}
				bytes := 0
				for _, p := range pages {
					for _, e := range p.Events {
						bytes += len(e.Payload)
					}
				}
				if bytes > test.most {
					t.Fatalf("one read brought %d bytes, want at most %d", bytes, test.most)
				}
				n, cursor, more = n+len(pages[0].Events), pages[0].Next, pages[0].More
			}
			if n != test.events {
				t.Errorf("got %d events, want %d", n, test.events)
			}
		})
	}
}

// Large payloads are read in a second step.
func TestAnEventDeletedWhileItsPageIsReadIsSkipped(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, watcher := connect(t, dsn), connect(t, dsn)
	store := open(t, dsn)
	exec(t, conn, "insert into events (type, subscriber, payload) select 'insert', 'toto', to_json(repeat('x', 2000)) from generate_series(1, 3)")
	if got := len(history(t, store, "toto")); got != 3 { // prepares the statements, which takes locks as well
		t.Fatalf("history has %d events, want 3", got)
	}
	exec(t, conn, "begin")
	exec(t, conn, "alter sequence events_id_seq start 1") // which is read last, and thus held up
	exec(t, conn, "delete from events where id = 2")
	var pages []core.Page
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		pages, err = store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{ID: 3}) // or it would look for its end there
	}()
	const waiting = `select count(*) from pg_locks where relation = 'events_id_seq'::regclass and not granted
		and database = (select oid from pg_database where datname = current_database())`
	for query[int](t, watcher, waiting) == 0 {
		select {
		case <-done:
			t.Fatalf("read %+v (%v) without waiting", pages, err)
		default:
		}
	}
	exec(t, conn, "commit")
	<-done
	if err != nil || len(pages[0].Events) != 2 || pages[0].Events[0].ID != 1 || pages[0].Events[1].ID != 3 || pages[0].Pruned != 2 {
		t.Errorf("read %+v (%v), want events 1 and 3, pruned through 2", pages, err)
	}
}

func TestDeleteAndTruncateRecordWhatWasPruned(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	write := func() {
		exec(t, conn, `insert into events (type, subscriber, payload)
			select 'insert', s, '{}' from unnest(array['toto', 'titi', 'toto', 'tata', 'toto']) s`)
	}
	want := func(what, want string) {
		t.Helper()
		got := query[string](t, conn, "select string_agg(subscriber || ' ' || through, ', ' order by subscriber) from events_pruned")
		if got != want {
			t.Errorf("after %s pruned is %q, want %q", what, got, want)
		}
	}
	write()
	exec(t, conn, "delete from events where id in (1, 2)")
	want("a delete", "titi 2, toto 1")
	write()
	exec(t, conn, "delete from events where id = 5; delete from events where id = 4; delete from events where id in (0, 3)")
	want("deletes out of order", "tata 4, titi 2, toto 5")
	exec(t, conn, "begin isolation level repeatable read")
	if _, err := conn.Exec(t.Context(), "truncate events"); err == nil || !strings.Contains(err.Error(), "isolation level") {
		t.Errorf("truncate with a snapshot that may be older than an event: %v, want an error that names the isolation level", err)
	}
	exec(t, conn, "rollback")
	exec(t, conn, "truncate events")
	want("truncate", "tata 9, titi 7, toto 10")
	pages, err := open(t, dsn).Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 1}}, core.Mark{})
	if err != nil || pages[0].Pruned != 10 || pages[0].Newest != 10 {
		t.Errorf("the page after truncate: %+v (%v), want pruned and newest 10", pages, err)
	}

	exec(t, conn, "select setval('events_id_seq', 11, false)") // a repair, which changes no position
	exec(t, conn, "truncate events")
	want("another, after a repair of the sequence", "tata 9, titi 7, toto 10")
	exec(t, conn, "insert into events_pruned values ('first', 1)")
	exec(t, conn, "truncate events restart identity")
	write()
	exec(t, conn, "delete from events where id = 1")
	want("ids that began anew", "toto 1")
	if events := history(t, open(t, dsn), "titi"); len(events) != 1 || events[0].ID != 2 {
		t.Errorf("titi has %d events since, want the one", len(events))
	}
}
