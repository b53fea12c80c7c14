package postgresql_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// ways are all that read events.
func ways(t *testing.T, dsn string) map[string]func(context.Context) error {
	store := open(t, dsn)
	poll := func(interval bool) func(context.Context) error {
		poller := direct(t, dsn, interval)
		return func(ctx context.Context) error {
			b, err := poller.Poll(ctx, core.Poll{Consumer: "toto", Limit: 10})
			if err == nil && len(b.Events) != 1 {
				return fmt.Errorf("%d events", len(b.Events))
			}
			return err
		}
	}
	return map[string]func(context.Context) error{
		"follow": func(ctx context.Context) error {
			f, err := store.Follow(ctx)
			if err != nil {
				return err
			}
			defer f.Close()
			r, err := f.Read(ctx, 0, []string{"toto"})
			if err == nil && len(r.Events) != 1 {
				return fmt.Errorf("%d events", len(r.Events))
			}
			return err
		},
		"page": func(ctx context.Context) error {
			pages, err := store.Pages(ctx, []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{})
			if err == nil && len(pages[0].Events) != 1 {
				return fmt.Errorf("%d events", len(pages[0].Events))
			}
			return err
		},
		"poll by listening":   poll(false),
		"poll by an interval": poll(true),
	}
}

func TestADatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	exec(t, connect(t, dsn), "create database latin encoding 'LATIN1' locale 'C' template template0")
	t.Cleanup(func() { execAfter(t, dsn, "drop database latin with (force)") })
	u, _ := url.Parse(dsn)
	u.Path = "latin"
	_, _, err := migrations.Apply(t.Context(), u.String(), nil)
	want := func(what string, err error) {
		if err == nil || !strings.Contains(err.Error(), "LATIN1") || !strings.Contains(err.Error(), "encoding 'UTF8'") {
			t.Errorf("%s: %v, want an error that names the encoding and the cure", what, err)
		}
	}
	want("migrate", err)
	for what, read := range ways(t, u.String()) {
		want(what, read(t.Context()))
	}
}

// execAfter is exec for cleanups, when the test's context has ended.
func execAfter(t *testing.T, dsn, sql string) {
	t.Helper()
	conn := connectWith(t, dsn)
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}

func TestEveryWayToReadMindsItsOwnParameters(t *testing.T) {
	t.Parallel()
	parameters := map[string]string{
		"default_transaction_isolation": "serializable", "default_transaction_read_only": "on", "default_transaction_deferrable": "on",
		"statement_timeout": "500", "lock_timeout": "500", "idle_in_transaction_session_timeout": "1s", "row_security": "off",
		"DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601", "bytea_output": "escape", "plan_cache_mode": "force_custom_plan",
		"standard_conforming_strings": "off", "client_encoding": "LATIN1", "TimeZone": "Asia/Tokyo", "extra_float_digits": "-5",
		"idle_session_timeout": "10s", "session_replication_role": "replica",
		"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_nestloop": "off", "enable_sort": "off", "enable_hashagg": "off",
	}
	for _, of := range []string{"database", "role"} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Empty(t)
			conn := connect(t, dsn)
			whose := "database " + query[string](t, conn, "select current_database()")
			if of == "role" { // whose parameters win over the database's, and go with it
				whose = "role " + query[string](t, conn, "select quote_ident(current_user)") + " in " + whose
			}
			for name, value := range parameters {
				exec(t, conn, fmt.Sprintf("alter %s set %s = '%s'", whose, name, value))
			}
			if version(t, conn) >= 17 {
				exec(t, conn, "alter "+whose+" set transaction_timeout = '5s'")
			}
			if _, _, err := migrations.Apply(t.Context(), dsn, nil); err != nil {
				t.Fatal(err)
			}
			exec(t, conn, insert)
			for what, read := range ways(t, dsn) {
				if err := read(t.Context()); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// What a role or a database ends idle sessions by is for those who forget them. A follower idles by design.
func TestAFollowerOutlivesATimeoutOfIdleSessions(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	database := query[string](t, conn, "select current_database()")
	exec(t, conn, "alter database "+database+" set idle_session_timeout = '2500ms'")
	exec(t, conn, "alter role current_user in database "+database+" set idle_session_timeout = '2500ms'")
	exec(t, conn, "set idle_session_timeout = 0")
	f := follow(t, dsn)
	for start := time.Now(); time.Since(start) < 4*time.Second; { // each waits for a second, and asks nothing
		if err := f.Wait(t.Context(), t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, conn, insert)
	if r, err := f.Read(t.Context(), 0, []string{"toto"}); err != nil || len(r.Events) != 1 {
		t.Errorf("read %d events (%v), want 1", len(r.Events), err)
	}
}

func TestASearchPathInTheDSNIsUsed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	conn := connect(t, dsn)
	exec(t, conn, `create schema "Own one"; create table events (id int)`)
	_, _, err := migrations.Apply(t.Context(), dsn, nil)
	if err == nil || !strings.Contains(err.Error(), "search_path=event_piper") {
		t.Errorf("migrating beside a table events: %v, want the cure", err)
	}
	if n := query[int](t, conn, "select count(*) from pg_class where relname like 'events%'"); n != 1 {
		t.Errorf("%d relations, want the one that was there", n)
	}
	own := dsn + "?search_path=" + url.PathEscape(`"Own one"`)
	for range 2 {
		if _, _, err := migrations.Apply(t.Context(), own, nil); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, conn, strings.Replace(insert, "events", `"Own one".events`, 1))
	for what, read := range ways(t, own) {
		if err := read(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := open(t, dsn).Follow(t.Context()); err == nil || !strings.Contains(err.Error(), `"Own one"`) || strings.Contains(err.Error(), "migrate") {
		t.Errorf("without the search path: %v, want the schema's name", err)
	}
}

func TestWhatHidesEventsIsRefused(t *testing.T) {
	t.Parallel()
	const reader = "create role %[1]s login password 'x'; grant select on events_schema_version, events_pruned, events_id_seq to %[1]s; "
	for name, c := range map[string]struct{ sql, want string }{
		"row-level security":       {reader + "grant select on events to %[1]s; alter table events enable row level security", "bypassrls"},
		"row-level security marks": {reader + "grant select on events to %[1]s; alter table events_pruned enable row level security", "bypassrls"},
		"column privileges":        {reader + "grant select (id, type, subscriber) on events to %[1]s", "grant select on it"},
		"an inherited table":       {"create table child () inherits (events)", "child inherits"},
		"a disabled trigger":       {"alter table events disable trigger events_before_insert", "enable trigger"},
		"a replica's trigger":      {"alter table events enable replica trigger events_before_insert", "enable trigger"},
		"a rule":                   {"create rule quiet as on insert to events do instead nothing", "rule quiet"},
		"a view":                   {"alter table events rename to events_; create view events as select * from events_", "not the table"},
		"another table in its place": {`create table copy (like events including all); alter table events rename to old; alter table copy rename to events;
			create trigger events_before_insert before insert on events for each statement execute function events_before_insert()`, "took the place"},
		"another table ahead": {"create schema ahead; create table ahead.events (id int); alter database %[2]s set search_path = ahead, public", "ahead.events"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.New(t)
			conn := connect(t, dsn)
			database := query[string](t, conn, "select current_database()")
			role := "reader_of_" + database
			exec(t, conn, strings.NewReplacer("%[1]s", role, "%[2]s", database).Replace(c.sql))
			if strings.HasPrefix(c.sql, reader) {
				u, _ := url.Parse(dsn)
				u.User = url.UserPassword(role, "x")
				owner := dsn
				t.Cleanup(func() { execAfter(t, owner, "drop owned by "+role+"; drop role "+role) })
				dsn = u.String()
			}
			_, err := open(t, dsn).Follow(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("follow: %v, want one that contains %q", err, c.want)
			}
		})
	}
}

// What a subscription applies does not run the trigger of statements, and comes in the order of commits.
func TestTheTableOfASubscriptionIsRefused(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, map[string]string{"wal_level": "logical"})
	admin := connect(t, server.DSN())
	dsn := map[string]string{}
	for _, database := range []string{"source", "copy"} {
		exec(t, admin, "create database "+database)
		u, err := url.Parse(server.DSN())
		if err != nil {
			t.Fatal(err)
		}
		u.Path = database
		dsn[database] = u.String()
		if _, _, err := migrations.Apply(t.Context(), u.String(), nil); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, connect(t, dsn["source"]), "create publication p for table events")
	exec(t, connect(t, dsn["source"]), "select pg_create_logical_replication_slot('s', 'pgoutput')")
	conn := connect(t, dsn["copy"])
	exec(t, conn, "create subscription s connection '"+dsn["source"]+"' publication p with (create_slot = false)")
	if f, err := open(t, dsn["copy"]).Follow(t.Context()); err == nil || !strings.Contains(err.Error(), "alter subscription s disable") {
		if err == nil {
			f.Close()
		}
		t.Errorf("following it: %v, want the subscription's name and the cure", err)
	}
	exec(t, conn, "alter subscription s disable")
	follow(t, dsn["copy"])
	follow(t, dsn["source"])
}

// A reader that was admitted before must not lose rows in silence either.
func TestRowLevelSecurityThatComesLaterIsAnError(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	role := "late_" + query[string](t, conn, "select current_database()")
	exec(t, conn, "create role "+role+" login password 'x'; grant select on events_schema_version, events_pruned, events_id_seq, events to "+role)
	t.Cleanup(func() { execAfter(t, dsn, "drop owned by "+role+"; drop role "+role) })
	u, _ := url.Parse(dsn)
	u.User = url.UserPassword(role, "x")
	f := follow(t, u.String())
	exec(t, conn, insert)
	exec(t, conn, "alter table events enable row level security")
	if _, err := f.Read(t.Context(), 0, []string{"toto"}); err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("reading: %v, want an error", err)
	}
	if _, err := open(t, u.String()).Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{}); err == nil {
		t.Error("a page was read, want an error")
	}
}

func TestBothDoorsMustLeadToTheSameDatabase(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	for other, same := range map[string]bool{dsn: true, pgtest.New(t): false} {
		store := openWith(t, postgresql.Config{URL: dsn, ListenURL: other, Name: "event-piper test", Pagers: 1})
		f, err := store.Follow(t.Context())
		if err == nil {
			f.Close()
		}
		if same != (err == nil) || !same && !strings.Contains(err.Error(), "different databases") {
			t.Errorf("the same database: %t, but following ends with %v", same, err)
		}
	}
}
